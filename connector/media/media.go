// Package media encrypts and decrypts attachments the way WhatsApp's phones do:
// AES-256-CBC and a short HMAC under keys that are derived from one key of the
// attachment's own, which travels in the message. It implements PROTOCOL.md 7.1.
//
// Layer: a codec beside stanza and e2ee, used by the connector and by the
// sandbox. It imports nothing of this module; in particular it must not know
// Matrix, the media store, or where bytes come from or go to.
//
// Everything is streamed through buffers of fixed size, whatever the length of the
// attachment.
package media

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Kind is what an attachment is. It goes into the derivation of the keys, so both
// sides must take the same (PROTOCOL.md 7.1).
type Kind uint8

// The kinds. Stickers are images, GIFs and video notes are videos, voice messages
// are audio. The thumbnails are those that are attachments of their own, not the
// small JPEGs inside a message.
const (
	Image Kind = iota + 1
	Video
	Audio
	Document
	LinkThumbnail
	ImageThumbnail
	VideoThumbnail
	DocumentThumbnail
)

// infos are the strings that the keys of each kind are derived with.
var infos = [...]string{
	Image:             "WhatsApp Image Keys",
	Video:             "WhatsApp Video Keys",
	Audio:             "WhatsApp Audio Keys",
	Document:          "WhatsApp Document Keys",
	LinkThumbnail:     "WhatsApp Link Thumbnail Keys",
	ImageThumbnail:    "WhatsApp Image Thumbnail Keys",
	VideoThumbnail:    "WhatsApp Video Thumbnail Keys",
	DocumentThumbnail: "WhatsApp Document Thumbnail Keys",
}

var names = [...]string{
	Image: "image", Video: "video", Audio: "audio", Document: "document", LinkThumbnail: "link thumbnail",
	ImageThumbnail: "image thumbnail", VideoThumbnail: "video thumbnail", DocumentThumbnail: "document thumbnail",
}

// info returns the string for the derivation, "" for what is no kind.
func (k Kind) info() string {
	if int(k) >= len(infos) {
		return ""
	}
	return infos[k]
}

// String is the kind in a word or two.
func (k Kind) String() string {
	if k.info() == "" {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return names[k]
}

// Sizes in bytes.
const (
	// KeySize is the length of an attachment's key.
	KeySize = 32
	// macSize is what is kept of the HMAC at the end of the file.
	macSize = 10
	// blockSize is that of AES, and the greatest padding.
	blockSize = 16
	// chunk is what is read, encrypted and written at a time; a multiple of
	// blockSize. A call needs one or two such buffers.
	chunk = 32 << 10
	// maxLength is the most bytes of plaintext that have an encrypted length.
	maxLength = 1<<63 - 1 - blockSize - macSize
)

// Errors of Decrypt, in the order in which it checks. ErrKind and ErrLength come also
// from Encrypt.
var (
	// ErrKind: the Kind is none of the constants.
	ErrKind = errors.New("no such kind of attachment")
	// ErrLength: the file has not the length that the descriptor says, or one that no
	// encrypted file has.
	ErrLength = errors.New("wrong length")
	// ErrHash: the file's SHA-256 is not the descriptor's.
	ErrHash = errors.New("wrong hash of the encrypted file")
	// ErrMAC: the file was not made with this key, or not as this kind.
	ErrMAC = errors.New("wrong MAC")
	// ErrPadding: the plaintext does not end as PKCS#7 wants.
	ErrPadding = errors.New("wrong padding")
	// ErrPlainHash: the plaintext's SHA-256 is not the descriptor's.
	ErrPlainHash = errors.New("wrong hash of the plaintext")
)

// Descriptor is what a receiver must know of an encrypted attachment, as messages
// carry it (PROTOCOL.md 7.1, 7.5).
type Descriptor struct {
	// Kind and Key are what the file's keys are derived from.
	Kind Kind
	Key  [KeySize]byte
	// SHA256 is the plaintext's hash, EncSHA256 that of the whole encrypted file.
	SHA256, EncSHA256 [sha256.Size]byte
	// Length is the plaintext's in bytes, negative if it is not known. EncLength is the
	// encrypted file's in bytes, 0 if it is not known: messages do not have it.
	Length, EncLength int64
}

// String names the kind only, so that a key is never printed by accident.
func (d Descriptor) String() string { return "attachment (" + d.Kind.String() + ")" }

// GoString is String.
func (d Descriptor) GoString() string { return d.String() }

// NewKey returns a new random key for one attachment.
func NewKey() (key [KeySize]byte) {
	_, _ = rand.Read(key[:]) // never fails: it ends the program instead
	return key
}

// EncryptedLength returns the length in bytes of the encrypted file of a plaintext of
// so many bytes, or -1 if there is none: a negative one, or within 26 bytes of 2^63.
func EncryptedLength(plain int64) int64 {
	if plain < 0 || plain > maxLength {
		return -1
	}
	return plain - plain%blockSize + blockSize + macSize
}

// keys are what one attachment's key gives.
type keys struct {
	iv     [blockSize]byte
	cipher [32]byte
	mac    [32]byte
}

// derive expands an attachment's key (PROTOCOL.md 7.1). Of the 112 bytes, the last 32
// are for nothing that partners do.
func derive(key [KeySize]byte, kind Kind) (k keys, err error) {
	info := kind.info()
	if info == "" {
		return k, ErrKind
	}
	out, err := hkdf.Key(sha256.New, key[:], nil, info, 112)
	if err != nil {
		return k, fmt.Errorf("derive keys: %w", err)
	}
	copy(k.iv[:], out)
	copy(k.cipher[:], out[16:])
	copy(k.mac[:], out[48:])
	return k, nil
}
