package convert

import (
	"errors"

	"maunium.net/go/mautrix/event"
)

// ErrEmptyText says that a message has no visible text, so that there is
// nothing to send.
var ErrEmptyText = errors.New("convert: the message has no text")

// Kind names a kind of Matrix content that cannot be sent yet.
type Kind string

// The kinds that are refused.
const (
	KindImage        Kind = "image"
	KindVideo        Kind = "video"
	KindAudio        Kind = "audio"
	KindVoice        Kind = "voice"
	KindFile         Kind = "file"
	KindSticker      Kind = "sticker"
	KindGallery      Kind = "gallery"
	KindLocation     Kind = "location"
	KindPoll         Kind = "poll"
	KindPollVote     Kind = "poll_vote"
	KindEdit         Kind = "edit"
	KindReaction     Kind = "reaction"
	KindRedaction    Kind = "redaction"
	KindCall         Kind = "call"
	KindVerification Kind = "verification"
	KindOther        Kind = "other"
)

// Unsupported is the error for content of a kind that the bridge cannot send
// yet. It carries nothing of the content itself.
type Unsupported struct {
	Kind Kind
}

// Error names the kind, for logs.
func (u *Unsupported) Error() string {
	return "convert: content of kind " + string(u.known()) + " is not supported"
}

// Sentence says the same to the person who sent the content.
func (u *Unsupported) Sentence() string {
	return unsupportedSentences[u.known()]
}

func (u *Unsupported) known() Kind {
	if _, ok := unsupportedSentences[u.Kind]; ok {
		return u.Kind
	}
	return KindOther
}

var unsupportedSentences = map[Kind]string{
	KindImage:        "Images cannot be sent to this chat yet.",
	KindVideo:        "Videos cannot be sent to this chat yet.",
	KindAudio:        "Audio files cannot be sent to this chat yet.",
	KindVoice:        "Voice messages cannot be sent to this chat yet.",
	KindFile:         "Files cannot be sent to this chat yet.",
	KindSticker:      "Stickers cannot be sent to this chat yet.",
	KindGallery:      "Galleries cannot be sent to this chat yet.",
	KindLocation:     "Locations cannot be sent to this chat yet.",
	KindPoll:         "Polls cannot be sent to this chat.",
	KindPollVote:     "Votes in polls cannot be sent to this chat.",
	KindEdit:         "A message cannot be edited in this chat: the other person still sees the first version.",
	KindReaction:     "Reactions cannot be sent to this chat yet.",
	KindRedaction:    "A message cannot be deleted for the other person in this chat: it is still there for them.",
	KindCall:         "Calls are not possible in this chat.",
	KindVerification: "The other person does not use Matrix and cannot be verified here.",
	KindOther:        "This kind of message cannot be sent to this chat.",
}

// Explain puts an error of ToInterop into a sentence for the person who sent
// the message. It returns "" for an error that is not of this package.
func Explain(err error) string {
	var unsupported *Unsupported
	switch {
	case errors.As(err, &unsupported):
		return unsupported.Sentence()
	case errors.Is(err, ErrEmptyText):
		return "The message has no text, so there was nothing to send."
	}
	return ""
}

// UnsupportedEvent gives the error for a Matrix event that is not an
// m.room.message, by its type. The result is never nil.
func UnsupportedEvent(eventType string) *Unsupported {
	kind, ok := eventKinds[eventType]
	if !ok {
		kind = KindOther
	}
	return &Unsupported{Kind: kind}
}

var eventKinds = map[string]Kind{
	"m.sticker":                        KindSticker,
	"m.reaction":                       KindReaction,
	"m.room.redaction":                 KindRedaction,
	"m.poll.start":                     KindPoll,
	"m.poll.response":                  KindPollVote,
	"m.poll.end":                       KindPoll,
	"org.matrix.msc3381.poll.start":    KindPoll,
	"org.matrix.msc3381.poll.end":      KindPoll,
	"org.matrix.msc3381.v2.poll":       KindPoll,
	"org.matrix.msc3381.poll.response": KindPollVote,
	"m.call.invite":                    KindCall,
	"m.call.answer":                    KindCall,
	"m.call.candidates":                KindCall,
	"m.call.hangup":                    KindCall,
	"m.call.reject":                    KindCall,
	"m.call.negotiate":                 KindCall,
	"m.call.select_answer":             KindCall,
	"m.beacon":                         KindLocation,
	"m.beacon_info":                    KindLocation,
}

// unsupportedContent names the kind of a message that is not plain text, or
// returns "".
func unsupportedContent(content *event.MessageEventContent) Kind {
	if content.NewContent != nil || content.RelatesTo.GetReplaceID() != "" {
		return KindEdit
	}
	switch content.MsgType {
	case event.MsgText, event.MsgNotice, event.MsgEmote:
		return ""
	case event.MsgImage:
		return KindImage
	case event.MsgVideo:
		return KindVideo
	case event.MsgAudio:
		if content.MSC3245Voice != nil {
			return KindVoice
		}
		return KindAudio
	case event.MsgFile:
		return KindFile
	case event.MsgLocation:
		return KindLocation
	case event.CapMsgSticker:
		return KindSticker
	case event.MsgBeeperGallery:
		return KindGallery
	case event.MsgVerificationRequest:
		return KindVerification
	case "":
		// A sticker is the one message without a msgtype.
		if content.URL != "" || content.File != nil {
			return KindSticker
		}
	}
	return KindOther
}
