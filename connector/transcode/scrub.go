package transcode

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// Scrub returns a file of the given MIME type (parameters do not matter) without what
// says where and with what it was taken: in JPEG, all of EXIF but the orientation, XMP,
// IPTC and what other programs append; in PNG, texts, EXIF and the time; in MP4, 3GPP
// and QuickTime, the places that are noted in it, and XMP; in WebP, HEIC and AVIF, EXIF and
// XMP, if in the latter two they stand behind what says where they are, as they do. Other
// types, TIFF among them, whose parts may stand in any order, and from the first thing on
// that is not understood the rest of a file, come through as they are. All but JPEG and PNG
// keep their length to the byte, since they have offsets into themselves; a file that has
// nothing of the kind is not changed.
//
// It reads as it is read, holding at most 72 KiB, or where items are described, as in HEIC
// and AVIF, 1.2 MiB, and returns
// the errors of r.
func Scrub(mimetype string, r io.Reader) io.Reader {
	var step func(*scrubber)
	switch base(mimetype) {
	case jpegType, "image/jpg":
		step = (&jpegScrub{}).step
	case pngType:
		step = (&pngScrub{}).step
	case webpType:
		step = (&riffScrub{}).step
	case mp4Type, gppType, gpp2Type, movType, m4aType, "audio/3gpp", "video/x-m4v", "audio/x-m4a",
		heicType, avifType, "image/heif", "image/heic-sequence", "image/heif-sequence":
		step = (&boxScrub{}).step
	default:
		return r
	}
	return &scrubber{in: bufio.NewReaderSize(r, scrubBuffer), step: step}
}

// scrubBuffer holds the longest segment of a JPEG.
const scrubBuffer = 2 + math.MaxUint16 + maxFill

// scrubber carries out what the steps of one format decide.
type scrubber struct {
	in *bufio.Reader
	// step looks at what comes next and sets some of the following; if it sets none,
	// or is nil, the rest passes.
	step func(*scrubber)
	emit []byte // handed out first
	// Then so many bytes of the input pass, are left out, become zeros, in this order.
	pass, drop, blank int64
	err               error // comes when all of that is done
}

const toTheEnd = math.MaxInt64

// Read implements io.Reader.
func (s *scrubber) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(s.emit) > 0:
			n := copy(p, s.emit)
			s.emit = s.emit[n:]
			return n, nil
		case s.pass > 0:
			n, err := s.in.Read(p[:min(int64(len(p)), s.pass)])
			s.pass -= int64(n)
			return n, err
		case s.drop > 0:
			n, err := s.in.Discard(int(min(s.drop, math.MaxInt32)))
			if s.drop -= int64(n); err != nil {
				return 0, err
			}
		case s.blank > 0:
			n, err := s.in.Read(p[:min(int64(len(p)), s.blank)])
			s.blank -= int64(n)
			clear(p[:n])
			return n, err
		case s.err != nil:
			return 0, s.err
		default:
			if s.step != nil {
				s.step(s)
			}
			if len(s.emit) == 0 && s.pass|s.blank|s.drop == 0 && s.err == nil {
				s.step, s.pass = nil, toTheEnd
			}
		}
	}
}

// peek returns the next n bytes without taking them. If there are not so many, what is
// left passes as it is, then comes the error, and ok is false.
func (s *scrubber) peek(n int) (b []byte, ok bool) {
	b, err := s.in.Peek(n)
	if err == nil {
		return b, true
	}
	s.step, s.pass, s.err = nil, int64(len(b)), err
	if errors.Is(err, bufio.ErrBufferFull) {
		s.pass, s.err = toTheEnd, nil // more than any format's step asks for
	}
	return nil, false
}

// end passes the last n bytes of a picture and leaves out what stands behind it.
func (s *scrubber) end(n int64) {
	s.pass, s.drop = n, toTheEnd
	s.step = func(s *scrubber) { s.drop = toTheEnd }
}

