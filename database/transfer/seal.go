package transfer

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"postern/database"
)

// A sealed part is compressed (DEFLATE), cut into chunks, and each chunk is sealed with AES-256-GCM under a key that is the part's own: it follows from the master key, from
// a number that is drawn for each archive, and from the part's name. The nonce is the chunk's number and whether it is the last one, so that chunks
// cannot change places, parts, or archives, and none can be cut off.
const (
	sealChunk = 1 << 16 // bytes, all but the last one's
	saltSize  = 32
)

// maxLine is the longest row, in bytes as it is written.
const maxLine = 1 << 26

func partCipher(key [database.KeySize]byte, salt []byte, part string) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key[:], salt, "postern backup part "+part, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// chunkNonce never comes twice under one key: number counts up.
func chunkNonce(number uint64, last bool) []byte {
	nonce := make([]byte, 12)
	binary.BigEndian.PutUint64(nonce[3:], number)
	if last {
		nonce[11] = 1
	}
	return nonce
}

// sealer seals what is written to it; Close writes the last chunk.
type sealer struct {
	aead   cipher.AEAD
	to     io.Writer
	buffer []byte
	number uint64
}

func (s *sealer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(s.buffer) == sealChunk {
			if err := s.flush(false); err != nil {
				return n, err
			}
		}
		more := min(len(p), sealChunk-len(s.buffer))
		s.buffer = append(s.buffer, p[:more]...)
		n, p = n+more, p[more:]
	}
	return n, nil
}

func (s *sealer) flush(last bool) error {
	_, err := s.to.Write(s.aead.Seal(nil, chunkNonce(s.number, last), s.buffer, nil))
	s.buffer, s.number = s.buffer[:0], s.number+1
	return err
}

func (s *sealer) Close() error { return s.flush(true) }

// opener reads what a sealer wrote. It gives nothing back that it has not checked, and an error in the place of the end if that is not there.
type opener struct {
	aead   cipher.AEAD
	from   *bufio.Reader
	chunk  []byte // what is left of it
	sealed []byte
	number uint64
	ended  bool
}

func (o *opener) Read(p []byte) (int, error) {
	for len(o.chunk) == 0 {
		if o.ended {
			return 0, io.EOF
		}
		if err := o.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, o.chunk)
	o.chunk = o.chunk[n:]
	return n, nil
}

func (o *opener) next() error {
	n, err := io.ReadFull(o.from, o.sealed)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := o.from.Peek(1); errors.Is(err, io.EOF) {
		o.ended = true
	} else if err != nil {
		return err
	}
	if o.chunk, err = o.aead.Open(o.sealed[:0], chunkNonce(o.number, o.ended), o.sealed[:n], nil); err != nil {
		return errors.New("it was not sealed like this")
	}
	o.number++
	return nil
}

// sealTo has fill write a sealed part.
func sealTo(to io.Writer, aead cipher.AEAD, fill func(w io.Writer) error) error {
	sealed := &sealer{aead: aead, to: to, buffer: make([]byte, 0, sealChunk)}
	packed, err := flate.NewWriter(sealed, flate.DefaultCompression)
	if err != nil {
		return err
	}
	if err := fill(packed); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	return sealed.Close()
}

// lines gives fn each line of a sealed part, without its end; fn must not keep it. What it is given is known to come from whoever has the key; that nothing is wanting
// is known when it returns nil.
func lines(from io.Reader, aead cipher.AEAD, fn func(line []byte) error) error {
	opened := bufio.NewReader(&opener{aead: aead, from: bufio.NewReader(from), sealed: make([]byte, sealChunk+aead.Overhead())})
	unpacked := flate.NewReader(opened) // reads no further than to its own end, since opened reads bytes
	scanner := bufio.NewScanner(unpacked)
	scanner.Buffer(make([]byte, 0, sealChunk), maxLine)
	scanner.Split(wholeLines)
	for scanner.Scan() {
		if err := fn(scanner.Bytes()); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	if _, err := opened.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.Join(errors.New("something comes after its end"), err)
	}
	return nil
}

// wholeLines splits at line feeds, and takes no line without one.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if at := bytes.IndexByte(data, '\n'); at >= 0 {
		return at + 1, data[:at], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, fmt.Errorf("a line without an end")
	}
	return 0, nil, nil
}
