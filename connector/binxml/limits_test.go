package binxml_test

import (
	"bytes"
	"compress/zlib"
	"errors"
	"reflect"
	"runtime"
	"strconv"
	"testing"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// nested is an element depth levels deep.
func nested(depth int) *binxml.Node {
	n := &binxml.Node{Tag: "a"}
	for range depth - 1 {
		n = &binxml.Node{Tag: "a", Children: []binxml.Node{*n}}
	}
	return n
}

func withChildren(count int, child func(int) binxml.Node) *binxml.Node {
	n := &binxml.Node{Tag: "list", Children: make([]binxml.Node, count)}
	for i := range n.Children {
		n.Children[i] = child(i)
	}
	return n
}

func withAttrs(count int) *binxml.Node {
	n := &binxml.Node{Tag: "a"}
	for i := range count {
		n.Attrs = append(n.Attrs, binxml.S("k"+strconv.Itoa(i), "x"))
	}
	return n
}

// wide lifts the limits of the writer, so that frames beyond them can be made.
var wide = binxml.Codec{Limits: binxml.Limits{MaxBytes: 1 << 28, MaxDepth: 1 << 20, MaxChildren: 65535, MaxAttrs: 30000, MaxRatio: 2000}}

func bare(int) binxml.Node { return binxml.Node{Tag: "item"} }

func TestLimitsHoldToTheLastOne(t *testing.T) {
	const body = 1<<20 - 7 // beside the data: two bytes of list, one of name, four of length
	for _, tc := range []struct {
		name string
		n    *binxml.Node
		what string
	}{
		{"depth 32", nested(32), ""},
		{"depth 33", nested(33), "depth"},
		{"4096 children", withChildren(4096, bare), ""},
		{"4097 children", withChildren(4097, bare), "children"},
		{"64 attributes", withAttrs(64), ""},
		{"65 attributes", withAttrs(65), "attributes"},
		{"1 MiB", &binxml.Node{Tag: "enc", Data: make([]byte, body)}, ""},
		{"1 MiB and a byte", &binxml.Node{Tag: "enc", Data: make([]byte, body+1)}, "bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			frame, err := wide.Append(nil, tc.n)
			if err != nil {
				t.Fatal(err)
			}
			_, read := binxml.Codec{}.Decode(frame)
			_, write := binxml.Codec{}.Append(nil, tc.n)
			for _, err := range []error{read, write} {
				var limit *binxml.LimitError
				if tc.what == "" && err != nil {
					t.Errorf("refused: %v", err)
				}
				if tc.what != "" && (!errors.As(err, &limit) || limit.What != tc.what || !errors.Is(err, binxml.ErrLimit)) {
					t.Errorf("error %v, want the limit of %s", err, tc.what)
				}
			}
		})
	}
}

func TestTheLongestListAnyoneSendsIsAccepted(t *testing.T) {
	for name, child := range map[string]func(int) binxml.Node{
		"ids of a receipt": func(i int) binxml.Node {
			return binxml.Node{Tag: "item", Attrs: []binxml.Attr{binxml.S("id", "3EB0A1B2C3D4E5F6A7"+strconv.Itoa(1000+i))}}
		},
		"addresses of a blocklist": func(i int) binxml.Node {
			return binxml.Node{Tag: "item", Attrs: []binxml.Attr{binxml.J("jid", jid.JID{User: strconv.Itoa(i), Server: jid.LID})}}
		},
		"one token each": func(int) binxml.Node {
			return binxml.Node{Tag: "item", Attrs: []binxml.Attr{binxml.S("type", "get")}}
		},
		"prekeys": func(i int) binxml.Node {
			return binxml.Node{Tag: "key", Children: []binxml.Node{{Tag: "id", Data: []byte{1, 2, 3}}, {Tag: "value", Data: make([]byte, 32)}}}
		},
	} {
		n := withChildren(4096, child)
		back, err := binxml.Codec{}.Decode(frameOf(t, n))
		if err != nil || !reflect.DeepEqual(back, n) {
			t.Errorf("4096 %s: %v", name, err)
		}
	}
}

