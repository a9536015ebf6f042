package sandbox

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/media"
)

func TestAPhoneFetchesWhatAPartnerSendsAndShowsItAfterwards(t *testing.T) {
	l := newLab(t, quickRules(nil))
	p := l.ready()
	to := p.find(ada)
	wave := make([]byte, 64)
	for i := range wave {
		wave[i] = byte(i)
	}
	for _, c := range []struct {
		name, media, mimetype string
		kind                  media.Kind
		size                  int
		make                  func(s stored, in *waE2E.ImageMessage) *waE2E.Message
	}{
		{"image", "image", "image/jpeg", media.Image, 1000, func(_ stored, in *waE2E.ImageMessage) *waE2E.Message {
			in.Caption, in.Width, in.Height, in.JPEGThumbnail = proto.String("look"), proto.Uint32(16), proto.Uint32(9), smallJPEG(t)
			return &waE2E.Message{ImageMessage: in}
		}},
		{"video", "video", "video/mp4", media.Video, 200_000, func(_ stored, in *waE2E.ImageMessage) *waE2E.Message {
			return &waE2E.Message{VideoMessage: &waE2E.VideoMessage{Mimetype: proto.String("video/mp4"), Seconds: proto.Uint32(4), FileSHA256: in.FileSHA256,
				FileEncSHA256: in.FileEncSHA256, MediaKey: in.MediaKey, FileLength: in.FileLength, DirectPath: in.DirectPath, MediaKeyTimestamp: in.MediaKeyTimestamp}}
		}},
		{"gif", "gif", "video/mp4", media.Video, 64 << 10, func(_ stored, in *waE2E.ImageMessage) *waE2E.Message {
			return &waE2E.Message{VideoMessage: &waE2E.VideoMessage{Mimetype: proto.String("video/mp4"), GifPlayback: proto.Bool(true), FileSHA256: in.FileSHA256,
				FileEncSHA256: in.FileEncSHA256, MediaKey: in.MediaKey, FileLength: in.FileLength, DirectPath: in.DirectPath, MediaKeyTimestamp: in.MediaKeyTimestamp}}
		}},
		{"voice", "ptt", "audio/ogg; codecs=opus", media.Audio, 5000, func(_ stored, in *waE2E.ImageMessage) *waE2E.Message {
			return &waE2E.Message{AudioMessage: &waE2E.AudioMessage{Mimetype: proto.String("audio/ogg; codecs=opus"), PTT: proto.Bool(true), Waveform: wave,
				Seconds: proto.Uint32(7), FileSHA256: in.FileSHA256, FileEncSHA256: in.FileEncSHA256, MediaKey: in.MediaKey,
				FileLength: in.FileLength, DirectPath: in.DirectPath, MediaKeyTimestamp: in.MediaKeyTimestamp}}
		}},
		{"audio", "audio", "audio/mpeg", media.Audio, 1, func(_ stored, in *waE2E.ImageMessage) *waE2E.Message {
			return &waE2E.Message{AudioMessage: &waE2E.AudioMessage{Mimetype: proto.String("audio/mpeg"), FileSHA256: in.FileSHA256, FileEncSHA256: in.FileEncSHA256,
				MediaKey: in.MediaKey, FileLength: in.FileLength, DirectPath: in.DirectPath, MediaKeyTimestamp: in.MediaKeyTimestamp}}
		}},
		{"document", "document", "application/pdf", media.Document, 0, func(s stored, _ *waE2E.ImageMessage) *waE2E.Message {
			return &waE2E.Message{DocumentMessage: s.document("empty.pdf")}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := someBytes(c.size)
			s := l.store(data, c.kind)
			m := p.sealMessage(to, c.make(s, s.picture()), "media", c.media)
			p.send(m)
			p.want("delivery", isReceipt(m.ID, ""))
			e := l.event(ada, 0, c.name, messageIs(m.ID))
			g := e.Media
			if g == nil || g.Error != "" || g.Kind != c.name || g.Mimetype != c.mimetype || g.Bytes != uint64(c.size) || g.SHA256 != hexOf(data) {
				t.Fatalf("%+v", g)
			}
			if key, err := hex.DecodeString(g.Key); err != nil || !bytes.Equal(key, s.d.Key[:]) || g.DirectPath != s.path {
				t.Errorf("key or path: %+v", g)
			}
			got, status := l.received(ada, m.ID)
			if status != 200 || !bytes.Equal(got, data) {
				t.Errorf("%d, %d bytes", status, len(got))
			}
			switch c.name {
			case "image":
				thumb, status := fetchURL(t, l.url+"/v1/users/"+ada+"/media/"+m.ID+"?thumbnail=1&to="+matilda)
				if e.Text != "look" || g.Width != 16 || g.Height != 9 || status != 200 || !bytes.Equal(thumb, smallJPEG(t)) || g.Thumbnail != len(thumb) {
					t.Errorf("%+v, thumbnail %d", g, status)
				}
			case "voice":
				if g.Seconds != 7 || len(g.Waveform) != 64 || g.Waveform[63] != 63 {
					t.Errorf("%+v", g)
				}
			case "document":
				if g.FileName != "empty.pdf" {
					t.Errorf("%+v", g)
				}
			}
		})
	}
	l.noComplaints()
}

