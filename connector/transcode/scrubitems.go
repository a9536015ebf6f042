package transcode

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"math"
	"slices"
)

// Bounds of what is read about the items of a file.
const (
	maxItems   = 1 << 20 // the bytes of the box that describes them
	maxExtents = 4096
)

// extent is a part of something, in bytes from its beginning.
type extent struct{ from, to int64 }

func (e extent) meets(other extent) bool { return e.from < other.to && other.from < e.to }

// items reads which parts of a HEIF or AVIF file are EXIF or XMP (ISO 14496-12, 8.11;
// ISO 23008-12, annex A). The pictures are items too, and all stand beside each other.
type items struct {
	boxReader                  // of the meta box alone
	at         int64           // where that stands in the file
	told       map[uint64]bool // items that tell about a picture what it does not show
	iloc, idat extent          // these boxes' contents, in the meta box
	extents    int             // seen so far
	held, kept []extent        // in the file: of those items, and of all others
}

// itemExtents returns, sorted, which parts of the file EXIF and XMP are, by a meta box
// that stands at an offset and whose children begin after its header. Those that stand in
// the box itself become zeros at once.
func itemExtents(meta []byte, header, at int64) []extent {
	m := items{boxReader: boxReader{file: bytes.NewReader(meta)}, at: at, told: map[uint64]bool{}}
	m.each(header, int64(len(meta)), func(kind string, from, to int64) {
		switch kind {
		case "iinf":
			m.info(from, to)
		case "iloc":
			m.iloc = extent{from, to}
		case "idat":
			m.idat = extent{from, to}
		}
	})
	if len(m.told) == 0 {
		return nil
	}
	m.locate()
	// Where a picture would be hit, the file is not what it says.
	held := slices.DeleteFunc(m.held, func(e extent) bool { return slices.ContainsFunc(m.kept, e.meets) })
	slices.SortFunc(held, func(a, b extent) int { return cmp.Compare(a.from, b.from) })
	for _, e := range held {
		if from, to := max(e.from-at, m.idat.from), min(e.to-at, m.idat.to); from < to {
			clear(meta[from:to])
		}
	}
	return held
}

// info reads an iinf box: the items that are EXIF or of a MIME type, which is XMP's.
func (m *items) info(from, to int64) {
	entries := from + 6
	if m.field(from, to, 0, 1) > 0 {
		entries += 2
	}
	m.each(entries, to, func(kind string, from, to int64) {
		number, id := 2, int64(2)
		switch version := m.field(from, to, 0, 1); {
		case kind != "infe" || version < 2 || version > 3:
			return
		case version == 3:
			number, id = 4, 4
		}
		if what := word(m.field(from, to, 4+id+2, 4)); what == "Exif" || what == "mime" {
			m.told[m.field(from, to, 4, number)] = true
		}
	})
}

// locate reads the iloc box.
func (m *items) locate() {
	at, to := m.iloc.from, m.iloc.to
	next := func(n uint64) uint64 {
		v := m.field(at, to, 0, int(n))
		at += int64(n)
		return v
	}
	version := next(1)
	next(3)
	sizes := next(2)
	offset, length, base, index := sizes>>12, sizes>>8&15, sizes>>4&15, sizes&15
	number := uint64(2)
	switch version {
	case 0:
		index = 0
	case 1:
	case 2:
		number = 4
	default:
		return
	}
	for _, n := range []uint64{offset, length, base, index} {
		if n != 0 && n != 4 && n != 8 {
			return
		}
	}
	for count := next(number); count > 0 && at < to; count-- {
		item, method := next(number), uint64(0)
		if version > 0 {
			method = next(2) & 15
		}
		next(2) // whose file it is in: there is only this one
		start := next(base)
		for n := next(2); n > 0; n-- {
			if m.extents++; m.extents > maxExtents {
				return
			}
			next(index)
			from := start + next(offset)
			m.note(item, method, from, next(length))
		}
	}
}

// note remembers where a part of an item is: by the file (0) or by the idat box (1).
func (m *items) note(item, method, from, length uint64) {
	const far = math.MaxInt64 / 4
	if length == 0 || length > far || from > far || method > 1 {
		return
	}
	e := extent{int64(from), int64(from + length)}
	if method == 1 {
		e.from, e.to = e.from+m.at+m.idat.from, e.to+m.at+m.idat.from
	}
	if m.told[item] {
		m.held = append(m.held, e)
	} else {
		m.kept = append(m.kept, e)
	}
}

// look reads a whole meta box ahead, to know which parts of the following data are
// metadata. The box comes again as what is read next.
func (x *boxScrub) look(s *scrubber, header, size int64) {
	x.looked = true
	var b bytes.Buffer
	b.Grow(int(size) + bytes.MinRead)
	_, err := b.ReadFrom(io.LimitReader(s.in, size))
	meta, behind := b.Bytes(), io.Reader(s.in)
	switch {
	case err != nil:
		behind = failing{err}
	case int64(len(meta)) == size:
		x.held = itemExtents(meta, header+4, x.at)
	}
	s.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(meta), behind), scrubBuffer)
}

// failing is a reader that has nothing but an error.
type failing struct{ err error }

// Read implements io.Reader.
func (f failing) Read([]byte) (int, error) { return 0, f.err }

// data passes what is in an mdat box, but for the metadata in it.
func (x *boxScrub) data(s *scrubber) {
	end := x.top().end
	for len(x.held) > 0 && x.held[0].to <= x.at {
		x.held = x.held[1:]
	}
	switch {
	case len(x.held) == 0 || x.held[0].from >= end:
		x.pass(s, end-x.at)
	case x.held[0].from > x.at:
		x.pass(s, x.held[0].from-x.at)
	default:
		s.blank = min(x.held[0].to, end) - x.at
		x.skip(s.blank)
	}
}
