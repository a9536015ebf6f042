package binxml

import (
	"compress/zlib"
	"slices"
	"sync"

	"postern/connector/jid"
)

// Append appends one frame's plaintext, flag byte 0 and the coding of n, to dst and returns the result
// (PROTOCOL.md 4.9). It allocates at most once. On an error, *NodeError or *LimitError, dst is returned unchanged.
func (c Codec) Append(dst []byte, n *Node) ([]byte, error) {
	lim := c.Limits.orDefault()
	bound, err := c.measure(n, 1, lim)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	w := writer{b: slices.Grow(dst, bound+1), dialect: c.Write}
	w.b = append(w.b, 0)
	w.node(n)
	if len(w.b)-start-1 > lim.MaxBytes {
		return dst, &LimitError{What: "bytes"}
	}
	return w.b, nil
}

var deflaters = sync.Pool{New: func() any { return zlib.NewWriter(nil) }}

// AppendCompressed is Append with the compressed flag set and the node as a zlib stream (RFC 1950). It does not judge
// whether that is shorter.
func (c Codec) AppendCompressed(dst []byte, n *Node) ([]byte, error) {
	plain, err := c.Append(nil, n)
	if err != nil {
		return dst, err
	}
	out := appender{b: append(slices.Clip(dst), flagCompressed)}
	z := deflaters.Get().(*zlib.Writer)
	defer deflaters.Put(z)
	z.Reset(&out)
	if _, err = z.Write(plain[1:]); err == nil {
		err = z.Close()
	}
	if err != nil {
		return dst, err
	}
	return out.b, nil
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// Longest headers, in bytes: of a list or a string, and the fixed parts of an address.
const (
	headerBound  = 5
	addressBound = 3*headerBound + 6
)

// measure checks that n can be written and returns an upper bound of its length in bytes.
func (c Codec) measure(n *Node, depth int, lim Limits) (int, error) {
	switch {
	case n == nil:
		return 0, &NodeError{Reason: "no element"}
	case n.Tag == "":
		return 0, &NodeError{Reason: "element without a name"}
	case len(n.Children) > 0 && n.Data != nil:
		return 0, &NodeError{Reason: "children and data in one element"}
	case depth > lim.MaxDepth:
		return 0, &LimitError{What: "depth"}
	case len(n.Attrs) > lim.MaxAttrs:
		return 0, &LimitError{What: "attributes"}
	case len(n.Children) > lim.MaxChildren:
		return 0, &LimitError{What: "children"}
	}
	size := 3*headerBound + len(n.Tag) + len(n.Data)
	for i := range n.Attrs {
		if duplicate(n.Attrs[:i], n.Attrs[i].Key) {
			return 0, &NodeError{Reason: "attribute given twice"}
		}
		attr, err := c.measureAttr(&n.Attrs[i])
		if err != nil {
			return 0, err
		}
		size += attr
	}
	for i := range n.Children {
		child, err := c.measure(&n.Children[i], depth+1, lim)
		if err != nil {
			return 0, err
		}
		if size += child; size > lim.MaxBytes*2+lim.MaxChildren*headerBound {
			return 0, &LimitError{What: "bytes"}
		}
	}
	return size, nil
}

// measureAttr is measure for one attribute.
func (c Codec) measureAttr(a *Attr) (int, error) {
	switch {
	case a.Key == "":
		return 0, &NodeError{Reason: "attribute without a name"}
	case a.JID.IsZero():
		return 2*headerBound + len(a.Key) + len(a.Value), nil
	case a.Value != "":
		return 0, &NodeError{Reason: "attribute with both text and address"}
	case a.JID.Validate() != nil:
		return 0, &NodeError{Reason: "invalid address"}
	case a.JID.Server == jid.InteropGroup && c.Write == Dialect245Bare:
		return 0, &NodeError{Reason: "address the dialect cannot express"}
	}
	return headerBound + len(a.Key) + addressBound + len(a.JID.User) + len(a.JID.Server), nil
}

func duplicate(attrs []Attr, key string) bool {
	for i := range attrs {
		if attrs[i].Key == key {
			return true
		}
	}
	return false
}

// writer writes what measure has found to be valid.
type writer struct {
	b       []byte
	dialect Dialect
}

func (w *writer) node(n *Node) {
	size := 1 + 2*len(n.Attrs)
	if len(n.Children) > 0 || n.Data != nil {
		size++
	}
	w.list(size)
	w.text(n.Tag)
	for i := range n.Attrs {
		a := &n.Attrs[i]
		w.text(a.Key)
		if a.JID.IsZero() {
			w.text(a.Value)
		} else {
			w.address(&a.JID)
		}
	}
	if len(n.Children) > 0 {
		w.list(len(n.Children))
		for i := range n.Children {
			w.node(&n.Children[i])
		}
	} else if n.Data != nil {
		w.length(len(n.Data))
		w.b = append(w.b, n.Data...)
	}
}

func (w *writer) list(n int) {
	switch {
	case n == 0:
		w.b = append(w.b, tagListEmpty)
	case n < 256:
		w.b = append(w.b, tagList8, byte(n))
	default:
		w.b = append(w.b, tagList16, byte(n>>8), byte(n))
	}
}

func (w *writer) length(n int) {
	switch {
	case n < 256:
		w.b = append(w.b, tagBinary8, byte(n))
	case n < 1<<20:
		w.b = append(w.b, tagBinary20, byte(n>>16), byte(n>>8), byte(n))
	default:
		w.b = append(w.b, tagBinary32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

func (w *writer) text(s string) {
	if code, ok := lookupToken(s); ok {
		if code >= 256 {
			w.b = append(w.b, byte(code>>8))
		}
		w.b = append(w.b, byte(code))
		return
	}
	if class := packing(s); class != 0 {
		w.packed(s, class)
		return
	}
	w.length(len(s))
	w.b = append(w.b, s...)
}

func (w *writer) packed(s string, class uint8) {
	tag := byte(tagHex)
	if class == fitsNibble {
		tag = tagNibble
	}
	odd := len(s) % 2
	w.b = append(w.b, tag, byte((len(s)+1)/2|odd<<7))
	for i := 0; i+1 < len(s); i += 2 {
		w.b = append(w.b, packValue[s[i]]<<4|packValue[s[i+1]])
	}
	if odd != 0 {
		w.b = append(w.b, packValue[s[len(s)-1]]<<4|15)
	}
}

func (w *writer) address(j *jid.JID) {
	switch j.Server {
	case jid.Interop, jid.InteropGroup:
		w.interop(j)
		return
	case jid.Messenger:
		w.b = append(w.b, tagMessenger)
		w.text(j.User)
		w.b = append(w.b, byte(j.Device>>8), byte(j.Device))
		w.text(string(j.Server))
		return
	}
	if agent, ok := agentOf(j); ok {
		w.b = append(w.b, tagADJID, agent, byte(j.Device))
		w.text(j.User)
		return
	}
	w.b = append(w.b, tagPair)
	if j.User == "" {
		w.b = append(w.b, tagListEmpty)
	} else {
		w.text(j.User)
	}
	w.text(string(j.Server))
}

func (w *writer) interop(j *jid.JID) {
	tag := byte(tagInterop)
	if w.dialect == Dialect244DomainByte {
		tag = tagInteropByte
	}
	w.b = append(w.b, tag)
	w.text(j.User)
	w.b = append(w.b, byte(j.Device>>8), byte(j.Device), byte(j.Integrator>>8), byte(j.Integrator))
	switch w.dialect {
	case Dialect245Bare:
	case Dialect244DomainByte:
		domain := byte(domainUser)
		if j.Server == jid.InteropGroup {
			domain = domainGroup
		}
		w.b = append(w.b, domain)
	default:
		w.text(string(j.Server))
	}
}

// agentOf says whether an address is written as an AD-JID, and with which agent byte: devices other than the primary
// one, and everything hosted.
func agentOf(j *jid.JID) (byte, bool) {
	switch j.Server {
	case jid.User:
		return agentUser, j.Device != 0
	case jid.LID:
		return agentLID, j.Device != 0
	case jid.Hosted:
		return agentHosted, true
	case jid.HostedLID:
		return agentHostedLID, true
	}
	return 0, false
}