func TestALargeFileComesInRangesAfterAHead(t *testing.T) {
	l := newLab(t, quickRules(func(r *fetchRules) { r.next = 100_000 }))
	p := l.ready()
	data := someBytes(300_000)
	s := l.store(data, media.Document)
	id := p.sendFile(s.document("a"))
	if e := l.event(ada, 0, "the file", messageIs(id)); e.Media.Error != "" {
		t.Fatal(e.Media.Error)
	}
	tag := " " + tagOf(l.public.media.blobs[s.reference])
	want := []string{
		"HEAD", "GET bytes=0-65535" + tag, "GET bytes=65536-165535" + tag, "GET bytes=165536-265535" + tag,
		fmt.Sprintf("GET bytes=265536-%d", media.EncryptedLength(300_000)-1) + tag,
	}
	if got := l.public.media.requests(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	l.noComplaints()
}

func TestADownloadThatBreaksOffGoesOnWhereItWas(t *testing.T) {
	l := newLab(t, quickRules(nil))
	p := l.ready()
	data := someBytes(500_000)
	s := l.store(data, media.Document)
	var cuts atomic.Int32
	l.public.media.behave(func(w http.ResponseWriter, r *http.Request, blob []byte) {
		if r.Method == "GET" && cuts.Add(1) <= 6 {
			w = &cutWriter{w, 20_000}
		}
		honest(w, r, blob)
	})
	id := p.sendFile(s.document("a"))
	if e := l.event(ada, 0, "the file", messageIs(id)); e.Media.Error != "" {
		t.Fatal(e.Media.Error)
	}
	if got, _ := l.received(ada, id); !bytes.Equal(got, data) {
		t.Error("other bytes")
	}
	asked := strings.Join(l.public.media.requests(), "\n")
	if !strings.Contains(asked, "GET bytes=20000-65535") || !strings.Contains(asked, "GET bytes=40000-65535") {
		t.Errorf("not resumed: %q", asked)
	}
	l.noComplaints()
}

// cutWriter ends a body early.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		c.left = 0
		return 0, http.ErrAbortHandler
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// TestPartnersWhoseMediaIsNotAsItMustBe is one hostile or broken media host each. word is media.error; about is
// part of a complaint, empty if the partner is not to blame.
func TestPartnersWhoseMediaIsNotAsItMustBe(t *testing.T) {
	type host = func(w http.ResponseWriter, r *http.Request, blob []byte)
	status := func(code int) host {
		return func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(code) }
	}
	headers := func(edit func(h http.Header)) host {
		return func(w http.ResponseWriter, r *http.Request, blob []byte) {
			honest(&editedHeaders{ResponseWriter: w, edit: edit}, r, blob)
		}
	}
	onGet := func(then host) host {
		return func(w http.ResponseWriter, r *http.Request, blob []byte) {
			if r.Method == "HEAD" {
				honest(w, r, blob)
				return
			}
			then(w, r, blob)
		}
	}
	none := func(*waE2E.DocumentMessage) {}
	for _, c := range []struct {
		name, word, about string
		size              int
		odd               host
		edit              func(*waE2E.DocumentMessage)
	}{
		{"not there", "404", "not there", 10, status(404), none},
		{"gone", "410", "not there", 10, status(410), none},
		{"forbidden", "403", "no place", 10, status(403), none},
		{"down for good", "503", "", 10, status(503), none},
		{"redirects", "redirect", "redirect", 10, func(w http.ResponseWriter, r *http.Request, _ []byte) {
			http.Redirect(w, r, "/media/elsewhere", http.StatusFound)
		}, none},
		{"hangs up", "unreachable", "", 10, func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) }, none},
		{"says nothing", "unreachable", "", 10, func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() }, none},
		{"stops within the body", "unreachable", "", 100_000, onGet(func(w http.ResponseWriter, r *http.Request, blob []byte) {
			honest(&cutWriter{w, 100}, r, blob)
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}), none},
		{"says it is longer", "length", "not the one its message says", 10, func(w http.ResponseWriter, r *http.Request, blob []byte) {
			honest(w, r, append(slices.Clone(blob), make([]byte, 16)...))
		}, none},
		{"says it is endless", "length", "longer than its kind", 10, func(w http.ResponseWriter, _ *http.Request, blob []byte) {
			goodHeaders(w, blob)
			w.Header().Set("Content-Length", "9000000000000000000")
		}, func(m *waE2E.DocumentMessage) { m.FileLength = nil }},
		{"another length on GET", "length", "Content-Length", 10, onGet(func(w http.ResponseWriter, r *http.Request, blob []byte) {
			goodHeaders(w, blob)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob[:5]))
		}), none},
		{"a body without end", "length", "more bytes", 10, onGet(func(w http.ResponseWriter, r *http.Request, blob []byte) {
			goodHeaders(w, blob)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
				http.NewResponseController(w).Flush()
			}
		}), none},
		{"more than the range", "length", "more bytes", 100_000, onGet(func(w http.ResponseWriter, _ *http.Request, blob []byte) {
			goodHeaders(w, blob)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-65535/%d", len(blob)))
			w.WriteHeader(206)
			http.NewResponseController(w).Flush()
			w.Write(blob)
		}), none},
		{"another range", "range", "Content-Range", 100_000, onGet(func(w http.ResponseWriter, r *http.Request, blob []byte) {
			r.Header.Set("Range", "bytes=5-65540")
			honest(w, r, blob)
		}), none},
		{"several ranges", "range", "Content-Range", 100_000, onGet(func(w http.ResponseWriter, r *http.Request, blob []byte) {
			r.Header.Set("Range", "bytes=0-5,7-9")
			honest(w, r, blob)
		}), none},
		{"a part of a small file", "range", "a part of media", 10, onGet(func(w http.ResponseWriter, r *http.Request, blob []byte) {
			r.Header.Set("Range", "bytes=0-5")
			honest(w, r, blob)
		}), none},
		{"refuses ranges", "range", "is refused", 100_000, onGet(status(416)), none},
		{"ignores ranges", "", "answered with the whole", 100_000, onGet(func(w http.ResponseWriter, r *http.Request, blob []byte) {
			r.Header.Del("Range")
			honest(w, r, blob)
		}), none},
		{"changes meanwhile", "range", "changes", 100_000, onGet(headers(func(h http.Header) { h.Set("ETag", `"x"`) })), none},
		{"no HEAD", "", "HEAD", 10, func(w http.ResponseWriter, r *http.Request, blob []byte) {
			if r.Method == "HEAD" {
				w.WriteHeader(405)
				return
			}
			honest(w, r, blob)
		}, none},
		{"no length", "", "Content-Length", 10, func(w http.ResponseWriter, r *http.Request, blob []byte) {
			goodHeaders(w, blob)
			http.NewResponseController(w).Flush()
			if r.Method == "GET" {
				w.Write(blob)
			}
		}, none},
		{"another type", "", "application/octet-stream", 10, headers(func(h http.Header) { h.Set("Content-Type", "text/html") }), none},
		{"no ETag", "", "ETag", 100_000, headers(func(h http.Header) { h.Del("ETag") }), none},
		{"a weak ETag", "", "ETag", 10, headers(func(h http.Header) { h.Set("ETag", `W/"x"`) }), none},
		{"no Cache-Control", "", "Cache-Control", 10, headers(func(h http.Header) { h.Del("Cache-Control") }), none},
		{"compressed", "encoding", "Content-Encoding", 10, headers(func(h http.Header) { h.Set("Content-Encoding", "gzip") }), none},
		{"other bytes", "hash", "fileEncSHA256", 10, onGet(func(w http.ResponseWriter, r *http.Request, blob []byte) {
			other := slices.Clone(blob)
			other[3] ^= 1
			goodHeaders(w, blob)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(other))
		}), none},
		{"another key", "mac", "MAC", 10, nil, func(m *waE2E.DocumentMessage) { m.MediaKey = hash32 }},
		{"another plaintext hash", "hash", "fileSHA256", 10, nil, func(m *waE2E.DocumentMessage) { m.FileSHA256 = hash32 }},
		{"another length within the same block", "length", "length", 10, nil, func(m *waE2E.DocumentMessage) { m.FileLength = proto.Uint64(11) }},
		{"another length", "length", "not the one its message says", 10, nil, func(m *waE2E.DocumentMessage) { m.FileLength = proto.Uint64(1000) }},
		{"a length beyond all measure", "length", "larger than its kind", 10, nil, func(m *waE2E.DocumentMessage) { m.FileLength = proto.Uint64(1 << 40) }},
		{"no length in the message", "", "without fileLength", 10, nil, func(m *waE2E.DocumentMessage) { m.FileLength = nil }},
		{"no time of the key", "", "mediaKeyTimestamp", 10, nil, func(m *waE2E.DocumentMessage) { m.MediaKeyTimestamp = nil }},
		{"a time of the key in milliseconds", "", "mediaKeyTimestamp", 10, nil, func(m *waE2E.DocumentMessage) { m.MediaKeyTimestamp = proto.Int64(time.Now().UnixMilli()) }},
		{"another integrator's path", "path", "directPath", 10, nil, func(m *waE2E.DocumentMessage) {
			m.DirectPath = proto.String(strings.Replace(m.GetDirectPath(), "/1/", "/2/", 1))
		}},
		{"a path of another form", "path", "directPath", 10, nil, func(m *waE2E.DocumentMessage) { m.DirectPath = proto.String(m.GetDirectPath() + "..") }},
		{"a thumbnail that is no JPEG", "", "JPEGThumbnail", 10, nil, func(m *waE2E.DocumentMessage) { m.JPEGThumbnail = []byte("\xff\xd8 no") }},
		{"a thumbnail too large", "", "JPEGThumbnail", 10, nil, func(m *waE2E.DocumentMessage) {
			m.JPEGThumbnail = append(smallJPEG(t), make([]byte, 16<<10)...)
		}},
		{"a field that phones do not take", "", "fields", 10, nil, func(m *waE2E.DocumentMessage) { m.AccessibilityLabel = proto.String("x") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, quickRules(func(r *fetchRules) {
				r.stall = patience
				if c.name == "says nothing" || c.name == "stops within the body" {
					r.stall, r.breaks = 300*time.Millisecond, 3 // the outcome is the same however late anything is
				}
			}))
			p := l.ready()
			data := someBytes(c.size)
			s := l.store(data, media.Document)
			l.post("/v1/integrators", map[string]any{ // for the path that names it
				"id": 2, "identifier_type": "pn", "public_base": "http://other.example", "media_base": l.public.server.URL + "/media",
			}, nil)
			l.public.media.behave(c.odd)
			m := s.document("a")
			c.edit(m)
			id := p.sendFile(m)
			e := l.event(ada, 0, "the file", messageIs(id))
			if e.Media.Error != c.word {
				t.Errorf("error %q", e.Media.Error)
			}
			if got, status := l.received(ada, id); c.word == "" && (status != 200 || !bytes.Equal(got, data)) || c.word != "" && status != 404 {
				t.Errorf("%d, %d bytes", status, len(got))
			}
			if strings.Contains(c.about, "larger than its kind") && len(l.public.media.requests()) > 0 {
				t.Error("asked for all the same")
			}
			if c.about != "" {
				l.complained(c.about)
			} else {
				l.noComplaints()
			}
			l.until("no spool is left", func() bool { return len(l.s.depotFiles(t)) == map[bool]int{true: 1, false: 0}[c.word == ""] })
		})
	}
}

