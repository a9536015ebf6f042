package binxml_test

import (
	"testing"

	"go.mau.fi/whatsmeow/binary/token"

	"postern/connector/binxml"
)

var singleTokens = token.SingleByteTokens

// FuzzDecode checks that no frame makes Decode panic, that what it accepts can be written and comes back, and that it
// never allocates more than its bound: 8 times the frame and 512 KiB, or for a compressed frame what the cap of
// inflation allows.
//
// decoder: decode.go scan.go build.go inflate.go codec.go:Limits.orDefault
func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.frame, byte(v.dialect))
	}
	frame := frameOf(f, textMessage())
	f.Add(frame, byte(0))
	f.Add(deflate(f, frame[1:]), byte(0))
	f.Add([]byte("\x00\xf8\x02\x19\xf9\x10\x00\xf8\x02\x19\xf9\x10\x00"), byte(0))
	f.Fuzz(func(t *testing.T, frame []byte, dialect byte) {
		codec := binxml.Codec{Read: binxml.Dialect(dialect % 3), Write: binxml.Dialect(dialect % 3)}
		var err error
		bound := allowed(len(frame))
		if len(frame) > 0 && frame[0]&2 != 0 {
			// The inflated copy, grown by doubling, and the element from it; 128 KiB for the first inflater.
			bound = 2*min(uint64(max(64<<10, 100*len(frame))), 1<<20) + allowed(1<<20) + 128<<10
		}
		if spent := allocated(func() { _, err = codec.Decode(frame) }); spent > bound {
			t.Errorf("%d bytes allocated for a frame of %d: %v", spent, len(frame), err)
		}
		checkOne(t, codec, frame)
	})
}
