package convert

import (
	"bytes"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/media"
)

// Made is an attachment that is encrypted and stored, with everything a phone is told about it.
type Made struct {
	// Role is what it goes as; RoleSticker goes as an image, RoleNote as a video.
	Role Role
	// Media has its key, hashes and plaintext length.
	Media media.Descriptor
	// DirectPath is the path by which phones ask for it (PROTOCOL.md 7.2).
	DirectPath string
	// Mimetype is as phones want it, with parameters (PROTOCOL.md 6.4).
	Mimetype string
	// Name is a document's; a name is made up if it is "".
	Name string
	// Caption is in WhatsApp's marks. Audio and voice messages have no place for it.
	Caption string
	// Width and Height are in pixels, of images and videos; 0 if not known.
	Width, Height int
	// Duration is that of videos and audio, 0 if not known. A phone is told whole seconds, at least 1.
	Duration time.Duration
	// Waveform has values from 0 to 100, of voice messages only.
	Waveform []byte
	// Thumbnail is a JPEG of at most MaxThumbnail bytes, of images, videos and documents; anything else is left out.
	Thumbnail []byte
	// KeyTime is when the key was made.
	KeyTime time.Time
	// PageCount is a document's, 0 if not known.
	PageCount int
}

// MaxThumbnail is the most bytes of a JPEG inside a message that are sent or believed. What phones want is less (profile.Media).
const MaxThumbnail = 64 << 10

// MediaMessage writes the message for an attachment, with the fields of the allow-list that phones take from partners and no others
// (PROTOCOL.md 6.4): a path and no URL. mediaType is the attribute of the stanza (PROTOCOL.md 6.1). What is out of bounds is left out.
func MediaMessage(m Made) (msg *waE2E.Message, mediaType string) {
	switch m.Role {
	case RoleImage, RoleSticker:
		msg = &waE2E.Message{ImageMessage: m.image()}
	case RoleVideo, RoleNote, RoleGIF:
		msg = &waE2E.Message{VideoMessage: m.video()}
	case RoleVoice, RoleAudio:
		msg = &waE2E.Message{AudioMessage: m.audio()}
	default:
		msg = &waE2E.Message{DocumentMessage: m.document()}
	}
	return msg, m.Role.MediaType()
}

func (m *Made) image() *waE2E.ImageMessage {
	width, height := m.sides()
	return &waE2E.ImageMessage{
		Mimetype: proto.String(m.Mimetype), Caption: m.words(), Width: width, Height: height,
		FileSHA256: m.Media.SHA256[:], FileLength: m.length(), MediaKey: m.Media.Key[:], FileEncSHA256: m.Media.EncSHA256[:],
		DirectPath: proto.String(m.DirectPath), MediaKeyTimestamp: m.keyTime(), JPEGThumbnail: jpegThumbnail(m.Thumbnail),
	}
}

func (m *Made) video() *waE2E.VideoMessage {
	width, height := m.sides()
	v := &waE2E.VideoMessage{
		Mimetype: proto.String(m.Mimetype), Caption: m.words(), Width: width, Height: height, Seconds: m.seconds(),
		FileSHA256: m.Media.SHA256[:], FileLength: m.length(), MediaKey: m.Media.Key[:], FileEncSHA256: m.Media.EncSHA256[:],
		DirectPath: proto.String(m.DirectPath), MediaKeyTimestamp: m.keyTime(), JPEGThumbnail: jpegThumbnail(m.Thumbnail),
	}
	if m.Role == RoleGIF {
		v.GifPlayback = proto.Bool(true)
	}
	return v
}

func (m *Made) audio() *waE2E.AudioMessage {
	a := &waE2E.AudioMessage{
		Mimetype: proto.String(m.Mimetype), Seconds: m.seconds(),
		FileSHA256: m.Media.SHA256[:], FileLength: m.length(), MediaKey: m.Media.Key[:], FileEncSHA256: m.Media.EncSHA256[:],
		DirectPath: proto.String(m.DirectPath), MediaKeyTimestamp: m.keyTime(),
	}
	if m.Role == RoleVoice {
		a.PTT, a.Waveform = proto.Bool(true), interopWaveform(m.Waveform)
	}
	return a
}

func (m *Made) document() *waE2E.DocumentMessage {
	name := fileName(m.Name)
	if name == "" {
		name = madeUpName(RoleDocument, m.Mimetype)
	}
	d := &waE2E.DocumentMessage{
		Mimetype: proto.String(m.Mimetype), Title: proto.String(name), FileName: proto.String(name), Caption: m.words(),
		FileSHA256: m.Media.SHA256[:], FileLength: m.length(), MediaKey: m.Media.Key[:], FileEncSHA256: m.Media.EncSHA256[:],
		DirectPath: proto.String(m.DirectPath), MediaKeyTimestamp: m.keyTime(), JPEGThumbnail: jpegThumbnail(m.Thumbnail),
	}
	if m.PageCount > 0 && m.PageCount <= maxPages {
		d.PageCount = proto.Uint32(uint32(m.PageCount))
	}
	return d
}

const maxPages = 1 << 20

func (m *Made) words() *string {
	text := clean(m.Caption)
	if strings.TrimSpace(text) == "" {
		return nil
	}
	return proto.String(text[:cut(text, DefaultMaxTextUnits, runeUnits)])
}

func (m *Made) length() *uint64 { return proto.Uint64(uint64(max(m.Media.Length, 0))) }

func (m *Made) keyTime() *int64 { return proto.Int64(m.KeyTime.Unix()) }

func (m *Made) sides() (width, height *uint32) {
	w, h := sides(int64(m.Width), int64(m.Height))
	if w == 0 {
		return nil, nil
	}
	return proto.Uint32(uint32(w)), proto.Uint32(uint32(h))
}

func (m *Made) seconds() *uint32 {
	if m.Duration <= 0 || m.Duration > MaxDuration {
		return nil
	}
	return proto.Uint32(max(uint32(m.Duration.Round(time.Second)/time.Second), 1))
}

// jpegThumbnail gives data back if it begins like a JPEG and is not too large.
func jpegThumbnail(data []byte) []byte {
	if len(data) > MaxThumbnail || !bytes.HasPrefix(data, []byte{0xff, 0xd8, 0xff}) {
		return nil
	}
	return data
}
