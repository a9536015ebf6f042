package transcode

import (
	"bytes"
	"encoding/binary"
)

// riffScrub walks the chunks of a WebP file (WebP container specification). EXIF and XMP
// keep their length and become zeros, and the header no longer says that they are there;
// the orientation goes with them, since readers of WebP rarely look at it.
type riffScrub struct {
	begun bool
	rest  int64 // of a chunk whose beginning was changed
}

// webpTold are the header's flags for EXIF and XMP.
const webpTold = 0x08 | 0x04

func (w *riffScrub) step(s *scrubber) {
	if w.rest > 0 {
		s.pass, w.rest = w.rest, 0
		return
	}
	if !w.begun {
		b, ok := s.peek(12)
		if ok && string(b[:4]) == "RIFF" && string(b[8:]) == "WEBP" {
			w.begun, s.pass = true, 12
		}
		return
	}
	b, ok := s.peek(8)
	if !ok {
		return
	}
	length := int64(binary.LittleEndian.Uint32(b[4:]))
	padded := length + length&1
	switch string(b[:4]) {
	case "VP8X":
		if length == 0 {
			break
		}
		if b, ok = s.peek(9); !ok {
			return
		}
		b = bytes.Clone(b)
		b[8] &^= webpTold
		s.emit, s.drop, w.rest = b, 9, padded-1
		return
	case "EXIF", "XMP ":
		s.emit, s.drop, s.blank = bytes.Clone(b), 8, padded
		return
	}
	s.pass = 8 + padded
}
