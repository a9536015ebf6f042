package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/media"
)

// mediaFace is a partner's media base.
type mediaFace struct {
	mu    sync.Mutex
	blobs map[string][]byte
	asked []string // method, Range and If-Range of each request
	// odd answers in place of an honest host, if it is set.
	odd func(w http.ResponseWriter, r *http.Request, blob []byte)
}

func (f *mediaFace) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+r.Header.Get("Range")+" "+r.Header.Get("If-Range")))
	blob, ok := f.blobs[r.PathValue("ref")]
	odd := f.odd
	f.mu.Unlock()
	if odd != nil {
		odd(w, r, blob)
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	honest(w, r, blob)
}

// honest answers as PROTOCOL.md 7.2 says.
func honest(w http.ResponseWriter, r *http.Request, blob []byte) {
	goodHeaders(w, blob)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
}

func goodHeaders(w http.ResponseWriter, blob []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "private, immutable")
	w.Header().Set("ETag", tagOf(blob))
}

func tagOf(blob []byte) string { return `"` + hexOf(blob) + `"` }

func (f *mediaFace) behave(odd func(w http.ResponseWriter, r *http.Request, blob []byte)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.odd, f.asked = odd, nil
}

func (f *mediaFace) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

// stored is an attachment of a partner, on its media base.
type stored struct {
	d         media.Descriptor
	reference string
	path      string
}

// store encrypts data and puts it on the media base.
func (l *lab) store(data []byte, kind media.Kind) stored {
	l.t.Helper()
	var blob bytes.Buffer
	d, err := media.Encrypt(&blob, bytes.NewReader(data), kind, media.NewKey())
	must(l.t, err)
	reference := (newID("", 22))[:referenceSize]
	l.public.media.mu.Lock()
	defer l.public.media.mu.Unlock()
	l.public.media.blobs[reference] = blob.Bytes()
	return stored{d, reference, "/interop/whatsapp/download/1/" + reference + "/"}
}

func (s stored) picture() *waE2E.ImageMessage {
	length := uint64(s.d.Length)
	return &waE2E.ImageMessage{
		Mimetype: proto.String("image/jpeg"), FileSHA256: s.d.SHA256[:], FileEncSHA256: s.d.EncSHA256[:], MediaKey: s.d.Key[:],
		FileLength: &length, DirectPath: &s.path, MediaKeyTimestamp: proto.Int64(time.Now().Unix()),
	}
}

func (s stored) document(name string) *waE2E.DocumentMessage {
	length := uint64(s.d.Length)
	return &waE2E.DocumentMessage{
		Mimetype: proto.String("application/pdf"), FileName: &name, FileSHA256: s.d.SHA256[:], FileEncSHA256: s.d.EncSHA256[:],
		MediaKey: s.d.Key[:], FileLength: &length, DirectPath: &s.path, MediaKeyTimestamp: proto.Int64(time.Now().Unix()),
	}
}

// sendFile sends data as a document and gives back the message's id.
func (p *scripted) sendFile(m *waE2E.DocumentMessage) string {
	p.t.Helper()
	to := p.find(ada)
	s := p.sealMessage(to, &waE2E.Message{DocumentMessage: m}, "media", "document")
	p.send(s)
	return s.ID
}

// received are the bytes that the control API gives for a message, or nil and the status.
func (l *lab) received(phone, id string) ([]byte, int) {
	l.t.Helper()
	return fetchURL(l.t, l.url+"/v1/users/"+phone+"/media/"+id)
}

func fetchURL(t testing.TB, url string, headers ...string) ([]byte, int) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	must(t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return nil, -1 // broke off
	}
	return b.Bytes(), resp.StatusCode
}

func hexOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// someBytes is n bytes that nothing compresses, the same for the same n.
func someBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

// smallJPEG is a thumbnail.
func smallJPEG(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 16, 9)), nil))
	return b.Bytes()
}

// quickRules are a phone's patience in tests: no pauses, so that only what happens decides.
func quickRules(edit func(*fetchRules)) func(*Config) {
	return func(c *Config) {
		r := defaultFetchRules()
		r.backoff = time.Microsecond
		if edit != nil {
			edit(&r)
		}
		c.fetch = &r
	}
}

// ready is connected, with a session.
func (l *lab) ready() *scripted {
	l.t.Helper()
	p, to := l.connected()
	p.session(to)
	return p
}

func messageIs(id string) func(eventBody) bool {
	return func(e eventBody) bool { return e.Kind == "message" && e.ID == id }
}
