package transcode

import (
	"bufio"
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

// firstPicture returns the first picture of an animated WebP as a WebP file of its own,
// nil if it is not animated (WebP container specification). The canvas around it is
// left out.
func firstPicture(file io.ReaderAt) io.Reader {
	var head [30]byte
	if n, _ := file.ReadAt(head[:], 0); n < len(head) || string(head[12:16]) != "VP8X" || head[20]&2 == 0 {
		return nil
	}
	from, to, ok := findChunk(file, 12, maxFile, "ANMF")
	if !ok || to-from < 24 {
		return nil
	}
	var frame [16]byte
	if n, _ := file.ReadAt(frame[:], from); n < len(frame) {
		return nil
	}
	from += 16
	const headers = 12 + 18 // the file's and VP8X
	b := make([]byte, 0, headers)
	b = append(b, "RIFF"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(headers-8+to-from))
	b = append(b, "WEBPVP8X\x0a\x00\x00\x00"...)
	flags := byte(0)
	if _, _, alpha := findChunk(file, from, to, "ALPH"); alpha {
		flags = 0x10
	}
	b = append(b, flags, 0, 0, 0)
	b = append(b, frame[6:12]...) // width and height
	if _, _, lossless := findChunk(file, from, to, "VP8L"); lossless {
		// A lossless picture says everything itself, and its reader wants no VP8X.
		b = binary.LittleEndian.AppendUint32(append(b[:0], "RIFF"...), uint32(4+to-from))
		b = append(b, "WEBP"...)
	}
	return io.MultiReader(strings.NewReader(string(b)), io.NewSectionReader(file, from, to-from))
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
