package convert

import "postern/connector/media"

// Role is what an attachment goes as, or came as. The words are stable: they may be stored.
type Role string

// The roles. A Note is a round video note, which only arrives: Matrix has no such thing.
const (
	RoleImage    Role = "image"
	RoleVideo    Role = "video"
	RoleNote     Role = "note"
	RoleGIF      Role = "gif"
	RoleVoice    Role = "voice"
	RoleAudio    Role = "audio"
	RoleDocument Role = "document"
	RoleSticker  Role = "sticker"
)

// role is what there is to know about a Role.
type role struct {
	kind      media.Kind
	mediaType string // the attribute of the stanza (PROTOCOL.md 6.1)
	noun      string // for a person, with its article
	sign      string // for a person, in a quote
	mimetype  string // if none is told, or a strange one
	name      string // of a file without one, with an ending that fits mimetype
}

var roles = map[Role]role{
	RoleImage:    {media.Image, "image", "an image", "📷 Photo", "image/jpeg", "image.jpg"},
	RoleVideo:    {media.Video, "video", "a video", "🎥 Video", "video/mp4", "video.mp4"},
	RoleNote:     {media.Video, "video", "a video note", "🎥 Video note", "video/mp4", "video-note.mp4"},
	RoleGIF:      {media.Video, "gif", "a GIF", "🎞️ GIF", "video/mp4", "gif.mp4"},
	RoleVoice:    {media.Audio, "ptt", "a voice message", "🎤 Voice message", "audio/ogg; codecs=opus", "voice-message.ogg"},
	RoleAudio:    {media.Audio, "audio", "an audio file", "🎵 Audio", "audio/mpeg", "audio.mp3"},
	RoleDocument: {media.Document, "document", "a file", "📄 File", "application/octet-stream", "file"},
	RoleSticker:  {media.Image, "image", "a sticker", "💟 Sticker", "image/webp", "sticker.webp"},
}

// MediaKind says how attachments of the role are encrypted (PROTOCOL.md 7.1); documents for a role that is none.
func (r Role) MediaKind() media.Kind { return r.known().kind }

// MediaType is the `mediatype` of the stanza that carries an attachment of the role (PROTOCOL.md 6.1). A sticker goes as an image.
func (r Role) MediaType() string { return r.known().mediaType }

// Noun names the role to a person, in English and with its article: "a voice message".
func (r Role) Noun() string { return r.known().noun }

func (r Role) known() role {
	if known, ok := roles[r]; ok {
		return known
	}
	return roles[RoleDocument]
}
