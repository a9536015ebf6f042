package convert

import (
	"bytes"
	"math"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"maunium.net/go/mautrix/event"

	"postern/connector/media"
)

// mediaOverhead is the JSON of a file's content besides its caption, and room for what the caller adds: addresses and keys of the
// file and of its thumbnail, and the blurhash.
const mediaOverhead = 5 << 10

// described is what all kinds of files have in common.
type described interface {
	GetMimetype() string
	GetMediaKey() []byte
	GetFileSHA256() []byte
	GetFileEncSHA256() []byte
	GetFileLength() uint64
	GetDirectPath() string
}

func (r *reader) image() Incoming {
	m := r.msg.GetImageMessage()
	return r.media(m, &IncomingMedia{
		Role: RoleImage, Caption: m.GetCaption(), Thumbnail: jpegThumbnail(m.GetJPEGThumbnail()),
	}, m.GetWidth(), m.GetHeight(), 0)
}

func (r *reader) video(role Role, m *waE2E.VideoMessage) Incoming {
	return r.media(m, &IncomingMedia{
		Role: role, Caption: m.GetCaption(), Thumbnail: jpegThumbnail(m.GetJPEGThumbnail()),
	}, m.GetWidth(), m.GetHeight(), m.GetSeconds())
}

func (r *reader) audio() Incoming {
	m := r.msg.GetAudioMessage()
	in := &IncomingMedia{Role: RoleAudio}
	if m.GetPTT() {
		in.Role, in.Waveform = RoleVoice, interopWaveform(m.GetWaveform())
	}
	return r.media(m, in, 0, 0, m.GetSeconds())
}

func (r *reader) document() Incoming {
	m := r.msg.GetDocumentMessage()
	name := fileName(m.GetFileName())
	if name == "" {
		name = fileName(m.GetTitle())
	}
	return r.media(m, &IncomingMedia{
		Role: RoleDocument, Name: name, Caption: m.GetCaption(), Thumbnail: jpegThumbnail(m.GetJPEGThumbnail()),
	}, 0, 0, 0)
}

func (r *reader) sticker() Incoming {
	m := r.msg.GetStickerMessage()
	if m.GetIsLottie() || baseType(m.GetMimetype()) == "application/was" {
		return r.drawnSticker(m)
	}
	return r.media(m, &IncomingMedia{Role: RoleSticker, Animated: m.GetIsAnimated()}, m.GetWidth(), m.GetHeight(), 0)
}

// drawnSticker is a sticker in a format for drawings, which no Matrix client shows; a small picture of it comes along with most.
func (r *reader) drawnSticker(m *waE2E.StickerMessage) Incoming {
	picture := m.GetPngThumbnail()
	if len(picture) > MaxInline || !bytes.HasPrefix(picture, []byte("\x89PNG\r\n\x1a\n")) {
		return r.noticeOf(drawnSticker, stickerWords(m))
	}
	inline := &Inline{Name: "sticker.png", Mimetype: "image/png", Data: picture}
	content := &event.MessageEventContent{
		Body: r.stickerBody(m), Mentions: &event.Mentions{}, Info: &event.FileInfo{MimeType: inline.Mimetype, Size: len(picture)},
	}
	content.Info.Width, content.Info.Height = sides(int64(m.GetWidth()), int64(m.GetHeight()))
	return Incoming{Parts: []*Part{{Type: event.EventSticker, Content: content, Inline: inline}}}
}

// stickerWords gives the emoji or the description of a sticker, "" if it has none.
func stickerWords(m *waE2E.StickerMessage) string {
	const longest = 200
	for _, words := range []string{m.GetEmojis(), m.GetAccessibilityLabel()} {
		if words = oneLine(words, longest); words != "" {
			return words
		}
	}
	return ""
}

func (r *reader) stickerBody(m *waE2E.StickerMessage) string {
	if words := stickerWords(m); words != "" {
		return words
	}
	return r.options.say(stickerName)
}

