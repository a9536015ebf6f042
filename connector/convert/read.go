package convert

import (
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"maunium.net/go/mautrix/event"
)

// Read says what a payload of a WhatsApp user means in Matrix (PROTOCOL.md 6.5). Text keeps its words unchanged in the body; marks
// become a formatted_body, which is left out when there is nothing to format. A kind that Matrix has no form for becomes text that says
// as much of it as there is, or an m.notice that names it. What is above the budget is split at words; what is out of bounds is
// dropped. Read keeps no reference to msg other than to the bytes of thumbnails and waveforms, and never changes it.
func Read(msg *waE2E.Message, options Options) Incoming {
	if msg == nil {
		return Incoming{Reason: NoPayload}
	}
	u := unwrap(msg)
	budget := options.budget()
	switch {
	case u.tooDeep:
		return Incoming{Parts: notice(options.say(anotherKind), budget)}
	case u.field == nil && len(u.msg.ProtoReflect().GetUnknown()) > 0:
		return Incoming{Parts: notice(options.say(payload{}.say()), budget)}
	case u.field == nil:
		return Incoming{Reason: NoPayload}
	}
	context := contextOf(u)
	in := readField(u, context, options)
	if in.Reason != Shown {
		return in
	}
	if u.edit != nil {
		return readEdit(u.edit, in, options)
	}
	in.ReplyTo = replyTo(context, options)
	in.Expires = min(time.Duration(context.GetExpiration())*time.Second, MaxTimer)
	in.Forwarded = context.GetIsForwarded() || context.GetForwardingScore() > 0
	return in
}

// readField reads the field of a payload that counts.
//
//nolint:gocyclo // one case for each kind
func readField(u unwrapped, context *waE2E.ContextInfo, options Options) Incoming {
	if u.viewOnce && !options.ShowViewOnce {
		return Incoming{Parts: notice(options.say(describe(u, options).viewOnce()), options.budget())}
	}
	r := reader{unwrapped: u, options: options, mentioned: context.GetMentionedJID()}
	switch u.field.Name() {
	case "conversation":
		return r.text(u.msg.GetConversation())
	case "extendedTextMessage":
		return r.text(u.msg.GetExtendedTextMessage().GetText())
	case "imageMessage":
		return r.image()
	case "videoMessage":
		role := RoleVideo
		if u.msg.GetVideoMessage().GetGifPlayback() {
			role = RoleGIF
		}
		return r.video(role, u.msg.GetVideoMessage())
	case "ptvMessage":
		return r.video(RoleNote, u.msg.GetPtvMessage())
	case "audioMessage":
		return r.audio()
	case "documentMessage":
		return r.document()
	case "stickerMessage":
		return r.sticker()
	case "locationMessage":
		return r.location()
	case "liveLocationMessage":
		return r.liveLocation()
	case "contactMessage":
		return r.contacts([]*waE2E.ContactMessage{u.msg.GetContactMessage()})
	case "contactsArrayMessage":
		return r.contacts(u.msg.GetContactsArrayMessage().GetContacts())
	case "pollCreationMessage":
		return r.poll(u.msg.GetPollCreationMessage())
	case "pollCreationMessageV2":
		return r.poll(u.msg.GetPollCreationMessageV2())
	case "pollCreationMessageV3":
		return r.poll(u.msg.GetPollCreationMessageV3())
	case "pollCreationMessageV5":
		return r.poll(u.msg.GetPollCreationMessageV5())
	case "pollCreationMessageV6":
		return r.poll(u.msg.GetPollCreationMessageV6())
	case "reactionMessage":
		return r.reaction()
	case "protocolMessage":
		return r.protocol()
	}
	return r.named()
}

// reader reads one field of a payload.
type reader struct {
	unwrapped
	options   Options
	mentioned []string
}

func (r *reader) text(text string) Incoming {
	parts := texts(r.withNames(text), r.options)
	if len(parts) == 0 {
		return Incoming{Reason: NoText}
	}
	return Incoming{Parts: parts}
}

