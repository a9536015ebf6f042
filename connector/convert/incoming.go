package convert

import (
	"time"

	"maunium.net/go/mautrix/event"

	"postern/connector/media"
)

// Bounds of what is read.
const (
	// MaxTimer is the longest time after which messages disappear.
	MaxTimer = 365 * 24 * time.Hour
	// MaxInline is the most bytes of a file that came inside a payload.
	MaxInline = 256 << 10
)

// Incoming is what a payload of a WhatsApp user means in Matrix. If Reason is Shown, exactly one of Media, Reaction, Edit, Revoke and
// Timer is set, or none of them and Parts is not empty; with Media, Parts has what did not fit into its content. If Reason is not
// Shown, nothing is set: the payload has nothing in it for a person, and the caller may drop it knowingly.
type Incoming struct {
	Reason Reason
	// Parts are to be sent in this order, after Media.
	Parts []*Part
	// Media is a file to be fetched.
	Media *IncomingMedia
	// Reaction is a reaction of the sender, or its removal.
	Reaction *IncomingReaction
	// Edit changes a message of the sender's.
	Edit *IncomingEdit
	// Revoke deletes a message of the sender's. Its FromMe is always true.
	Revoke *Key
	// Timer changes how long messages of the chat are kept.
	Timer *IncomingTimer
	// ReplyTo is what the message answers, or nil.
	ReplyTo *ReplyTo
	// Expires is how long after it was read the message is to disappear, 0 for never. At most MaxTimer.
	Expires time.Duration
	// Forwarded says that the sender did not write the message. It is not shown: Matrix has no mark for it, and words would change
	// what was said.
	Forwarded bool
}

// Part is the content of one Matrix event.
type Part struct {
	// Type is event.EventMessage or event.EventSticker.
	Type event.Type
	// Content fits into Options.MaxEventBytes together with Extra, and with room for what uploading Inline adds.
	Content *event.MessageEventContent
	// Extra are fields that Content has no place for, nil for most parts.
	Extra map[string]any
	// Inline is a small file that came inside the payload. The caller uploads it and sets Content's URL or File.
	Inline *Inline
}

// Inline is a small file, at most MaxInline bytes.
type Inline struct {
	Name, Mimetype string
	Data           []byte
}

// Key names a message of the chat from the view of whoever wrote the payload (PROTOCOL.md 6.4).
type Key struct {
	// ID is the stanza id, printable and never empty.
	ID string
	// FromMe: the writer of the payload wrote that message too.
	FromMe bool
	// Participant is the address of the message's author as the writer knows it, often "".
	Participant string
}

// ReplyTo is the message that another one answers.
type ReplyTo struct {
	// ID is the stanza id; "" if the payload has only the words.
	ID string
	// Participant is the address of the author as the writer knows it, "" if it is not told. It may be the writer's own.
	Participant string
	// Quote is what that message says as far as the payload has it, in WhatsApp's marks and shortened; a sign and a word for media; ""
	// if it has nothing. Incoming.ShowQuote shows it where the message itself is not known.
	Quote string
}

// IncomingReaction is a reaction of the sender.
type IncomingReaction struct {
	Key Key
	// Emoji has variation selectors as Matrix wants them, and is "" if the reaction is taken back.
	Emoji string
}

// IncomingEdit is the new form of a message.
type IncomingEdit struct {
	// Key is the message; FromMe is always true.
	Key Key
	// Parts is the new text. For a message with a file it is the new caption, and may be empty.
	Parts []*Part
	// Media is set if the message has a file: its Content has the new caption. The file itself is the same as before.
	Media *IncomingMedia
}

// IncomingTimer is a new setting for disappearing messages.
type IncomingTimer struct {
	// After is how long messages are kept, 0 for ever. At most MaxTimer.
	After time.Duration
}

// IncomingMedia is a file that a WhatsApp user sent.
type IncomingMedia struct {
	// Role is what it came as.
	Role Role
	// Media has what is needed to decrypt it; EncLength is 0, and Length is -1 if it was not told.
	Media media.Descriptor
	// DirectPath is a path with query on the gatekeeper's media host (PROTOCOL.md 7.4): it begins with one slash and has printable ASCII only.
	DirectPath string
	// Mimetype is as told, in lower case, with parameters; the role's usual one if none was told.
	Mimetype string
	// Name is a name that can be shown and stored; never "".
	Name string
	// Caption is in WhatsApp's marks, "" for none. It is in Content already.
	Caption string
	// Width and Height are in pixels, 0 if not known.
	Width, Height int
	// Duration is 0 if not known.
	Duration time.Duration
	// Waveform has values from 0 to 100, nil if there is none.
	Waveform []byte
	// Thumbnail is a small JPEG, nil if there is none. It was not looked at beyond its first bytes.
	Thumbnail []byte
	// Animated is set for stickers that move.
	Animated bool
	// ViewOnce: the sender wants it to be opened once only. It is set only if Options.ShowViewOnce is.
	ViewOnce bool
	// Type is event.EventMessage or event.EventSticker.
	Type event.Type
	// Content is complete but for URL or File and, in Info, the thumbnail and the blurhash (ThumbnailURL or ThumbnailFile,
	// ThumbnailInfo, AnoaBlurhash), which the caller adds; there is room for them. What the caller finds out about the file (size, type,
	// dimensions) it may put in place of what was told.
	Content *event.MessageEventContent
}