// editedHeaders changes the headers of an answer just before they leave.
type editedHeaders struct {
	http.ResponseWriter
	edit func(http.Header)
	done bool
}

func (e *editedHeaders) WriteHeader(code int) {
	e.done = true
	e.edit(e.Header())
	e.ResponseWriter.WriteHeader(code)
}

func (e *editedHeaders) Write(p []byte) (int, error) {
	if !e.done {
		e.WriteHeader(200)
	}
	return e.ResponseWriter.Write(p)
}

func TestTheRetriesOfAPhoneEndEvenIfEachBringsAByte(t *testing.T) {
	l := newLab(t, quickRules(func(r *fetchRules) { r.breaks = 7 }))
	p := l.ready()
	s := l.store(someBytes(1000), media.Document)
	l.public.media.behave(func(w http.ResponseWriter, r *http.Request, blob []byte) {
		if r.Method == "GET" {
			w = &cutWriter{w, 1}
		}
		honest(w, r, blob)
	})
	id := p.sendFile(s.document("a"))
	if e := l.event(ada, 0, "the file", messageIs(id)); e.Media.Error != "unreachable" {
		t.Errorf("%+v", e.Media)
	}
	if n := len(l.public.media.requests()); n != 1+8 {
		t.Errorf("%d requests", n)
	}
}