func deflate(t testing.TB, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteByte(2)
	z := zlib.NewWriter(&b)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// body is a frame without its flag byte.
func body(t testing.TB, n *binxml.Node) []byte {
	t.Helper()
	frame, err := wide.Append(nil, n)
	if err != nil {
		t.Fatal(err)
	}
	return frame[1:]
}

func TestInflationIsCapped(t *testing.T) {
	zeros := func(size int) []byte { return deflate(t, body(t, &binxml.Node{Tag: "enc", Data: make([]byte, size)})) }
	noise := newGenerator(5, 1)
	random := make([]byte, 1<<20-7)
	for i := range random {
		random[i] = byte(noise.Uint32())
	}
	mixed := append(bytes.Clone(random[:10000]), make([]byte, 900000)...)
	for _, tc := range []struct {
		name  string
		frame []byte
		what  string
	}{
		{"much from little, but 64 KiB at most", zeros(65000), ""},
		{"over 100 to 1 beyond 64 KiB", zeros(200000), "ratio"},
		{"under 100 to 1", deflate(t, body(t, &binxml.Node{Tag: "enc", Data: mixed})), ""},
		{"over 1 MiB from enough to allow the ratio", deflate(t, body(t, &binxml.Node{Tag: "enc", Data: append(random, 0, 0, 0)})), "bytes"},
		{"64 MiB from 64 KiB", bomb(t), "bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var err error
			spent := allocated(func() { _, err = binxml.Codec{}.Decode(tc.frame) })
			var limit *binxml.LimitError
			if tc.what == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tc.what != "" && (!errors.As(err, &limit) || limit.What != tc.what) {
				t.Errorf("error %v, want the limit of %s", err, tc.what)
			}
			if spent > 4<<20 {
				t.Errorf("%d bytes allocated", spent)
			}
		})
	}
}

// bomb is a zlib stream of zeros behind the flag, a thousandth as long as what is in it: 64 MiB, or 16 under the race
// detector.
func bomb(t testing.TB) []byte {
	t.Helper()
	size := 64 << 20
	if raceEnabled {
		size = 16 << 20
	}
	return deflate(t, make([]byte, size))
}

// allocated is how many bytes f allocates, the least of a few runs because other goroutines allocate too.
func allocated(f func()) uint64 {
	least := ^uint64(0)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// allowed is the most a frame may make Decode allocate, in bytes (see the constants in decode.go): the slabs, rounded
// up to the allocator's sizes by at most an eighth.
func allowed(length int) uint64 { return uint64(8*length+512<<10) * 9 / 8 }

func TestSizesThatLieCostNothing(t *testing.T) {
	repeat := func(unit string, times int) []byte { return append([]byte{0}, bytes.Repeat([]byte(unit), times)...) }
	for name, frame := range map[string][]byte{
		"lists in lists that promise 65535 children": repeat("\xf8\x02\x19\xf9\xff\xff", 400),
		"lists in lists that promise 4096 children":  repeat("\xf8\x02\x19\xf9\x10\x00", 400),
		"element that promises 65535 parts":          []byte("\x00\xf9\xff\xff\x19"),
		"element that promises 128 parts":            []byte("\x00\xf8\x80\x19"),
		"string that promises 4 GiB":                 []byte("\x00\xf8\x01\xfe\xff\xff\xff\xffa"),
		"string that promises 1 MiB":                 []byte("\x00\xf8\x01\xfd\xff\xff\xffa"),
		"data that promise 4 GiB":                    []byte("\x00\xf8\x02\x19\xfe\xff\xff\xff\xff"),
		"a million levels":                           repeat("\xf8\x02\x19\xf8\x01", 200000),
		"sixteen million levels":                     repeat("\xf8\x02\x19\xf8\x01", 3200000),
	} {
		var err error
		spent := allocated(func() { _, err = binxml.Codec{}.Decode(frame) })
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if spent > 4096 {
			t.Errorf("%s: %d bytes allocated for a frame of %d", name, spent, len(frame))
		}
	}
}

func TestAFrameThatWouldCostTooMuchMemoryIsRefusedBeforeItDoes(t *testing.T) {
	// Two bytes of a frame buy an attribute of 72 bytes of memory.
	child := *withAttrs(0)
	for i := range 60 {
		child.Attrs = append(child.Attrs, binxml.S(tokenNumber(i), "get"))
	}
	n := withChildren(4000, func(int) binxml.Node { return child })
	frame, err := wide.Append(nil, n)
	if err != nil {
		t.Fatal(err)
	}
	spent := allocated(func() { _, err = binxml.Codec{}.Decode(frame) })
	var limit *binxml.LimitError
	if !errors.As(err, &limit) || limit.What != "memory" {
		t.Errorf("a frame of %d bytes: %v", len(frame), err)
	}
	if spent > 4096 {
		t.Errorf("%d bytes allocated", spent)
	}
}

// tokenNumber is the text of single-byte token i+1.
func tokenNumber(i int) string { return singleTokens[i+1] }

func TestLimitsOfTheCallerHold(t *testing.T) {
	codec := binxml.Codec{Limits: binxml.Limits{MaxBytes: 100, MaxDepth: 2, MaxChildren: 3, MaxAttrs: 1}}
	for name, n := range map[string]*binxml.Node{
		"bytes": {Tag: "a", Data: make([]byte, 100)}, "depth": nested(3), "children": withChildren(4, bare), "attributes": withAttrs(2),
	} {
		_, read := codec.Decode(frameOf(t, n))
		_, write := codec.Append(nil, n)
		for _, err := range []error{read, write} {
			var limit *binxml.LimitError
			if !errors.As(err, &limit) || limit.What != name {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
