package connector

import (
	"bytes"
	"image"
	pngs "image/png"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/media"
)

// fakeHost is a gatekeeper's media host.
type fakeHost struct {
	url string

	mu    sync.Mutex
	files map[string][]byte // by path with query
	asked []string
	// answer, if set, answers in place of the file.
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newFakeHost(t *testing.T) *fakeHost {
	h := &fakeHost{files: map[string][]byte{}}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// ServeHTTP implements http.Handler.
func (h *fakeHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked = append(h.asked, r.URL.RequestURI())
	file, known := h.files[r.URL.RequestURI()]
	answer := h.answer
	h.mu.Unlock()
	switch {
	case answer != nil && answer(w, r):
	case !known:
		http.NotFound(w, r)
	default:
		_, _ = w.Write(file)
	}
}

// answers sets what answers in place of files, nil for nothing.
func (h *fakeHost) answers(answer func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// times is how often a path was asked for.
func (h *fakeHost) times(path string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.asked {
		if p == path {
			n++
		}
	}
	return n
}

// put encrypts a file and keeps it, unless it is told that the host has lost it.
func (h *fakeHost) put(t *testing.T, path string, kind media.Kind, plain []byte) media.Descriptor {
	t.Helper()
	var sealed bytes.Buffer
	d, err := media.Encrypt(&sealed, bytes.NewReader(plain), kind, media.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[path] = sealed.Bytes()
	return d
}

// image is a message with an image that the host has at path.
func (h *fakeHost) image(t *testing.T, path, caption string, plain []byte) *waE2E.Message {
	d := h.put(t, path, media.Image, plain)
	m := &waE2E.ImageMessage{
		Mimetype: proto.String("image/png"), DirectPath: &path, MediaKey: d.Key[:], FileSHA256: d.SHA256[:], FileEncSHA256: d.EncSHA256[:],
		FileLength: proto.Uint64(uint64(d.Length)), Width: proto.Uint32(3), Height: proto.Uint32(2),
	}
	if caption != "" {
		m.Caption = &caption
	}
	return &waE2E.Message{ImageMessage: m}
}

// sticker is a message with a sticker that the host has at path.
func (h *fakeHost) sticker(t *testing.T, path string) *waE2E.Message {
	d := h.put(t, path, media.Image, png(3, 2))
	return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{
		Mimetype: proto.String("image/webp"), DirectPath: &path, MediaKey: d.Key[:], FileSHA256: d.SHA256[:], FileEncSHA256: d.EncSHA256[:],
		FileLength: proto.Uint64(uint64(d.Length)),
	}}
}

// png is a picture of that size.
func png(width, height int) []byte {
	var b bytes.Buffer
	_ = pngs.Encode(&b, image.NewNRGBA(image.Rect(0, 0, width, height)))
	return b.Bytes()
}
