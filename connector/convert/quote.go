package convert

import (
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/event"
)

// Quote is a message that another one answers.
type Quote struct {
	// StanzaID is the id of the message on the wire, Participant the address of its author as text (PROTOCOL.md 6.4).
	StanzaID, Participant string
	// Text is what it says, in WhatsApp's marks; see Summary. It is shortened as needed.
	Text string
	// Author is the name of its author for people, "" to leave it out.
	Author string
}

const (
	// MaxQuoteUnits is the most UTF-16 units that WithQuotedText puts before a text. Whoever converts an answer with ToInterop leaves
	// that much room in Limits.MaxTextUnits; where there is none, nothing is quoted.
	MaxQuoteUnits = 512

	maxQuoteLines  = 3
	maxQuotedText  = 300  // units of the words in a quote
	maxQuotedCopy  = 1024 // units of the copy of a message in a contextInfo
	maxQuoteAuthor = 64   // units
)

// WithReply makes the first of the messages an answer to q in the context form: a copy of it gets a contextInfo with id, author and
// words of the quoted message; a conversation becomes an extendedTextMessage for that (PROTOCOL.md 6.4). Without StanzaID there is
// nothing to refer to, and the messages come back as they are. So do messages that answer nothing, such as reactions.
func WithReply(messages []*waE2E.Message, q Quote) []*waE2E.Message {
	if len(messages) == 0 || q.StanzaID == "" {
		return messages
	}
	text := shorten(clean(q.Text), maxQuotedCopy)
	if text == "" {
		text = "…"
	}
	context := &waE2E.ContextInfo{
		StanzaID: proto.String(q.StanzaID), Participant: proto.String(q.Participant),
		QuotedMessage: &waE2E.Message{Conversation: proto.String(text)},
	}
	first := clone(messages[0])
	switch {
	case first.Conversation != nil:
		first.ExtendedTextMessage = &waE2E.ExtendedTextMessage{Text: first.Conversation, ContextInfo: context}
		first.Conversation = nil
	case first.ExtendedTextMessage != nil:
		first.ExtendedTextMessage.ContextInfo = context
	case first.ImageMessage != nil:
		first.ImageMessage.ContextInfo = context
	case first.VideoMessage != nil:
		first.VideoMessage.ContextInfo = context
	case first.AudioMessage != nil:
		first.AudioMessage.ContextInfo = context
	case first.DocumentMessage != nil:
		first.DocumentMessage.ContextInfo = context
	}
	return replaceFirst(messages, first)
}

// WithQuotedText makes the first of the messages an answer to q for phones that do not take the context form: a few lines of what q
// says, with its author, stand as a quote before the text or in the caption. There are as many messages as before. Audio and voice
// messages have no words, so they go without a quote; and so does a text that would become too long for one message with it.
func WithQuotedText(messages []*waE2E.Message, q Quote) []*waE2E.Message {
	quote := quoteLines(q.Author, q.Text)
	if len(messages) == 0 || quote == "" {
		return messages
	}
	first := clone(messages[0])
	var words **string
	switch {
	case first.Conversation != nil:
		words = &first.Conversation
	case first.ExtendedTextMessage != nil:
		// Text in the context form; in this form it is plain.
		first.Conversation = proto.String(first.ExtendedTextMessage.GetText())
		first.ExtendedTextMessage = nil
		words = &first.Conversation
	case first.ImageMessage != nil:
		first.ImageMessage.ContextInfo = nil
		words = &first.ImageMessage.Caption
	case first.VideoMessage != nil:
		first.VideoMessage.ContextInfo = nil
		words = &first.VideoMessage.Caption
	case first.DocumentMessage != nil:
		first.DocumentMessage.ContextInfo = nil
		words = &first.DocumentMessage.Caption
	case first.AudioMessage != nil:
		first.AudioMessage.ContextInfo = nil
		return replaceFirst(messages, first)
	default:
		return messages
	}
	var answer string
	if *words != nil {
		answer = **words
	}
	if answer != "" {
		if strings.HasPrefix(answer, "> ") {
			quote += "\n" // or it would look like more of the quote
		}
		quote += "\n"
	}
	if units(quote)+units(answer) <= DefaultMaxTextUnits {
		*words = proto.String(quote + answer)
	}
	return replaceFirst(messages, first)
}

func clone(msg *waE2E.Message) *waE2E.Message {
	copied, _ := proto.Clone(msg).(*waE2E.Message)
	return copied
}

func replaceFirst(messages []*waE2E.Message, first *waE2E.Message) []*waE2E.Message {
	return append([]*waE2E.Message{first}, messages[1:]...)
}

// quoteLines writes a quote in WhatsApp's marks, at most MaxQuoteUnits long with the line break after it; "" if there is nothing in it.
func quoteLines(author, text string) string {
	author = oneLine(author, maxQuoteAuthor)
	lines := quotable(text)
	if len(lines) == 0 {
		if author == "" {
			return ""
		}
		lines = []string{"…"}
	}
	if author != "" {
		lines[0] = author + ": " + lines[0]
	}
	return "> " + strings.Join(lines, "\n> ")
}

// quotable gives the first lines of a text with words of its own: what it quotes itself is left out, and so are fences, which could
// pair with others in the answer.
func quotable(text string) []string {
	const most = 16 * maxQuotedText // bytes that are looked at
	whole := len(text) <= most
	if !whole {
		text = text[:most]
	}
	text = strings.ReplaceAll(clean(text), "```", "")
	var lines []string
	room := maxQuotedText
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "> "):
			continue
		case len(lines) == maxQuoteLines:
			lines[maxQuoteLines-1] += " …"
			return lines
		case units(line) > room:
			return append(lines, strings.TrimSpace(line[:cut(line, max(room, 16), runeUnits)])+" …")
		}
		lines = append(lines, line)
		room -= units(line)
	}
	if n := len(lines); n > 0 && !whole {
		lines[n-1] += " …"
	}
	return lines
}

// shorten cuts a text at a word.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	if n := cut(text, limit, runeUnits); n < len(text) {
		return strings.TrimSpace(text[:n]) + " …"
	}
	return text
}

// Summary says what a Matrix message is about, for Quote.Text: the beginning of its text in WhatsApp's marks, or for a file a sign and
// its caption, name or kind ("📷 Photo"). It is "" for content that says nothing. The content is not changed.
func Summary(content *event.MessageEventContent, sticker bool) string {
	if content == nil {
		return ""
	}
	if content.NewContent != nil {
		content = content.NewContent
	}
	if a, ok := ReadAttachment(content, sticker); ok {
		name := ""
		if a.Role == RoleDocument {
			name = a.Name
		}
		return shorten(sign(a.Role, name, a.Caption), maxQuotedCopy)
	}
	messages, err := ToInterop(content, Limits{MaxTextUnits: maxQuotedCopy})
	if err != nil {
		return ""
	}
	text := messages[0].GetConversation()
	if len(messages) > 1 {
		text = strings.TrimSpace(text) + " …"
	}
	return text
}

// sign says in a few words what a file is: its caption, name or kind behind a sign.
func sign(role Role, name, caption string) string { return signIn(Options{}, role, name, caption) }

func signIn(options Options, role Role, name, caption string) string {
	known := options.say(role.known().sign)
	mark, _, _ := strings.Cut(known, " ")
	for _, words := range []string{caption, name} {
		if strings.TrimSpace(words) != "" {
			return mark + " " + words
		}
	}
	return known
}
