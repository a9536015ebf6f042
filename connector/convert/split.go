package convert

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// units counts the UTF-16 code units of s.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += runeUnits(r, 0)
	}
	return n
}

func runeUnits(r rune, _ int) int {
	if r > 0xFFFF {
		return 2
	}
	return 1
}

// jsonBytes counts the bytes of s inside a JSON string, in the longest form
// that common encoders write.
func jsonBytes(s string) int {
	n := 0
	for i, r := range s {
		size := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, size = utf8.DecodeRuneInString(s[i:])
		}
		n += runeJSON(r, size)
	}
	return n
}

func runeJSON(r rune, size int) int {
	switch {
	case r == '"' || r == '\\' || r == '\n' || r == '\r' || r == '\t' || r == '\b' || r == '\f':
		return 2
	case r < ' ' || r == '<' || r == '>' || r == '&' || r == '\u2028' || r == '\u2029':
		return 6
	case r == utf8.RuneError && size == 1:
		return 6
	}
	return size
}

// cut returns the offset at which the first part of s ends, which costs at
// most limit: all of s if it fits, else behind the last line break if that
// lies in the second half, else behind the last space, else between two
// characters as people see them, else between two code points. The part is
// never empty unless s is.
func cut(s string, limit int, cost func(r rune, size int) int) int {
	var (
		total             int
		lineEnd, wordEnd  int
		charEnd, lastRune int
		prev              rune
		flags             int
	)
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		if i > 0 {
			lastRune = i
			switch {
			case prev == '\n':
				lineEnd, wordEnd = i, i
			case unicode.IsSpace(prev):
				wordEnd = i
			}
			if !joins(prev, r, flags) {
				charEnd = i
			}
		}
		total += cost(r, size)
		if total > limit && i > 0 {
			switch {
			case lineEnd > i/2:
				return lineEnd
			case wordEnd > 0:
				return wordEnd
			case charEnd > 0:
				return charEnd
			}
			return lastRune
		}
		if isFlag(r) {
			flags++
		} else {
			flags = 0
		}
		prev = r
	}
	return len(s)
}

// joins says whether two code points belong to one character as people see
// it. It is the part of Unicode's rules for clusters that matters for text
// without spaces: accents, joined emoji, skin tones, flags, Hangul. flags is
// the number of regional indicators directly before r.
func joins(prev, r rune, flags int) bool {
	const joiner = '\u200d'
	switch {
	case prev == '\r' && r == '\n', prev == joiner, r == joiner, r == '\u200c':
		return true
	case unicode.Is(unicode.M, r):
		return true
	case r >= 0x1F3FB && r <= 0x1F3FF, r >= 0xE0020 && r <= 0xE007F:
		return true
	case isFlag(prev) && isFlag(r):
		return flags%2 == 1
	case r >= 0x1160 && r <= 0x11FF:
		return unicode.Is(unicode.Hangul, prev)
	}
	return false
}

func isFlag(r rune) bool { return r >= 0x1F1E6 && r <= 0x1F1FF }

// splitText cuts text into parts of at most limit UTF-16 units. Together the
// parts are the text, every byte of it.
func splitText(text string, limit int) []string {
	if len(text) <= limit {
		return []string{text}
	}
	var parts []string
	for text != "" {
		n := cut(text, limit, runeUnits)
		parts = append(parts, text[:n])
		text = text[n:]
	}
	return parts
}

// clean makes text safe to put into JSON, protobuf and a database: bytes that
// are no UTF-8 become the replacement character, and so does U+0000, which
// homeservers do not store.
func clean(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if strings.IndexByte(text, 0) >= 0 {
		text = strings.ReplaceAll(text, "\x00", "\uFFFD")
	}
	return text
}
