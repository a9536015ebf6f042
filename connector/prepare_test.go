package connector

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"image"
	"image/jpeg"
	pngfile "image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/crypto/attachment"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/e2ee"
	"postern/connector/interop"
	"postern/connector/interop/interoptest"
	"postern/connector/media"
	"postern/connector/mediastore"
	"postern/connector/profile"
	"postern/connector/transcode"
	"postern/database"
	"postern/database/databasetest"
)

// bench is a client with a media store on a real database, and a homeserver's media repository.
type bench struct {
	*client
	public http.Handler // what the gatekeeper sees
	row    *database.Account
}

func newBench(t *testing.T, quota int64, homeserver http.HandlerFunc) *bench {
	t.Helper()
	db := databasetest.Open(t, databasetest.SQLiteConfig(t))
	account := newTestAccount(t, db)
	row, err := db.Accounts().Get(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	row.Integrator = 7
	backend, err := mediastore.Files(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := profile.WhatsApp()
	store, err := mediastore.New(mediastore.Config{Backend: backend, Index: mediaIndex{db.Media()}, Keep: p.Media.Keep, QuotaBytes: quota})
	if err != nil {
		t.Fatal(err)
	}
	tools, err := transcode.Find("")
	if err != nil && !errors.Is(err, transcode.ErrNoTool) {
		t.Fatal(err)
	}
	c := New()
	c.db, c.media, c.transcode = db, store, tools
	c.Config.Media.Spool = t.TempDir()
	c.spool = c.Config.Media.Spool
	c.fetch = mediaServer(t, homeserver)
	cl := &client{connector: c, profile: p, row: row, log: new(zerolog.Nop())}
	device, err := e2ee.NewDevice(nil)
	if err != nil {
		t.Fatal(err)
	}
	cl.account = interop.New(interop.Config{ID: account, Profile: p, Device: device, Store: interoptest.NewMemStore(), Upcalls: cl})
	return &bench{cl, store.Handler(), row}
}

// prepare has an attachment made into a message. commit says whether the message is stored, too.
func (b *bench) prepare(t *testing.T, a convert.Attachment, quote *convert.Quote, commit bool) (*interop.Prepared, *waE2E.Message, error) {
	t.Helper()
	raw, err := b.recipe(&a, quote)
	if err != nil {
		t.Fatal(err)
	}
	done, err := b.Prepare(t.Context(), &interop.Preparing{EventID: "$e", Chat: "c", Recipe: raw, Progress: func() {}})
	if entries, dirErr := os.ReadDir(b.connector.spool); dirErr != nil || len(entries) > 0 {
		t.Errorf("temporary files are left: %v %v", entries, dirErr)
	}
	if err != nil {
		return nil, nil, err
	}
	if commit {
		if err = done.Also(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	msg := &waE2E.Message{}
	if err = proto.Unmarshal(done.Plaintext, msg); err != nil {
		t.Fatal(err)
	}
	return done, msg, nil
}

// fetchAs gets what a message's path leads to, as the gatekeeper does.
func (b *bench) fetchAs(path string) (int, []byte) {
	prefix := "/interop/whatsapp/download/7/"
	ref, found := strings.CutPrefix(path, prefix)
	if !found || !strings.HasSuffix(ref, "/") {
		return 0, nil
	}
	w := httptest.NewRecorder()
	b.public.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+strings.TrimSuffix(ref, "/"), nil))
	return w.Code, w.Body.Bytes()
}

// arrived decrypts what a phone gets for a message's fields.
func (b *bench) arrived(t *testing.T, kind media.Kind, path string, key, hash, encHash []byte, length uint64) []byte {
	t.Helper()
	code, ciphertext := b.fetchAs(path)
	if code != http.StatusOK {
		t.Fatalf("the gatekeeper gets %d", code)
	}
	var plain bytes.Buffer
	err := media.Decrypt(&plain, bytes.NewReader(ciphertext), int64(len(ciphertext)), media.Descriptor{
		Kind: kind, Key: [32]byte(key), SHA256: [32]byte(hash), EncSHA256: [32]byte(encHash), Length: int64(length),
	})
	if err != nil {
		t.Fatalf("the phone cannot decrypt: %v", err)
	}
	return plain.Bytes()
}

func (b *bench) arrivedDocument(t *testing.T, d *waE2E.DocumentMessage) []byte {
	t.Helper()
	return b.arrived(t, media.Document, d.GetDirectPath(), d.GetMediaKey(), d.GetFileSHA256(), d.GetFileEncSHA256(), d.GetFileLength())
}

func document(file *event.EncryptedFileInfo) convert.Attachment {
	return convert.Attachment{Role: convert.RoleDocument, Size: -1, Name: "letter.odt", Mimetype: "application/vnd.oasis", Caption: "read this", URI: someURI, File: file}
}

func TestAFileArrivesByteForByteFromPlainAndEncryptedRooms(t *testing.T) {
	data := someBytes(t, 300_001)
	ciphertext, file := sealed(data)
	for name, x := range map[string]struct {
		served []byte
		file   *event.EncryptedFileInfo
	}{"plain": {data, nil}, "encrypted": {ciphertext, file}} {
		b := newBench(t, 0, serve(x.served))
		done, msg, err := b.prepare(t, document(x.file), nil, true)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d := msg.GetDocumentMessage()
		if done.Type != "media" || done.MediaType != "document" || done.Fallback != nil || d.GetFileName() != "letter.odt" || d.GetCaption() != "read this" ||
			d.GetMimetype() != "application/vnd.oasis" || d.GetMediaKeyTimestamp() == 0 {
			t.Errorf("%s: %s %s %v", name, done.Type, done.MediaType, d)
		}
		if got := b.arrivedDocument(t, d); !bytes.Equal(got, data) {
			t.Errorf("%s: %d other bytes arrive", name, len(got))
		}
	}
}

func TestAnEmptyFileArrives(t *testing.T) {
	b := newBench(t, 0, serve(nil))
	_, msg, err := b.prepare(t, document(nil), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.arrivedDocument(t, msg.GetDocumentMessage()); len(got) != 0 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestNothingCanBeFetchedBeforeTheMessageIsStoredAndARepetitionIsWhole(t *testing.T) {
	data := someBytes(t, 10_000)
	b := newBench(t, 0, serve(data))
	_, lost, err := b.prepare(t, document(nil), nil, false) // the process dies here
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := b.fetchAs(lost.GetDocumentMessage().GetDirectPath()); code != http.StatusNotFound {
		t.Errorf("what was not stored is served with %d", code)
	}
	_, msg, err := b.prepare(t, document(nil), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.arrivedDocument(t, msg.GetDocumentMessage()); !bytes.Equal(got, data) {
		t.Error("other bytes arrive")
	}
	if bytes.Equal(lost.GetDocumentMessage().GetMediaKey(), msg.GetDocumentMessage().GetMediaKey()) {
		t.Error("two files have one key")
	}
}

func TestAnAttachmentThatAnswersQuotesInBothForms(t *testing.T) {
	b := newBench(t, 0, serve(someBytes(t, 10)))
	done, msg, err := b.prepare(t, document(nil), &convert.Quote{StanzaID: "3EB0", Participant: "p", Author: "Ben", Text: "which?"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := msg.GetDocumentMessage().GetContextInfo(); got.GetStanzaID() != "3EB0" || got.GetParticipant() != "p" {
		t.Errorf("the answer refers to %v", got)
	}
	plain := &waE2E.Message{}
	if err = proto.Unmarshal(done.Fallback, plain); err != nil {
		t.Fatal(err)
	}
	d := plain.GetDocumentMessage()
	if d.GetContextInfo() != nil || !strings.HasPrefix(d.GetCaption(), "> Ben: which?\n") || !strings.HasSuffix(d.GetCaption(), "read this") {
		t.Errorf("the fall-back is %v", d)
	}
	if !bytes.Equal(d.GetMediaKey(), msg.GetDocumentMessage().GetMediaKey()) {
		t.Error("the fall-back is another file")
	}
}

func TestWhatCannotBePreparedHasItsReason(t *testing.T) {
	data := someBytes(t, 2000)
	ciphertext, file := sealed(data)
	ciphertext[0] ^= 1
	for name, x := range map[string]struct {
		handle http.HandlerFunc
		file   *event.EncryptedFileInfo
		quota  int64
		limit  int64
		want   interop.Reason // "" for another try
	}{
		"gone":                        {refuseWith(404, "M_NOT_FOUND"), nil, 0, 0, interop.ReasonMediaGone},
		"larger than told":            {serve(data), nil, 0, 1999, interop.ReasonTooLarge},
		"more than the person's part": {serve(data), nil, 1000, 0, interop.ReasonQuota},
		"another file than described": {serve(ciphertext), file, 0, 0, interop.ReasonMediaOther},
		"a bad request":               {refuseWith(400, "M_UNKNOWN"), nil, 0, 0, interop.ReasonMedia},
		"a homeserver that is ill":    {refuseWith(500, "M_UNKNOWN"), nil, 0, 0, ""},
	} {
		b := newBench(t, x.quota, x.handle)
		b.connector.Config.Media.maxUpload = x.limit
		_, _, err := b.prepare(t, document(x.file), nil, false)
		var unsendable *interop.Unsendable
		if errors.As(err, &unsendable) != (x.want != "") || err == nil || unsendable != nil && unsendable.Reason != x.want {
			t.Errorf("%s: %v", name, err)
		}
		if used, err := b.connector.db.Media().Used(t.Context(), b.row.ID); err != nil || used != 0 {
			t.Errorf("%s: %d bytes are left in the store (%v)", name, used, err)
		}
	}
	b := newBench(t, 0, serve(data))
	var unsendable *interop.Unsendable
	if _, err := b.Prepare(t.Context(), &interop.Preparing{Recipe: []byte("?")}); !errors.As(err, &unsendable) || unsendable.Reason != interop.ReasonInternal {
		t.Errorf("a recipe that nobody can read: %v", err)
	}
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// serveStream answers with n bytes of what from makes.
func serveStream(n int64, from func() io.Reader) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(from(), n)}, make([]byte, 32<<10))
	}
}

// peakOf moves a file of n bytes and returns the most memory that was in use at any time, after a collection each, above what was in
// use before; in bytes.
func peakOf(t *testing.T, n int64, encrypted bool) int64 {
	t.Helper()
	from := func() io.Reader { return zeros{} }
	var file *event.EncryptedFileInfo
	if encrypted {
		made := attachment.NewEncryptedFile()
		from = func() io.Reader { return made.EncryptStream(zeros{}) }
		first := made.EncryptStream(io.LimitReader(zeros{}, n))
		if _, err := io.Copy(io.Discard, first); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		file = &event.EncryptedFileInfo{URL: someURI, EncryptedFile: attachment.EncryptedFile{
			Key: made.Key, InitVector: made.InitVector, Hashes: made.Hashes, Version: made.Version,
		}}
	}
	b := newBench(t, 0, serveStream(n, from))
	raw, err := b.recipe(&convert.Attachment{Role: convert.RoleDocument, Size: n, URI: someURI, File: file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	inUse := func() int64 {
		runtime.GC()
		runtime.GC() // what has a finalizer goes at the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	stream, err := b.connector.fetch.open(t.Context(), source{someURI, file}, n, nil) // so that the connection is there before, too
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Close()
	before, peak, samples := inUse(), int64(0), 0
	every, seen := n/16, int64(0)
	m := &move{client: b.client, Attachment: convert.Attachment{Role: convert.RoleDocument, URI: someURI, File: file}}
	m.progress = func() {
		if seen++; seen%max(every/(32<<10), 1) == 0 {
			peak = max(peak, inUse()-before)
			samples++
		}
	}
	object, err := m.run(t.Context())
	if err != nil || len(raw) == 0 {
		t.Fatal(err)
	}
	if object.Size != media.EncryptedLength(n) || m.made.Media.Length != n {
		t.Errorf("stored %d bytes of %d", object.Size, m.made.Media.Length)
	}
	if samples < 8 {
		t.Errorf("looked only %d times", samples)
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, zeros{}, n); err != nil || m.made.Media.SHA256 != [32]byte(sum.Sum(nil)) {
		t.Error("the hash is another")
	}
	return peak
}

func TestALargeFileTakesNoMoreMemoryThanASmallOne(t *testing.T) {
	large := int64(64 << 20)
	if os.Getenv("POSTERN_ALL") != "" {
		large = 1 << 30
	}
	for _, encrypted := range []bool{false, true} {
		small, most := peakOf(t, 1<<20, encrypted), peakOf(t, large, encrypted)
		t.Logf("encrypted %v: %d KiB in use for 1 MiB, %d KiB for %d MiB", encrypted, small>>10, most>>10, large>>20)
		if more := most - small; more > 256<<10 {
			t.Errorf("encrypted %v: a large file takes %d bytes more", encrypted, more)
		}
	}
}

// picture is a PNG of some size.
func picture(t *testing.T, width, height int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range img.Pix {
		img.Pix[i] = byte(i*7 + i/1000)
	}
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	var out bytes.Buffer
	if err := pngfile.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAnImageThatPhonesShowArrivesByteForByteWithWhatItIs(t *testing.T) {
	data := picture(t, 300, 200)
	ciphertext, file := sealed(data)
	b := newBench(t, 0, serve(ciphertext))
	done, msg, err := b.prepare(t, convert.Attachment{
		Role: convert.RoleImage, Size: -1, Width: 9, Height: 9, Mimetype: "image/gif", Caption: "look", URI: someURI, File: file,
	}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	i := msg.GetImageMessage()
	if done.MediaType != "image" || i.GetMimetype() != "image/png" || i.GetWidth() != 300 || i.GetHeight() != 200 || i.GetCaption() != "look" {
		t.Errorf("%s: %v", done.MediaType, i)
	}
	if got := b.arrived(t, media.Image, i.GetDirectPath(), i.GetMediaKey(), i.GetFileSHA256(), i.GetFileEncSHA256(), i.GetFileLength()); !bytes.Equal(got, data) {
		t.Errorf("%d other bytes arrive", len(got))
	}
	small, err := jpeg.DecodeConfig(bytes.NewReader(i.GetJPEGThumbnail()))
	if err != nil || small.Width > phoneThumbnailSide || len(i.GetJPEGThumbnail()) > b.profile.Media.MaxThumbnail {
		t.Errorf("thumbnail of %d bytes: %+v %v", len(i.GetJPEGThumbnail()), small, err)
	}
}

func TestWhatIsNoPictureGoesAsADocument(t *testing.T) {
	data := someBytes(t, 5000)
	b := newBench(t, 0, serve(data))
	done, msg, err := b.prepare(t, convert.Attachment{Role: convert.RoleImage, Size: -1, Name: "odd.jpg", Caption: "look", URI: someURI}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	d := msg.GetDocumentMessage()
	if done.MediaType != "document" || d.GetFileName() != "odd.jpg" || d.GetCaption() != "look" || d.GetMimetype() != anyType {
		t.Errorf("%s: %v", done.MediaType, msg)
	}
	if got := b.arrivedDocument(t, d); !bytes.Equal(got, data) {
		t.Error("other bytes arrive")
	}
}

func TestWhatPhonesTakeStreamsThroughWithWhatTheEventSays(t *testing.T) {
	small := picture(t, 400, 300)
	voice := append([]byte("OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x13OpusHead\x01\x01"), someBytes(t, 20_000)...)
	video := append([]byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom\x00\x00\x4e\x28mdat"), someBytes(t, 20_000)...)
	b := newBench(t, 0, func(w http.ResponseWriter, r *http.Request) {
		switch path.Base(r.URL.Path) {
		case "voice":
			serve(voice)(w, r)
		case "video":
			serve(video)(w, r)
		default:
			serve(small)(w, r)
		}
	})
	done, msg, err := b.prepare(t, convert.Attachment{
		Role: convert.RoleVoice, Size: -1, Duration: 7 * time.Second, Waveform: bytes.Repeat([]byte{50}, 64), URI: "mxc://example.org/voice",
	}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	a := msg.GetAudioMessage()
	if done.MediaType != "ptt" || !a.GetPTT() || a.GetSeconds() != 7 || len(a.GetWaveform()) != 64 || a.GetMimetype() != "audio/ogg; codecs=opus" {
		t.Errorf("%s: %v", done.MediaType, a)
	}
	if got := b.arrived(t, media.Audio, a.GetDirectPath(), a.GetMediaKey(), a.GetFileSHA256(), a.GetFileEncSHA256(), a.GetFileLength()); !bytes.Equal(got, voice) {
		t.Error("another voice message arrives")
	}
	done, msg, err = b.prepare(t, convert.Attachment{
		Role: convert.RoleVideo, Size: -1, Duration: time.Minute, Width: 640, Height: 480, URI: "mxc://example.org/video", ThumbnailURI: "mxc://example.org/small",
	}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	v := msg.GetVideoMessage()
	if done.MediaType != "video" || v.GetSeconds() != 60 || v.GetWidth() != 640 || v.GetMimetype() != "video/mp4" || !bytes.HasPrefix(v.GetJPEGThumbnail(), []byte{0xff, 0xd8}) {
		t.Errorf("%s: %v", done.MediaType, v)
	}
	if got := b.arrived(t, media.Video, v.GetDirectPath(), v.GetMediaKey(), v.GetFileSHA256(), v.GetFileEncSHA256(), v.GetFileLength()); !bytes.Equal(got, video) {
		t.Error("another video arrives")
	}
}

func TestProgressIsToldWhileTheStoreIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int32
		enough := make(chan struct{})
		quiet := ticking(func() {
			if told.Add(1) == 90 {
				close(enough)
			}
		})
		<-enough
		quiet()
		time.Sleep(time.Hour) // of the bubble
		if n := told.Load(); n != 90 {
			t.Errorf("told %d times", n)
		}
	})
}

func TestWithoutFFmpegWhatNeedsItGoesAsADocument(t *testing.T) {
	data := append([]byte("\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00M4A mp42\x00\x00\x4e\x28mdat"), someBytes(t, 20_000)...)
	b := newBench(t, 0, serve(data))
	b.connector.transcode = nil
	var log bytes.Buffer
	b.client.log = new(zerolog.New(&log))
	for range 2 {
		done, msg, err := b.prepare(t, convert.Attachment{Role: convert.RoleVoice, Size: -1, Name: "Voice.m4a", URI: someURI}, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		d := msg.GetDocumentMessage()
		if done.MediaType != "document" || d.GetFileName() != "Voice.m4a" {
			t.Errorf("%s: %v", done.MediaType, msg)
		}
		if got := b.arrivedDocument(t, d); !bytes.Equal(got, data) {
			t.Error("other bytes arrive")
		}
	}
	if n := strings.Count(log.String(), "goes as a document"); n != 1 || strings.Contains(log.String(), "Voice.m4a") {
		t.Errorf("said %d times: %s", n, log.String())
	}
}

func TestAnAccountWhosePhonesTakeNoReferencesQuotesInWords(t *testing.T) {
	b := newBench(t, 0, serve(nil))
	b.profile.Message.Reply = profile.ReplyQuote
	parts, fallbacks, err := b.payloads([]*waE2E.Message{{Conversation: proto.String("yes")}, {Conversation: proto.String("more")}},
		&convert.Quote{StanzaID: "A", Author: "Ben", Text: "well?"})
	if err != nil || len(parts) != 2 || fallbacks != nil {
		t.Fatalf("%d parts, %d fall-backs, %v", len(parts), len(fallbacks), err)
	}
	msg := &waE2E.Message{}
	if err = proto.Unmarshal(parts[0], msg); err != nil || msg.GetConversation() != "> Ben: well?\nyes" {
		t.Errorf("%v %v", msg, err)
	}
}
