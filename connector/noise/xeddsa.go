package noise

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"io"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// XEdDSA: Ed25519 signatures made with X25519 keys (Signal, "The XEdDSA and VXEdDSA
// Signature Schemes", revision 1). Certificates of the handshake are signed so.

// signatureSize is the length of a signature, in bytes.
const signatureSize = 64

// sign returns the XEdDSA signature of message under an X25519 private key, with 64
// bytes drawn from random (nil: crypto/rand).
func sign(private [KeySize]byte, message []byte, random io.Reader) ([]byte, error) {
	if random == nil {
		random = rand.Reader
	}
	var z [64]byte
	if _, err := io.ReadFull(random, z[:]); err != nil {
		return nil, fmt.Errorf("noise: draw signature nonce: %w", err)
	}
	// calculate_key_pair: the Edwards key is taken with sign bit 0, and the scalar
	// negated where that needs it.
	scalar, err := edwards25519.NewScalar().SetBytesWithClamping(private[:])
	if err != nil {
		return nil, fmt.Errorf("noise: load signing key: %w", err)
	}
	public := new(edwards25519.Point).ScalarBaseMult(scalar).Bytes()
	if public[31]&0x80 != 0 {
		scalar.Negate(scalar)
		public[31] &= 0x7f
	}
	// hash_1 has the prefix 2^256 - 1 - 1, little-endian.
	prefix := [32]byte{0xfe}
	for i := 1; i < len(prefix); i++ {
		prefix[i] = 0xff
	}
	nonce, err := reduce(prefix[:], scalar.Bytes(), message, z[:])
	if err != nil {
		return nil, err
	}
	commitment := new(edwards25519.Point).ScalarBaseMult(nonce).Bytes()
	challenge, err := reduce(commitment, public, message)
	if err != nil {
		return nil, err
	}
	s := edwards25519.NewScalar().MultiplyAdd(challenge, scalar, nonce)
	return append(commitment, s.Bytes()...), nil
}

// reduce is SHA-512 of the parts, as a scalar.
func reduce(parts ...[]byte) (*edwards25519.Scalar, error) {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p)
	}
	s, err := edwards25519.NewScalar().SetUniformBytes(h.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("noise: reduce hash: %w", err)
	}
	return s, nil
}

// verify says whether signature is one of message under the X25519 public key.
// Bit 7 of the last byte is the Edwards key's sign, as older signers leave it there;
// the specification's own signers leave it 0.
func verify(public [KeySize]byte, message, signature []byte) bool {
	if len(signature) != signatureSize || !usableKey(public) {
		return false
	}
	key, ok := edwardsKey(public)
	if !ok {
		return false
	}
	sig := [signatureSize]byte(signature)
	key[31] |= sig[63] & 0x80
	sig[63] &= 0x7f
	return ed25519.Verify(key[:], message, sig[:])
}

// edwardsKey maps the Montgomery u coordinate to the Edwards y, sign bit 0:
// y = (u - 1) / (u + 1).
func edwardsKey(public [KeySize]byte) (key [KeySize]byte, ok bool) {
	u, err := new(field.Element).SetBytes(public[:])
	if err != nil {
		return key, false
	}
	// A value not reduced modulo p, or with its top bit set, is refused: two texts
	// for one key are one too many.
	if [KeySize]byte(u.Bytes()) != public {
		return key, false
	}
	one := new(field.Element).One()
	below := new(field.Element).Invert(new(field.Element).Add(u, one))
	y := new(field.Element).Multiply(new(field.Element).Subtract(u, one), below)
	return [KeySize]byte(y.Bytes()), true
}

// usableKey says whether an X25519 public key is a point that signatures can be
// checked with. Under a point of small order, the all-zero key of a forgotten
// configuration among them, anyone can make signatures that verify.
func usableKey(public [KeySize]byte) bool {
	key, ok := edwardsKey(public)
	if !ok {
		return false
	}
	point, err := new(edwards25519.Point).SetBytes(key[:])
	if err != nil {
		return false
	}
	return new(edwards25519.Point).MultByCofactor(point).Equal(edwards25519.NewIdentityPoint()) == 0
}