// named is what stands in the room for what has no form there: a notice that names it, and its words.
func (r *reader) named() Incoming {
	p := describe(r.unwrapped, r.options)
	if p.silent != Shown {
		return Incoming{Reason: p.silent}
	}
	parts := notice(r.options.say(p.say()), r.options.budget())
	if p.caption != nil {
		parts = append(parts, texts(r.withNames(p.caption(r.msg)), r.options)...)
	}
	return Incoming{Parts: parts}
}

// noticeOf is a notice with words under it.
func (r *reader) noticeOf(sentence, words string) Incoming {
	return Incoming{Parts: append(notice(r.options.say(sentence), r.options.budget()), texts(r.withNames(words), r.options)...)}
}

// texts makes message parts of a text.
func texts(text string, options Options) []*Part {
	return parts(matrixText(clean(text), options.budget()))
}

// notice is a placeholder in the room.
func notice(text string, budget int) []*Part {
	contents := matrixText(text, budget)
	for _, c := range contents {
		c.MsgType = event.MsgNotice
		c.Format, c.FormattedBody = "", ""
	}
	return parts(contents)
}

func parts(contents []*event.MessageEventContent) []*Part {
	out := make([]*Part, len(contents))
	for i, c := range contents {
		out[i] = &Part{Type: event.EventMessage, Content: c}
	}
	return out
}

const (
	maxMentions     = 64  // people of a text whose names are looked up
	maxReplacements = 256 // places in a text where a name is put
	minMention      = 5   // characters of an address that can be told from a word
	maxMentionName  = 64  // units
)

// withNames puts names in place of the numbers of those who are mentioned.
func (r *reader) withNames(text string) string {
	if r.options.Name == nil || len(r.mentioned) == 0 || !strings.Contains(text, "@") {
		return text
	}
	left := maxReplacements
	for _, address := range r.mentioned[:min(len(r.mentioned), maxMentions)] {
		user, _, _ := strings.Cut(address, "@")
		user, _, _ = strings.Cut(user, ":")
		if len(user) < minMention || !printable(address, maxAddress) || !strings.Contains(text, "@"+user) {
			continue
		}
		if name := oneLine(r.options.Name(address), maxMentionName); name != "" {
			text = replaceMention(text, "@"+user, "@"+name, &left)
		}
	}
	return text
}

// replaceMention replaces an old mention where no letter or digit follows.
func replaceMention(text, old, name string, left *int) string {
	var b strings.Builder
	for *left > 0 {
		i := strings.Index(text, old)
		if i < 0 {
			break
		}
		b.WriteString(text[:i])
		text = text[i+len(old):]
		if text != "" && (text[0] >= '0' && text[0] <= '9' || text[0] >= 'a' && text[0] <= 'z' || text[0] >= 'A' && text[0] <= 'Z') {
			b.WriteString(old)
			continue
		}
		b.WriteString(name)
		*left--
	}
	b.WriteString(text)
	return b.String()
}

const (
	maxStanzaID = 128 // bytes
	maxAddress  = 256 // bytes
	maxPath     = 4 << 10
)

// printable says whether s is printable ASCII without spaces, and neither empty nor longer than limit.
func printable(s string, limit int) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

// keyOf reads a message's key; ok is false if it names no message.
func keyOf(k *waCommon.MessageKey) (key Key, ok bool) {
	key = Key{ID: k.GetID(), FromMe: k.GetFromMe(), Participant: k.GetParticipant()}
	if !printable(key.Participant, maxAddress) {
		key.Participant = ""
	}
	return key, printable(key.ID, maxStanzaID)
}

// replyTo reads what a message answers, nil for nothing.
func replyTo(context *waE2E.ContextInfo, options Options) *ReplyTo {
	to := &ReplyTo{ID: context.GetStanzaID(), Participant: context.GetParticipant(), Quote: quoteOf(context.GetQuotedMessage(), options)}
	if !printable(to.ID, maxStanzaID) {
		to.ID = ""
	}
	if !printable(to.Participant, maxAddress) {
		to.Participant = ""
	}
	if to.ID == "" && to.Quote == "" {
		return nil
	}
	return to
}
