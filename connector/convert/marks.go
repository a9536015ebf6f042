package convert

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// format is one of WhatsApp's inline formats, or a set of them.
type format uint8

const (
	bold format = 1 << iota
	italic
	strike
	code

	inlineFormats = bold | italic | strike
)

// fence is the mark of preformatted text; a single backtick marks code in a line.
const fence = "```"

// span is one formatted stretch of a text, as byte offsets: the opening mark
// is [open,from), the words [from,to), the closing mark [to,end).
type span struct {
	format              format
	open, from, to, end int
}

func markFormat(c byte) format {
	switch c {
	case '*':
		return bold
	case '_':
		return italic
	case '~':
		return strike
	case '`':
		return code
	}
	return 0
}

// isWord says whether a mark beside r would stand inside a word.
func isWord(r rune) bool {
	switch {
	case r >= 0xFE00 && r <= 0xFE0F, r == 0x20E3:
		// Variation selectors and the keycap end an emoji, which is no word.
		return false
	case r < utf8.RuneSelf:
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	return unicode.In(r, unicode.L, unicode.N, unicode.M)
}

// opens says whether words could start at s[to:] with their mark at s[from:to].
func opens(s string, from, to int) bool {
	next, size := utf8.DecodeRuneInString(s[to:])
	if size == 0 || unicode.IsSpace(next) {
		return false
	}
	prev, size := utf8.DecodeLastRuneInString(s[:from])
	return size == 0 || !isWord(prev)
}

// closes says whether words could end at s[:from] with their mark at s[from:to].
func closes(s string, from, to int) bool {
	prev, size := utf8.DecodeLastRuneInString(s[:from])
	if size == 0 || unicode.IsSpace(prev) {
		return false
	}
	next, size := utf8.DecodeRuneInString(s[to:])
	return size == 0 || !isWord(next)
}

// doubled says whether s[i] has its like beside it, which makes it no mark.
func doubled(s string, i int) bool {
	return i > 0 && s[i-1] == s[i] || i+1 < len(s) && s[i+1] == s[i]
}

// lineSpans appends the spans of one line, which lies at offset base of its
// text, ordered by where they open. Spans nest and never cross.
func lineSpans(spans []span, line string, base int) []span {
	if !strings.ContainsAny(line, "*_~`") {
		return spans
	}
	first := len(spans)
	spans = codeSpans(spans, line)
	codes := spans[first:len(spans):len(spans)]

	var stack [3]int // offsets of the marks that are open, one per format at most
	depth := 0
	for i := 0; i < len(line); {
		if len(codes) > 0 && i == codes[0].open {
			i, codes = codes[0].end, codes[1:]
			continue
		}
		if end := addressEnd(line, i); end > i {
			i = end
			continue
		}
		c := line[i]
		if markFormat(c)&inlineFormats == 0 || doubled(line, i) {
			i++
			continue
		}
		opened := -1
		for j := depth - 1; j >= 0; j-- {
			if line[stack[j]] == c {
				opened = j
			}
		}
		switch {
		case opened >= 0 && closes(line, i, i+1):
			open := stack[opened]
			spans = append(spans, span{markFormat(c), open, open + 1, i, i + 1})
			depth = opened
		case opened < 0 && opens(line, i, i+1):
			stack[depth] = i
			depth++
		}
		i++
	}
	found := spans[first:]
	slices.SortFunc(found, func(a, b span) int { return a.open - b.open })
	for i := range found {
		s := &found[i]
		s.open, s.from, s.to, s.end = s.open+base, s.from+base, s.to+base, s.end+base
	}
	return spans
}

// codeSpans appends the code in a line: between two single backticks, or two
// threes of them, which may have spaces inside. A run of any other length is
// text.
func codeSpans(spans []span, line string) []span {
	var hopeless [4]bool // by length of the run: none further on closes
	for i := 0; i < len(line); {
		n := ticks(line, i)
		if n == 0 {
			skip := strings.IndexByte(line[i:], '`')
			if skip < 0 {
				return spans
			}
			i += skip
			continue
		}
		if !opensCode(line, i, n) || hopeless[n] {
			i += n
			continue
		}
		closing := closingTicks(line, i+n, n)
		if closing < 0 {
			hopeless[n] = true
			i += n
			continue
		}
		if strings.TrimSpace(line[i+n:closing]) == "" {
			i += n
			continue
		}
		spans = append(spans, span{code, i, i + n, closing, closing + n})
		i = closing + n
	}
	return spans
}

// opensCode says whether the run of n backticks at offset i can open.
func opensCode(s string, i, n int) bool {
	switch n {
	case 1:
		return opens(s, i, i+1)
	case len(fence):
		prev, size := utf8.DecodeLastRuneInString(s[:i])
		return size == 0 || !isWord(prev)
	}
	return false
}

// closesCode says whether the run of n backticks at offset i can close.
func closesCode(s string, i, n int) bool {
	if n == 1 {
		return closes(s, i, i+1)
	}
	next, size := utf8.DecodeRuneInString(s[i+n:])
	return size == 0 || !isWord(next)
}

// closingTicks finds the first run of n backticks from offset i on that closes.
func closingTicks(s string, i, n int) int {
	for i < len(s) {
		skip := strings.IndexByte(s[i:], '`')
		if skip < 0 {
			return -1
		}
		i += skip
		run := ticks(s, i)
		if run == n && closesCode(s, i, n) {
			return i
		}
		i += run
	}
	return -1
}

// ticks counts the backticks at offset i.
func ticks(s string, i int) int {
	n := 0
	for i+n < len(s) && s[i+n] == '`' {
		n++
	}
	return n
}

var addressPrefixes = []string{"https://", "http://", "ftp://", "www."}

// addressEnd returns where the web address that begins at offset i ends, or i
// if none begins there. Punctuation at its end belongs to the sentence.
func addressEnd(line string, i int) int {
	switch line[i] | 0x20 {
	case 'h', 'f', 'w':
	default:
		return i
	}
	rest, length := line[i:], 0
	for _, prefix := range addressPrefixes {
		if len(rest) > len(prefix) && strings.EqualFold(rest[:len(prefix)], prefix) {
			length = len(prefix)
			break
		}
	}
	if length == 0 {
		return i
	}
	if prev, size := utf8.DecodeLastRuneInString(line[:i]); size > 0 && isWord(prev) {
		return i
	}
	end := strings.IndexFunc(rest, func(r rune) bool {
		return unicode.IsSpace(r) || r == '<' || r == '>' || r == '"' || r == '`'
	})
	if end < 0 {
		end = len(rest)
	}
	end = len(strings.TrimRight(rest[:end], ".,;:!?'*_~)]}"))
	if end <= length {
		return i
	}
	return i + end
}
