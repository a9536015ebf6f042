package noise

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// protocolName is exactly as long as a hash, so it is used unhashed as the first
// h and ck (Noise section 5.2, InitializeSymmetric).
const protocolName = "Noise_XX_25519_AESGCM_SHA256\x00\x00\x00\x00"

// cipherState is a key and its counter (Noise section 5.1).
type cipherState struct {
	key     [KeySize]byte
	aead    cipher.AEAD // nil while at rest: made of key, it is twenty times as large
	counter uint64
	used    time.Duration // when it was used last, since epoch
	often   int           // frames without a pause of restAfter
	nonce   [12]byte
}

// A cipher rests after each frame, until there were so many without a pause of restAfter: to make it anew costs a microsecond or two,
// which is much for one of thousands of frames.
const (
	restAfter = time.Second
	restBurst = 16
)

// epoch is when used began to count.
var epoch = time.Now()

func newCipherState(key []byte) (*cipherState, error) {
	c := &cipherState{key: [KeySize]byte(key)}
	return c, c.work()
}

// work makes what the cipher works with, if it rests.
func (c *cipherState) work() error {
	if c.aead != nil {
		return nil
	}
	block, err := aes.NewCipher(c.key[:])
	if err != nil {
		return fmt.Errorf("noise: set up cipher: %w", err)
	}
	if c.aead, err = cipher.NewGCM(block); err != nil {
		return fmt.Errorf("noise: set up cipher: %w", err)
	}
	return nil
}

// rest lets go of what work has made, unless the cipher is used often. It is called after a frame.
func (c *cipherState) rest() {
	now := time.Since(epoch)
	if now-c.used >= restAfter {
		c.often = 0
	}
	c.used = now
	if c.often++; c.often <= restBurst {
		c.aead = nil
	}
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
	if err := c.work(); err != nil {
		return nil, err
	}
	if err := c.next(); err != nil {
		return nil, err
	}
	return c.aead.Seal(dst, c.nonce[:], plaintext, additional), nil
}

// open appends the decryption of ciphertext to dst, which may be ciphertext[:0].
func (c *cipherState) open(dst, ciphertext, additional []byte) ([]byte, error) {
	if err := c.work(); err != nil {
		return nil, err
	}
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
