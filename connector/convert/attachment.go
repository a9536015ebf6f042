package convert

import (
	"strings"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Attachment is what a Matrix message with a file says about it. Everything in it was told by the sender's client and is bounded
// here, but only the file itself shows whether it is true. It can be stored as JSON.
type Attachment struct {
	// Role is what the file is to go as: image, video, gif, voice, audio, document or sticker. It is a wish: a file that turns out to
	// be something else goes as that. Audio that has a caption is a document, since an audio message has no place for words.
	Role Role `json:"role"`
	// Name is the file's name without anything that could be a path; "" if none was told.
	Name string `json:"name,omitempty"`
	// Mimetype is in lower case and without parameters; "" if none was told or it is not well formed.
	Mimetype string `json:"mimetype,omitempty"`
	// Caption is in WhatsApp's marks, at most DefaultMaxTextUnits long.
	Caption string `json:"caption,omitempty"`
	// Size is in bytes as told, -1 if it is not known.
	Size int64 `json:"size"`
	// Width and Height are in pixels, 0 if not known.
	Width  int `json:"width,omitempty"`
	Height int `json:"height,omitempty"`
	// Duration is 0 if not known.
	Duration time.Duration `json:"duration,omitempty"`
	// Waveform has WaveformSamples values from 0 to 100, or is nil.
	Waveform []byte `json:"waveform,omitempty"`
	// URI is where the file is. If File is set, what is there is encrypted with it.
	URI  id.ContentURIString      `json:"uri"`
	File *event.EncryptedFileInfo `json:"file,omitempty"`
	// ThumbnailURI and ThumbnailFile are the same for a small picture of it, "" and nil if there is none.
	ThumbnailURI  id.ContentURIString      `json:"thumbnail_uri,omitempty"`
	ThumbnailFile *event.EncryptedFileInfo `json:"thumbnail_file,omitempty"`
	// Blurhash is "" if there is none.
	Blurhash string `json:"blurhash,omitempty"`
}

// Bounds of what is believed about a file.
const (
	// WaveformSamples is how many values a waveform towards WhatsApp has (PROTOCOL.md 6.4).
	WaveformSamples = 64
	// MaxDuration is the longest duration that is believed; more counts as not known.
	MaxDuration = 1000 * time.Hour

	maxSide     = 1 << 16 // pixels
	maxBlurhash = 128     // bytes
	maxURI      = 512     // bytes
	maxSize     = 1 << 50 // bytes
)

// ReadAttachment takes a Matrix message with a file apart: m.image, m.video, m.audio, m.file, and with sticker the content of an
// m.sticker. It is false for every other content, for an edit, and for one without an address of a file in it; ToInterop then says
// what to do. The content is not changed.
//
// What makes a GIF is the type image/gif or the mark that bridges and clients put into info; what makes a voice message is MSC3245.
// A caption is what MSC2530 says it is; a sticker's body is its description and no caption.
func ReadAttachment(content *event.MessageEventContent, sticker bool) (*Attachment, bool) {
	if content == nil || content.NewContent != nil || content.RelatesTo.GetReplaceID() != "" {
		return nil, false
	}
	role, ok := roleOf(content, sticker)
	if !ok {
		return nil, false
	}
	a := &Attachment{Role: role, Size: -1}
	if a.URI, a.File = fileAt(content.URL, content.File); a.URI == "" {
		return nil, false
	}
	a.describe(content.Info)
	a.sound(content.MSC1767Audio)
	a.words(content)
	return a, true
}

// roleOf says what the file of a content goes as; ok is false for what has none.
func roleOf(content *event.MessageEventContent, sticker bool) (role Role, ok bool) {
	if sticker {
		return RoleSticker, true
	}
	var marked, gif bool
	if info := content.Info; info != nil {
		marked, gif = info.MauGIF, baseType(info.MimeType) == "image/gif"
	}
	switch content.MsgType {
	case event.CapMsgSticker:
		return RoleSticker, true
	case event.MsgImage:
		if marked || gif {
			return RoleGIF, true
		}
		return RoleImage, true
	case event.MsgVideo:
		if marked {
			return RoleGIF, true
		}
		return RoleVideo, true
	case event.MsgAudio:
		if content.MSC3245Voice != nil {
			return RoleVoice, true
		}
		return RoleAudio, true
	case event.MsgFile:
		return RoleDocument, true
	}
	return "", false
}

// fileAt gives the address of a file; an encrypted one comes first. Both are empty if there is no usable one.
func fileAt(plain id.ContentURIString, file *event.EncryptedFileInfo) (id.ContentURIString, *event.EncryptedFileInfo) {
	uri := plain
	if file != nil {
		uri = file.URL
	}
	if len(uri) > maxURI {
		return "", nil
	}
	if parsed, err := uri.Parse(); err != nil || parsed.IsEmpty() {
		return "", nil
	}
	return uri, file
}

// describe takes what info says.
func (a *Attachment) describe(info *event.FileInfo) {
	if info == nil {
		return
	}
	a.Mimetype = baseType(info.MimeType)
	if info.Size > 0 && int64(info.Size) <= maxSize {
		a.Size = int64(info.Size)
	}
	a.Width, a.Height = sides(int64(info.Width), int64(info.Height))
	a.Duration = milliseconds(info.Duration)
	a.ThumbnailURI, a.ThumbnailFile = fileAt(info.ThumbnailURL, info.ThumbnailFile)
	for _, hash := range []string{info.AnoaBlurhash, info.Blurhash} {
		if a.Blurhash == "" && len(hash) <= maxBlurhash {
			a.Blurhash = clean(hash)
		}
	}
}

// sound takes what MSC1767 says of audio.
func (a *Attachment) sound(audio *event.MSC1767Audio) {
	if audio == nil || a.Role != RoleVoice && a.Role != RoleAudio {
		return
	}
	if d := milliseconds(audio.Duration); d > 0 {
		a.Duration = d
	}
	if len(audio.Waveform) > 0 {
		a.Waveform = make([]byte, WaveformSamples)
		for i, peak := range resample(audio.Waveform, WaveformSamples) {
			a.Waveform[i] = byte(min(max(peak, 0), matrixPeak) * interopPeak / matrixPeak)
		}
	}
}

// words takes name and caption.
func (a *Attachment) words(content *event.MessageEventContent) {
	if a.Role == RoleSticker {
		return
	}
	a.Name = fileName(content.GetFileName())
	a.Caption = caption(content)
	if a.Role == RoleVoice && strings.HasPrefix(strings.ToLower(a.Caption), "voice message") && len(a.Caption) < 32 {
		a.Caption = "" // what clients put there by themselves
	}
	if a.Caption != "" && (a.Role == RoleVoice || a.Role == RoleAudio) {
		a.Role, a.Waveform = RoleDocument, nil
	}
}

// caption gives the caption of a message with a file in WhatsApp's marks, "" if there is none.
func caption(content *event.MessageEventContent) string {
	if content.GetCaption() == "" {
		return ""
	}
	words := *content
	words.MsgType = event.MsgText
	parts := interopText(&words, DefaultMaxTextUnits)
	if len(parts) > 1 {
		// With its marks it would not fit; without them nearly everything does.
		parts = splitText(clean(content.Body), DefaultMaxTextUnits)
	}
	if len(parts) == 0 || strings.TrimSpace(parts[0]) == "" {
		return ""
	}
	return parts[0]
}

// sides bounds width and height, which are both known or both not.
func sides(width, height int64) (int, int) {
	if width <= 0 || height <= 0 || width > maxSide || height > maxSide {
		return 0, 0
	}
	return int(width), int(height)
}

// milliseconds bounds a duration.
func milliseconds(n int) time.Duration {
	if n <= 0 || int64(n) > MaxDuration.Milliseconds() {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}
