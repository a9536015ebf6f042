package sandbox

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"math/big"
	"unicode/utf8"

	_ "image/gif"  // for the dimensions of what a phone sends
	_ "image/jpeg" // likewise
	_ "image/png"  // likewise

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"postern/connector/media"
)

// sendable describes a kind of message with media as phones send it.
type sendable struct {
	kind      media.Kind
	class     string // in the directPath, as ordinary clients have it
	mediaType string // of enc
	mimetype  string // if the call names none
	caption   bool
	viewOnce  bool
}

var sendables = map[string]sendable{
	"image":      {media.Image, "t62.7118-24", "image", "image/jpeg", true, true},
	"video":      {media.Video, "t62.7161-24", "video", "video/mp4", true, true},
	"video_note": {media.Video, "t62.7161-24", "ptv", "video/mp4", false, false},
	"gif":        {media.Video, "t62.7161-24", "gif", "video/mp4", true, false},
	"voice":      {media.Audio, "t62.7117-24", "ptt", "audio/ogg; codecs=opus", false, true},
	"audio":      {media.Audio, "t62.7117-24", "audio", "audio/mpeg", false, false},
	"document":   {media.Document, "t62.7119-24", "document", "application/octet-stream", true, false},
	"sticker":    {media.Image, "t62.15575-24", "sticker", "image/webp", false, false},
}

// attached is an attachment a phone is about to send: encrypted and in the depot.
type attached struct {
	sendable
	name       string // in the depot
	d          media.Descriptor
	directPath string
	waveform   []byte
	thumbnail  []byte
}

// checkAttachment says what is wrong with the media of a call.
func (in *messageCall) checkAttachment(s *Server) error {
	k := sendables[in.Kind]
	switch {
	case (len(in.Data) == 0) == (in.Upload == ""):
		return refusal(400, "data is the file in base64 and not empty, or upload names one")
	case len(in.Mimetype) > maxName || len(in.FileName) > maxName || !utf8.ValidString(in.Mimetype+in.FileName):
		return refusal(400, "mimetype or file_name is too long")
	case in.Caption != "" && !k.caption:
		return refusal(400, "a message of kind %s has no caption", in.Kind)
	case len(in.Caption) > maxTextSent || !utf8.ValidString(in.Caption):
		return refusal(400, "caption is too long")
	case in.ViewOnce && !k.viewOnce:
		return refusal(400, "a message of kind %s cannot be view_once", in.Kind)
	case len(in.Thumbnail) > s.prof.Media.MaxThumbnail:
		return refusal(400, "thumbnail is a JPEG of at most %d bytes", s.prof.Media.MaxThumbnail)
	}
	return nil
}

// readWaveform reads a list of numbers from 0 to 100, or base64 of as many bytes.
func readWaveform(raw json.RawMessage) ([]byte, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if b, err := base64.StdEncoding.DecodeString(text); err == nil && len(b) <= maxName {
			return b, nil
		}
	}
	var list []uint8
	var numbers []int
	if json.Unmarshal(raw, &numbers) == nil && len(numbers) <= maxName {
		for _, n := range numbers {
			if n < 0 || n > 255 {
				return nil, refusal(400, "waveform is a list of numbers from 0 to 100")
			}
			list = append(list, uint8(n))
		}
		return list, nil
	}
	return nil, refusal(400, "waveform is a list of numbers from 0 to 100")
}

// attach encrypts the media of a call into the depot. It runs outside the state's lock.
func (in *messageCall) attach(s *Server) (*attached, error) {
	at := &attached{sendable: sendables[in.Kind], thumbnail: in.Thumbnail}
	var err error
	if at.waveform, err = readWaveform(in.Waveform); err != nil {
		return nil, err
	}
	src, closeSrc, err := in.source(s)
	if err != nil {
		return nil, err
	}
	defer closeSrc()
	f, err := s.depot.create()
	if err != nil {
		return nil, err
	}
	most := s.maxPlain(at.kind)
	if at.d, err = media.Encrypt(f, io.LimitReader(src, most+1), at.kind, media.NewKey()); err != nil {
		s.depot.discard(f)
		return nil, fmt.Errorf("send media: %w", err)
	}
	if at.d.Length > most {
		s.depot.discard(f)
		return nil, refusal(400, "the file is larger than a phone sends as %s: %d bytes", in.Kind, most)
	}
	if at.name, err = s.depot.keep(f); err != nil {
		return nil, err
	}
	at.directPath = newDirectPath(at.class, unix(s.now().Add(keepFor)))
	if in.Width == 0 && in.Height == 0 && at.kind == media.Image {
		if _, err := src.Seek(0, io.SeekStart); err != nil {
			s.depot.remove(at.name)
			return nil, fmt.Errorf("send media: %w", err)
		}
		if config, _, err := image.DecodeConfig(io.LimitReader(src, 1<<20)); err == nil {
			in.Width, in.Height = uint32(config.Width), uint32(config.Height)
		}
	}
	return at, nil
}

