package e2ee

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/sha256"
	"math"

	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/util/optional"
	"google.golang.org/protobuf/encoding/protowire"
)

// The message version we speak, and the length of the MAC behind a message.
const (
	messageVersion = 3
	macLength      = protocol.MacLength
)

// incoming is a parsed ciphertext. It shares memory with the received bytes.
type incoming struct {
	message *signalMessage
	preKey  *preKeyMessage // nil for TypeMessage
}

// signalMessage is a message within a session (Double Ratchet specification 3.4). ratchetKey is known to be usable.
type signalMessage struct {
	ratchetKey [32]byte
	counter    uint32
	ciphertext []byte // a positive number of AES blocks
	signed     []byte // version byte and protobuf as received: what the MAC covers
	mac        []byte // macLength bytes
}

// preKeyMessage is the head of a message that can begin a session (X3DH specification 3.3). Both keys are known to be
// usable. Nothing in it but the identity key is covered by the MAC; the keys take part in the key agreement.
type preKeyMessage struct {
	registrationID uint32
	preKeyID       uint32 // 0: none was used
	signedPreKeyID uint32
	baseKey        [32]byte
	identity       [32]byte
	inner          []byte // the signalMessage as received
}

// parseIncoming reads a ciphertext of the given type. Errors: ErrMalformed, ErrInvalidKey.
func parseIncoming(typ string, body []byte) (*incoming, error) {
	in := &incoming{}
	inner := body
	switch typ {
	case TypeMessage:
	case TypePreKey:
		head, err := parsePreKeyMessage(body)
		if err != nil {
			return nil, err
		}
		in.preKey, inner = head, head.inner
	default:
		return nil, ErrMalformed
	}
	message, err := parseSignalMessage(inner)
	if err != nil {
		return nil, err
	}
	in.message = message
	return in, nil
}

// versionOK accepts every version byte that says: this message is version 3, its sender knows version 3 or a later one.
func versionOK(b byte) bool { return b>>4 == messageVersion && b&0x0f >= messageVersion }

func parseSignalMessage(b []byte) (*signalMessage, error) {
	if len(b) < 1+macLength || !versionOK(b[0]) {
		return nil, ErrMalformed
	}
	m := &signalMessage{signed: b[:len(b)-macLength], mac: b[len(b)-macLength:]}
	var ratchetKey []byte
	err := readFields(m.signed[1:], func(number protowire.Number, value field) error {
		switch number {
		case 1:
			return value.bytes(&ratchetKey)
		case 2:
			return value.uint32(&m.counter)
		case 4:
			return value.bytes(&m.ciphertext)
		}
		// 3, the length of the chain before, is not needed: chains are kept until five newer ones are there.
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(m.ciphertext) == 0 || len(m.ciphertext)%aes.BlockSize != 0 || m.counter == math.MaxUint32 {
		return nil, ErrMalformed
	}
	m.ratchetKey, err = parseKey(ratchetKey)
	return m, err
}

func parsePreKeyMessage(b []byte) (*preKeyMessage, error) {
	if len(b) < 1 || !versionOK(b[0]) {
		return nil, ErrMalformed
	}
	m := &preKeyMessage{}
	var baseKey, identityKey []byte
	err := readFields(b[1:], func(number protowire.Number, value field) error {
		switch number {
		case 1:
			return value.uint32(&m.preKeyID)
		case 2:
			return value.bytes(&baseKey)
		case 3:
			return value.bytes(&identityKey)
		case 4:
			return value.bytes(&m.inner)
		case 5:
			return value.uint32(&m.registrationID)
		case 6:
			return value.uint32(&m.signedPreKeyID)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if m.baseKey, err = parseKey(baseKey); err != nil {
		return nil, err
	}
	m.identity, err = parseKey(identityKey)
	return m, err
}

// field is the value of a protobuf field: a number if kind is protowire.VarintType, data if protowire.BytesType.
type field struct {
	kind   protowire.Type
	number uint64
	data   []byte
}

func (f field) bytes(to *[]byte) error {
	if f.kind != protowire.BytesType {
		return ErrMalformed
	}
	*to = f.data
	return nil
}

func (f field) uint32(to *uint32) error {
	if f.kind != protowire.VarintType || f.number > math.MaxUint32 {
		return ErrMalformed
	}
	*to = uint32(f.number)
	return nil
}

// readFields walks over a protobuf message; see lets unknown numbers pass. As in protobuf the last of several values
// counts. The error is ErrMalformed.
func readFields(b []byte, see func(number protowire.Number, value field) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return ErrMalformed
		}
		b = b[n:]
		value := field{kind: kind}
		switch kind {
		case protowire.VarintType:
			value.number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			value.data, n = protowire.ConsumeBytes(b)
		case protowire.Fixed32Type, protowire.Fixed64Type:
			n = protowire.ConsumeFieldValue(number, kind, b)
		default:
			// Groups nest and are in no Signal message.
			return ErrMalformed
		}
		if n < 0 {
			return ErrMalformed
		}
		b = b[n:]
		if err := see(number, value); err != nil {
			return err
		}
	}
	return nil
}

// verify checks the MAC over the bytes as received: HMAC-SHA256 over both identity keys with type byte, the sender's first,
// and the signed bytes; the first macLength bytes of it.
func (m *signalMessage) verify(macKey []byte, sender, receiver []byte) bool {
	mac := hmac.New(sha256.New, macKey)
	mac.Write(sender)
	mac.Write(receiver)
	mac.Write(m.signed)
	var sum [sha256.Size]byte
	return hmac.Equal(mac.Sum(sum[:0])[:macLength], m.mac)
}

// library is m as libsignal's Builder takes it. The version there is the message's alone, and id 0 means no prekey, as
// everywhere in libsignal: our own ids begin at 1.
func (m *preKeyMessage) library() (*protocol.PreKeySignalMessage, error) {
	id := optional.NewEmptyUint32()
	if m.preKeyID != 0 {
		id = optional.NewOptionalUint32(m.preKeyID)
	}
	message, err := protocol.NewPreKeySignalMessageFromStruct(&protocol.PreKeySignalMessageStructure{
		RegistrationID: m.registrationID,
		PreKeyID:       id,
		SignedPreKeyID: m.signedPreKeyID,
		BaseKey:        typed(m.baseKey),
		IdentityKey:    typed(m.identity),
		Message:        m.inner,
		Version:        messageVersion,
	}, &serialize.ProtoBufPreKeySignalMessageSerializer{}, &serialize.ProtoBufSignalMessageSerializer{})
	if err != nil {
		return nil, libraryError(err)
	}
	return message, nil
}
