package e2ee

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"io"

	"go.mau.fi/libsignal/ecc"
)

// Device is the long-term identity of one account: what must survive for its contacts to see the same person.
type Device struct {
	IdentityPrivate [32]byte // X25519, clamped; secret
	IdentityPublic  [32]byte // without the type byte
	RegistrationID  uint32   // 1–16380
}

// registrationIDs is how many registration ids there are; they begin at 1.
const registrationIDs = 16380

// Versions in the first byte of stored keys.
const (
	deviceVersion = 1
	keyVersion    = 1
)

// NewDevice makes a new identity from random, or from the system's source if random is nil.
func NewDevice(random io.Reader) (*Device, error) {
	pair, err := newPair(random)
	if err != nil {
		return nil, failed("make identity", err)
	}
	// The modulus is small against 2^64: the bias is below 2^-50.
	var number [8]byte
	if _, err = io.ReadFull(source(random), number[:]); err != nil {
		return nil, failed("make identity", err)
	}
	return &Device{
		IdentityPrivate: pair.private,
		IdentityPublic:  pair.public,
		RegistrationID:  uint32(binary.BigEndian.Uint64(number[:])%registrationIDs) + 1,
	}, nil
}

// Marshal is the stored form: version, registration id (4 bytes), private key (32 bytes). It is secret.
func (d *Device) Marshal() []byte {
	b := make([]byte, 0, 37)
	b = append(b, deviceVersion)
	b = binary.BigEndian.AppendUint32(b, d.RegistrationID)
	return append(b, d.IdentityPrivate[:]...)
}

// UnmarshalDevice reads what Marshal made. The error is ErrKeyStored.
func UnmarshalDevice(stored []byte) (*Device, error) {
	if len(stored) != 37 || stored[0] != deviceVersion {
		return nil, failed("read identity", ErrKeyStored)
	}
	d := &Device{RegistrationID: binary.BigEndian.Uint32(stored[1:])}
	copy(d.IdentityPrivate[:], stored[5:])
	private, err := ecdh.X25519().NewPrivateKey(d.IdentityPrivate[:])
	if err != nil {
		return nil, failed("read identity", ErrKeyStored)
	}
	copy(d.IdentityPublic[:], private.PublicKey().Bytes())
	return d, nil
}

// PreKey is a one-time prekey: used by at most one message, then deleted.
type PreKey struct {
	ID      uint32 // 1–MaxKeyID
	Public  [32]byte
	Private [32]byte // secret
}

// SignedPreKey is a medium-term prekey, signed by the identity key.
type SignedPreKey struct {
	ID        uint32 // 1–MaxKeyID
	Public    [32]byte
	Private   [32]byte // secret
	Signature [64]byte // XEdDSA over 0x05 and Public
}

// MaxPreKeys is how many prekeys GeneratePreKeys makes at once.
const MaxPreKeys = 4096

// GeneratePreKeys makes n one-time prekeys with ids from start on; after MaxKeyID comes 1. start is 1–MaxKeyID, n at
// most MaxPreKeys. They belong to d only in that d's account stores and publishes them.
func (d *Device) GeneratePreKeys(start uint32, n int) ([]PreKey, error) {
	if start < 1 || start > MaxKeyID || n < 0 || n > MaxPreKeys {
		return nil, failed("make prekeys", ErrInvalidKey)
	}
	keys := make([]PreKey, n)
	for i := range keys {
		pair, err := newPair(nil)
		if err != nil {
			return nil, failed("make prekeys", err)
		}
		id := uint32((uint64(start)-1+uint64(i))%MaxKeyID) + 1
		keys[i] = PreKey{ID: id, Public: pair.public, Private: pair.private}
	}
	return keys, nil
}

