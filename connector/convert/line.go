package convert

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// run is a stretch of words with one set of formats.
type run struct {
	text   string
	format format
}

// line is one line on its way to WhatsApp: a prefix (quote marks, bullet,
// indent) and its words. The lines of one fence stand next to each other.
type line struct {
	prefix string
	runs   []run
	fenced bool
	first  bool // the first line of a fence
}

// stretch is a range of bytes in the plain words of a line.
type stretch struct{ from, to int }

// write appends the line with its marks to dst. longMarks says whether code
// that holds a backtick may be put between threes of them.
func (l *line) write(dst []byte, longMarks bool) []byte {
	dst = append(dst, l.prefix...)
	if l.fenced {
		for _, r := range l.runs {
			dst = append(dst, r.text...)
		}
		return dst
	}
	var all format
	for _, r := range l.runs {
		all |= r.format
	}
	words := l.words()
	for all != 0 {
		spans := markSpans(l.runs, words, all, longMarks)
		text, placed := placeMarks(words, spans)
		// The reader of marks has the last word: a format that it would not
		// see as it was meant, because of marks that stand in the words, is
		// left out on this line.
		lost := lostFormats(text, placed)
		if lost == 0 {
			return append(dst, text...)
		}
		all &^= lost
	}
	return append(dst, words...)
}

// words returns the line without prefix and marks.
func (l *line) words() string {
	if len(l.runs) == 1 {
		return l.runs[0].text
	}
	var b strings.Builder
	for _, r := range l.runs {
		b.WriteString(r.text)
	}
	return b.String()
}

// markSpans decides which stretches get marks. The result is in the order in
// which the spans open, outer ones first; from and to are offsets into words,
// open and end are not set.
func markSpans(runs []run, words string, formats format, longMarks bool) []span {
	addresses := findAddresses(words)
	var spans []span
	var placed [][]stretch // those with marks, by format; each list in order
	for _, f := range []format{code, bold, italic, strike} {
		if formats&f == 0 {
			continue
		}
		pieces := formatStretches(runs, f)
		if f != code {
			pieces = subtract(pieces, addresses)
			for i, others := range placed {
				pieces = uncross(pieces, others, i == 0 && formats&code != 0)
			}
		}
		kept := pieces[:0]
		for _, p := range pieces {
			if p, ok := markable(words, p, f, longMarks); ok {
				kept = append(kept, p)
				spans = append(spans, span{format: f, from: p.from, to: p.to})
			}
		}
		placed = append(placed, kept)
	}
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.from != b.from:
			return a.from - b.from
		case a.to != b.to:
			return b.to - a.to
		}
		return int(a.format) - int(b.format) // code is the innermost
	})
	return spans
}

// formatStretches finds where a line has a format, each as long as possible.
func formatStretches(runs []run, f format) []stretch {
	var out []stretch
	pos := 0
	for _, r := range runs {
		end := pos + len(r.text)
		if r.format&f != 0 && end > pos {
			if n := len(out); n > 0 && out[n-1].to == pos {
				out[n-1].to = end
			} else {
				out = append(out, stretch{pos, end})
			}
		}
		pos = end
	}
	return out
}

// findAddresses finds the web addresses in a line; no mark may touch one,
// because a phone could take the mark for a part of it.
func findAddresses(words string) []stretch {
	var out []stretch
	for i := 0; i < len(words); {
		if end := addressEnd(words, i); end > i {
			out = append(out, stretch{i, end})
			i = end
			continue
		}
		i++
	}
	return out
}

// subtract removes holes, which are in order, from pieces, which are too.
func subtract(pieces, holes []stretch) []stretch {
	if len(holes) == 0 {
		return pieces
	}
	var out []stretch
	for _, p := range pieces {
		for len(holes) > 0 && holes[0].to <= p.from {
			holes = holes[1:]
		}
		rest := holes
		for len(rest) > 0 && rest[0].from < p.to {
			if rest[0].from > p.from {
				out = append(out, stretch{p.from, rest[0].from})
			}
			p.from = rest[0].to
			rest = rest[1:]
		}
		if p.from < p.to {
			out = append(out, p)
		}
	}
	return out
}

