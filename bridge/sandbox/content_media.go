package sandbox

import (
	"bytes"
	"encoding/hex"
	"image/jpeg"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"postern/connector/media"
)

// described is what the media kinds have in common.
type described interface {
	GetMimetype() string
	GetMediaKey() []byte
	GetMediaKeyTimestamp() int64
	GetFileSHA256() []byte
	GetFileEncSHA256() []byte
	GetFileLength() uint64
	GetDirectPath() string
	GetURL() string
	GetContextInfo() *waE2E.ContextInfo
	ProtoReflect() protoreflect.Message
}

// attachment is the media of a partner's message, as the message describes it.
type attachment struct {
	described
	kind          media.Kind
	word          string // as events name it
	mediaType     string
	types         []string // mimetypes a phone takes; nil: any
	fields        []int    // numbers of the fields a phone takes besides contextInfo and URL, in ranges from, to (PROTOCOL.md 7.5)
	length        *uint64
	caption, name string
	seconds       uint32
	width, height uint32
	thumbnail     []byte
	waveform      []byte
}

const contextInfoField = 17 // of every kind of media

// attachmentOf finds the media of a message; nil if it has none of those partners send.
func attachmentOf(m *waE2E.Message) *attachment {
	switch {
	case m.ImageMessage != nil:
		d := m.ImageMessage
		return &attachment{
			described: d, kind: media.Image, word: "image", mediaType: "image", types: []string{"image/jpeg", "image/png"},
			fields: []int{2, 9, 11, 12, 16, 16, 21, 24, 26, 28}, length: d.FileLength, caption: d.GetCaption(),
			width: d.GetWidth(), height: d.GetHeight(), thumbnail: d.GetJPEGThumbnail(),
		}
	case m.DocumentMessage != nil:
		d := m.DocumentMessage
		return &attachment{
			described: d, kind: media.Document, word: "document", mediaType: "document", fields: []int{2, 16, 18, 20},
			length: d.FileLength, caption: d.GetCaption(), name: d.GetFileName(), thumbnail: d.GetJPEGThumbnail(),
		}
	case m.AudioMessage != nil:
		d := m.AudioMessage
		at := &attachment{
			described: d, kind: media.Audio, word: "audio", mediaType: "audio", types: []string{"audio/aac", "audio/mp4", "audio/amr", "audio/mpeg"},
			fields: []int{2, 10, 18, 20}, length: d.FileLength, seconds: d.GetSeconds(), waveform: d.GetWaveform(),
		}
		if d.GetPTT() {
			at.word, at.mediaType, at.types = "voice", "ptt", []string{"audio/ogg; codecs=opus"}
		}
		return at
	case m.VideoMessage != nil:
		d := m.VideoMessage
		at := &attachment{
			described: d, kind: media.Video, word: "video", mediaType: "video", types: []string{"video/mp4", "video/3gpp"},
			fields: []int{2, 11, 13, 14, 16, 16, 18, 19, 21, 23}, length: d.FileLength, caption: d.GetCaption(),
			seconds: d.GetSeconds(), width: d.GetWidth(), height: d.GetHeight(), thumbnail: d.GetJPEGThumbnail(),
		}
		if d.GetGifPlayback() {
			at.word, at.mediaType = "gif", "gif"
		}
		return at
	}
	return nil
}

// descriptor is what decrypts the file. The lengths of key and hashes have been checked.
func (at *attachment) descriptor() media.Descriptor {
	d := media.Descriptor{Kind: at.kind, Length: -1}
	copy(d.Key[:], at.GetMediaKey())
	copy(d.SHA256[:], at.GetFileSHA256())
	copy(d.EncSHA256[:], at.GetFileEncSHA256())
	if at.length != nil {
		d.Length = int64(*at.length)
	}
	return d
}