// GenerateSignedPreKey makes a signed prekey. id is 1–MaxKeyID.
func (d *Device) GenerateSignedPreKey(id uint32) (SignedPreKey, error) {
	if id < 1 || id > MaxKeyID {
		return SignedPreKey{}, failed("make signed prekey", ErrInvalidKey)
	}
	pair, err := newPair(nil)
	if err != nil {
		return SignedPreKey{}, failed("make signed prekey", err)
	}
	key := SignedPreKey{ID: id, Public: pair.public, Private: pair.private}
	key.Signature = ecc.CalculateSignature(ecc.NewDjbECPrivateKey(d.IdentityPrivate), typed(key.Public))
	return key, nil
}

// Marshal is the stored form: version, public key, private key. It is secret. The id is not in it.
func (k *PreKey) Marshal() []byte {
	b := make([]byte, 0, 65)
	b = append(b, keyVersion)
	b = append(b, k.Public[:]...)
	return append(b, k.Private[:]...)
}

// UnmarshalPreKey reads what Marshal made. The error is ErrKeyStored.
func UnmarshalPreKey(id uint32, stored []byte) (PreKey, error) {
	if len(stored) != 65 || stored[0] != keyVersion {
		return PreKey{}, failed("read prekey", ErrKeyStored)
	}
	return PreKey{ID: id, Public: [32]byte(stored[1:33]), Private: [32]byte(stored[33:65])}, nil
}

// Marshal is the stored form: version, public key, private key, signature. It is secret. The id is not in it.
func (k *SignedPreKey) Marshal() []byte {
	b := make([]byte, 0, 129)
	b = append(b, keyVersion)
	b = append(b, k.Public[:]...)
	b = append(b, k.Private[:]...)
	return append(b, k.Signature[:]...)
}

// UnmarshalSignedPreKey reads what Marshal made. The error is ErrKeyStored.
func UnmarshalSignedPreKey(id uint32, stored []byte) (SignedPreKey, error) {
	if len(stored) != 129 || stored[0] != keyVersion {
		return SignedPreKey{}, failed("read signed prekey", ErrKeyStored)
	}
	return SignedPreKey{
		ID:        id,
		Public:    [32]byte(stored[1:33]),
		Private:   [32]byte(stored[33:65]),
		Signature: [64]byte(stored[65:129]),
	}, nil
}

// Bundle is what the gatekeeper hands out about a peer, to begin a session with (PROTOCOL.md 5.1). Keys are without the
// type byte.
type Bundle struct {
	RegistrationID uint32
	Identity       [32]byte
	Signed         BundleSignedKey
	PreKey         *BundleKey // nil: the peer has no one-time prekey left
}

// BundleKey is the public half of a one-time prekey.
type BundleKey struct {
	ID  uint32
	Key [32]byte
}

// BundleSignedKey is the public half of a signed prekey.
type BundleSignedKey struct {
	ID        uint32
	Key       [32]byte
	Signature [64]byte // XEdDSA by the identity key over 0x05 and Key
}

// Bundle is the public side of d with these keys; oneTime may be nil.
func (d *Device) Bundle(signed SignedPreKey, oneTime *PreKey) Bundle {
	b := Bundle{
		RegistrationID: d.RegistrationID,
		Identity:       d.IdentityPublic,
		Signed:         BundleSignedKey{ID: signed.ID, Key: signed.Public, Signature: signed.Signature},
	}
	if oneTime != nil {
		b.PreKey = &BundleKey{ID: oneTime.ID, Key: oneTime.Public}
	}
	return b
}

type pair struct{ private, public [32]byte }

// source is random or, if that is nil, the system's source.
func source(random io.Reader) io.Reader {
	if random == nil {
		return rand.Reader
	}
	return random
}

// newPair makes an X25519 key pair. The private half is stored clamped, as libsignal stores it.
func newPair(random io.Reader) (pair, error) {
	var p pair
	if _, err := io.ReadFull(source(random), p.private[:]); err != nil {
		return pair{}, err
	}
	p.private[0] &= 248
	p.private[31] &= 127
	p.private[31] |= 64
	private, err := ecdh.X25519().NewPrivateKey(p.private[:])
	if err != nil {
		return pair{}, err
	}
	copy(p.public[:], private.PublicKey().Bytes())
	return p, nil
}
