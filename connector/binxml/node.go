// Package binxml turns the plaintext of one Noise frame into an element tree and back: WhatsApp's binary XML,
// dictionary version 3.
//
// Layer: above jid and below noise's users and stanza. It imports jid and the token tables of whatsmeow and nothing
// else beside the standard library; it must not import whatsmeow's codec or types (tests do, as an outside oracle).
//
// It implements docs/PROTOCOL.md 1.2, 4.8 and 4.9. Every limit is checked on a first pass that allocates nothing;
// a second pass fills a few slabs of exactly the size the first one counted.
package binxml

import (
	"errors"
	"strconv"

	"postern/connector/jid"
)

// Attr is one attribute. If JID is not zero the attribute is JID-typed on the wire and Value is empty; otherwise it
// is the string Value, which may be empty.
type Attr struct {
	Key   string
	Value string
	JID   jid.JID
}

// S makes a string attribute.
func S(key, value string) Attr { return Attr{Key: key, Value: value} }

// J makes a JID-typed attribute. j must be a valid address; Codec.Append says so if it is not.
func J(key string, j jid.JID) Attr { return Attr{Key: key, JID: j} }

// I makes a string attribute from a number.
func I[T ~int | ~int64 | ~uint32 | ~uint64](key string, n T) Attr {
	if n < 0 {
		return Attr{Key: key, Value: strconv.FormatInt(int64(n), 10)}
	}
	return Attr{Key: key, Value: strconv.FormatUint(uint64(n), 10)}
}

// Node is one element. Children and Data exclude each other. Data nil means no content; Data empty but not nil is an
// empty text. A decoded list of no children is no content. Attributes are written in the order given.
type Node struct {
	Tag      string
	Attrs    []Attr
	Children []Node
	Data     []byte
}

// ErrAttr is wrapped by the errors of AttrJID, AttrInt and AttrUint64.
var ErrAttr = errors.New("bad attribute")

// AttrError says which attribute is absent or not of the wanted form. It never contains the value.
type AttrError struct {
	// Key is the attribute asked for, a name of the protocol.
	Key string
	// Absent is true if the node has no such attribute.
	Absent bool
}

// Error implements error.
func (e *AttrError) Error() string {
	if e.Absent {
		return "read attribute " + e.Key + ": absent"
	}
	return "read attribute " + e.Key + ": not of the expected form"
}

// Unwrap makes errors.Is(err, ErrAttr) true.
func (e *AttrError) Unwrap() error { return ErrAttr }

func (n *Node) find(key string) *Attr {
	if n == nil {
		return nil
	}
	for i := range n.Attrs {
		if n.Attrs[i].Key == key {
			return &n.Attrs[i]
		}
	}
	return nil
}

// Has says whether the node has the attribute, even with an empty value. Like all readers here it takes a nil node,
// which has nothing.
func (n *Node) Has(key string) bool { return n.find(key) != nil }

// Attr is the value of the attribute as text, a JID-typed one in its text form, and "" if it is absent.
func (n *Node) Attr(key string) string {
	a := n.find(key)
	if a == nil {
		return ""
	}
	if !a.JID.IsZero() {
		return a.JID.String()
	}
	return a.Value
}

// AttrJID is the attribute as an address; readers accept one in text form too (PROTOCOL.md 4.9).
func (n *Node) AttrJID(key string) (jid.JID, error) {
	a := n.find(key)
	if a == nil {
		return jid.JID{}, &AttrError{Key: key, Absent: true}
	}
	if !a.JID.IsZero() {
		return a.JID, nil
	}
	j, err := jid.Parse(a.Value)
	if err != nil {
		return jid.JID{}, &AttrError{Key: key}
	}
	return j, nil
}

// AttrInt is the attribute as a decimal number that fits an int, with no sign but a leading minus.
func (n *Node) AttrInt(key string) (int, error) {
	text, err := n.number(key)
	if err != nil {
		return 0, err
	}
	i, err := strconv.ParseInt(text, 10, strconv.IntSize)
	if err != nil {
		return 0, &AttrError{Key: key}
	}
	return int(i), nil
}

// AttrUint64 is the attribute as an unsigned decimal number.
func (n *Node) AttrUint64(key string) (uint64, error) {
	text, err := n.number(key)
	if err != nil {
		return 0, err
	}
	u, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, &AttrError{Key: key}
	}
	return u, nil
}

func (n *Node) number(key string) (string, error) {
	a := n.find(key)
	if a == nil {
		return "", &AttrError{Key: key, Absent: true}
	}
	if !a.JID.IsZero() || a.Value == "" || a.Value[0] == '+' {
		return "", &AttrError{Key: key}
	}
	return a.Value, nil
}

// Child is the first child with the tag, or nil.
func (n *Node) Child(tag string) *Node {
	if n == nil {
		return nil
	}
	for i := range n.Children {
		if n.Children[i].Tag == tag {
			return &n.Children[i]
		}
	}
	return nil
}

// ChildrenNamed is every child with the tag, in order; the nodes are those of n, not copies.
func (n *Node) ChildrenNamed(tag string) []*Node {
	if n == nil {
		return nil
	}
	var out []*Node
	for i := range n.Children {
		if n.Children[i].Tag == tag {
			out = append(out, &n.Children[i])
		}
	}
	return out
}

// Text is the content as text, "" if the node has none.
func (n *Node) Text() string {
	if n == nil {
		return ""
	}
	return string(n.Data)
}