// source is the file of a call.
func (in *messageCall) source(s *Server) (src io.ReadSeeker, done func(), err error) {
	if in.Upload == "" {
		return bytes.NewReader(in.Data), func() {}, nil
	}
	f, err := s.uploads.open(in.Upload)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { f.Close() }, nil
}

// newDirectPath is a path that nobody can guess, in the form that ordinary clients see: the name, the token
// (oh) and the time of expiry (oe) are the server's business.
func newDirectPath(class string, expires int64) string {
	most := new(big.Int).Lsh(big.NewInt(1), 96)
	name, err := rand.Int(rand.Reader, most)
	if err != nil {
		name = most // never: the reader ends the program instead
	}
	return fmt.Sprintf("/v/%s/%s_n.enc?ccb=11-4&oh=01_%s&oe=%X&_nc_sid=5e03e0", class, name, newID("", 20), expires)
}

// mediaMessage is the message that carries at, without reply and wrapper.
func (in *messageCall) mediaMessage(s *Server, at *attached) *waE2E.Message {
	mimetype := in.Mimetype
	if mimetype == "" {
		mimetype = at.mimetype
	}
	url := "http://" + s.http.Addr().String() + at.directPath + "&mms3=true"
	key, sum, enc, length, now := at.d.Key[:], at.d.SHA256[:], at.d.EncSHA256[:], uint64(at.d.Length), unix(s.now())
	switch in.Kind {
	case "image":
		return &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
			URL: &url, Mimetype: &mimetype, Caption: text(in.Caption), FileSHA256: sum, FileLength: &length, Height: number(in.Height),
			Width: number(in.Width), MediaKey: key, FileEncSHA256: enc, DirectPath: &at.directPath, MediaKeyTimestamp: &now, JPEGThumbnail: at.thumbnail,
		}}
	case "sticker":
		return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{
			URL: &url, Mimetype: &mimetype, FileSHA256: sum, FileLength: &length, Height: number(in.Height), Width: number(in.Width),
			MediaKey: key, FileEncSHA256: enc, DirectPath: &at.directPath, MediaKeyTimestamp: &now, IsAnimated: proto.Bool(in.Animated),
		}}
	case "document":
		return &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
			URL: &url, Mimetype: &mimetype, Title: text(in.FileName), FileSHA256: sum, FileLength: &length, MediaKey: key, FileName: text(in.FileName),
			FileEncSHA256: enc, DirectPath: &at.directPath, MediaKeyTimestamp: &now, JPEGThumbnail: at.thumbnail, Caption: text(in.Caption),
		}}
	case "voice", "audio":
		m := &waE2E.AudioMessage{
			URL: &url, Mimetype: &mimetype, FileSHA256: sum, FileLength: &length, Seconds: number(in.Seconds), PTT: proto.Bool(in.Kind == "voice"),
			MediaKey: key, FileEncSHA256: enc, DirectPath: &at.directPath, MediaKeyTimestamp: &now, Waveform: at.waveform,
		}
		return &waE2E.Message{AudioMessage: m}
	}
	m := &waE2E.VideoMessage{
		URL: &url, Mimetype: &mimetype, FileSHA256: sum, FileLength: &length, Seconds: number(in.Seconds), MediaKey: key, Caption: text(in.Caption),
		Height: number(in.Height), Width: number(in.Width), FileEncSHA256: enc, DirectPath: &at.directPath, MediaKeyTimestamp: &now, JPEGThumbnail: at.thumbnail,
	}
	if in.Kind == "video_note" {
		return &waE2E.Message{PtvMessage: m}
	}
	if in.Kind == "gif" {
		m.GifPlayback = proto.Bool(true)
	}
	return &waE2E.Message{VideoMessage: m}
}

// wrapped puts a message into what ordinary phones put around it: a document with a caption into one wrapper,
// what can be seen once into another.
func (in *messageCall) wrapped(m *waE2E.Message) *waE2E.Message {
	switch {
	case in.Kind == "document" && in.Caption != "":
		return &waE2E.Message{DocumentWithCaptionMessage: &waE2E.FutureProofMessage{Message: m}}
	case !in.ViewOnce:
		return m
	}
	once := proto.Bool(true)
	switch {
	case m.ImageMessage != nil:
		m.ImageMessage.ViewOnce = once
	case m.VideoMessage != nil:
		m.VideoMessage.ViewOnce = once
	case m.AudioMessage != nil:
		m.AudioMessage.ViewOnce = once
		return &waE2E.Message{ViewOnceMessageV2Extension: &waE2E.FutureProofMessage{Message: m}}
	}
	return &waE2E.Message{ViewOnceMessageV2: &waE2E.FutureProofMessage{Message: m}}
}

// text is a field that is absent if empty.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// number is a field that is absent if 0.
func number(n uint32) *uint32 {
	if n == 0 {
		return nil
	}
	return &n
}
