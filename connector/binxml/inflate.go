package binxml

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"sync"
)

// inflater is what zlib.NewReader returns; kept in a pool because a new one costs 40 KiB.
type inflater interface {
	io.ReadCloser
	zlib.Resetter
}

var inflaters sync.Pool

// ratioFloor is the inflated length in bytes that is allowed whatever the ratio.
const ratioFloor = 64 << 10

// inflate reads a whole zlib stream, checksum included, and refuses one that yields more than the limits allow or has
// bytes behind it. It never holds more than twice what is allowed.
func inflate(body []byte, lim Limits) ([]byte, error) {
	allowed, what := max(ratioFloor, lim.MaxRatio*len(body)), "ratio"
	if allowed >= lim.MaxBytes {
		allowed, what = lim.MaxBytes, "bytes"
	}
	src := bytes.NewReader(body)
	z, err := newInflater(src)
	if err != nil {
		return nil, &SyntaxError{Reason: "not a zlib stream"}
	}
	defer inflaters.Put(z)
	out := make([]byte, 0, min(allowed, 4*len(body))+1)
	for {
		if len(out) > allowed {
			return nil, &LimitError{What: what}
		}
		if len(out) == cap(out) {
			grown := make([]byte, len(out), min(2*len(out), allowed+1))
			copy(grown, out)
			out = grown
		}
		n, err := z.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, &SyntaxError{Reason: "not a zlib stream"}
		}
	}
	switch {
	case len(out) > allowed:
		return nil, &LimitError{What: what}
	case src.Len() != 0:
		return nil, &SyntaxError{Reason: "bytes after the zlib stream"}
	}
	return out, nil
}

func newInflater(src *bytes.Reader) (inflater, error) {
	if z, ok := inflaters.Get().(inflater); ok {
		if err := z.Reset(src, nil); err != nil {
			inflaters.Put(z)
			return nil, err
		}
		return z, nil
	}
	r, err := zlib.NewReader(src)
	if err != nil {
		return nil, err
	}
	z, ok := r.(inflater)
	if !ok {
		return nil, errors.New("zlib reader cannot be reset")
	}
	return z, nil
}