// uncross cuts pieces where they would cross one of the others; marks nest or
// stand apart. Inside code (others are code) no marks are read, so what lies
// within is dropped.
func uncross(pieces, others []stretch, insideCode bool) []stretch {
	var out []stretch
	for _, p := range pieces {
		for len(others) > 0 && others[0].to <= p.from {
			others = others[1:]
		}
		for _, o := range others {
			if o.from >= p.to {
				break
			}
			switch {
			case o.from <= p.from && p.to <= o.to: // p lies within o
				if insideCode && o != p {
					p.from = p.to
				}
			case o.from < p.from: // o reaches into the beginning of p
				if !insideCode {
					out = append(out, stretch{p.from, o.to})
				}
				p.from = o.to
			case o.to > p.to: // o begins in p and reaches out of it
				out = append(out, stretch{p.from, o.from})
				p.from = o.from
				if insideCode {
					p.from = p.to
				}
			}
		}
		if p.from < p.to {
			out = append(out, p)
		}
	}
	return out
}

// markable trims the spaces off a stretch and says whether marks around it
// would be read as such.
func markable(words string, p stretch, f format, longMarks bool) (stretch, bool) {
	inner := words[p.from:p.to]
	p.from += len(inner) - len(strings.TrimLeftFunc(inner, unicode.IsSpace))
	p.to -= len(inner) - len(strings.TrimRightFunc(inner, unicode.IsSpace))
	if p.from >= p.to {
		return p, false
	}
	if prev, size := utf8.DecodeLastRuneInString(words[:p.from]); size > 0 && isWord(prev) {
		return p, false
	}
	if next, size := utf8.DecodeRuneInString(words[p.to:]); size > 0 && isWord(next) {
		return p, false
	}
	if f == code {
		_, ok := codeMark(words[p.from:p.to], longMarks)
		return p, ok
	}
	return p, true
}

// codeMark chooses the mark for code in a line.
func codeMark(words string, longMarks bool) (string, bool) {
	switch {
	case !strings.Contains(words, "`"):
		return "`", true
	case !longMarks || strings.Contains(words, fence) || words[0] == '`' || words[len(words)-1] == '`':
		return "", false
	}
	return fence, true
}

func markOf(s span, words string) string {
	switch s.format {
	case bold:
		return "*"
	case italic:
		return "_"
	case strike:
		return "~"
	}
	mark, _ := codeMark(words[s.from:s.to], true)
	return mark
}

// placeMarks writes the words with their marks, and returns where each span
// has come to lie. spans nest and are in the order in which they open.
func placeMarks(words string, spans []span) (string, []span) {
	out := make([]byte, 0, len(words)+2*len(spans)+8)
	placed := make([]span, len(spans))
	var open [4]int // indexes of the spans that are open
	depth, pos := 0, 0
	closeTo := func(limit int) {
		for depth > 0 && spans[open[depth-1]].to <= limit {
			i := open[depth-1]
			out = append(out, words[pos:spans[i].to]...)
			pos = spans[i].to
			placed[i].to = len(out)
			out = append(out, markOf(spans[i], words)...)
			placed[i].end = len(out)
			depth--
		}
	}
	for i, s := range spans {
		closeTo(s.from)
		out = append(out, words[pos:s.from]...)
		pos = s.from
		placed[i].format, placed[i].open = s.format, len(out)
		out = append(out, markOf(s, words)...)
		placed[i].from = len(out)
		open[depth] = i
		depth++
	}
	closeTo(len(words))
	return string(append(out, words[pos:]...)), placed
}

// lostFormats returns the formats of those spans that the reader of marks
// would not find in text.
func lostFormats(text string, placed []span) format {
	if len(placed) == 0 {
		return 0
	}
	found := lineSpans(nil, text, 0)
	var lost format
	for _, s := range placed {
		for len(found) > 0 && found[0].open < s.open {
			found = found[1:]
		}
		if len(found) == 0 || found[0] != s {
			lost |= s.format
		}
	}
	return lost
}
