package convert

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/event"

	"postern/connector/media"
)

var (
	someKey   = bytes.Repeat([]byte{1}, 32)
	someSHA   = bytes.Repeat([]byte{2}, 32)
	someEnc   = bytes.Repeat([]byte{3}, 32)
	somePath  = proto.String("/v/t62.1/a?oh=1&oe=2")
	someJPEG  = []byte{0xff, 0xd8, 0xff, 0xe0, 1}
	someSound = bytes.Repeat([]byte{0, 50, 100, 250}, 16)
)

func anImage() *waE2E.ImageMessage {
	return &waE2E.ImageMessage{
		Mimetype: proto.String("image/jpeg"), MediaKey: someKey, FileSHA256: someSHA, FileEncSHA256: someEnc, FileLength: proto.Uint64(99),
		DirectPath: somePath, Width: proto.Uint32(640), Height: proto.Uint32(480), JPEGThumbnail: someJPEG,
	}
}

func aVideo() *waE2E.VideoMessage {
	return &waE2E.VideoMessage{
		Mimetype: proto.String("video/mp4"), MediaKey: someKey, FileSHA256: someSHA, FileEncSHA256: someEnc, FileLength: proto.Uint64(99),
		DirectPath: somePath, Width: proto.Uint32(640), Height: proto.Uint32(480), Seconds: proto.Uint32(5), JPEGThumbnail: someJPEG,
	}
}

func aSound() *waE2E.AudioMessage {
	return &waE2E.AudioMessage{
		Mimetype: proto.String("audio/mpeg"), MediaKey: someKey, FileSHA256: someSHA, FileEncSHA256: someEnc, FileLength: proto.Uint64(99),
		DirectPath: somePath, Seconds: proto.Uint32(5), Waveform: someSound,
	}
}

func aDocument() *waE2E.DocumentMessage {
	return &waE2E.DocumentMessage{
		Mimetype: proto.String("application/pdf"), MediaKey: someKey, FileSHA256: someSHA, FileEncSHA256: someEnc, FileLength: proto.Uint64(99),
		DirectPath: somePath, FileName: proto.String("../a.pdf"), Title: proto.String("A"), JPEGThumbnail: someJPEG,
	}
}

func aSticker() *waE2E.StickerMessage {
	return &waE2E.StickerMessage{
		Mimetype: proto.String("image/webp"), MediaKey: someKey, FileSHA256: someSHA, FileEncSHA256: someEnc, FileLength: proto.Uint64(99),
		DirectPath: somePath, Width: proto.Uint32(512), Height: proto.Uint32(512), IsAnimated: proto.Bool(true), Emojis: proto.String("😀"),
	}
}

func with[M any](m *M, change func(*M)) *M {
	change(m)
	return m
}

// file reads a payload that is expected to be a file and nothing else.
func file(t *testing.T, msg *waE2E.Message, options Options) *IncomingMedia {
	t.Helper()
	in := Read(msg, options)
	if in.Reason != Shown || in.Media == nil || in.Reaction != nil || in.Edit != nil || in.Revoke != nil || in.Timer != nil {
		t.Fatalf("got %+v of %v", in, msg)
	}
	return in.Media
}

