package mediastore

import (
	"fmt"
	"math"
	"strings"
)

const (
	// maxRanges is the most ranges of one request. Who wants more wants work from us, not the file.
	maxRanges = 16
	// maxElements counts empty elements of the list too.
	maxElements = 4 * maxRanges
)

// span is a part of a blob, in bytes.
type span struct{ start, length int64 }

// contentRange is the span as a Content-Range header has it.
func (s span) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.start, s.start+s.length-1, size)
}

// parseRange reads a Range header for a blob of that size (RFC 9110 14.1, 14.2). Without spans, ok says whether the whole blob is to be
// sent; not ok means that there is nothing to send for the header: it is malformed, asks for nothing that is there, or for too
// many pieces. The result is satisfiable as it stands.
func parseRange(header string, size int64) (spans []span, ok bool) {
	unit, list, found := strings.Cut(header, "=")
	if !found {
		return nil, false
	}
	if !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return nil, true // another unit is to be ignored
	}
	left, over := size, false // what the spans leave of the blob's length
	for elements := 0; list != ""; elements++ {
		if elements == maxElements {
			return nil, false
		}
		var element string
		element, list, _ = strings.Cut(list, ",")
		if element = strings.Trim(element, " \t"); element == "" {
			continue
		}
		s, valid := parseSpan(element, size)
		if !valid || len(spans) == maxRanges {
			return nil, false
		}
		if s.length > 0 {
			spans = append(spans, s)
			over = over || s.length > left
			left -= min(left, s.length)
		}
	}
	if over {
		return nil, true // overlapping pieces: all of it once is less
	}
	return spans, len(spans) > 0
}

// parseSpan reads one range; one with no bytes of the blob has length 0.
func parseSpan(text string, size int64) (span, bool) {
	first, last, found := strings.Cut(text, "-")
	if !found {
		return span{}, false
	}
	if first == "" {
		n, ok := parsePosition(last)
		n = min(n, size)
		return span{size - n, n}, ok
	}
	start, ok := parsePosition(first)
	if !ok {
		return span{}, false
	}
	end := int64(math.MaxInt64)
	if last != "" {
		if end, ok = parsePosition(last); !ok || end < start {
			return span{}, false
		}
	}
	if start >= size {
		return span{}, true
	}
	return span{start, min(end, size-1) - start + 1}, true
}

// parsePosition reads digits; a number that is too large is the largest there is.
func parsePosition(text string) (int64, bool) {
	if text == "" {
		return 0, false
	}
	var n int64
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}
