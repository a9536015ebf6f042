package mediastore

import (
	"strings"
	"testing"
)

// FuzzRange holds what is made of any Range header to the blob: never beyond it, never more of it than it has, never many pieces.
//
// decoder: ranges.go:parseRange,parseSpan,parsePosition
func FuzzRange(f *testing.F) {
	for _, header := range []string{
		"bytes=0-0", "bytes=-1", "bytes=5-", "bytes=0-1,4-5", "bytes=9223372036854775807-9223372036854775807", "bytes=-9223372036854775808",
		"bytes=" + strings.Repeat("0-0,", 100), "bytes=" + strings.Repeat(",", 100), "BYTES = 1-2", "lines=1-2", "bytes=1-0", "=", "",
	} {
		for _, size := range []int64{1, 10, 1 << 40, 1<<63 - 1} {
			f.Add(header, size)
		}
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 1 {
			return
		}
		spans, ok := parseRange(header, size)
		if !ok && spans != nil || len(spans) > maxRanges {
			t.Fatalf("%d spans, %v", len(spans), ok)
		}
		left := size
		for _, s := range spans {
			if s.start < 0 || s.length < 1 || s.length > size || s.start > size-s.length {
				t.Fatalf("span %+v of %d bytes", s, size)
			}
			if left -= s.length; left < 0 {
				t.Fatalf("spans have more than the %d bytes", size)
			}
		}
		if len(header) > 64<<10 {
			return
		}
		// At most the spans themselves are allocated, growing to maxRanges of 16 bytes.
		if n := testing.AllocsPerRun(1, func() { parseRange(header, size) }); n > 6 {
			t.Fatalf("%v allocations for a header of %d bytes", n, len(header))
		}
	})
}

// FuzzName holds reading of names to writing them.
//
// decoder: mediastore.go:parseName
func FuzzName(f *testing.F) {
	f.Add(NameOf("a").String())
	f.Add(strings.ToUpper(NameOf("a").String()))
	f.Add("../" + NameOf("a").String()[3:])
	f.Fuzz(func(t *testing.T, text string) {
		name, ok := parseName(text)
		if ok && (name.String() != text || strings.ContainsAny(text, "./\\%\x00")) {
			t.Fatalf("%q is a name", text)
		}
	})
}
