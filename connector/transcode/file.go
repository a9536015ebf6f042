package transcode

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// base returns a MIME type in lower case, without parameters.
func base(mimetype string) string {
	mimetype, _, _ = strings.Cut(mimetype, ";")
	return strings.ToLower(strings.TrimSpace(mimetype))
}

// withoutPath is an error of a file without the file's name, which may be a user's.
func withoutPath(err error) error {
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// sniffFile returns the type of a file's content.
func sniffFile(f *os.File) (string, error) {
	head := make([]byte, SniffBytes)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read file: %w", withoutPath(err))
	}
	return Sniff(head[:n]), nil
}

// byteReader reads small pieces and stays at the end once it is there.
type byteReader struct{ in *bufio.Reader }

func newByteReader(r io.Reader) *byteReader { return &byteReader{bufio.NewReaderSize(r, 4096)} }

// next returns the next byte, -1 at the end.
func (r *byteReader) next() int {
	b, err := r.in.ReadByte()
	if err != nil {
		return -1
	}
	return int(b)
}

// take returns the next few bytes, nil if they are not there.
func (r *byteReader) take(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil
	}
	return b
}

func (r *byteReader) skip(n int) { _, _ = r.in.Discard(n) }

// webpChunks returns where the chunks of a WebP file's picture begin and end, the first
// one's if it is animated (WebP container specification).
func webpChunks(file io.ReaderAt) (from, to int64, animated bool) {
	var head [30]byte
	if n, _ := file.ReadAt(head[:], 0); n < len(head) || string(head[12:16]) != "VP8X" || head[20]&2 == 0 {
		return 12, maxFile, false
	}
	from, to, ok := findChunk(file, 12, maxFile, "ANMF")
	if !ok || to-from < 24 {
		return 0, 0, true
	}
	return from + 16, to, true
}

// webpSize returns the size of the picture among chunks, which the decoder goes by,
// whatever the file's header says.
func webpSize(file io.ReaderAt, from, to int64) (width, height int) {
	var b [10]byte
	if at, end, ok := findChunk(file, from, to, "VP8 "); ok && end-at >= 10 { // RFC 6386, 9.1
		if n, _ := file.ReadAt(b[:], at); n == 10 {
			width = int(binary.LittleEndian.Uint16(b[6:]) & 0x3fff)
			height = int(binary.LittleEndian.Uint16(b[8:]) & 0x3fff)
		}
	}
	if at, end, ok := findChunk(file, from, to, "VP8L"); ok && end-at >= 5 { // WebP lossless, 3
		if n, _ := file.ReadAt(b[:5], at); n == 5 {
			bits := binary.LittleEndian.Uint32(b[1:])
			width, height = max(width, int(bits&0x3fff)+1), max(height, int(bits>>14&0x3fff)+1)
		}
	}
	return width, height
}

// firstPicture returns the first picture of an animated WebP, whose chunks are there, as
// a WebP file of its own. The canvas around it is left out.
func firstPicture(file io.ReaderAt, from, to int64) io.Reader {
	length := uint32(to - from) //nolint:gosec // a chunk's
	var b []byte
	if _, _, lossless := findChunk(file, from, to, "VP8L"); lossless {
		// A lossless picture says everything itself, and its reader wants no VP8X.
		b = append(binary.LittleEndian.AppendUint32([]byte("RIFF"), 4+length), "WEBP"...)
	} else {
		b = append(binary.LittleEndian.AppendUint32([]byte("RIFF"), 4+18+length), "WEBPVP8X\x0a\x00\x00\x00"...)
		flags := byte(0)
		if _, _, alpha := findChunk(file, from, to, "ALPH"); alpha {
			flags = 0x10
		}
		width, height := webpSize(file, from, to)
		w, h := max(0, width-1), max(0, height-1)
		b = append(b, flags, 0, 0, 0, byte(w), byte(w>>8), 0, byte(h), byte(h>>8), 0)
	}
	return io.MultiReader(bytes.NewReader(b), io.NewSectionReader(file, from, to-from))
}

// findChunk looks for a chunk of a RIFF file between two offsets, and returns where its
// content begins and ends.
func findChunk(file io.ReaderAt, from, to int64, name string) (int64, int64, bool) {
	for chunks := 0; to-from >= 8 && chunks < maxBoxes; chunks++ {
		var b [8]byte
		if n, _ := file.ReadAt(b[:], from); n < len(b) {
			return 0, 0, false
		}
		length := int64(binary.LittleEndian.Uint32(b[4:]))
		if from += 8; length > to-from {
			return 0, 0, false
		}
		if string(b[:4]) == name {
			return from, from + length, true
		}
		from += length + length&1
	}
	return 0, 0, false
}