func TestRelayPathsAreReadStrictly(t *testing.T) {
	ref := strings.Repeat("aZ-_09", 8)[:43]
	for _, c := range []struct {
		path string
		ok   bool
	}{
		{"/interop/whatsapp/download/1/" + ref + "/", true}, {"/interop/whatsapp/download/999/" + ref + "/", true},
		{"/interop/whatsapp/download/1/" + ref, false}, {"/interop/whatsapp/download/01/" + ref + "/", false},
		{"/interop/whatsapp/download/0/" + ref + "/", false}, {"/interop/whatsapp/download/1000/" + ref + "/", false},
		{"/interop/whatsapp/download/1/" + ref[1:] + "/", false}, {"/interop/whatsapp/download/1/" + ref[1:] + "./", false},
		{"/interop/whatsapp/download/1/" + ref[2:] + "%2/", false}, {"/interop/whatsapp/download/1/" + ref + "//", false},
		{"/interop/whatsapp/download/1//", false}, {"/interop/messenger/download/1/" + ref + "/", false}, {"", false}, {"/", false},
		{"/interop/whatsapp/download/+1/" + ref + "/", false}, {"/interop/whatsapp/download/1/" + ref + "/?x", false},
	} {
		in, got, ok := relayPath("whatsapp", c.path)
		if ok != c.ok || ok && (got != ref || in == 0) {
			t.Errorf("%s: %d %q %t", c.path, in, got, ok)
		}
	}
}

