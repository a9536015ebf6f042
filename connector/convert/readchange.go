package convert

import (
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
)

// reaction reads a reaction, or its removal.
func (r *reader) reaction() Incoming {
	m := r.msg.GetReactionMessage()
	key, ok := keyOf(m.GetKey())
	text := strings.TrimSpace(m.GetText())
	emoji := EmojiToMatrix(text)
	if !ok || text != "" && emoji == "" {
		return r.named()
	}
	return Incoming{Reaction: &IncomingReaction{Key: key, Emoji: emoji}}
}

// protocol reads what changes something. One can change only what one has written: a key that names a message of the other side is
// not followed, and neither is a message that only looks like a deletion because its type is missing.
func (r *reader) protocol() Incoming {
	p := r.msg.GetProtocolMessage()
	if p.Type == nil {
		return Incoming{Parts: notice(r.options.say(payload{}.say()), r.options.budget())}
	}
	switch p.GetType() {
	case waE2E.ProtocolMessage_REVOKE:
		key, ok := keyOf(p.GetKey())
		switch {
		case !ok:
			return r.noticeOf(deletedWhich, "")
		case !key.FromMe:
			return r.noticeOf(deletedTheirs, "")
		}
		return Incoming{Revoke: &key}
	case waE2E.ProtocolMessage_EPHEMERAL_SETTING:
		after := time.Duration(p.GetEphemeralExpiration()) * time.Second
		return Incoming{Timer: &IncomingTimer{After: min(after, MaxTimer)}}
	}
	return r.named()
}

// readEdit makes an edit of what is its new form. If the message that is edited cannot be told, or is not the sender's own, the new
// form is shown behind words that say so.
func readEdit(edit *waE2E.ProtocolMessage, in Incoming, options Options) Incoming {
	budget := options.budget()
	key, ok := keyOf(edit.GetKey())
	switch {
	case in.Reaction != nil, in.Revoke != nil, in.Timer != nil:
		return Incoming{Parts: notice(options.say(protocol(edit).sentence), budget)}
	case edit.GetEditedMessage() == nil:
		return in // named already
	case !ok || !key.FromMe:
		before := notice(options.say(editedTo), budget)
		if in.Media != nil {
			before = append(before, texts(in.Media.Caption, Options{MaxEventBytes: budget})...)
			before = append(before, notice(options.say(hasFile(in.Media.Role)), budget)...)
			return Incoming{Parts: before}
		}
		return Incoming{Parts: append(before, in.Parts...)}
	case in.Media != nil:
		caption := texts(in.Media.Caption, Options{MaxEventBytes: budget})
		return Incoming{Edit: &IncomingEdit{Key: key, Media: in.Media, Parts: caption}}
	}
	return Incoming{Edit: &IncomingEdit{Key: key, Parts: in.Parts}}
}
