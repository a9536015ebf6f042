package transcode

import (
	"encoding/binary"
	"io"
	"math"
	"time"
)

// movie is what the boxes of an MP4 or QuickTime file say about it (ISO 14496-12).
type movie struct {
	duration      time.Duration
	width, height int // as shown
	rotated       bool
	video, audio  string // the sample entries' names, as avc1 and mp4a; "" for none
	tracks        int
}

// Bounds of reading boxes.
const (
	maxBoxes  = 4096
	maxTracks = 64
)

// boxReader walks the boxes of a file, looking at headers and a few fields only.
type boxReader struct {
	file  io.ReaderAt
	boxes int // seen so far
}

// each calls f for each child between two offsets, with where its content begins and
// ends, until one is not sound or too many were seen.
func (r *boxReader) each(from, to int64, f func(kind string, from, to int64)) {
	for at := from; to-at >= 8; {
		var b [16]byte
		if n, _ := r.file.ReadAt(b[:8], at); n < 8 {
			return
		}
		header, size := int64(8), int64(binary.BigEndian.Uint32(b[:]))
		switch size {
		case 0:
			size = to - at
		case 1:
			if n, _ := r.file.ReadAt(b[8:], at+8); n < 8 {
				return
			}
			header, size = 16, int64(binary.BigEndian.Uint64(b[8:])&math.MaxInt64)
		}
		if r.boxes++; size < header || size > to-at || r.boxes > maxBoxes {
			return
		}
		f(string(b[4:8]), at+header, at+size)
		at += size
	}
}

// field returns n big-endian bytes at an offset in a box, 0 if they are not in it.
func (r *boxReader) field(from, to, offset int64, n int) uint64 {
	var b [8]byte
	if offset > to-from-int64(n) {
		return 0
	}
	if read, _ := r.file.ReadAt(b[8-n:], from+offset); read < n {
		return 0
	}
	return binary.BigEndian.Uint64(b[:])
}

// readMovie reads the boxes of a file; false if it has no moov box.
func readMovie(file io.ReaderAt, size int64) (m movie, ok bool) {
	r := &boxReader{file: file}
	r.each(0, size, func(kind string, from, to int64) {
		if kind == "moov" && !ok {
			ok = true
			m.read(r, from, to)
		}
	})
	return m, ok
}

func (m *movie) read(r *boxReader, from, to int64) {
	var scale, fragments uint64
	r.each(from, to, func(kind string, from, to int64) {
		switch kind {
		case "mvhd":
			var length uint64
			scale, length = r.times(from, to, 12, 20)
			m.duration = duration(length, scale)
		case "trak":
			if m.tracks++; m.tracks <= maxTracks {
				m.track(r, from, to)
			}
		case "mvex":
			r.each(from, to, func(kind string, from, to int64) {
				if kind == "mehd" {
					fragments = r.field(from, to, 4, 4<<(r.field(from, to, 0, 1)&1))
				}
			})
		}
	})
	if m.duration == 0 {
		m.duration = duration(fragments, scale)
	}
}

// times reads a time scale and a length, whose place and size depend on the version.
func (r *boxReader) times(from, to, short, long int64) (scale, length uint64) {
	if r.field(from, to, 0, 1) == 1 {
		return r.field(from, to, long, 4), r.field(from, to, long+4, 8)
	}
	if length = r.field(from, to, short+4, 4); length == math.MaxUint32 {
		length = 0 // not known
	}
	return r.field(from, to, short, 4), length
}

// duration is a number of units, so many of which are a second; 0 if it makes no sense.
func duration(units, scale uint64) time.Duration {
	if scale == 0 || units/scale > 1<<32 {
		return 0
	}
	return time.Duration(units/scale)*time.Second + time.Duration(units%scale*uint64(time.Second)/scale)
}

// track reads a trak box.
func (m *movie) track(r *boxReader, from, to int64) {
	var width, height int
	var turned bool
	var handler, entry string
	r.each(from, to, func(kind string, from, to int64) {
		switch kind {
		case "tkhd":
			// The matrix and the size end the box; a turn by a quarter has nothing on
			// the matrix's diagonal.
			matrix := int64(40)
			if r.field(from, to, 0, 1) == 1 {
				matrix = 52
			}
			turned = r.field(from, to, matrix, 4) == 0 && r.field(from, to, matrix+4, 4) != 0
			width, height = int(r.field(from, to, matrix+36, 4)>>16), int(r.field(from, to, matrix+40, 4)>>16)
		case "mdia":
			handler, entry = r.media(from, to)
		}
	})
	switch {
	case handler == "soun" && m.audio == "":
		m.audio = entry
	case handler == "vide" && m.video == "":
		if turned {
			width, height = height, width
		}
		m.video, m.width, m.height, m.rotated = entry, width, height, turned
	}
}

// media returns the handler and the first sample entry's name of a mdia box.
func (r *boxReader) media(from, to int64) (handler, entry string) {
	r.each(from, to, func(kind string, from, to int64) {
		switch kind {
		case "hdlr":
			handler = word(r.field(from, to, 8, 4))
		case "minf":
			r.each(from, to, func(kind string, from, to int64) {
				if kind != "stbl" {
					return
				}
				r.each(from, to, func(kind string, from, to int64) {
					if kind == "stsd" {
						entry = r.sampleEntry(from, to)
					}
				})
			})
		}
	})
	return handler, entry
}

// sampleEntry returns the name of the first entry of a stsd box. H.264 of a profile that
// phones do not play (ISO 14496-10, A.2: Baseline, Main, Extended and High are played) is
// "avc?".
func (r *boxReader) sampleEntry(from, to int64) string {
	entry := word(r.field(from, to, 12, 4))
	if entry != "avc1" && entry != "avc3" {
		return entry
	}
	const fields = 8 + 8 + 78 // the box's own, the entry's header, those of a picture
	r.each(from+fields, to, func(kind string, from, to int64) {
		if kind != "avcC" {
			return
		}
		switch r.field(from, to, 1, 1) {
		case 66, 77, 88, 100:
		default:
			entry = "avc?"
		}
	})
	return entry
}

// word is a box's name.
func word(field uint64) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(field)))
}

// stillSize returns the size of the largest picture that a HEIC or AVIF file describes
// (ISO 23008-12, 6.5.3), which is the whole one and not a tile of it.
func stillSize(file io.ReaderAt, size int64) (width, height int) {
	r := &boxReader{file: file}
	r.each(0, size, func(kind string, from, to int64) {
		if kind != "meta" || to-from < 4 {
			return
		}
		r.each(from+4, to, func(kind string, from, to int64) {
			if kind != "iprp" {
				return
			}
			r.each(from, to, func(kind string, from, to int64) {
				if kind != "ipco" {
					return
				}
				r.each(from, to, func(kind string, from, to int64) {
					w, h := int(r.field(from, to, 4, 4)), int(r.field(from, to, 8, 4))
					if kind == "ispe" && uint64(w)*uint64(h) > uint64(width)*uint64(height) {
						width, height = w, h
					}
				})
			})
		})
	})
	return width, height
}