func TestEveryKindOfFileFromWhatsAppHasItsMatrixForm(t *testing.T) {
	for _, tc := range []struct {
		name string
		msg  *waE2E.Message
		role Role
		json string
	}{
		{"an image", &waE2E.Message{ImageMessage: anImage()}, RoleImage,
			`{"msgtype":"m.image","body":"image.jpg","filename":"image.jpg","info":{"mimetype":"image/jpeg","w":640,"h":480,"size":99},"m.mentions":{}}`},
		{"an image with a caption", &waE2E.Message{ImageMessage: with(anImage(), func(m *waE2E.ImageMessage) { m.Caption = proto.String("*look*") })}, RoleImage,
			`{"msgtype":"m.image","body":"*look*","format":"org.matrix.custom.html","formatted_body":"<strong>look</strong>","filename":"image.jpg",
			"info":{"mimetype":"image/jpeg","w":640,"h":480,"size":99},"m.mentions":{}}`},
		{"a video", &waE2E.Message{VideoMessage: aVideo()}, RoleVideo,
			`{"msgtype":"m.video","body":"video.mp4","filename":"video.mp4","info":{"mimetype":"video/mp4","w":640,"h":480,"size":99,"duration":5000},"m.mentions":{}}`},
		{"a GIF", &waE2E.Message{VideoMessage: with(aVideo(), func(m *waE2E.VideoMessage) { m.GifPlayback = proto.Bool(true) })}, RoleGIF,
			`{"msgtype":"m.video","body":"gif.mp4","filename":"gif.mp4","info":{"mimetype":"video/mp4","w":640,"h":480,"size":99,"duration":5000,
			"fi.mau.gif":true,"fi.mau.loop":true,"fi.mau.autoplay":true,"fi.mau.hide_controls":true,"fi.mau.no_audio":true},"m.mentions":{}}`},
		{"a video note", &waE2E.Message{PtvMessage: aVideo()}, RoleNote,
			`{"msgtype":"m.video","body":"video-note.mp4","filename":"video-note.mp4","info":{"mimetype":"video/mp4","w":640,"h":480,"size":99,"duration":5000},"m.mentions":{}}`},
		{"a voice message", &waE2E.Message{AudioMessage: with(aSound(), func(m *waE2E.AudioMessage) {
			m.PTT, m.Mimetype, m.Waveform = proto.Bool(true), proto.String("audio/ogg; codecs=opus"), []byte{0, 50, 100, 250}
		})}, RoleVoice,
			`{"msgtype":"m.audio","body":"voice-message.ogg","filename":"voice-message.ogg","info":{"mimetype":"audio/ogg; codecs=opus","size":99,"duration":5000},
			"org.matrix.msc1767.audio":{"duration":5000,"waveform":[0,512,1024,1024]},"org.matrix.msc3245.voice":{},"m.mentions":{}}`},
		{"audio", &waE2E.Message{AudioMessage: aSound()}, RoleAudio,
			`{"msgtype":"m.audio","body":"audio.mp3","filename":"audio.mp3","info":{"mimetype":"audio/mpeg","size":99,"duration":5000},"m.mentions":{}}`},
		{"a document", &waE2E.Message{DocumentMessage: aDocument()}, RoleDocument,
			`{"msgtype":"m.file","body":"_a.pdf","filename":"_a.pdf","info":{"mimetype":"application/pdf","size":99},"m.mentions":{}}`},
		{"a document with a caption", wrap("documentWithCaptionMessage", &waE2E.Message{
			DocumentMessage: with(aDocument(), func(m *waE2E.DocumentMessage) { m.Caption = proto.String("read") })}), RoleDocument,
			`{"msgtype":"m.file","body":"read","filename":"_a.pdf","info":{"mimetype":"application/pdf","size":99},"m.mentions":{}}`},
		{"a document whose caption is its name", &waE2E.Message{DocumentMessage: with(aDocument(), func(m *waE2E.DocumentMessage) { m.Caption = proto.String("_a.pdf") })}, RoleDocument,
			`{"msgtype":"m.file","body":"_a.pdf ","filename":"_a.pdf","info":{"mimetype":"application/pdf","size":99},"m.mentions":{}}`},
		{"a document without a name", &waE2E.Message{DocumentMessage: with(aDocument(), func(m *waE2E.DocumentMessage) { m.FileName, m.Title = nil, proto.String("..") })}, RoleDocument,
			`{"msgtype":"m.file","body":"file.pdf","filename":"file.pdf","info":{"mimetype":"application/pdf","size":99},"m.mentions":{}}`},
		{"a sticker", &waE2E.Message{StickerMessage: aSticker()}, RoleSticker,
			`{"body":"😀","info":{"mimetype":"image/webp","w":512,"h":512,"size":99,"is_animated":true},"m.mentions":{}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := file(t, tc.msg, Options{})
			want := media.Descriptor{Kind: tc.role.MediaKind(), Length: 99}
			copy(want.Key[:], someKey)
			copy(want.SHA256[:], someSHA)
			copy(want.EncSHA256[:], someEnc)
			if got.Role != tc.role || got.Media != want || got.DirectPath != *somePath || got.ViewOnce {
				t.Errorf("got %+v", got)
			}
			if kind := map[bool]event.Type{true: event.EventSticker, false: event.EventMessage}[tc.role == RoleSticker]; got.Type != kind {
				t.Errorf("type %v", got.Type)
			}
			if small := tc.role != RoleVoice && tc.role != RoleAudio && tc.role != RoleSticker; (got.Thumbnail != nil) != small {
				t.Errorf("thumbnail %v", got.Thumbnail)
			}
			sameJSON(t, got.Content, tc.json)
		})
	}
}

func sameJSON(t *testing.T, got any, want string) {
	t.Helper()
	encoded, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := json.Unmarshal(encoded, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got\n%s\nwant\n%s", encoded, want)
	}
}

func TestWhatAttachmentsBecomeAndComeBackAsAgree(t *testing.T) {
	for _, role := range []Role{RoleImage, RoleVideo, RoleGIF, RoleVoice, RoleAudio, RoleDocument} {
		made := someMade(role)
		made.Name, made.Mimetype = "b.pdf", "application/pdf"
		msg, _ := MediaMessage(made)
		got := file(t, msg, Options{})
		if got.Role != role || got.Media.Key != made.Media.Key || got.Media.SHA256 != made.Media.SHA256 || got.Media.Length != 99 {
			t.Errorf("%s: %+v", role, got)
		}
		content := *got.Content
		content.URL = someFile
		back, ok := ReadAttachment(&content, false)
		if !ok || back.Role != role || back.Size != 99 || back.Caption != got.Caption || back.Name != got.Name || back.Duration != got.Duration ||
			back.Width != got.Width || back.Mimetype != "application/pdf" {
			t.Errorf("%s back: %+v", role, back)
		}
		if role == RoleVoice && !bytes.Equal(back.Waveform, got.Waveform) {
			t.Errorf("waveform: %v and %v", back.Waveform, got.Waveform)
		}
	}
}

func TestAFileThatCannotBeFetchedIsNamed(t *testing.T) {
	for name, change := range map[string]func(*waE2E.ImageMessage){
		"no key":                  func(m *waE2E.ImageMessage) { m.MediaKey = nil },
		"a short key":             func(m *waE2E.ImageMessage) { m.MediaKey = someKey[:31] },
		"a long key":              func(m *waE2E.ImageMessage) { m.MediaKey = append(bytes.Clone(someKey), 1) },
		"no hash":                 func(m *waE2E.ImageMessage) { m.FileSHA256 = nil },
		"a long hash":             func(m *waE2E.ImageMessage) { m.FileEncSHA256 = make([]byte, 1<<20) },
		"no path":                 func(m *waE2E.ImageMessage) { m.DirectPath = nil },
		"an address":              func(m *waE2E.ImageMessage) { m.DirectPath = proto.String("https://x.org/a") },
		"another host":            func(m *waE2E.ImageMessage) { m.DirectPath = proto.String("//x.org/a") },
		"a backslash":             func(m *waE2E.ImageMessage) { m.DirectPath = proto.String(`/\x.org/a`) },
		"a line break":            func(m *waE2E.ImageMessage) { m.DirectPath = proto.String("/a\r\nHost: x") },
		"a path that is no ASCII": func(m *waE2E.ImageMessage) { m.DirectPath = proto.String("/ä") },
		"an endless path":         func(m *waE2E.ImageMessage) { m.DirectPath = proto.String("/" + strings.Repeat("a", 1<<20)) },
		"only a URL":              func(m *waE2E.ImageMessage) { m.DirectPath, m.URL = nil, proto.String("https://x.org/a") },
	} {
		m := with(anImage(), change)
		m.Caption = proto.String("look")
		in := Read(&waE2E.Message{ImageMessage: m}, Options{})
		if in.Media != nil || len(in.Parts) != 2 || in.Parts[0].Content.MsgType != event.MsgNotice || in.Parts[1].Content.Body != "look" {
			t.Errorf("%s: %+v", name, in)
		}
	}
}

func TestHostileNumbersOfAFileAreDropped(t *testing.T) {
	image := file(t, &waE2E.Message{ImageMessage: with(anImage(), func(m *waE2E.ImageMessage) {
		m.Width, m.Height, m.FileLength = proto.Uint32(math.MaxUint32), proto.Uint32(1), proto.Uint64(math.MaxUint64)
		m.JPEGThumbnail = append(bytes.Clone(someJPEG), make([]byte, MaxThumbnail)...)
		m.Mimetype = proto.String("text/html\r\nX: y")
	})}, Options{})
	if image.Width != 0 || image.Height != 0 || image.Media.Length != maxSize || image.Thumbnail != nil || image.Mimetype != "image/jpeg" {
		t.Errorf("image: %+v", image)
	}
	noJPEG := file(t, &waE2E.Message{ImageMessage: with(anImage(), func(m *waE2E.ImageMessage) {
		m.JPEGThumbnail, m.FileLength = []byte("<svg onload=x>"), nil
	})}, Options{})
	if noJPEG.Thumbnail != nil || noJPEG.Media.Length != -1 || noJPEG.Content.Info.Size != 0 {
		t.Errorf("image: %+v", noJPEG)
	}
	voice := file(t, &waE2E.Message{AudioMessage: with(aSound(), func(m *waE2E.AudioMessage) {
		m.PTT, m.Seconds, m.Waveform = proto.Bool(true), proto.Uint32(math.MaxUint32), bytes.Repeat([]byte{255}, 1<<20)
	})}, Options{})
	if voice.Duration != 0 || len(voice.Waveform) != WaveformSamples || voice.Waveform[0] != 100 || len(voice.Content.MSC1767Audio.Waveform) != WaveformSamples {
		t.Errorf("voice: %+v", voice)
	}
	long := file(t, &waE2E.Message{VideoMessage: with(aVideo(), func(m *waE2E.VideoMessage) { m.Seconds = proto.Uint32(1_000_000_000) })}, Options{})
	if long.Duration != 0 {
		t.Errorf("video: %v", long.Duration)
	}
	day := file(t, &waE2E.Message{VideoMessage: with(aVideo(), func(m *waE2E.VideoMessage) { m.Seconds = proto.Uint32(86400) })}, Options{})
	if day.Duration != 24*time.Hour {
		t.Errorf("video: %v", day.Duration)
	}
}

func TestACaptionThatIsTooLongGoesOn(t *testing.T) {
	caption := strings.TrimSpace(strings.Repeat("some *bold* <words> ", 5000))
	for _, budget := range []int{0, 1, 20000} {
		in := Read(&waE2E.Message{ImageMessage: with(anImage(), func(m *waE2E.ImageMessage) { m.Caption = &caption })}, Options{MaxEventBytes: budget})
		all := in.Media.Content.Body
		checkSize(t, in.Media.Content, nil, Options{MaxEventBytes: budget}.budget()-2<<10)
		for _, part := range in.Parts {
			checkSize(t, part.Content, part.Extra, Options{MaxEventBytes: budget}.budget())
			all += part.Content.Body
		}
		if all != caption || in.Media.Caption != caption || len(in.Parts) == 0 {
			t.Errorf("%d parts are not the caption", len(in.Parts))
		}
	}
}

// checkSize fails if a content is larger than it may be.
func checkSize(t testing.TB, content *event.MessageEventContent, extra map[string]any, limit int) {
	t.Helper()
	encoded, err := json.Marshal(content)
	more, moreErr := json.Marshal(extra)
	if err != nil || moreErr != nil || len(encoded)+len(more) > limit {
		t.Fatalf("%d bytes of JSON, the limit is %d (%v, %v)", len(encoded)+len(more), limit, err, moreErr)
	}
}

func TestTheLargestMetadataLeaveRoomForWhatIsAdded(t *testing.T) {
	worst := with(aSound(), func(m *waE2E.AudioMessage) {
		m.PTT, m.Waveform = proto.Bool(true), bytes.Repeat([]byte{100}, maxMatrixSamples)
		m.Mimetype = proto.String("audio/" + strings.Repeat("x", maxMimetype-6))
	})
	doc := with(aDocument(), func(m *waE2E.DocumentMessage) {
		m.FileName = proto.String(strings.Repeat("&", 1000) + ".pdf")
		m.Caption = proto.String(strings.Repeat("\x01", 100000))
	})
	for _, msg := range []*waE2E.Message{{AudioMessage: worst}, {DocumentMessage: doc}} {
		got := file(t, msg, Options{MaxEventBytes: 1})
		checkSize(t, got.Content, nil, MinEventBytes-2<<10)
	}
}

func TestViewOnceIsShownOnlyWhereItIsWanted(t *testing.T) {
	marked := &waE2E.Message{ImageMessage: with(anImage(), func(m *waE2E.ImageMessage) { m.ViewOnce = proto.Bool(true) })}
	for name, msg := range map[string]*waE2E.Message{
		"the first wrapper": wrap("viewOnceMessage", &waE2E.Message{ImageMessage: anImage()}),
		"the second":        wrap("viewOnceMessageV2", &waE2E.Message{ImageMessage: anImage()}),
		"the third":         wrap("viewOnceMessageV2Extension", &waE2E.Message{ImageMessage: anImage()}),
		"within another":    wrap("ephemeralMessage", wrap("viewOnceMessageV2", &waE2E.Message{ImageMessage: anImage()})),
		"a mark":            marked,
	} {
		in := Read(msg, Options{})
		if in.Media != nil || len(in.Parts) != 1 || in.Parts[0].Content.Body != "Sent a view-once image, which this bridge is set up not to show." {
			t.Errorf("%s: %+v", name, in)
		}
		if got := file(t, msg, Options{ShowViewOnce: true}); !got.ViewOnce {
			t.Errorf("%s: the mark is lost", name)
		}
	}
	hidden := Read(wrap("viewOnceMessageV2", &waE2E.Message{AudioMessage: with(aSound(), func(m *waE2E.AudioMessage) { m.PTT = proto.Bool(true) })}), Options{})
	if got := hidden.Parts[0].Content.Body; !strings.HasPrefix(got, "Sent a view-once voice message") {
		t.Errorf("voice: %q", got)
	}
	secret := Read(wrap("viewOnceMessageV2", textMessage("secret")), Options{})
	if got := secret.Parts[0].Content.Body; strings.Contains(got, "secret") {
		t.Errorf("text: %q", got)
	}
}

func TestADrawnStickerIsItsPicture(t *testing.T) {
	png := append([]byte("\x89PNG\r\n\x1a\n"), 1, 2, 3)
	drawn := with(aSticker(), func(m *waE2E.StickerMessage) {
		m.IsLottie, m.Mimetype, m.PngThumbnail = proto.Bool(true), proto.String("application/was"), png
	})
	in := Read(wrap("lottieStickerMessage", &waE2E.Message{StickerMessage: drawn}), Options{})
	if len(in.Parts) != 1 || in.Parts[0].Type != event.EventSticker || in.Parts[0].Inline == nil || !bytes.Equal(in.Parts[0].Inline.Data, png) {
		t.Fatalf("got %+v", in)
	}
	sameJSON(t, in.Parts[0].Content, `{"body":"😀","info":{"mimetype":"image/png","w":512,"h":512,"size":11},"m.mentions":{}}`)
	drawn.PngThumbnail = append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, MaxInline)...)
	if in = Read(&waE2E.Message{StickerMessage: drawn}, Options{}); in.Parts[0].Content.MsgType != event.MsgNotice || in.Parts[1].Content.Body != "😀" {
		t.Errorf("without a picture: %+v", in)
	}
}
