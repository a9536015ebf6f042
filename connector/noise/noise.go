// Package noise is the encrypted link under a stream: the handshake
// Noise_XX_25519_AESGCM_SHA256 as initiator or responder, and after it frames of
// ciphertext in both directions.
//
// Layer: it works over any byte stream and knows nothing of what the frames
// hold; binxml comes above it. It must not import any other package of this
// module: the bridge and the sandbox share it.
//
// It implements PROTOCOL.md 4.2 (handshake, certificate chain), the framing of
// 4.1 and 4.8, and the counters of 4.9. Two dialects exist: WhatsApp's, which
// leaves the hash of the empty first payload out of the transcript, and the
// strict one of the Noise specification, revision 34.
//
// The link is not resumable: an error in one direction sticks to it, and the
// stream above has to be made anew.
package noise

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// Sizes of the link, in bytes.
const (
	// KeySize is the length of every key: X25519 and AES-256.
	KeySize = 32
	// TagSize is what encryption adds to a plaintext (AES-GCM).
	TagSize = 16
	// MaxFrame is the largest body a frame can announce: its length has three bytes
	// (PROTOCOL.md 4.8).
	MaxFrame = 1<<24 - 1
	// DefaultReadLimit is the largest frame body accepted when a configuration does
	// not say: 1 MiB of node (PROTOCOL.md 4.8) and a margin for flag, tag and the
	// overhead of data that zlib could not shrink.
	DefaultReadLimit = 1<<20 + 1<<10
	// MaxHandshakeMessage bounds each frame read during the handshake. The largest
	// is the client's, with a token of 4,096 bytes at most (PROTOCOL.md 2.1).
	MaxHandshakeMessage = 16 << 10
	// MaxFramesPerKey is the number of frames one direction carries before it stops
	// with ErrExhausted: half of what a 32-bit counter could count, so that no
	// implementation's counter comes near to wrapping.
	MaxFramesPerKey = 1 << 31

	frameHeaderSize = 3
)

// DefaultIntro is what an initiator sends ahead of its first frame, and the
// prologue of the handshake: `WA`, magic 6, dictionary version 3
// (PROTOCOL.md 4.2).
var DefaultIntro = [4]byte{'W', 'A', 6, 3}

// Mode is the dialect of the handshake transcript (PROTOCOL.md 4.2).
type Mode uint8

const (
	// ModeWhatsApp leaves the hash of the empty payload of the first message out of
	// the transcript.
	ModeWhatsApp Mode = iota
	// ModeStrict mixes it in, as the Noise specification says (EncryptAndHash of an
	// empty payload, section 5.2).
	ModeStrict
)

// Errors of the link. Those of the handshake come wrapped in a *HandshakeError.
var (
	// ErrIntro: the initiator did not begin with the intro that was agreed.
	ErrIntro = errors.New("noise: not the intro of this protocol")
	// ErrFrameTooLarge: a frame announced, or was to have, more bytes than allowed.
	ErrFrameTooLarge = errors.New("noise: frame too large")
	// ErrFrameTooShort: a frame has not even the bytes of its authentication tag.
	ErrFrameTooShort = errors.New("noise: frame too short")
	// ErrDecrypt: a frame or a handshake field failed its authentication.
	ErrDecrypt = errors.New("noise: authentication failed")
	// ErrExhausted: a direction has carried MaxFramesPerKey frames; a new stream is
	// needed, the counter never wraps.
	ErrExhausted = errors.New("noise: frame counter exhausted")
	// ErrLowOrder: a public key of the other side gave the all-zero shared secret,
	// so it contributed nothing.
	ErrLowOrder = errors.New("noise: low-order public key")
	// ErrMalformed: a handshake message is not the protobuf it should be, or a part
	// of it is missing or has the wrong size.
	ErrMalformed = errors.New("noise: malformed handshake message")
	// ErrKeyPair: the two halves of a configured key pair do not belong together.
	ErrKeyPair = errors.New("noise: private and public key do not match")
	// ErrRootKey: no root key, or an unusable one, was configured.
	ErrRootKey = errors.New("noise: unusable root key")
)

// HandshakeError says at which step the handshake ended, and why.
type HandshakeError struct {
	// Step is one of "intro", "client hello", "server hello", "certificate",
	// "client finish".
	Step string
	// Err is one of this package's errors, a *CertificateError, an error of the
	// byte stream beneath, or the context's.
	Err error
}

// Error returns step and cause; it never holds bytes of the other side.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("noise: handshake: %s: %v", e.Step, e.Err)
}

// Unwrap returns the cause.
func (e *HandshakeError) Unwrap() error { return e.Err }

// KeyPair is an X25519 key pair. Both halves are 32 raw bytes (RFC 7748).
type KeyPair struct {
	Private, Public [KeySize]byte
}

// GenerateKeyPair draws a key pair from random; nil means crypto/rand.
func GenerateKeyPair(random io.Reader) (KeyPair, error) {
	if random == nil {
		random = rand.Reader
	}
	var private [KeySize]byte
	if _, err := io.ReadFull(random, private[:]); err != nil {
		return KeyPair{}, fmt.Errorf("noise: draw key pair: %w", err)
	}
	return KeyPairFromPrivate(private)
}

// KeyPairFromPrivate computes the public half. Any 32 bytes are a private key; it
// is stored as given and clamped in use (RFC 7748 section 5).
func KeyPairFromPrivate(private [KeySize]byte) (KeyPair, error) {
	key, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		return KeyPair{}, fmt.Errorf("noise: derive public key: %w", err)
	}
	kp := KeyPair{Private: private}
	copy(kp.Public[:], key.PublicKey().Bytes())
	return kp, nil
}

// key returns the pair in the form the key agreement needs, after checking that its
// halves belong together: a pair restored from damaged storage would otherwise
// fail at the other side, as an authentication error without a reason.
func (kp KeyPair) key() (*ecdh.PrivateKey, error) {
	key, err := ecdh.X25519().NewPrivateKey(kp.Private[:])
	if err != nil {
		return nil, fmt.Errorf("noise: load key pair: %w", err)
	}
	if [KeySize]byte(key.PublicKey().Bytes()) != kp.Public {
		return nil, ErrKeyPair
	}
	return key, nil
}
