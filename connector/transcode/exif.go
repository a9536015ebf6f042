package transcode

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"os"
)

// exifMark begins an EXIF segment of a JPEG; a TIFF file follows.
const exifMark = "Exif\x00\x00"

// orientationTag is the number of the field that says how a picture is to be turned
// (TIFF 6.0, Orientation).
const orientationTag = 0x0112

// exifOrientation returns the orientation, 1 to 8, that the first directory of a TIFF
// has, and 0 if it has none.
func exifOrientation(tiff io.ReaderAt) int {
	var b [12]byte
	if _, err := tiff.ReadAt(b[:8], 0); err != nil {
		return 0
	}
	var order binary.ByteOrder
	switch string(b[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 0
	}
	offset := int64(order.Uint32(b[4:]))
	if _, err := tiff.ReadAt(b[:2], offset); err != nil {
		return 0
	}
	fields := int64(order.Uint16(b[:]))
	for i := range fields {
		if n, _ := tiff.ReadAt(b[:], offset+2+12*i); n < len(b) {
			return 0
		}
		const short = 3
		if order.Uint16(b[:]) != orientationTag || order.Uint16(b[2:]) != short || order.Uint32(b[4:]) != 1 {
			continue
		}
		if o := int(order.Uint16(b[8:])); o >= 1 && o <= 8 {
			return o
		}
		return 0
	}
	return 0
}

// orientationSegment is an EXIF segment that has the orientation and nothing else.
func orientationSegment(o int) []byte {
	b := []byte("\xff\xe1\x00\x22" + exifMark + "MM\x00*\x00\x00\x00\x08\x00\x01")
	b = binary.BigEndian.AppendUint16(b, orientationTag)
	b = append(b, 0, 3, 0, 0, 0, 1, 0, byte(o), 0, 0)
	return append(b, 0, 0, 0, 0) // no further directory
}

// jpegHeader is what the segments of a JPEG before the picture say.
type jpegHeader struct {
	orientation int  // 0 if there is none
	progressive bool // decoding takes several times the memory
}

// readJPEGHeader walks the segments up to the picture, as far as they are sound.
func readJPEGHeader(r io.Reader) (h jpegHeader) {
	in := bufio.NewReaderSize(r, scrubBuffer)
	if b, err := in.Peek(2); err != nil || b[0] != 0xff || b[1] != 0xd8 {
		return h
	}
	_, _ = in.Discard(2)
	for range 10_000 {
		b, err := in.Peek(4)
		if err != nil || b[0] != 0xff {
			return h
		}
		marker, length := b[1], int(binary.BigEndian.Uint16(b[2:]))
		switch {
		case marker == 0xff:
			_, _ = in.Discard(1)
			continue
		case marker == 0xc2, marker == 0xc6, marker == 0xca:
			h.progressive = true
		case marker == 0xda, marker == 0xd9, length < 2:
			return h
		}
		if b, err = in.Peek(2 + length); err != nil {
			return h
		}
		if content := b[4:]; marker == 0xe1 && h.orientation == 0 && bytes.HasPrefix(content, []byte(exifMark)) {
			h.orientation = exifOrientation(bytes.NewReader(content[len(exifMark):]))
		}
		_, _ = in.Discard(2 + length)
	}
	return h
}

// orientationOf returns how the picture of a file is to be turned; 1 is not at all.
func orientationOf(f *os.File, mimetype string) int {
	o := 0
	switch mimetype {
	case jpegType:
		o = readJPEGHeader(io.NewSectionReader(f, 0, maxFile)).orientation
	case tiffType:
		o = exifOrientation(f)
	}
	return max(o, 1)
}

// maxFile is longer than any file that is looked at.
const maxFile = 1 << 40
