package stanza

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// Limits of single fields, in bytes.
const (
	// MaxID is the greatest length of a stanza id.
	MaxID = 256
	// MaxWord is the greatest length of a type, class, code word or media type.
	MaxWord = 64
	// MaxName is the greatest length of a display name; a longer one is cut at a letter.
	MaxName = 512
)

// reader reads the parts of one element and keeps the first error.
type reader struct {
	n    *binxml.Node
	kind Kind
	err  *ParseError
}

func (r *reader) fail(field, reason string) {
	if r.err == nil {
		r.err = &ParseError{Kind: r.kind, Field: field, Reason: reason}
	}
}

const (
	absent   = "absent"
	unusable = "not of the expected form"
)

// id reads a stanza id: 1 to MaxID bytes of printable ASCII without space.
func (r *reader) id(key string) string {
	v := r.n.Attr(key)
	switch {
	case v == "":
		r.fail(key, absent)
	case !isID(v):
		r.fail(key, unusable)
	}
	return v
}

func isID(s string) bool { return len(s) > 0 && len(s) <= MaxID && printable(s) }

func isWord(s string) bool { return len(s) <= MaxWord && printable(s) }

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// word reads an optional word of the protocol: printable ASCII, at most MaxWord bytes.
func (r *reader) word(key string) string {
	v := r.n.Attr(key)
	if !isWord(v) {
		r.fail(key, unusable)
	}
	return v
}

// name reads a text a person chose. Nothing in it can fail the stanza: what is not UTF-8 or is a control character is
// replaced or dropped, and it is cut to MaxName, so that a hostile name harms neither the stream nor a database.
func (r *reader) name(key string) string { return cleanName(r.n.Attr(key)) }

func cleanName(s string) string {
	plain := len(s) <= MaxName
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f
	}
	if plain {
		return s
	}
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) > MaxName {
		cut := MaxName
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	return s
}

func (r *reader) jid(key string) jid.JID {
	if !r.n.Has(key) {
		r.fail(key, absent)
		return jid.JID{}
	}
	return r.optionalJID(key)
}

func (r *reader) optionalJID(key string) jid.JID {
	if !r.n.Has(key) {
		return jid.JID{}
	}
	j, err := r.n.AttrJID(key)
	if err != nil {
		r.fail(key, unusable)
	}
	return j
}

// parties reads from and to, of which there must be one.
func (r *reader) parties() (from, to jid.JID) {
	from, to = r.optionalJID("from"), r.optionalJID("to")
	if from.IsZero() && to.IsZero() {
		r.fail("from", absent)
	}
	return from, to
}

// number reads an optional decimal number from 0 to max; the second result says whether it is there.
func (r *reader) number(key string, max int64) (int64, bool) {
	if !r.n.Has(key) {
		return 0, false
	}
	v, err := r.n.AttrUint64(key)
	if err != nil || v > uint64(max) {
		r.fail(key, unusable)
		return 0, true
	}
	return int64(v), true
}

const (
	maxInt32 = 1<<31 - 1
	maxTime  = 1 << 40 // seconds; far beyond any real clock, and safe to multiply into microseconds
)

// t reads the optional attribute t, Unix seconds.
func (r *reader) t() int64 {
	v, _ := r.number("t", maxTime)
	return v
}

func (r *reader) int(key string) int {
	v, _ := r.number(key, maxInt32)
	return int(v)
}

func (r *reader) optionalInt(key string) *int {
	v, ok := r.number(key, maxInt32)
	if !ok {
		return nil
	}
	n := int(v)
	return &n
}

// sub runs f on a child with the reader's error kept; absent children give a nil node, which has nothing.
func (r *reader) sub(child *binxml.Node, f func(*reader)) {
	s := &reader{n: child, kind: r.kind}
	f(s)
	if s.err != nil && r.err == nil {
		r.err = s.err
		if child != nil {
			r.err.Field = strings.TrimSuffix(child.Tag+"/"+s.err.Field, "/")
		}
	}
}

// each runs f on the children of list with the tag.
func (r *reader) each(list *binxml.Node, tag string, f func(*reader)) {
	r.sub(list, func(r *reader) {
		for _, item := range list.ChildrenNamed(tag) {
			r.sub(item, f)
		}
	})
}

// bytesOf reads a child's content of exactly size bytes into dst.
func (r *reader) bytesOf(child string, dst []byte) {
	c := r.n.Child(child)
	switch {
	case c == nil:
		r.fail(child, absent)
	case len(c.Data) != len(dst):
		r.fail(child, "wrong length")
	default:
		copy(dst, c.Data)
	}
}

// uintOf reads a child's content of exactly size bytes as a big-endian number.
func (r *reader) uintOf(child string, size int) uint32 {
	var b [4]byte
	r.bytesOf(child, b[4-size:])
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// builder collects attributes and leaves out those with nothing to say.
type builder struct{ n *binxml.Node }

func build(tag string, attrs int) builder {
	n := &binxml.Node{Tag: tag}
	if attrs > 0 {
		n.Attrs = make([]binxml.Attr, 0, attrs)
	}
	return builder{n: n}
}

func (b builder) str(key, value string) builder {
	if value != "" {
		b.n.Attrs = append(b.n.Attrs, binxml.S(key, value))
	}
	return b
}

func (b builder) jid(key string, j jid.JID) builder {
	if !j.IsZero() {
		b.n.Attrs = append(b.n.Attrs, binxml.J(key, j))
	}
	return b
}

func (b builder) num(key string, v int64) builder {
	if v != 0 {
		b.n.Attrs = append(b.n.Attrs, binxml.S(key, strconv.FormatInt(v, 10)))
	}
	return b
}

func (b builder) ptr(key string, v *int) builder {
	if v != nil {
		b.n.Attrs = append(b.n.Attrs, binxml.S(key, strconv.Itoa(*v)))
	}
	return b
}

func (b builder) add(children ...binxml.Node) builder {
	b.n.Children = append(b.n.Children, children...)
	return b
}