// media reads the media of a partner's message; refused is why a phone does not take it.
func (l *looked) media(m *waE2E.Message, s *Server, a *account) (quote *waE2E.ContextInfo, refused string) {
	at := attachmentOf(m)
	switch {
	case at == nil:
		return nil, "media of no kind partners send"
	case at.types != nil && !slices.Contains(at.types, at.GetMimetype()):
		return nil, "a mimetype that phones do not take from partners"
	case len(at.GetMediaKey()) != 32 || len(at.GetFileSHA256()) != 32 || len(at.GetFileEncSHA256()) != 32:
		return nil, "a media key or hash that is not 32 bytes"
	case at.GetFileLength() > math.MaxInt64:
		return nil, "a length below zero"
	case !strings.HasPrefix(at.GetDirectPath(), "/"):
		return nil, "media without directPath"
	}
	l.typ, l.mediaType, l.attached = "media", at.mediaType, true
	l.event.Text = at.caption
	l.event.Media = &eventMedia{
		Kind: at.word, Mimetype: at.GetMimetype(), Bytes: at.GetFileLength(), SHA256: hex.EncodeToString(at.GetFileSHA256()),
		FileName: at.name, Seconds: at.seconds, Width: at.width, Height: at.height, Waveform: numbers(at.waveform),
		Thumbnail: len(at.thumbnail), DirectPath: at.GetDirectPath(),
		Key: hex.EncodeToString(at.GetMediaKey()), EncSHA256: hex.EncodeToString(at.GetFileEncSHA256()),
	}
	l.oddMedia(at, s, a)
	return at.GetContextInfo(), ""
}

// oddMedia looks at what a phone lets pass, or does without.
func (l *looked) oddMedia(at *attachment, s *Server, a *account) {
	say := func(wrong bool, section, text string) {
		if wrong {
			l.odd(section, text)
		}
	}
	integrator, _, ok := relayPath(s.prof.MediaPathProduct, at.GetDirectPath())
	say(at.GetURL() != "", "6.4", "media with url")
	say(!ok || integrator != a.Integrator, "7.2", "a directPath that is not /interop/…/download/{integrator}/{reference}/")
	say(at.length == nil, "7.5", "media without fileLength")
	say(at.GetFileLength() > uint64(s.maxPlain(at.kind)), "7.5", "media larger than its kind may be")
	now := unix(s.now())
	made := at.GetMediaKeyTimestamp()
	say(made <= 0 || made > now+86400, "7.5", "media without a usable mediaKeyTimestamp, in seconds")
	say(at.otherFields(), "7.5", "media with fields that phones do not take from partners")
	say(at.thumbnail != nil && !goodThumbnail(at.thumbnail, s.prof.Media.MaxThumbnail), "7.5", "a JPEGThumbnail that is no JPEG, or too large")
	say(at.waveform != nil && !goodWaveform(at.waveform, s.prof.Media.WaveformSamples), "7.5", "a waveform that is not 64 values from 0 to 100")
	say(at.waveform != nil && at.word != "voice", "7.5", "a waveform on what is no voice message")
}

// otherFields says whether a field is set that no phone takes (PROTOCOL.md 7.5).
func (at *attachment) otherFields() (other bool) {
	r := at.ProtoReflect()
	r.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		n, known := int(f.Number()), false
		for i := 0; i < len(at.fields); i += 2 {
			known = known || n >= at.fields[i] && n <= at.fields[i+1]
		}
		other = other || !known && n != contextInfoField && f.Name() != "URL"
		return !other
	})
	return other || len(r.GetUnknown()) > 0
}

func goodThumbnail(b []byte, most int) bool {
	if len(b) > most {
		return false
	}
	config, err := jpeg.DecodeConfig(bytes.NewReader(b))
	return err == nil && config.Width > 0 && config.Height > 0
}

func goodWaveform(b []byte, samples int) bool {
	return len(b) == samples && !slices.ContainsFunc(b, func(x byte) bool { return x > 100 })
}

// numbers is b as JSON writes a list of numbers.
func numbers(b []byte) []int {
	var out []int
	for _, x := range b {
		out = append(out, int(x))
	}
	return out
}
