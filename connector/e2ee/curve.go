package e2ee

import (
	"go.mau.fi/libsignal/ecc"
)

// typedKeyLength is the length of a public key behind its type byte, which is ecc.DjbType.
const typedKeyLength = 33

// lowOrder holds every encoding (top bit clear) of the u-coordinates whose points have an order that divides 8, on the
// curve or its twist: 0, 1, the two of order 8, p-1, and those above p that mean 0 and 1. A key agreement with any of
// them gives all zeros whatever the private key is, so nobody's secret is in the result. RFC 7748 section 6.1 allows to
// refuse this; libsignal does not look.
var lowOrder = [...][32]byte{
	{},
	{1},
	{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
	{0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57},
	nearPrime(0xec), // p-1
	nearPrime(0xed), // p, that is 0
	nearPrime(0xee), // p+1, that is 1
}

// nearPrime is the encoding of 2^255 - 256 + low.
func nearPrime(low byte) [32]byte {
	var key [32]byte
	for i := range key {
		key[i] = 0xff
	}
	key[0], key[31] = low, 0x7f
	return key
}

// usable says whether a key agreement with key can give a secret, and whether key is the one spelling of what it stands
// for: below the prime 2^255 - 19 and without the top bit, which X25519 does not look at. Nobody makes others, and a base
// key, which no MAC covers, could otherwise be spelt anew to have a first message read twice.
func usable(key [32]byte) bool {
	prime := nearPrime(0xed)
	for i := 31; i >= 0 && key[i] >= prime[i]; i-- {
		if key[i] > prime[i] || i == 0 {
			return false
		}
	}
	for i := range lowOrder {
		if key == lowOrder[i] {
			return false
		}
	}
	return true
}

// parseKey reads a public key with its type byte.
func parseKey(b []byte) ([32]byte, error) {
	if len(b) != typedKeyLength || b[0] != ecc.DjbType {
		return [32]byte{}, ErrInvalidKey
	}
	key := [32]byte(b[1:])
	if !usable(key) {
		return [32]byte{}, ErrInvalidKey
	}
	return key, nil
}

// typed puts the type byte before key.
func typed(key [32]byte) []byte {
	return append([]byte{ecc.DjbType}, key[:]...)
}

// verify checks the keys of a bundle and the signature over its signed prekey.
func (b *Bundle) verify() error {
	if !usable(b.Identity) || !usable(b.Signed.Key) || b.Signed.ID > MaxKeyID {
		return ErrInvalidKey
	}
	if b.PreKey != nil && (!usable(b.PreKey.Key) || b.PreKey.ID > MaxKeyID) {
		return ErrInvalidKey
	}
	return guard(func() error {
		if !ecc.VerifySignature(ecc.NewDjbECPublicKey(b.Identity), typed(b.Signed.Key), b.Signed.Signature) {
			return ErrSignature
		}
		return nil
	})
}
