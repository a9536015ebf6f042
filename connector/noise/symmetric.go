package noise

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// protocolName is exactly as long as a hash, so it is used unhashed as the first
// h and ck (Noise section 5.2, InitializeSymmetric).
const protocolName = "Noise_XX_25519_AESGCM_SHA256\x00\x00\x00\x00"

// cipherState is a key and its counter (Noise section 5.1).
type cipherState struct {
	aead    cipher.AEAD
	counter uint64
	nonce   [12]byte
}

func newCipherState(key []byte) (*cipherState, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("noise: set up cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("noise: set up cipher: %w", err)
	}
	return &cipherState{aead: aead}, nil
}

// next writes the nonce of the coming operation: four zero bytes and the counter,
// big-endian (Noise section 12.4). It refuses to go past MaxFramesPerKey.
func (c *cipherState) next() error {
	if c.counter >= MaxFramesPerKey {
		return ErrExhausted
	}
	binary.BigEndian.PutUint64(c.nonce[4:], c.counter)
	c.counter++
	return nil
}

// seal appends the encryption of plaintext to dst.
func (c *cipherState) seal(dst, plaintext, additional []byte) ([]byte, error) {
	if err := c.next(); err != nil {
		return nil, err
	}
	return c.aead.Seal(dst, c.nonce[:], plaintext, additional), nil
}

// open appends the decryption of ciphertext to dst, which may be ciphertext[:0].
func (c *cipherState) open(dst, ciphertext, additional []byte) ([]byte, error) {
	if err := c.next(); err != nil {
		return nil, err
	}
	plaintext, err := c.aead.Open(dst, c.nonce[:], ciphertext, additional)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

// symmetricState is the running transcript hash and chaining key of a handshake
// (Noise section 5.2).
type symmetricState struct {
	hash   [sha256.Size]byte
	chain  [sha256.Size]byte
	cipher *cipherState // nil until the first mixKey
}

func newSymmetricState(prologue []byte) *symmetricState {
	s := &symmetricState{}
	copy(s.hash[:], protocolName)
	s.chain = s.hash
	s.mixHash(prologue)
	return s
}

func (s *symmetricState) mixHash(data []byte) {
	h := sha256.New()
	h.Write(s.hash[:])
	h.Write(data)
	h.Sum(s.hash[:0])
}

// mixKey takes the result of a key agreement in, and starts a new cipher key with
// counter 0.
func (s *symmetricState) mixKey(secret []byte) error {
	chain, key, err := s.derive(secret)
	if err != nil {
		return err
	}
	s.chain = [sha256.Size]byte(chain)
	s.cipher, err = newCipherState(key)
	return err
}

// mixDH is mixKey of the key agreement between ours and theirs. Go's X25519
// refuses the all-zero result that a low-order point gives.
func (s *symmetricState) mixDH(ours *ecdh.PrivateKey, theirs *ecdh.PublicKey) error {
	secret, err := ours.ECDH(theirs)
	if err != nil {
		return ErrLowOrder
	}
	return s.mixKey(secret)
}

// derive is Noise's HKDF with two outputs (section 4.3).
func (s *symmetricState) derive(secret []byte) (first, second []byte, err error) {
	out, err := hkdf.Key(sha256.New, secret, s.chain[:], "", 2*sha256.Size)
	if err != nil {
		return nil, nil, fmt.Errorf("noise: derive keys: %w", err)
	}
	return out[:sha256.Size], out[sha256.Size:], nil
}

func (s *symmetricState) encryptAndHash(plaintext []byte) ([]byte, error) {
	ciphertext, err := s.cipher.seal(nil, plaintext, s.hash[:])
	if err != nil {
		return nil, err
	}
	s.mixHash(ciphertext)
	return ciphertext, nil
}

// decryptAndHash leaves the ciphertext as it is: the transcript needs it.
func (s *symmetricState) decryptAndHash(ciphertext []byte) ([]byte, error) {
	plaintext, err := s.cipher.open(nil, ciphertext, s.hash[:])
	if err != nil {
		return nil, err
	}
	s.mixHash(ciphertext)
	return plaintext, nil
}

// split gives the two transport ciphers: the initiator's writing one first.
func (s *symmetricState) split() (initiator, responder *cipherState, err error) {
	first, second, err := s.derive(nil)
	if err != nil {
		return nil, nil, err
	}
	if initiator, err = newCipherState(first); err != nil {
		return nil, nil, err
	}
	responder, err = newCipherState(second)
	return initiator, responder, err
}
