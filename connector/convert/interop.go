package convert

import (
	"strings"

	"maunium.net/go/mautrix/event"
)

// interopText turns the text of a message into parts of at most limit UTF-16
// units.
func interopText(content *event.MessageEventContent, limit int) []string {
	var base format
	if content.MsgType == event.MsgEmote {
		// There is no "/me" on the other side; italics stand for it.
		base = italic
	}
	body := clean(content.Body)
	hasHTML := content.Format == event.FormatHTML && content.FormattedBody != ""
	if content.RelatesTo.GetReplyTo() != "" && (!hasHTML || strings.Contains(content.FormattedBody, "<mx-reply>")) {
		body = withoutReplyFallback(body)
	}
	if hasHTML && len(content.FormattedBody) <= MaxHTMLBytes {
		if lines := readHTML(content.FormattedBody, base); visible(lines) {
			return joinLines(lines, limit)
		}
	}
	if base != 0 && len(body) <= MaxMarkedBytes {
		var lines []line
		for words := range strings.SplitSeq(body, "\n") {
			lines = append(lines, line{runs: []run{{words, base}}})
		}
		return joinLines(lines, limit)
	}
	return splitText(body, limit)
}

// withoutReplyFallback removes the quote that older clients put before the
// words of a reply. It is recognised by its first line, which names the author
// of the message that is answered.
func withoutReplyFallback(body string) string {
	if !strings.HasPrefix(body, "> <@") && !strings.HasPrefix(body, "> * <@") {
		return body
	}
	rest := body
	for strings.HasPrefix(rest, "> ") || strings.HasPrefix(rest, ">\n") {
		_, after, more := strings.Cut(rest, "\n")
		if !more {
			return body // nothing but a quote: the words are in it
		}
		rest = after
	}
	return strings.TrimPrefix(rest, "\n")
}

func visible(lines []line) bool {
	for i := range lines {
		for _, r := range lines[i].runs {
			if strings.TrimSpace(r.text) != "" {
				return true
			}
		}
	}
	return false
}

// packer writes lines into parts.
type packer struct {
	limit     int
	longMarks bool // fences may be written
	parts     []string
	part      []byte
	used      int  // units in part
	started   bool // part has a line
	fenced    bool // a fence is open in part
}

// joinLines writes lines with their marks into parts of at most limit UTF-16
// units, cut between lines where that is possible and between words otherwise.
func joinLines(lines []line, limit int) []string {
	p := &packer{limit: limit, longMarks: true}
	for i := range lines {
		if !lines[i].fenced && strings.Contains(lines[i].words(), fence) {
			// Fences that the writer typed would pair with ours.
			p.longMarks = false
		}
	}
	for i := 0; i < len(lines); {
		n := 1
		if lines[i].fenced {
			for i+n < len(lines) && lines[i+n].fenced && !lines[i+n].first {
				n++
			}
			p.preformatted(lines[i : i+n])
		} else {
			p.line(&lines[i])
		}
		i += n
	}
	p.flush()
	return p.parts
}

// preformatted adds the lines of one fence.
func (p *packer) preformatted(lines []line) {
	fences := p.longMarks
	for i := range lines {
		fences = fences && !strings.Contains(lines[i].words(), "`")
	}
	for i := range lines {
		words := lines[i].words()
		room := p.limit - 2*len(fence)
		for units(words) > room {
			n := cut(words, room, runeUnits)
			p.fencedLine(words[:n], fences)
			p.flush()
			words = words[n:]
		}
		p.fencedLine(words, fences)
	}
	p.endFence()
}

func (p *packer) fencedLine(words string, fences bool) {
	if !fences {
		p.plain(words)
		return
	}
	need := units(words) + 1 + 2*len(fence)
	if p.fenced {
		need -= len(fence)
	}
	if p.started && p.used+need > p.limit {
		p.flush()
	}
	if p.fenced {
		p.add("\n" + words)
		return
	}
	p.add(p.lineBreak() + fence + words)
	p.fenced, p.started = true, true
}

// line adds one line, cut into several parts if it must be.
func (p *packer) line(l *line) {
	rest := *l
	for {
		// Marks only make a line longer, so a line whose words are too long is
		// cut before its marks are looked for.
		if units(rest.prefix)+units(rest.words()) <= p.limit {
			if text := string(rest.write(nil, p.longMarks)); units(text) <= p.limit {
				p.plain(text)
				return
			}
		}
		head, tail := rest.split(p.limit, p.longMarks)
		p.plain(string(head.write(nil, p.longMarks)))
		if len(tail.runs) == 0 {
			return
		}
		p.flush()
		rest = tail
	}
}

// plain adds finished text as a line.
func (p *packer) plain(text string) {
	if p.started && p.used+1+units(text) > p.limit {
		p.flush()
	}
	p.add(p.lineBreak() + text)
	p.started = true
}

func (p *packer) lineBreak() string {
	if p.started {
		return "\n"
	}
	return ""
}

func (p *packer) add(text string) {
	p.part = append(p.part, text...)
	p.used += units(text)
}

func (p *packer) endFence() {
	if p.fenced {
		p.add(fence)
		p.fenced = false
	}
}

// flush ends the part.
func (p *packer) flush() {
	p.endFence()
	if p.started {
		p.parts = append(p.parts, string(p.part))
	}
	p.part, p.used, p.started = p.part[:0], 0, false
}

// split cuts a line in two at a word, so that the first half, with its marks,
// has at most limit units. The second half keeps the prefix of a quote.
func (l *line) split(limit int, longMarks bool) (head, tail line) {
	words := l.words()
	room := limit - units(l.prefix)
	for {
		n := cut(words, room, runeUnits)
		head, tail = l.cutAt(n)
		size := units(string(head.write(nil, longMarks)))
		if size <= limit {
			return head, tail
		}
		// The marks did not fit; a shorter stretch has fewer of them.
		room = min(room*limit/size, room-1)
		if room < limit/4 {
			// Marks at every letter: the words go without them.
			head, tail = l.cutAt(cut(words, limit-units(l.prefix), runeUnits))
			head.runs = []run{{head.words(), 0}}
			return head, tail
		}
	}
}

// cutAt cuts a line at an offset into its words.
func (l *line) cutAt(n int) (head, tail line) {
	head.prefix = l.prefix
	tail.prefix = strings.Repeat("> ", strings.Count(l.prefix, "> "))
	for i, r := range l.runs {
		if n < len(r.text) {
			if n > 0 {
				head.runs = append(head.runs, run{r.text[:n], r.format})
			}
			tail.runs = append(tail.runs, run{r.text[n:], r.format})
			tail.runs = append(tail.runs, l.runs[i+1:]...)
			break
		}
		head.runs = append(head.runs, r)
		n -= len(r.text)
	}
	return head, tail
}
