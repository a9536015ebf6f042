package convert

import (
	"errors"

	"maunium.net/go/mautrix/event"
)

// ErrEmptyText says that a message has no visible text, so that there is
// nothing to send.
var ErrEmptyText = errors.New("convert: the message has no text")

// Kind names a kind of Matrix content that cannot be sent.
type Kind string

// The kinds that are refused.
const (
	KindNoFile       Kind = "no_file"
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
	KindPollEnd      Kind = "poll_end"
	KindEdit         Kind = "edit"
	KindReaction     Kind = "reaction"
	KindReactionText Kind = "reaction_text"
	KindRedaction    Kind = "redaction"
	KindCall         Kind = "call"
	KindVerification Kind = "verification"
	KindOther        Kind = "other"
)

// Unsupported is the error for content of a kind that cannot be sent. It
// carries nothing of the content itself.
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
	KindNoFile:       "This message has no file in it, so there was nothing to send.",
	KindImage:        "Images cannot be sent to this chat.",
	KindVideo:        "Videos cannot be sent to this chat.",
	KindAudio:        "Audio files cannot be sent to this chat.",
	KindVoice:        "Voice messages cannot be sent to this chat.",
	KindFile:         "Files cannot be sent to this chat.",
	KindSticker:      "Stickers cannot be sent to this chat.",
	KindGallery:      "Galleries cannot be sent to this chat. Please send the pictures one by one.",
	KindLocation:     "This location has no position in it, so there was nothing to send.",
	KindPoll:         "This poll could not be read, so there was nothing to send.",
	KindPollVote:     "Votes in polls cannot be sent to this chat.",
	KindPollEnd:      "The end of a poll cannot be sent to this chat.",
	KindEdit:         "A message cannot be edited in this chat: the other person still sees the first version.",
	KindReaction:     "Reactions cannot be sent to this chat.",
	KindReactionText: "Only a single emoji can be sent to this chat as a reaction.",
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
	"m.sticker":                           KindSticker,
	"m.reaction":                          KindReaction,
	"m.room.redaction":                    KindRedaction,
	"m.poll.start":                        KindPoll,
	"m.poll.response":                     KindPollVote,
	"m.poll.end":                          KindPollEnd,
	"org.matrix.msc3381.poll.start":       KindPoll,
	"org.matrix.msc3381.poll.end":         KindPollEnd,
	"org.matrix.msc3381.v2.poll.end":      KindPollEnd,
	"org.matrix.msc3381.v2.poll.start":    KindPoll,
	"org.matrix.msc3381.poll.response":    KindPollVote,
	"org.matrix.msc3381.v2.poll.response": KindPollVote,
	"m.call.invite":                       KindCall,
	"m.call.answer":                       KindCall,
	"m.call.candidates":                   KindCall,
	"m.call.hangup":                       KindCall,
	"m.call.reject":                       KindCall,
	"m.call.negotiate":                    KindCall,
	"m.call.select_answer":                KindCall,
}

// unsupportedContent names the kind of a message that is neither text nor a
// location, or returns "".
func unsupportedContent(content *event.MessageEventContent) Kind {
	if content.NewContent != nil || content.RelatesTo.GetReplaceID() != "" {
		return KindEdit
	}
	var kind Kind
	switch content.MsgType {
	case event.MsgText, event.MsgNotice, event.MsgEmote, event.MsgLocation:
		return ""
	case event.MsgImage:
		kind = KindImage
	case event.MsgVideo:
		kind = KindVideo
	case event.MsgAudio:
		kind = KindAudio
		if content.MSC3245Voice != nil {
			kind = KindVoice
		}
	case event.MsgFile:
		kind = KindFile
	case event.CapMsgSticker:
		kind = KindSticker
	case event.MsgBeeperGallery:
		return KindGallery
	case event.MsgVerificationRequest:
		return KindVerification
	case "":
		// A sticker is the one message without a msgtype.
		if content.URL == "" && content.File == nil {
			return KindOther
		}
		kind = KindSticker
	default:
		return KindOther
	}
	if uri, _ := fileAt(content.URL, content.File); uri == "" {
		return KindNoFile
	}
	return kind
}
