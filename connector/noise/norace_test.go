//go:build !race

package noise

import (
	"io"
	"testing"
)

// The race detector allocates, so this is not built with it; `./build.sh test` runs it in a turn of its own.
func TestWriteAllocatesNothingInTheSteadyState(t *testing.T) {
	c, err := newCipherState(make([]byte, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	out := newConn(nil, io.Discard, nil, c, 0)
	plaintext := make([]byte, 400)
	if err := out.WriteFrame(plaintext); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = out.WriteFrame(plaintext) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}
