package sandbox

import (
	"slices"
	"unicode/utf16"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
)

// looked is what a phone makes of a message it takes.
type looked struct {
	event     eventBody
	typ       string // the type of stanza that fits
	mediaType string
	attached  bool // there is media to fetch
	oddities  []oddity
}

// odd notes something to complain about.
func (l *looked) odd(section, text string) {
	l.oddities = append(l.oddities, oddity{section: section, text: text})
}

// allowed lists what partners may send (PROTOCOL.md 6.4).
var allowed = []protoreflect.Name{
	"conversation", "extendedTextMessage", "imageMessage", "documentMessage", "audioMessage", "videoMessage", "reactionMessage",
}

// look reads a partner's message; refused is "" or why the phone does not take it.
func (p *phone) look(s *Server, m *waE2E.Message, a *account) (l looked, refused string) {
	kind, refused := onlyField(m)
	if refused != "" {
		return l, refused
	}
	if !slices.Contains(allowed, kind) {
		return l, "a " + string(kind)
	}
	l.typ = "text"
	var quote *waE2E.ContextInfo
	switch kind {
	case "conversation":
		l.text(m.GetConversation())
	case "extendedTextMessage":
		text := m.GetExtendedTextMessage()
		quote = text.GetContextInfo()
		if quote == nil || !proto.Equal(text, &waE2E.ExtendedTextMessage{Text: text.Text, ContextInfo: quote}) {
			return l, "an extendedTextMessage that is more, or less, than a reply"
		}
		l.text(text.GetText())
	case "reactionMessage":
		refused = l.reaction(p, m.GetReactionMessage(), a)
	default:
		quote, refused = l.media(m, s, a)
	}
	if refused == "" && quote != nil {
		refused = l.reply(p, quote, a)
	}
	return l, refused
}

// onlyField names the one field that is set.
func onlyField(m *waE2E.Message) (name protoreflect.Name, refused string) {
	n := 0
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		n++
		name = f.Name()
		return true
	})
	switch {
	case len(m.ProtoReflect().GetUnknown()) > 0:
		return "", "fields nobody knows"
	case n == 0:
		return "", "nothing in it"
	case n > 1:
		return "", "more than one kind of content"
	}
	return name, ""
}

// maxTextUnits is where a phone cuts text, in UTF-16 code units.
const maxTextUnits = 65536

func (l *looked) text(text string) {
	if units := utf16.Encode([]rune(text)); len(units) > maxTextUnits {
		l.odd("6.4", "text of more than 65,536 UTF-16 units")
		text = string(utf16.Decode(units[:maxTextUnits]))
	}
	l.event.Text = text
}

func (l *looked) reaction(p *phone, r *waE2E.ReactionMessage, a *account) string {
	key := r.GetKey()
	if key.GetID() == "" || key.FromMe == nil {
		return "a reaction without a target"
	}
	l.typ = "reaction"
	l.event.Reaction = &eventReaction{Target: key.GetID(), FromMe: key.GetFromMe(), Emoji: r.GetText()}
	if p.find(a, key) == nil {
		l.odd("6.4", "a reaction to a message that is not there")
	}
	return ""
}

// find looks for the message a key of a names; fromMe is from a's point of view.
func (p *phone) find(a *account, key *waCommon.MessageKey) *waE2E.Message {
	return p.plain(a, key.GetID(), key.GetFromMe())
}

// plain is the content of message id between the phone and a, empty if it is not kept any more, nil if there
// never was one.
func (p *phone) plain(a *account, id string, byPartner bool) *waE2E.Message {
	var raw blob
	if byPartner {
		h := p.heard[heardKey{a.Address, id}]
		if h == nil {
			return nil
		}
		raw = h.Plain
	} else {
		m := p.sent[id]
		if m == nil || m.Account != a.Address {
			return nil
		}
		raw = m.Plain
	}
	msg := &waE2E.Message{}
	if err := proto.Unmarshal(raw, msg); err != nil {
		return &waE2E.Message{}
	}
	return msg
}

func (l *looked) reply(p *phone, quote *waE2E.ContextInfo, a *account) string {
	if !proto.Equal(quote, &waE2E.ContextInfo{StanzaID: quote.StanzaID, Participant: quote.Participant, QuotedMessage: quote.QuotedMessage}) {
		return "a contextInfo that is more than a reply"
	}
	if quote.GetStanzaID() == "" {
		return "a reply without a target"
	}
	l.event.ReplyTo = quote.GetStanzaID()
	l.event.Quoted = textOf(quote.GetQuotedMessage())
	byPartner := quote.GetParticipant() == a.Address
	if !byPartner && quote.GetParticipant() != p.user.Address {
		l.odd("6.4", "a reply whose participant is neither of the two")
		return ""
	}
	if p.plain(a, quote.GetStanzaID(), byPartner) == nil {
		l.odd("6.4", "a reply to a message that is not there")
	}
	return ""
}

// textOf is what a message shows as text.
func textOf(m *waE2E.Message) string {
	switch {
	case m == nil:
		return ""
	case m.Conversation != nil:
		return m.GetConversation()
	case m.ExtendedTextMessage != nil:
		return m.GetExtendedTextMessage().GetText()
	case m.ImageMessage != nil:
		return m.GetImageMessage().GetCaption()
	case m.VideoMessage != nil:
		return m.GetVideoMessage().GetCaption()
	case m.DocumentMessage != nil:
		return m.GetDocumentMessage().GetCaption()
	}
	return ""
}
