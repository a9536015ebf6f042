package sandbox

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// keptEncryptions is how many encryptions of one message are remembered by their place.
const keptEncryptions = 16

// encryption is one ciphertext of a partner: its place in a ratchet, and its digest.
type encryption struct {
	Place  blob // ratchet key and counter
	Digest blob // SHA-256 of the ciphertext
}

// placeOf is the ratchet key and the counter in the head of a ciphertext, which are what its key follows from; nil if it has none.
func placeOf(typ string, body []byte) []byte {
	if typ == "pkmsg" {
		if len(body) < 1 {
			return nil
		}
		inner, ok := fieldBytes(body[1:], 4)
		if !ok {
			return nil
		}
		body = inner
	}
	const version, mac = 1, 8
	if len(body) < version+mac {
		return nil
	}
	body = body[version : len(body)-mac]
	key, ok := fieldBytes(body, 1)
	if !ok || len(key) > 64 {
		return nil
	}
	counter, ok := fieldVarint(body, 2)
	if !ok {
		return nil
	}
	return binary.BigEndian.AppendUint64(slices.Clone(key), counter)
}

func fieldBytes(b []byte, number protowire.Number) (value []byte, ok bool) {
	eachField(b, func(n protowire.Number, t protowire.Type, v []byte) {
		if n == number && t == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(v)
			ok = true
		}
	})
	return value, ok
}

func fieldVarint(b []byte, number protowire.Number) (value uint64, ok bool) {
	eachField(b, func(n protowire.Number, t protowire.Type, v []byte) {
		if n == number && t == protowire.VarintType {
			value, _ = protowire.ConsumeVarint(v)
			ok = true
		}
	})
	return value, ok
}

// eachField goes through the fields of a message up to what cannot be read.
func eachField(b []byte, take func(n protowire.Number, t protowire.Type, value []byte)) {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, typ, b); n < 0 {
			return
		}
		take(number, typ, b[:n])
		b = b[n:]
	}
}

// noteEncryption complains if the place of a ciphertext in its ratchet was that of another one before: then one message key
// has encrypted two messages, which gives both away. It also looks at what no phone is shown, such as a second encryption under an
// id. m is the id's, and is changed.
func (c change) noteEncryption(s *Server, a *account, m *seen, typ string, body, digest []byte) {
	place := placeOf(typ, body)
	if place == nil {
		return // no phone reads it either
	}
	if before, ok := a.places[string(place)]; ok {
		if string(before) != string(digest) {
			c.complain(s, a, "6.0", "one message key for two messages")
		}
		return
	}
	if len(m.Encryptions) >= keptEncryptions {
		return
	}
	e := encryption{Place: place, Digest: slices.Clone(digest)}
	m.Encryptions = append(m.Encryptions, e)
	a.places[string(place)] = e.Digest
	c.put(m)
}

// forgetSeen forgets an id and the places of what came under it.
func (c change) forgetSeen(a *account, m *seen) {
	for _, e := range m.Encryptions {
		delete(a.places, string(e.Place))
	}
	delete(a.seen, m.ID)
	c.drop(m)
}
