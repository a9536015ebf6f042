package convert

import (
	"sort"
	"strconv"
	"strings"
)

// htmlEscaper escapes what could be markup in text. No attribute ever holds
// text from a message, so quotes may stand as they are.
var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func formatTag(f format) string {
	switch f {
	case bold:
		return "strong"
	case italic:
		return "em"
	case strike:
		return "del"
	}
	return "code"
}

// htmlWriter renders the stretch [from,to) of a document.
type htmlWriter struct {
	*document
	out       strings.Builder
	from, to  int
	open      blockKind // the container that is open; plainLine: none
	nextItem  int32     // the number that would carry on the open list
	formatted bool      // something other than text and line breaks was written
	lines     bool      // the last thing written was text of a plain line
}

// html renders the words of the document that lie in [from,to). formatted
// says whether that shows more than plain text would.
func (d *document) html(from, to int) (out string, formatted bool) {
	w := htmlWriter{document: d, from: from, to: to}
	first := sort.Search(len(d.blocks), func(i int) bool { return int(d.blocks[i].to) >= from })
	for i := first; i < len(d.blocks); i++ {
		b := &d.blocks[i]
		if int(b.to) == from && int(b.from) < from {
			continue // all of it has gone before
		}
		if int(b.from) >= to {
			break
		}
		w.block(b)
	}
	w.enter(plainLine, 0)
	return w.out.String(), w.formatted
}

func (w *htmlWriter) block(b *block) {
	from, to := max(int(b.from), w.from), min(int(b.to), w.to)
	if b.kind == fenceBlock {
		if from >= to {
			return
		}
		w.enter(plainLine, 0)
		w.out.WriteString("<pre><code>")
		_, _ = htmlEscaper.WriteString(&w.out, w.text[from:to])
		w.out.WriteString("</code></pre>")
		w.formatted, w.lines = true, false
		return
	}
	if b.kind != plainLine && from >= to {
		return
	}
	w.enter(b.kind, b.number)
	switch b.kind {
	case plainLine:
		if w.lines && !b.joined {
			w.out.WriteString("<br>")
		}
		w.inline(w.spans[b.spanFrom:b.spanEnd], from, max(from, to))
		w.lines = true
	case quoteLine:
		w.inline(w.spans[b.spanFrom:b.spanEnd], from, to)
	default:
		w.out.WriteString("<li>")
		w.inline(w.spans[b.spanFrom:b.spanEnd], from, to)
		w.out.WriteString("</li>")
	}
}

// enter closes the container that is open and opens another, or carries on.
func (w *htmlWriter) enter(kind blockKind, number int32) {
	if kind != plainLine {
		w.formatted, w.lines = true, false
	}
	if kind == w.open && (kind != numberLine || number == w.nextItem) {
		if kind == quoteLine {
			w.out.WriteString("<br>")
		}
		w.nextItem = number + 1
		return
	}
	switch w.open {
	case quoteLine:
		w.out.WriteString("</blockquote>")
	case bulletLine:
		w.out.WriteString("</ul>")
	case numberLine:
		w.out.WriteString("</ol>")
	}
	switch kind {
	case quoteLine:
		w.out.WriteString("<blockquote>")
	case bulletLine:
		w.out.WriteString("<ul>")
	case numberLine:
		w.out.WriteString("<ol")
		if number != 1 {
			w.out.WriteString(` start="` + strconv.Itoa(int(number)) + `"`)
		}
		w.out.WriteString(">")
	}
	w.open, w.nextItem = kind, number+1
}

// inline writes the words [from,to) of one line with the spans of that line,
// which nest at most four deep.
func (w *htmlWriter) inline(spans []span, from, to int) {
	pos := from
	for len(spans) > 0 {
		s := spans[0]
		inner := 1
		for inner < len(spans) && spans[inner].open < s.end {
			inner++
		}
		a, b := max(s.from, from), min(s.to, to)
		if a < b {
			w.escape(pos, min(s.open, to))
			tag := formatTag(s.format)
			w.out.WriteString("<" + tag + ">")
			w.inline(spans[1:inner], a, b)
			w.out.WriteString("</" + tag + ">")
			w.formatted = true
		} else {
			w.escape(pos, min(s.open, to))
		}
		pos = max(pos, s.end)
		spans = spans[inner:]
	}
	w.escape(pos, to)
}

func (w *htmlWriter) escape(from, to int) {
	if from < to {
		_, _ = htmlEscaper.WriteString(&w.out, w.text[from:to])
	}
}
