package binxml

import (
	"strings"

	"go.mau.fi/whatsmeow/binary/token"

	"postern/connector/jid"
)

// builder is the second pass, over bytes the scanner has found well-formed; it fills slabs of the counted sizes.
type builder struct {
	cursor
	nodes []Node
	attrs []Attr
	text  strings.Builder
	data  []byte
	p     piece
	// digits is where packed strings are unpacked, here so that it is cleared once only.
	digits [2 * packedMax]byte
}

func (b *builder) node(n *Node) error {
	tag, err := b.byte()
	if err != nil {
		return err
	}
	size, err := b.list(tag)
	if err != nil {
		return err
	}
	if n.Tag, err = b.string(); err != nil {
		return err
	}
	if count := (size - 1) / 2; count > 0 {
		n.Attrs, b.attrs = b.attrs[:count:count], b.attrs[count:]
		var seen uint64 // one bit for each kind of name, so that names are compared only where they may be equal
		for i := range n.Attrs {
			a := &n.Attrs[i]
			if err = b.attr(a); err != nil {
				return err
			}
			bit := uint64(1) << ((uint(len(a.Key)) + 7*uint(a.Key[0])) % 64)
			if seen&bit != 0 && duplicate(n.Attrs[:i], a.Key) {
				return b.syntax("attribute given twice")
			}
			seen |= bit
		}
	}
	if size%2 == 0 {
		return b.content(n)
	}
	return nil
}

func (b *builder) attr(a *Attr) (err error) {
	if a.Key, err = b.string(); err != nil {
		return err
	}
	tag, err := b.byte()
	if err != nil {
		return err
	}
	if tag >= tagInteropByte && tag <= tagADJID || tag == tagPair {
		return b.address(tag, &a.JID)
	}
	a.Value, err = b.unpack(tag)
	return err
}

func (b *builder) string() (string, error) {
	tag, err := b.byte()
	if err == nil && int(tag) < len(token.SingleByteTokens) {
		return token.SingleByteTokens[tag], nil
	}
	if err != nil {
		return "", err
	}
	return b.unpack(tag)
}

// unpack reads a string whose tag has been read, or the empty list as "".
func (b *builder) unpack(tag byte) (string, error) {
	if int(tag) < len(token.SingleByteTokens) {
		return token.SingleByteTokens[tag], nil // the empty list, 0, is the empty string there
	}
	if err := b.piece(tag, &b.p); err != nil {
		return "", err
	}
	if b.p.token != "" {
		return b.p.token, nil
	}
	start := b.text.Len()
	if b.p.raw {
		b.text.Write(b.b[b.p.off : b.p.off+b.p.n])
	} else {
		b.text.Write(b.digits[:b.p.unpack(b.digits[:], b.b)])
	}
	return b.text.String()[start:], nil
}

// unpack writes the digits of a packed string to dst, which must have room for one more, and says how many they are.
func (p *piece) unpack(dst, b []byte) int {
	n := 0
	for _, v := range b[p.off : p.off+p.n] {
		pair := p.pairs[v]
		dst[n], dst[n+1] = pair[0], pair[1]
		n += 2
	}
	if p.odd {
		n--
	}
	return n
}

func (b *builder) address(tag byte, j *jid.JID) (err error) {
	var agent byte
	if tag == tagADJID {
		agent = b.b[b.i]
		j.Device = uint16(b.b[b.i+1])
		b.i += 2
	}
	if j.User, err = b.string(); err != nil {
		return err
	}
	if tag == tagMessenger || tag == tagInterop || tag == tagInteropByte {
		if j.Device, err = b.uint16(); err != nil {
			return err
		}
	}
	if tag == tagInterop || tag == tagInteropByte {
		if j.Integrator, err = b.uint16(); err != nil {
			return err
		}
	}
	if j.Server, err = b.server(tag, agent); err != nil {
		return err
	}
	if j.Validate() != nil {
		return b.syntax("invalid address")
	}
	return nil
}

// server is the server of an address, from its string or what stands in place of one. It checks that the string is
// one that belongs to the tag.
func (b *builder) server(tag, agent byte) (jid.Server, error) {
	switch {
	case tag == tagADJID:
		return b.agent(agent)
	case tag == tagInterop && b.dialect == Dialect245Bare:
		return jid.Interop, nil
	case tag == tagInteropByte:
		domain, err := b.byte()
		if err != nil {
			return "", err
		}
		switch domain {
		case domainUser:
			return jid.Interop, nil
		case domainGroup:
			return jid.InteropGroup, nil
		}
		return "", b.syntax("unknown domain in an address")
	}
	text, err := b.string()
	if err != nil {
		return "", err
	}
	server := jid.Server(text)
	switch tag {
	case tagMessenger:
		if server != jid.Messenger {
			return "", b.syntax("server does not belong to the address")
		}
	case tagInterop:
		if server != jid.Interop && server != jid.InteropGroup {
			return "", b.syntax("server does not belong to the address")
		}
	}
	return server, nil
}

func (b *builder) agent(agent byte) (jid.Server, error) {
	switch agent {
	case agentUser:
		return jid.User, nil
	case agentLID:
		return jid.LID, nil
	case agentHosted:
		return jid.Hosted, nil
	case agentHostedLID:
		return jid.HostedLID, nil
	}
	return "", b.syntax("unknown agent in an address")
}

func (b *builder) content(n *Node) error {
	tag, err := b.byte()
	if err != nil {
		return err
	}
	if !isList(tag) {
		return b.body(tag, n)
	}
	count, err := b.list(tag)
	if err != nil || count == 0 {
		return err
	}
	n.Children, b.nodes = b.nodes[:count:count], b.nodes[count:]
	for i := range n.Children {
		if err = b.node(&n.Children[i]); err != nil {
			return err
		}
	}
	return nil
}

// body reads content that is not a list: data, which shares the frame's memory, or text in any coding.
func (b *builder) body(tag byte, n *Node) error {
	if err := b.piece(tag, &b.p); err != nil {
		return err
	}
	if b.p.raw {
		n.Data = b.b[b.p.off : b.p.off+b.p.n : b.p.off+b.p.n]
		return nil
	}
	if b.p.pairs == nil {
		n.Data = append(b.data, b.p.token...)
	} else {
		n.Data = append(b.data, b.digits[:b.p.unpack(b.digits[:], b.b)]...)
	}
	b.data = n.Data[len(n.Data):]
	n.Data = n.Data[:len(n.Data):len(n.Data)]
	if n.Data == nil {
		n.Data = []byte{}
	}
	return nil
}