// media completes what is known about a file. One that cannot be fetched or decrypted is named instead.
func (r *reader) media(m described, in *IncomingMedia, width, height, seconds uint32) Incoming {
	in.Caption = r.withNames(clean(in.Caption))
	if strings.TrimSpace(in.Caption) == "" {
		in.Caption = ""
	}
	in.DirectPath = m.GetDirectPath()
	var ok bool
	if in.Media, ok = descriptor(in.Role, m); !ok || !goodPath(in.DirectPath) {
		return r.noticeOf(unfetchable(in.Role), lineOf(in.Name, in.Caption))
	}
	if in.Mimetype = fullType(m.GetMimetype()); in.Mimetype == "" {
		in.Mimetype = in.Role.known().mimetype
	}
	if in.Name == "" {
		in.Name = madeUpName(in.Role, in.Mimetype)
	}
	in.Width, in.Height = sides(int64(width), int64(height))
	if d := time.Duration(seconds) * time.Second; d <= MaxDuration {
		in.Duration = d
	}
	in.ViewOnce = r.viewOnce
	rest := r.content(in)
	return Incoming{Media: in, Parts: rest}
}

// descriptor reads what a file is decrypted with; ok is false if something is missing.
func descriptor(role Role, m described) (d media.Descriptor, ok bool) {
	d = media.Descriptor{Kind: role.MediaKind(), Length: -1}
	if copy(d.Key[:], m.GetMediaKey()) != len(d.Key) || len(m.GetMediaKey()) != len(d.Key) ||
		len(m.GetFileSHA256()) != len(d.SHA256) || len(m.GetFileEncSHA256()) != len(d.EncSHA256) {
		return media.Descriptor{}, false
	}
	copy(d.SHA256[:], m.GetFileSHA256())
	copy(d.EncSHA256[:], m.GetFileEncSHA256())
	if n := m.GetFileLength(); n > 0 {
		d.Length = int64(min(n, maxSize))
	}
	return d, true
}

// goodPath says whether a path is one on a host: it must not name another.
func goodPath(path string) bool {
	return printable(path, maxPath) && path[0] == '/' && !strings.HasPrefix(path, "//") && !strings.ContainsAny(path, `\#`)
}

// content writes the Matrix content for a file, and gives the parts of its caption that did not fit.
func (r *reader) content(in *IncomingMedia) []*Part {
	c := &event.MessageEventContent{
		Body: in.Name, FileName: in.Name, Mentions: &event.Mentions{},
		Info: &event.FileInfo{
			MimeType: in.Mimetype, Width: in.Width, Height: in.Height, Duration: int(in.Duration.Milliseconds()),
			Size: int(min(max(in.Media.Length, 0), math.MaxInt)),
		},
	}
	in.Type, in.Content = event.EventMessage, c
	switch in.Role {
	case RoleImage:
		c.MsgType = event.MsgImage
	case RoleVideo, RoleNote:
		c.MsgType = event.MsgVideo
	case RoleGIF:
		c.MsgType = event.MsgVideo
		c.Info.MauGIF = true
		// What other bridges write, and clients look for.
		c.Info.Extra = map[string]any{"fi.mau.loop": true, "fi.mau.autoplay": true, "fi.mau.hide_controls": true, "fi.mau.no_audio": true}
	case RoleVoice:
		c.MsgType, c.MSC3245Voice = event.MsgAudio, &event.MSC3245Voice{}
		c.MSC1767Audio = &event.MSC1767Audio{Duration: c.Info.Duration, Waveform: matrixWaveform(in.Waveform)}
	case RoleAudio:
		c.MsgType = event.MsgAudio
	case RoleSticker:
		in.Type, c.FileName, c.Body = event.EventSticker, "", r.stickerBody(r.msg.GetStickerMessage())
		c.Info.IsAnimated = in.Animated
	default:
		c.MsgType = event.MsgFile
	}
	captions := matrixText(in.Caption, r.options.budget()-mediaOverhead)
	if len(captions) == 0 {
		return nil
	}
	c.Body, c.Format, c.FormattedBody = captions[0].Body, captions[0].Format, captions[0].FormattedBody
	if c.Body == c.FileName {
		c.Body += " " // a caption that says the name is still a caption
	}
	return parts(captions[1:])
}