// jpegScrub walks the segments of a JPEG (ISO 10918-1, annex B).
type jpegScrub struct {
	begun  bool
	inScan bool // in the picture's data, which ends with the next marker
	after  bool // there was some of that
	exif   bool // there was an orientation already
}

// maxFill is how many bytes may fill up before a marker.
const maxFill = 64

func (j *jpegScrub) step(s *scrubber) {
	if j.inScan {
		j.scan(s)
		return
	}
	b, ok := s.peek(2)
	if !ok || b[0] != 0xff || !j.begun && b[1] != 0xd8 {
		return
	}
	j.begun = true
	fill := 0 // belongs to the marker
	for b[1+fill] == 0xff && fill < maxFill {
		fill++
		if b, ok = s.peek(2 + fill); !ok {
			return
		}
	}
	switch marker := b[1+fill]; {
	case marker == 0, marker == 0xff:
		return
	case marker == 0xd8, marker == 0x01, marker >= 0xd0 && marker <= 0xd7: // no length
		s.pass = int64(2 + fill)
		return
	case marker == 0xd9:
		s.end(int64(2 + fill))
		return
	}
	if b, ok = s.peek(4 + fill); !ok {
		return
	}
	length := int(binary.BigEndian.Uint16(b[2+fill:]))
	if length < 2 {
		return
	}
	if b, ok = s.peek(2 + fill + length); ok {
		j.segment(s, b, 4+fill)
	}
}

// segment decides about one that is whole in b, whose content begins after its header.
func (j *jpegScrub) segment(s *scrubber, b []byte, header int) {
	content, all := b[header:], int64(len(b))
	switch marker := b[header-3]; {
	case marker == 0xda:
		s.pass, j.inScan, j.after = all, true, true
	case marker == 0xe2 && bytes.HasPrefix(content, []byte("ICC_PROFILE\x00")), // colours
		marker == 0xe0, // what JFIF says
		marker == 0xee, // Adobe's word on colours, without which they come out wrong
		marker < 0xe0, marker > 0xef:
		s.pass = all
	case j.after: // what follows may be data, so this stays between
		s.emit, s.drop, s.blank = bytes.Clone(b[:header]), int64(header), all-int64(header)
	case marker == 0xe1 && bytes.HasPrefix(content, []byte(exifMark)) && !j.exif:
		s.drop = all
		if o := exifOrientation(bytes.NewReader(content[len(exifMark):])); o > 1 {
			s.emit, j.exif = orientationSegment(o), true
		}
	default:
		s.drop = all
	}
}

// scan passes the picture's data up to the next marker.
func (j *jpegScrub) scan(s *scrubber) {
	if _, ok := s.peek(2); !ok {
		return
	}
	b, _ := s.in.Peek(s.in.Buffered())
	for i := 0; i+1 < len(b); i++ {
		if b[i] != 0xff || b[i+1] == 0 || b[i+1] >= 0xd0 && b[i+1] <= 0xd7 {
			continue
		}
		if j.inScan = false; i == 0 {
			j.step(s)
			return
		}
		s.pass = int64(i)
		return
	}
	s.pass = int64(len(b) - 1)
}

// pngScrub walks the chunks of a PNG (PNG specification, 5).
type pngScrub struct{ begun bool }

// pngHeld are the chunks that tell about the picture what it does not show.
var pngHeld = map[string]bool{"tEXt": true, "zTXt": true, "iTXt": true, "eXIf": true, "tIME": true}

func (p *pngScrub) step(s *scrubber) {
	b, ok := s.peek(8)
	if !ok {
		return
	}
	if !p.begun {
		if p.begun = string(b) == "\x89PNG\r\n\x1a\n"; p.begun {
			s.pass = 8
		}
		return
	}
	length, kind := binary.BigEndian.Uint32(b), string(b[4:8])
	if length > math.MaxInt32 {
		return
	}
	all := int64(length) + 12
	switch {
	case kind == "IEND":
		s.end(all)
	case pngHeld[kind]:
		s.drop = all
	default:
		s.pass = all
	}
}
