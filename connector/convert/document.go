package convert

import (
	"math"
	"strconv"
	"strings"
)

// blockKind is what one line of a text, or one stretch of several, is.
type blockKind uint8

const (
	plainLine blockKind = iota
	quoteLine
	bulletLine
	numberLine
	fenceBlock
)

// block is one line of a document or one fenced stretch, as byte offsets into
// the text: its words are [from,to), without prefix, fences and line break.
// Offsets are 32 bits wide because a document has a block for every line.
type block struct {
	kind              blockKind
	joined            bool // stands on the same line as the block before
	from, to          int32
	number            int32
	spanFrom, spanEnd int32
}

// document is a WhatsApp text taken apart; offsets refer to text.
type document struct {
	text      string
	blocks    []block
	spans     []span
	formatted bool // there is something that plain text does not show
}

// parseDocument finds the marks in a text. It never fails: what is not a mark
// is text. text must be at most MaxMarkedBytes long.
func parseDocument(text string) *document {
	d := &document{text: text}
	if !mayBeMarked(text) {
		return d
	}
	hopeless := false // no fence further on is closed
	for pos := 0; pos <= len(text); {
		end := strings.IndexByte(text[pos:], '\n')
		if end < 0 {
			end = len(text)
		} else {
			end += pos
		}
		kind, number, from := linePrefix(text[pos:end])
		from += pos
		if kind != plainLine {
			d.add(block{kind: kind, number: number, from: int32(from), to: int32(end)})
			pos = end + 1
			continue
		}
		pos = d.plainLine(pos, end, &hopeless)
	}
	return d
}

// mayBeMarked is a quick look: texts without any of these bytes have no marks.
func mayBeMarked(text string) bool {
	return strings.ContainsAny(text, "*_~`") || strings.Contains(text, "> ") ||
		strings.Contains(text, "- ") || strings.Contains(text, ". ")
}

// plainLine takes apart the line [pos,end) and the fences that begin on it,
// however far they reach. It returns the offset of the next line.
func (d *document) plainLine(pos, end int, hopeless *bool) int {
	joined := false
	for {
		first := len(d.spans)
		d.spans = lineSpans(d.spans, d.text[pos:end], pos)
		open, closing := d.findFence(pos, end, d.spans[first:], hopeless)
		if open < 0 {
			d.addParsed(block{joined: joined, from: int32(pos), to: int32(end), spanFrom: int32(first)})
			return end + 1
		}
		// Only what stands before the fence is a line of its own.
		d.spans = d.spans[:first]
		if open > pos {
			d.add(block{joined: joined, from: int32(pos), to: int32(open)})
			joined = true
		}
		from, to := open+len(fence), closing
		if d.text[from] == '\n' {
			from++
		}
		if to > from && d.text[to-1] == '\n' {
			to--
		}
		d.addParsed(block{kind: fenceBlock, joined: joined, from: int32(from), to: int32(to), spanFrom: int32(len(d.spans))})
		d.formatted = true
		pos, joined = closing+len(fence), true
		if pos == len(d.text) {
			return pos + 1
		}
		if d.text[pos] == '\n' {
			return pos + 1
		}
		end = len(d.text)
		if i := strings.IndexByte(d.text[pos:], '\n'); i >= 0 {
			end = pos + i
		}
	}
}

// findFence finds a fence that opens on the line [pos,end), outside the spans
// of that line, and closes on a later line.
func (d *document) findFence(pos, end int, spans []span, hopeless *bool) (open, closing int) {
	for i := pos; i < end && !*hopeless; {
		for len(spans) > 0 && (spans[0].format != code || spans[0].end <= i) {
			spans = spans[1:]
		}
		if len(spans) > 0 && spans[0].open <= i {
			i = spans[0].end
			continue
		}
		n := ticks(d.text, i)
		if n == 0 {
			skip := strings.IndexByte(d.text[i:end], '`')
			if skip < 0 {
				break
			}
			i += skip
			continue
		}
		if n == len(fence) && opensCode(d.text, i, n) {
			closing = closingTicks(d.text, i+n, n)
			if closing < 0 {
				*hopeless = true
				break
			}
			if strings.TrimSpace(d.text[i+n:closing]) != "" {
				return i, closing
			}
		}
		i += n
	}
	return -1, -1
}

// add appends a line and the spans in it.
func (d *document) add(b block) {
	b.spanFrom = int32(len(d.spans))
	d.spans = lineSpans(d.spans, d.text[b.from:b.to], int(b.from))
	d.addParsed(b)
}

func (d *document) addParsed(b block) {
	b.spanEnd = int32(len(d.spans))
	d.formatted = d.formatted || b.kind != plainLine || b.spanEnd > b.spanFrom
	d.blocks = append(d.blocks, b)
}

// linePrefix recognises a quote, a bullet and a number at the start of a line
// and returns where the words begin. A prefix with nothing behind it is text.
func linePrefix(line string) (kind blockKind, number int32, from int) {
	if len(line) < 3 {
		return plainLine, 0, 0
	}
	kind = plainLine
	switch {
	case line[1] != ' ':
	case line[0] == '>':
		kind, from = quoteLine, 2
	case line[0] == '-' || line[0] == '*':
		kind, from = bulletLine, 2
	}
	if digits := leadingDigits(line); digits > 0 && strings.HasPrefix(line[digits:], ". ") {
		n, err := strconv.ParseInt(line[:digits], 10, 32)
		// A leading zero would not survive being a number.
		if err == nil && n < math.MaxInt32 && (line[0] != '0' || digits == 1) {
			kind, number, from = numberLine, int32(n), digits+2
		}
	}
	if kind == plainLine || strings.TrimSpace(line[from:]) == "" {
		return plainLine, 0, 0
	}
	return kind, number, from
}

func leadingDigits(s string) int {
	n := 0
	for n < len(s) && n < 9 && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
