package noise

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// The three handshake messages are protobufs: an outer message with one
// sub-message, whose byte fields are picked out by number (PROTOCOL.md 4.2).
// They are read straight from the wire: few fields, no reflection, nothing
// allocated. Unknown fields are skipped, as protobuf demands.

// Field numbers of the outer message.
const (
	fieldClientHello  protowire.Number = 2
	fieldServerHello  protowire.Number = 3
	fieldClientFinish protowire.Number = 4
)

// Field numbers inside ClientHello and ServerHello.
const (
	fieldHelloEphemeral protowire.Number = 1
	fieldHelloStatic    protowire.Number = 2
	fieldHelloPayload   protowire.Number = 3
)

// Field numbers inside ClientFinish.
const (
	fieldFinishStatic  protowire.Number = 1
	fieldFinishPayload protowire.Number = 2
)

// hello is ClientHello or ServerHello. Slices point into the parsed frame.
type hello struct {
	ephemeral []byte // 32 bytes, in the clear
	static    []byte // ServerHello: 32 bytes and a tag
	payload   []byte // ServerHello: the certificate chain and a tag
}

// finish is ClientFinish.
type finish struct {
	static  []byte // 32 bytes and a tag
	payload []byte // the login payload and a tag
}

// eachField calls visit for the fields of a message. A field of type bytes comes
// with its value, any other with nil. It fails on bytes that are no protobuf.
func eachField(message []byte, visit func(num protowire.Number, typ protowire.Type, bytes []byte, varint uint64) error) error {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return ErrMalformed
		}
		message = message[n:]
		var value []byte
		var varint uint64
		switch typ {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(message)
		default:
			n = protowire.ConsumeFieldValue(num, typ, message)
		}
		if n < 0 {
			return ErrMalformed
		}
		message = message[n:]
		if err := visit(num, typ, value, varint); err != nil {
			return err
		}
	}
	return nil
}

// pick returns the byte fields whose numbers are given; one that is absent is nil,
// one that is there twice or has another type is an error.
func pick(message []byte, nums []protowire.Number, into []*[]byte) error {
	return eachField(message, func(num protowire.Number, typ protowire.Type, value []byte, _ uint64) error {
		for i, want := range nums {
			if num != want {
				continue
			}
			if typ != protowire.BytesType || *into[i] != nil {
				return ErrMalformed
			}
			if value == nil {
				value = []byte{}
			}
			*into[i] = value
		}
		return nil
	})
}

// inner returns the sub-message num of a handshake message.
func inner(frame []byte, num protowire.Number) ([]byte, error) {
	var sub []byte
	if err := pick(frame, []protowire.Number{num}, []*[]byte{&sub}); err != nil {
		return nil, err
	}
	if sub == nil {
		return nil, ErrMalformed
	}
	return sub, nil
}

func parseHello(frame []byte, num protowire.Number) (hello, error) {
	var h hello
	sub, err := inner(frame, num)
	if err != nil {
		return h, err
	}
	err = pick(sub,
		[]protowire.Number{fieldHelloEphemeral, fieldHelloStatic, fieldHelloPayload},
		[]*[]byte{&h.ephemeral, &h.static, &h.payload})
	if err == nil && len(h.ephemeral) != KeySize {
		err = ErrMalformed
	}
	return h, err
}

// parseClientHello reads the first message. A static key or a payload in it would
// be another handshake pattern (IK), which is not spoken here.
func parseClientHello(frame []byte) (hello, error) {
	h, err := parseHello(frame, fieldClientHello)
	if err == nil && (len(h.static) != 0 || len(h.payload) != 0) {
		err = ErrMalformed
	}
	return h, err
}

func parseServerHello(frame []byte) (hello, error) {
	h, err := parseHello(frame, fieldServerHello)
	if err == nil && (len(h.static) != KeySize+TagSize || len(h.payload) < TagSize) {
		err = ErrMalformed
	}
	return h, err
}

func parseClientFinish(frame []byte) (finish, error) {
	var f finish
	sub, err := inner(frame, fieldClientFinish)
	if err != nil {
		return f, err
	}
	err = pick(sub,
		[]protowire.Number{fieldFinishStatic, fieldFinishPayload},
		[]*[]byte{&f.static, &f.payload})
	if err == nil && (len(f.static) != KeySize+TagSize || len(f.payload) < TagSize) {
		err = ErrMalformed
	}
	return f, err
}

// appendBytes appends a byte field.
func appendBytes(dst []byte, num protowire.Number, value []byte) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendBytes(dst, value)
}

func (h hello) marshal(num protowire.Number) []byte {
	sub := appendBytes(nil, fieldHelloEphemeral, h.ephemeral)
	if h.static != nil {
		sub = appendBytes(sub, fieldHelloStatic, h.static)
	}
	if h.payload != nil {
		sub = appendBytes(sub, fieldHelloPayload, h.payload)
	}
	return appendBytes(nil, num, sub)
}

func (f finish) marshal() []byte {
	sub := appendBytes(nil, fieldFinishStatic, f.static)
	sub = appendBytes(sub, fieldFinishPayload, f.payload)
	return appendBytes(nil, fieldClientFinish, sub)
}
