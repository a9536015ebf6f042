package matrixdurable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/crypto/attachment"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// ErrTooLargeForMatrix says that the homeserver does not take files of that size.
var ErrTooLargeForMatrix = errors.New("matrixdurable: upload: too large for the homeserver")

// ErrNoAnswer says that the homeserver was not reached, or went away.
var ErrNoAnswer = errors.New("matrixdurable: upload: no connection to the homeserver")

// ErrStalled says that the homeserver took or sent nothing for too long.
var ErrStalled = errors.New("matrixdurable: upload: no progress")

// Uploads puts files into the homeserver's media repository. The framework's own way reads files of some MiB into memory, writes the
// others, in the clear, to a temporary folder that nobody sweeps, and ends after three minutes; here a file is read once, encrypted on the
// way if its room is, and may take as long as it makes progress.
type Uploads struct {
	matrix *matrix.Connector
	client *http.Client
	// stall is how long there may be no progress.
	stall time.Duration
}

// Upload limits.
const (
	uploadStall = 2 * time.Minute
	// maxUploadAnswer bounds the homeserver's answer, in bytes.
	maxUploadAnswer = 64 << 10
)

// NewUploads makes Uploads for an initialised Matrix connector. It comes before NewStack, or shares its Transport.
func NewUploads(m *matrix.Connector) *Uploads {
	return &Uploads{
		matrix: m, stall: uploadStall,
		client: &http.Client{
			Transport:     m.AS.HTTPClient.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Limit is the most bytes of a file that the homeserver says it takes.
func (u *Uploads) Limit() int64 { return u.matrix.MediaConfig.UploadSize }

// Encrypted says whether what goes into a room has to be encrypted.
func (u *Uploads) Encrypted(ctx context.Context, room id.RoomID) (bool, error) {
	if u.matrix.Config.Encryption.Require {
		return true, nil
	}
	encrypted, err := u.matrix.StateStore.IsEncrypted(ctx, room)
	if err != nil {
		return false, fmt.Errorf("matrixdurable: upload: %w", err)
	}
	return encrypted, nil
}

// File is something to upload.
type File struct {
	// Body is read from its current place to its end, which is Size bytes later.
	Body io.Reader
	Size int64
	// Mimetype and Name are told to the homeserver unless the file is encrypted; both may be "".
	Mimetype, Name string
	// Encrypt makes it an encrypted attachment.
	Encrypt bool
}

// Uploaded says where a file is: in URL if it is in the clear, else in File with what is needed to decrypt it.
type Uploaded struct {
	URL  id.ContentURIString
	File *event.EncryptedFileInfo
}

// Upload uploads a file as user, who is the bot or a ghost. Repeating it makes another copy, which does no harm.
//
// Errors: ErrTooLargeForMatrix, ErrStalled, ErrNoAnswer, a mautrix.HTTPError for what the homeserver refuses, and the context's.
func (u *Uploads) Upload(ctx context.Context, user id.UserID, f File) (Uploaded, error) {
	if limit := u.Limit(); limit > 0 && f.Size > limit {
		return Uploaded{}, ErrTooLargeForMatrix
	}
	body := f.Body
	var sealed *attachment.EncryptedFile
	var sealing io.ReadCloser
	if f.Encrypt {
		sealed = attachment.NewEncryptedFile()
		sealing = sealed.EncryptStream(io.LimitReader(f.Body, f.Size))
		body, f.Mimetype, f.Name = sealing, "application/octet-stream", ""
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	counted := newProgress(body, u.stall, func() { cancel(ErrStalled) })
	defer counted.stop()
	uri, err := u.post(ctx, user, counted, f)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return Uploaded{}, fmt.Errorf("matrixdurable: upload: %w", err)
	}
	if n := counted.done(); n != f.Size {
		return Uploaded{}, errors.New("matrixdurable: upload: answered before the end of the file")
	}
	if sealed == nil {
		return Uploaded{URL: uri}, nil
	}
	if err = sealing.Close(); err != nil {
		return Uploaded{}, fmt.Errorf("matrixdurable: upload: %w", err)
	}
	return Uploaded{File: &event.EncryptedFileInfo{EncryptedFile: *sealed, URL: uri}}, nil
}

// post does the request.
func (u *Uploads) post(ctx context.Context, user id.UserID, body io.Reader, f File) (id.ContentURIString, error) {
	client := u.matrix.AS.Client(user)
	query := url.Values{"user_id": {user.String()}}
	if f.Name != "" {
		query.Set("filename", f.Name)
	}
	target := client.HomeserverURL.JoinPath("_matrix", "media", "v3", "upload")
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), io.NopCloser(body))
	if err != nil {
		return "", err
	}
	req.ContentLength = f.Size
	if f.Size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Authorization", "Bearer "+client.AccessToken)
	req.Header.Set("User-Agent", client.UserAgent)
	if f.Mimetype != "" {
		req.Header.Set("Content-Type", f.Mimetype)
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return "", ErrNoAnswer // what the client says of it would name the file
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxUploadAnswer))
	if err != nil {
		return "", ErrNoAnswer
	}
	if resp.StatusCode == http.StatusRequestEntityTooLarge {
		return "", ErrTooLargeForMatrix
	} else if resp.StatusCode != http.StatusOK {
		refusal := &mautrix.RespError{}
		if json.Unmarshal(raw, refusal) != nil {
			refusal = nil
		} else if refusal.ErrCode == "M_TOO_LARGE" {
			return "", ErrTooLargeForMatrix
		}
		return "", mautrix.HTTPError{Response: resp, RespError: refusal, Message: "media was not taken"}
	}
	var answer mautrix.RespMediaUpload
	if err = json.Unmarshal(raw, &answer); err != nil || answer.ContentURI.IsEmpty() {
		return "", errors.New("answer without an address")
	}
	return answer.ContentURI.CUString(), nil
}

// progress counts what is read and calls stalled when nothing was for a while.
type progress struct {
	from  io.Reader
	timer *time.Timer
	every time.Duration

	mu    sync.Mutex
	read  int64
	ended bool // a transport may go on reading after it has answered
}

func newProgress(from io.Reader, every time.Duration, stalled func()) *progress {
	return &progress{from: from, every: every, timer: time.AfterFunc(every, stalled)}
}

// Read implements io.Reader.
func (p *progress) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return 0, io.ErrClosedPipe
	}
	n, err := p.from.Read(b)
	if n > 0 {
		p.read += int64(n)
		p.timer.Reset(p.every)
	}
	return n, err
}

// done lets nothing be read from now on and says how much was.
func (p *progress) done() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	return p.read
}

func (p *progress) stop() {
	p.timer.Stop()
	p.done()
}
