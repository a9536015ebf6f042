package interop

import (
	"errors"
	"math/rand/v2"
)

// maxPad is the most padding we add; readers accept one byte more
// (PROTOCOL.md 6.3).
const maxPad = 15

// errPadding says that a plaintext does not end in valid padding.
var errPadding = errors.New("receive: bad padding")

// pad appends n bytes of value n, n random from 1 to 15 (PROTOCOL.md 6.3).
func pad(plaintext []byte) []byte {
	n := 1 + rand.IntN(maxPad)
	out := make([]byte, len(plaintext), len(plaintext)+n)
	copy(out, plaintext)
	for range n {
		out = append(out, byte(n))
	}
	return out
}

// unpad removes the padding: the last byte must be 1 to 16 and not above the
// length, the others are not looked at (PROTOCOL.md 6.3). The result aliases p.
func unpad(p []byte) ([]byte, error) {
	if len(p) == 0 {
		return nil, errPadding
	}
	n := int(p[len(p)-1])
	if n < 1 || n > maxPad+1 || n > len(p) {
		return nil, errPadding
	}
	return p[:len(p)-n], nil
}