func TestTheMediaHostRelaysPartnersMedia(t *testing.T) {
	l := newLab(t, quickRules(nil))
	blobOf := func(s stored) []byte { return l.public.media.blobs[s.reference] }
	s := l.store(someBytes(5000), media.Image)
	if got, status := fetchURL(t, l.info.MediaURL+s.path); status != 200 || !bytes.Equal(got, blobOf(s)) {
		t.Errorf("%d, %d bytes", status, len(got))
	}
	if got, status := fetchURL(t, l.info.MediaURL+s.path, "Range", "bytes=-10"); status != 206 || !bytes.Equal(got, blobOf(s)[len(blobOf(s))-10:]) {
		t.Errorf("%d, %d bytes", status, len(got))
	}
	for path, want := range map[string]int{
		s.path[:len(s.path)-1]: 404, s.path + "?x=1": 404, strings.Replace(s.path, "/1/", "/2/", 1): 404, "/interop/": 404,
		"/interop/whatsapp/download/1/" + strings.Repeat("x", 43) + "/": 404,
	} {
		if _, status := fetchURL(t, l.info.MediaURL+path); status != want {
			t.Errorf("%s: %d", path, status)
		}
	}
	resp, err := http.Post(l.info.MediaURL+s.path, "", nil)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	for name, odd := range map[string]func(http.ResponseWriter, *http.Request, []byte){
		"redirects": func(w http.ResponseWriter, r *http.Request, _ []byte) { http.Redirect(w, r, "/", http.StatusFound) },
		"hangs up":  func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) },
	} {
		l.public.media.behave(odd)
		if _, status := fetchURL(t, l.info.MediaURL+s.path); status != 502 {
			t.Errorf("a partner that %s: %d", name, status)
		}
	}
}

