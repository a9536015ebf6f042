package convert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"maunium.net/go/mautrix/event"
)

const (
	maxCards     = 50       // contact cards that are shown
	maxCardBytes = 64 << 10 // of one card that are looked at
	maxCardLines = 10       // numbers and addresses of one card that are shown
	maxCardWords = 200      // units of a name, a number or an address

	cardType = "text/vcard"
)

// contacts shows contact cards as text, with the cards themselves as one file.
func (r *reader) contacts(cards []*waE2E.ContactMessage) Incoming {
	var text, file strings.Builder
	shown, names := 0, []string{}
	for _, card := range cards[:min(len(cards), maxCards)] {
		c := readCard(card.GetVcard())
		if name := oneLine(card.GetDisplayName(), maxCardWords); name != "" {
			c.name = name
		}
		if c.name == "" && len(c.lines) == 0 {
			continue
		}
		shown++
		names = append(names, c.name)
		if shown > 1 {
			text.WriteString("\n\n")
		}
		text.WriteString(lineOf("👤 "+c.name, strings.Join(c.lines, "\n")))
		if vcard := card.GetVcard(); c.whole && file.Len()+len(vcard)+2 <= MaxInline {
			file.WriteString(strings.TrimRight(vcard, "\r\n"))
			file.WriteString("\r\n")
		}
	}
	if shown == 0 {
		return r.named()
	}
	if more := len(cards) - maxCards; more > 0 {
		fmt.Fprintf(&text, "\n\n… and %d more.", more)
	}
	parts := texts(text.String(), r.options)
	if file.Len() > 0 {
		parts = append(parts, cardFile(names, file.String()))
	}
	return Incoming{Parts: parts}
}

func cardFile(names []string, data string) *Part {
	name := "contacts.vcf"
	if len(names) == 1 {
		if own := fileName(names[0]); own != "" {
			name = own + ".vcf"
		}
	}
	return &Part{
		Type: event.EventMessage,
		Content: &event.MessageEventContent{
			MsgType: event.MsgFile, Body: name, FileName: name, Mentions: &event.Mentions{},
			Info: &event.FileInfo{MimeType: cardType, Size: len(data)},
		},
		Inline: &Inline{Name: name, Mimetype: cardType, Data: []byte(data)},
	}
}

// card is what people look for in a vCard.
type card struct {
	name  string
	lines []string // numbers and addresses
	whole bool     // it looks like a vCard from begin to end
}

// readCard reads a vCard (RFC 6350 and what came before it) as far as people look at it.
func readCard(vcard string) card {
	var c card
	if len(vcard) > maxCardBytes {
		return c
	}
	vcard = strings.TrimSpace(clean(vcard))
	upper := func(s string) string { return strings.ToUpper(s) }
	c.whole = len(vcard) > 20 && upper(vcard[:11]) == "BEGIN:VCARD" && strings.HasSuffix(upper(vcard), "END:VCARD")
	for _, folded := range []string{"\r\n ", "\r\n\t", "\n ", "\n\t"} {
		vcard = strings.ReplaceAll(vcard, folded, "")
	}
	for line := range strings.SplitSeq(vcard, "\n") {
		property, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		property, _, _ = strings.Cut(property, ";")
		if i := strings.LastIndexByte(property, '.'); i >= 0 {
			property = property[i+1:] // without its group
		}
		value = oneLine(cardEscapes.Replace(value), maxCardWords)
		switch property = upper(property); {
		case value == "":
		case property == "FN":
			c.name = value
		case property == "TEL", property == "EMAIL", property == "ORG", property == "URL":
			if property == "ORG" {
				value = strings.Trim(strings.ReplaceAll(value, ";", ", "), ", ")
			}
			value = strings.TrimPrefix(strings.TrimPrefix(value, "tel:"), "mailto:")
			if len(c.lines) < maxCardLines && value != "" && !slices.Contains(c.lines, value) {
				c.lines = append(c.lines, value)
			}
		}
	}
	return c
}

var cardEscapes = strings.NewReplacer(`\n`, " ", `\N`, " ", `\,`, ",", `\;`, ";", `\\`, `\`)

// poll shows the question and the numbered options of a poll.
func (r *reader) poll(p *waE2E.PollCreationMessage) Incoming {
	question := oneLine(p.GetName(), maxPollQuestion)
	if question == "" {
		return r.named()
	}
	lines := []line{{prefix: "📊 ", runs: []run{{question, bold}}}}
	for i, option := range p.GetOptions() {
		if i == maxPollOptions {
			lines = append(lines, line{runs: []run{{"…", 0}}})
			break
		}
		if words := oneLine(option.GetOptionName(), maxPollQuestion); words != "" {
			lines = append(lines, line{prefix: strconv.Itoa(len(lines)) + ". ", runs: []run{{words, 0}}})
		}
	}
	lines = append(lines, line{runs: []run{{r.options.say(pollHint), italic}}})
	return Incoming{Parts: texts(strings.Join(joinLines(lines, DefaultMaxTextUnits), "\n"), r.options)}
}
