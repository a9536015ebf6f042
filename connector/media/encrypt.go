package media

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

// Encrypt reads src to its end and writes the encrypted file to dst, in one pass and
// in pieces of at most 32 KiB (PROTOCOL.md 7.1). The descriptor has everything that the message
// needs. A key must be used for one attachment only; take it from NewKey. An error of
// src or dst is wrapped; what dst has got by then is to be thrown away.
func Encrypt(dst io.Writer, src io.Reader, kind Kind, key [KeySize]byte) (Descriptor, error) {
	k, err := derive(key, kind)
	if err != nil {
		return Descriptor{}, fmt.Errorf("encrypt attachment: %w", err)
	}
	block, err := aes.NewCipher(k.cipher[:])
	if err != nil {
		return Descriptor{}, fmt.Errorf("encrypt attachment: make cipher: %w", err)
	}
	e := encrypter{
		cbc:   cipher.NewCBCEncrypter(block, k.iv[:]),
		plain: sha256.New(), whole: sha256.New(), mac: hmac.New(sha256.New, k.mac[:]),
	}
	e.mac.Write(k.iv[:])
	d := Descriptor{Kind: kind, Key: key}
	if d.Length, err = e.body(dst, src); err != nil {
		return Descriptor{}, fmt.Errorf("encrypt attachment: %w", err)
	}
	tag := e.mac.Sum(nil)[:macSize]
	if err = write(dst, tag); err != nil {
		return Descriptor{}, fmt.Errorf("encrypt attachment: %w", err)
	}
	e.whole.Write(tag)
	e.whole.Sum(d.EncSHA256[:0])
	e.plain.Sum(d.SHA256[:0])
	d.EncLength = EncryptedLength(d.Length)
	return d, nil
}

// encrypter is one Encrypt. All of it runs on one goroutine: handing pieces to another
// costs more processor time than it saves time while other work waits for a core.
type encrypter struct {
	cbc               cipher.BlockMode
	plain, whole, mac hash.Hash // of the plaintext, of the file, and the file's HMAC
}

// body encrypts all of src and returns its length. A plaintext that ends with a piece
// is followed by a piece of padding alone, so there is always room for it.
func (e *encrypter) body(dst io.Writer, src io.Reader) (length int64, err error) {
	buffer := make([]byte, chunk)
	for last := false; !last; {
		n, err := fill(src, buffer)
		if last = err == io.EOF; err != nil && !last { //nolint:errorlint // fill's own
			return 0, fmt.Errorf("read plaintext: %w", err)
		}
		if length += int64(n); length < 0 || length > maxLength {
			return 0, ErrLength
		}
		e.plain.Write(buffer[:n])
		if last {
			n = pad(buffer, n)
		}
		piece := buffer[:n]
		e.cbc.CryptBlocks(piece, piece)
		e.whole.Write(piece)
		e.mac.Write(piece)
		if err = write(dst, piece); err != nil {
			return 0, err
		}
	}
	return length, nil
}

// pad appends 1 to 16 bytes, each with their number, to the first n, which are fewer
// than the buffer holds (RFC 5652, 6.3), and returns the new length.
func pad(buffer []byte, n int) int {
	padding := blockSize - n%blockSize
	for i := range padding {
		buffer[n+i] = byte(padding)
	}
	return n + padding
}

// emptyReads is how often a reader may give nothing and no error in a row.
const emptyReads = 100

// fill reads until the buffer is full; fewer bytes come with io.EOF, the end of src.
func fill(src io.Reader, buffer []byte) (n int, err error) {
	for empty := 0; n < len(buffer); {
		read, err := src.Read(buffer[n:])
		n += read
		if err == io.EOF {
			if n == len(buffer) {
				return n, nil // the next call meets the end again
			}
			return n, io.EOF
		}
		if err != nil {
			return n, err
		}
		if read > 0 {
			empty = 0
		} else if empty++; empty == emptyReads {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// write writes all of a piece.
func write(dst io.Writer, piece []byte) error {
	n, err := dst.Write(piece)
	if err == nil && n != len(piece) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