// fakePartner answers every request with one body.
type fakePartner struct{ body io.ReadCloser }

func (f fakePartner) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.body == nil {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if b, ok := f.body.(*dripping); ok {
		b.ctx = r.Context()
	}
	return &http.Response{StatusCode: 200, Body: f.body, Request: r}, nil
}

// dripping gives a byte after each pause.
type dripping struct {
	ctx    context.Context
	pauses []time.Duration
}

func (d *dripping) Read(p []byte) (int, error) {
	if len(d.pauses) == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(d.pauses[0]):
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
	d.pauses = d.pauses[1:]
	return copy(p, "x"), nil
}

func (d *dripping) Close() error { return nil }

func TestOnlyTimeWithoutAByteEndsARequest(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		name string
		body io.ReadCloser
		got  int
		took time.Duration
		ok   bool
	}{
		{"no answer", nil, 0, 30 * second, false},
		{"slow, but never for long", &dripping{pauses: []time.Duration{29 * second, 29 * second, 29 * second, 29 * second}}, 4, 116 * second, true},
		{"a stop in the middle", &dripping{pauses: []time.Duration{second, second, time.Hour}}, 2, 32 * second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{fetch: defaultFetchRules(), mediaClient: &http.Client{Transport: fakePartner{c.body}}}
				start, got := time.Now(), []byte(nil)
				resp, err := s.askPartner(t.Context(), "GET", "http://partner.example/", http.Header{})
				if err == nil {
					got, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if took := time.Since(start); (err == nil) != c.ok || took != c.took || len(got) != c.got {
					t.Errorf("%d bytes after %v, %v", len(got), took, err)
				}
			})
		})
	}
}

func TestMediaIsNeverHeldInMemory(t *testing.T) {
	const size = 64 << 20
	l := newLab(t, quickRules(nil))
	p := l.ready()
	blob, err := os.Create(filepath.Join(t.TempDir(), "blob"))
	must(t, err)
	defer blob.Close()
	d, err := media.Encrypt(blob, io.LimitReader(zeros{}, size), media.Document, media.NewKey())
	must(t, err)
	s := stored{d: d, reference: newID("", 22)[:referenceSize]}
	s.path = "/interop/whatsapp/download/1/" + s.reference + "/"
	l.public.media.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) {
		goodHeaders(w, nil)
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(blob, 0, d.EncLength))
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	id := p.sendFile(s.document("large"))
	if e := l.event(ada, 0, "the file", messageIs(id)); e.Media.Error != "" || e.Media.Bytes != size {
		t.Fatalf("%+v", e.Media)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > size/8 {
		t.Errorf("%d bytes allocated for a file of %d, both sides together", got, size)
	}
	l.noComplaints()
}

// zeros is as many zeros as anyone reads.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
