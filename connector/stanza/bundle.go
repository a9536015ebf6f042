package stanza

import (
	"errors"

	"postern/connector/binxml"
)

// KeyType is the only type of key there is: Curve25519 (PROTOCOL.md 6.0).
const KeyType = 5

// MaxKeyID is the highest prekey id: three bytes on the wire (PROTOCOL.md 6.0).
const MaxKeyID = 1<<24 - 1

// Bundle is what starts a Signal session with a user (PROTOCOL.md 5.1, 6.0). Keys are 32 bytes without the 0x05.
type Bundle struct {
	RegistrationID uint32
	// Type is KeyType; when building, 0 means that too.
	Type     byte
	Identity [32]byte
	// PreKey is the one-time prekey, nil if there is none.
	PreKey *PreKey
	Signed SignedPreKey
}

// PreKey is the public half of a one-time prekey. ID is 0 to MaxKeyID.
type PreKey struct {
	ID  uint32
	Key [32]byte
}

// SignedPreKey is the public half of a signed prekey. ID is 0 to MaxKeyID; the signature is over the 33 bytes with 0x05.
type SignedPreKey struct {
	ID        uint32
	Key       [32]byte
	Signature [64]byte
}

// ErrKey is the error of a bundle or upload that cannot be put on the wire.
var ErrKey = errors.New("build keys: type or key id out of range")

// Validate says whether the bundle can be put on the wire: key ids of three bytes, and the one key type.
func (b *Bundle) Validate() error {
	if b.Type != 0 && b.Type != KeyType || b.Signed.ID > MaxKeyID || b.PreKey != nil && b.PreKey.ID > MaxKeyID {
		return ErrKey
	}
	return nil
}

// userNodes are the children of a user in an answer to get / key.
func (b *Bundle) userNodes() []binxml.Node {
	nodes := []binxml.Node{bytesNode("registration", b.RegistrationID, 4)}
	return append(nodes, b.keyNodes()...)
}

// keyNodes are the children of keys in a retry receipt.
func (b *Bundle) keyNodes() []binxml.Node {
	nodes := []binxml.Node{
		{Tag: "type", Data: []byte{KeyType}},
		{Tag: "identity", Data: b.Identity[:]},
	}
	if b.PreKey != nil {
		nodes = append(nodes, b.PreKey.node())
	}
	return append(nodes, b.Signed.node())
}

func (p *PreKey) node() binxml.Node {
	return binxml.Node{Tag: "key", Children: []binxml.Node{bytesNode("id", p.ID, 3), {Tag: "value", Data: p.Key[:]}}}
}

func (p *SignedPreKey) node() binxml.Node {
	return binxml.Node{Tag: "skey", Children: []binxml.Node{bytesNode("id", p.ID, 3),
		{Tag: "value", Data: p.Key[:]}, {Tag: "signature", Data: p.Signature[:]}}}
}

// parseUser reads the children of a user in an answer to get / key.
func (b *Bundle) parseUser(r *reader) {
	b.RegistrationID = r.uintOf("registration", 4)
	b.parseKeys(r)
}

// parseKeys reads what an answer to get / key and the keys of a retry receipt have in common.
func (b *Bundle) parseKeys(r *reader) {
	b.Type = parseKeyType(r)
	r.bytesOf("identity", b.Identity[:])
	if child := r.n.Child("key"); child != nil {
		b.PreKey = &PreKey{}
		r.sub(child, b.PreKey.parse)
	}
	child := r.n.Child("skey")
	if child == nil {
		r.fail("skey", absent)
		return
	}
	r.sub(child, b.Signed.parse)
}

func parseKeyType(r *reader) byte {
	var typ [1]byte
	if r.bytesOf("type", typ[:]); typ[0] != KeyType {
		r.fail("type", "unknown key type")
	}
	return typ[0]
}

func (p *PreKey) parse(r *reader) {
	p.ID = r.uintOf("id", 3)
	r.bytesOf("value", p.Key[:])
}

func (p *SignedPreKey) parse(r *reader) {
	p.ID = r.uintOf("id", 3)
	r.bytesOf("value", p.Key[:])
	r.bytesOf("signature", p.Signature[:])
}

// bytesNode is an element with the last size bytes of a number, big-endian.
func bytesNode(tag string, v uint32, size int) binxml.Node {
	b := []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
	return binxml.Node{Tag: tag, Data: b[4-size:]}
}
