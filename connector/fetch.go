package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/attachment"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// fetchStall is how long the homeserver may send nothing of a file. There is no bound for the whole: a large file over a slow line takes
// as long as it takes.
const fetchStall = 30 * time.Second

// Errors of a fetch. All others are worth another try.
var (
	// errGone: the homeserver does not have the file, or does not let us have it.
	errGone = errors.New("connector: fetch: the homeserver does not have the file")
	// errFetchRefused: the homeserver will never answer that request.
	errFetchRefused = errors.New("connector: fetch: refused by the homeserver")
	// errOverLimit: the file has more bytes than are allowed.
	errOverLimit = errors.New("connector: fetch: larger than allowed")
	// errBadFile: an encrypted file is not what its event says.
	errBadFile = errors.New("connector: fetch: not the file that the event describes")
	// errStalled: nothing came for too long.
	errStalled = errors.New("connector: fetch: no byte for too long")
	// errNoAnswer: the homeserver was not reached, or went away. What the network says of it would name addresses.
	errNoAnswer = errors.New("connector: fetch: no connection to the homeserver")
)

// fetcher gets files from the homeserver as streams, as the bridge's bot.
type fetcher struct {
	// bot says where the homeserver is and who we are.
	bot func() *mautrix.Client
	// client does the requests; it has no time-out of its own.
	client *http.Client
	stall  time.Duration
}

// newFetcher makes a fetcher that goes over transport.
func newFetcher(bot func() *mautrix.Client, transport http.RoundTripper) *fetcher {
	return &fetcher{bot: bot, client: &http.Client{Transport: transport}, stall: fetchStall}
}

// source is where a file is: at uri in the clear, or encrypted as file says.
type source struct {
	uri  id.ContentURIString
	file *event.EncryptedFileInfo
}

// location is the address of what the homeserver has.
func (s source) location() id.ContentURIString {
	if s.file != nil {
		return s.file.URL
	}
	return s.uri
}

// open begins to fetch a file of at most limit bytes and returns its plaintext as a stream, which ends with io.EOF only if all of it
// has come and, for an encrypted file, its hash is the right one. progress is called for each piece that comes.
func (f *fetcher) open(ctx context.Context, s source, limit int64, progress func()) (*fetched, error) {
	uri, err := s.location().Parse()
	if err != nil || uri.IsEmpty() {
		return nil, errFetchRefused
	}
	if s.file != nil {
		if err = s.file.PrepareForDecryption(); err != nil {
			return nil, errBadFile
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(f.stall, func() { cancel(errStalled) })
	resp, err := f.request(ctx, uri)
	timer.Stop()
	if err != nil {
		err = causeOf(ctx, err)
		cancel(nil)
		return nil, err
	}
	if resp.ContentLength > limit {
		_ = resp.Body.Close()
		cancel(nil)
		return nil, errOverLimit
	}
	b := &fetched{ctx: ctx, cancel: cancel, body: resp.Body, timer: timer, stall: f.stall, left: limit, progress: progress}
	b.plain = rawBody{b}
	if s.file != nil {
		stream := s.file.DecryptStream(rawBody{b})
		b.plain, b.opened = stream, stream
	}
	return b, nil
}

// causeOf is why a context was ended, if it was, else err.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// request asks for a file at the endpoint that knows who asks, and at the older one if the homeserver has no other.
func (f *fetcher) request(ctx context.Context, uri id.ContentURI) (*http.Response, error) {
	resp, code, err := f.get(ctx, mautrix.ClientURLPath{"v1", "media", "download", uri.Homeserver, uri.FileID})
	if err == nil && resp == nil && code == mautrix.MUnrecognized.ErrCode {
		resp, code, err = f.get(ctx, mautrix.MediaURLPath{"v3", "download", uri.Homeserver, uri.FileID})
	}
	switch {
	case err != nil:
		return nil, err
	case resp == nil && code == mautrix.MUnrecognized.ErrCode:
		return nil, errFetchRefused
	case resp == nil:
		return nil, errGone
	}
	return resp, nil
}

// maxRefusal bounds how much of an error's body is read, in bytes.
const maxRefusal = 16 << 10

// get does one request. A nil response without an error means that the file is not to be had; code is the homeserver's.
func (f *fetcher) get(ctx context.Context, path mautrix.PrefixableURLPath) (resp *http.Response, code string, err error) {
	bot := f.bot()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, bot.BuildURL(path), nil)
	if err != nil {
		return nil, "", errFetchRefused
	}
	req.Header.Set("Authorization", "Bearer "+bot.AccessToken)
	resp, err = f.client.Do(req)
	if err != nil {
		return nil, "", errNoAnswer
	}
	if resp.StatusCode == http.StatusOK {
		return resp, "", nil
	}
	defer resp.Body.Close()
	var refusal struct {
		Code string `json:"errcode"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err != nil || json.Unmarshal(raw, &refusal) != nil {
		refusal.Code = ""
	}
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone, http.StatusForbidden, http.StatusMethodNotAllowed:
		return nil, refusal.Code, nil
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong:
		return nil, "", errFetchRefused
	}
	// 401 too: a token that is out of order for now is the operator's to mend, and no reason to give up a message at once.
	return nil, "", fmt.Errorf("connector: fetch: status %d", resp.StatusCode)
}

// fetched is the stream of a file. Its methods are for one goroutine.
type fetched struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	timer  *time.Timer
	stall  time.Duration
	// left is how much may still come.
	left     int64
	progress func()
	plain    io.Reader
	opened   io.Closer // the decrypting stream, nil for none
	end      error
}

// rawBody is what comes from the homeserver.
type rawBody struct{ f *fetched }

// Read implements io.Reader.
func (r rawBody) Read(p []byte) (int, error) {
	f := r.f
	f.timer.Reset(f.stall)
	n, err := f.body.Read(p)
	f.timer.Stop()
	f.left -= int64(n)
	switch {
	case f.left < 0:
		return 0, errOverLimit
	case err != nil && !errors.Is(err, io.EOF):
		err = causeOf(f.ctx, errNoAnswer)
	}
	if n > 0 && f.progress != nil {
		f.progress()
	}
	return n, err
}

// Read implements io.Reader.
func (f *fetched) Read(p []byte) (int, error) {
	if f.end != nil {
		return 0, f.end
	}
	n, err := f.plain.Read(p)
	if errors.Is(err, io.EOF) && f.opened != nil {
		// Only the whole file has a hash, so nothing of it counts before its end.
		if closeErr := f.opened.Close(); errors.Is(closeErr, attachment.ErrHashMismatch) {
			err = errBadFile
		} else if closeErr != nil {
			err = closeErr
		}
	}
	f.end = err
	return n, err
}

// Close ends the request.
func (f *fetched) Close() error {
	f.timer.Stop()
	f.cancel(nil)
	return f.body.Close()
}

// throttled calls f at most once in each interval, from any goroutine.
func throttled(interval time.Duration, f func()) func() {
	if f == nil {
		return func() {}
	}
	began := time.Now()
	var next atomic.Int64
	return func() {
		now, due := int64(time.Since(began)), next.Load()
		if now >= due && next.CompareAndSwap(due, now+int64(interval)) {
			f()
		}
	}
}
