package convert

import (
	"errors"
	"slices"

	"maunium.net/go/mautrix/event"
)

// ErrEmptyText says that a message has no visible text, so that there is
// nothing to send.
var ErrEmptyText = errors.New("convert: the message has no text")

// Kind names a kind of Matrix content that cannot be sent.
type Kind string

// The kinds that are refused.
const (
	KindEmpty        Kind = "empty" // no text
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

func (u *Unsupported) known() Kind {
	if slices.Contains(Kinds, u.Kind) {
		return u.Kind
	}
	return KindOther
}

// Kinds are all kinds that are refused.
var Kinds = []Kind{
	KindEmpty, KindNoFile, KindImage, KindVideo, KindAudio, KindVoice, KindFile, KindSticker, KindGallery, KindLocation, KindPoll,
	KindPollVote, KindPollEnd, KindEdit, KindReaction, KindReactionText, KindRedaction, KindCall, KindVerification, KindOther,
}

// Refused says which kind an error of this package refuses; "" for an error that is not of this package.
func Refused(err error) Kind {
	var unsupported *Unsupported
	switch {
	case errors.As(err, &unsupported):
		return unsupported.known()
	case errors.Is(err, ErrEmptyText):
		return KindEmpty
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
