package transcode

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// boxScrub walks the boxes of an MP4 or QuickTime file (ISO 14496-12, 4.2; QuickTime
// File Format, user data and metadata atoms). A box that says a place keeps its length
// and becomes a free one full of zeros; what is EXIF or XMP in a HEIF file becomes zeros.
type boxScrub struct {
	at    int64 // where the next step begins
	stack []frame
	// Of a file with items: whether their description came yet, and which parts of the
	// file they say are metadata, sorted.
	looked bool
	held   []extent
}

// frame is a box whose children are walked.
type frame struct {
	kind string
	end  int64 // where it ends; toTheEnd for the file
	// Of a meta box: which keys name a place, and whether the keys came yet. A child
	// points into the same.
	meta *metaKeys
	next uint32 // of a keys box: the number of the next key
}

type metaKeys struct {
	seen   bool
	places map[uint32]bool
}

// containers are the boxes to walk into, each with the boxes it is walked into in. A place is
// noted in the user data or the metadata of the film or of a track.
var containers = map[string]string{
	"moov": "file", "trak": "moov", "udta": "moov trak", "meta": "file moov trak udta", "ilst": "meta", "keys": "meta",
	"mdat": "file",
}

// Bounds of what is remembered.
const (
	maxPlaces  = 64
	maxKeyName = 256
)

// xmpBox is the identifier of a box with XMP in it (XMP specification, part 3, 2.2.1).
const xmpBox = "\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac"

func (x *boxScrub) step(s *scrubber) {
	if x.stack == nil {
		x.stack = []frame{{kind: "file", end: toTheEnd}}
	}
	for len(x.stack) > 1 && x.at >= x.top().end {
		x.stack = x.stack[:len(x.stack)-1]
	}
	if x.top().kind == "mdat" {
		x.data(s)
		return
	}
	left := x.top().end - x.at
	if left < 8 { // user data may end with four bytes of nothing
		x.pass(s, left)
		return
	}
	b, ok := s.peek(8)
	if !ok {
		return
	}
	header, size, kind := int64(8), int64(binary.BigEndian.Uint32(b)), string(b[4:8])
	if x.top().kind == "keys" {
		x.key(s, size, left)
		return
	}
	switch size {
	case 0: // to the end of what it is in
		size = left
	case 1:
		if b, ok = s.peek(16); !ok {
			return
		}
		header, size = 16, int64(binary.BigEndian.Uint64(b[8:])&toTheEnd)
	}
	if size < header || size > left {
		return // not understood, so the rest stays as it is
	}
	x.box(s, kind, header, size)
}

func (x *boxScrub) top() *frame { return &x.stack[len(x.stack)-1] }

func (x *boxScrub) pass(s *scrubber, n int64) {
	s.pass = n
	x.skip(n)
}

// skip moves on without ever passing the end of all.
func (x *boxScrub) skip(n int64) { x.at = min(x.at, toTheEnd-n) + n }

// box decides about one whose header is next.
func (x *boxScrub) box(s *scrubber, kind string, header, size int64) {
	parent := x.top()
	switch {
	case x.place(s, kind, header, size):
		x.free(s, header, size)
	case kind == "meta" && x.in(kind):
		if parent.kind == "file" && size <= maxItems && !x.looked {
			x.look(s, header, size)
		}
		x.enterMeta(s, header, size)
	case kind == "keys" && x.in(kind) && size >= header+8:
		parent.meta.seen = true
		x.enter(s, frame{kind: kind, end: x.at + size, meta: parent.meta, next: 1}, header+8)
	case x.in(kind):
		x.enter(s, frame{kind: kind, end: x.at + size, meta: parent.meta}, header)
	default:
		x.pass(s, size)
	}
}

// in says whether a box of this kind is walked into where it stands.
func (x *boxScrub) in(kind string) bool {
	where := containers[kind]
	return where != "" && strings.Contains(where, x.top().kind)
}

// enter passes the beginning of a box and goes on with its children.
func (x *boxScrub) enter(s *scrubber, f frame, header int64) {
	x.stack = append(x.stack, f)
	x.pass(s, header)
}

// enterMeta tells the two forms of a meta box apart: ISO's has four bytes of version
// and flags before its children, QuickTime's has none. The first child is hdlr.
func (x *boxScrub) enterMeta(s *scrubber, header, size int64) {
	if size < header+8 {
		x.pass(s, size)
		return
	}
	b, ok := s.peek(int(header) + 8)
	if !ok {
		return
	}
	f := frame{kind: "meta", end: x.at + size, meta: &metaKeys{places: map[uint32]bool{}}}
	if string(b[header+4:]) != "hdlr" {
		header += 4
	}
	x.enter(s, f, header)
}

// place says whether a box tells where a film was taken.
func (x *boxScrub) place(s *scrubber, kind string, header, size int64) bool {
	parent := x.top()
	switch parent.kind {
	case "udta":
		if kind == "\xa9xyz" || kind == "loci" || kind == "XMP_" {
			return true
		}
	case "ilst":
		// An item is named by a word, or by the number of a key. If the keys have not
		// come yet, none is trusted.
		number := binary.BigEndian.Uint32([]byte(kind))
		return kind == "\xa9xyz" || parent.meta.places[number] || !parent.meta.seen && number < 1<<16
	}
	if kind != "uuid" || size < header+16 {
		return false
	}
	b, err := s.in.Peek(int(header) + 16)
	return err == nil && string(b[header:]) == xmpBox
}

// free makes a box one that says nothing.
func (x *boxScrub) free(s *scrubber, header, size int64) {
	b, ok := s.peek(int(header))
	if !ok {
		return
	}
	b = bytes.Clone(b)
	copy(b[4:], "free")
	s.emit, s.drop, s.blank = b, header, size-header
	x.skip(size)
}

// key looks at one name in a keys box and blanks one that names a place.
func (x *boxScrub) key(s *scrubber, size, left int64) {
	f := x.top()
	if size < 8 || size > left {
		x.pass(s, left)
		return
	}
	b, ok := s.peek(int(min(size, maxKeyName)))
	if !ok {
		return
	}
	number := f.next
	f.next++
	if bytes.Contains(bytes.ToLower(b[8:]), []byte("location")) && len(f.meta.places) < maxPlaces {
		f.meta.places[number] = true
		s.emit, s.drop, s.blank = bytes.Clone(b[:8]), 8, size-8
		x.skip(size)
		return
	}
	x.pass(s, size)
}
