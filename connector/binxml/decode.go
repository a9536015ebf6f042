package binxml

import "go.mau.fi/whatsmeow/binary/token"

// What one decoded element and attribute cost in memory, in bytes, and how much a frame may cost in all beyond eight
// times its (inflated) length: enough for one element with MaxChildren children of one attribute each, which is the
// costliest thing the limits allow that anyone has reason to send. A frame that would cost more is refused before
// anything is allocated.
const (
	nodeCost    = 88
	attrCost    = 72
	memoryRatio = 8
	memoryFloor = 512 << 10
)

// Decode reads one frame's plaintext: the flag byte, the zlib stream if it says so, and exactly one element, no byte
// behind it (PROTOCOL.md 4.9). The node's Data may share memory with frame, so the caller must not change frame while
// the node is in use; Tag and Attrs never do. Errors are *SyntaxError and *LimitError; after one the stream cannot go
// on.
func (c Codec) Decode(frame []byte) (*Node, error) {
	if len(frame) == 0 {
		return nil, &SyntaxError{Reason: "empty frame"}
	}
	lim := c.Limits.orDefault()
	body := frame[1:]
	if frame[0]&flagCompressed != 0 {
		var err error
		if body, err = inflate(body, lim); err != nil {
			return nil, err
		}
	}
	if len(body) > lim.MaxBytes {
		return nil, &LimitError{What: "bytes"}
	}
	s := scanner{cursor: cursor{b: body, dialect: c.Read}, lim: lim}
	if err := s.node(1); err != nil {
		return nil, err
	}
	if s.i != len(body) {
		return nil, s.syntax("bytes after the element")
	}
	if s.nodes*nodeCost+s.attrs*attrCost+s.text+s.data > memoryRatio*len(body)+memoryFloor {
		return nil, &LimitError{What: "memory"}
	}
	b := builder{cursor: cursor{b: body, dialect: c.Read}, nodes: make([]Node, s.nodes+1)}
	if s.attrs > 0 {
		b.attrs = make([]Attr, s.attrs)
	}
	if s.data > 0 {
		b.data = make([]byte, 0, s.data)
	}
	b.text.Grow(s.text)
	root := &b.nodes[0]
	b.nodes = b.nodes[1:]
	if err := b.node(root); err != nil {
		return nil, err
	}
	return root, nil
}

// cursor reads the parts of the coding; both passes use it, so that they cannot disagree.
type cursor struct {
	b       []byte
	i       int
	dialect Dialect
}

func (c *cursor) syntax(reason string) error { return &SyntaxError{Offset: c.i, Reason: reason} }

func (c *cursor) left() int { return len(c.b) - c.i }

func (c *cursor) byte() (byte, error) {
	if c.i >= len(c.b) {
		return 0, c.syntax("too short")
	}
	v := c.b[c.i]
	c.i++
	return v, nil
}

func (c *cursor) uint16() (uint16, error) {
	if c.left() < 2 {
		return 0, c.syntax("too short")
	}
	v := uint16(c.b[c.i])<<8 | uint16(c.b[c.i+1])
	c.i += 2
	return v, nil
}

func isList(tag byte) bool { return tag == tagListEmpty || tag == tagList8 || tag == tagList16 }

// list reads the size of a list whose tag has been read.
func (c *cursor) list(tag byte) (int, error) {
	switch tag {
	case tagListEmpty:
		return 0, nil
	case tagList8:
		n, err := c.byte()
		return int(n), err
	case tagList16:
		n, err := c.uint16()
		return int(n), err
	}
	return 0, c.syntax("list expected")
}

// piece is one string of the coding, not yet unpacked.
type piece struct {
	token  string
	pairs  *[256][2]byte // of a packed string: the two digits of each byte
	off, n int           // where the bytes of a raw or packed string are
	raw    bool
	odd    bool // the last half byte of a packed string is filling
}

func (p *piece) length() int {
	switch {
	case p.raw:
		return p.n
	case p.pairs == nil:
		return len(p.token)
	case p.odd:
		return 2*p.n - 1
	}
	return 2 * p.n
}

// isToken says whether a tag is a single-byte token; these are most strings, so both passes try them first.
func isToken(tag byte) bool { return tag-1 < byte(len(token.SingleByteTokens)-1) }

// piece reads a string whose tag has been read, in any of its codings. It checks all but the digits of a packed one,
// which the first pass checks once.
func (c *cursor) piece(tag byte, p *piece) error {
	*p = piece{}
	switch {
	case isToken(tag):
		p.token = token.SingleByteTokens[tag]
		return nil
	case tag >= tagDictionary0 && tag <= tagDictionary3:
		index, err := c.byte()
		if err != nil {
			return err
		}
		dictionary := token.DoubleByteTokens[tag-tagDictionary0]
		if int(index) >= len(dictionary) {
			return c.syntax("unknown token")
		}
		p.token = dictionary[index]
		return nil
	case tag >= tagBinary8 && tag <= tagBinary32:
		p.raw = true
		var err error
		p.off, p.n, err = c.raw(tag)
		return err
	case tag == tagNibble:
		p.pairs = &nibblePairs
		return c.packed(p)
	case tag == tagHex:
		p.pairs = &hexPairs
		return c.packed(p)
	}
	return c.syntax("unknown token")
}

// raw skips a raw string or data and says where it is.
func (c *cursor) raw(tag byte) (off, n int, err error) {
	width := [...]int{0: 1, tagBinary20 - tagBinary8: 3, tagBinary32 - tagBinary8: 4}[tag-tagBinary8]
	if c.left() < width {
		return 0, 0, c.syntax("too short")
	}
	var size uint32
	for _, v := range c.b[c.i : c.i+width] {
		size = size<<8 | uint32(v)
	}
	if tag == tagBinary20 {
		size &= 1<<20 - 1
	}
	c.i += width
	if uint64(size) > uint64(c.left()) {
		return 0, 0, c.syntax("too short")
	}
	off = c.i
	c.i += int(size)
	return off, int(size), nil
}

func (c *cursor) packed(p *piece) error {
	head, err := c.byte()
	if err != nil {
		return err
	}
	p.n, p.odd, p.off = int(head&127), head&128 != 0, c.i
	if p.n > c.left() {
		return c.syntax("too short")
	}
	if p.odd && p.n == 0 {
		return c.syntax("packed string without a digit")
	}
	c.i += p.n
	return nil
}
