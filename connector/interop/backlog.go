package interop

import "slices"

// backlog is the part of a chat's queue that is in memory: a prefix of what is
// on disk, in order. What does not fit is left on disk and read when the prefix
// is used up, so that a long queue costs no memory. Its owner serialises calls.
//
// A place in the order is taken (reserve) before the row is committed, and
// filled or dropped afterwards; the rows behind an open place wait for it.
type backlog[T any] struct {
	rows []entry[T]
	// last is the highest sequence number that was ever in rows.
	last int64
	// spilled says that the disk has more than rows.
	spilled bool
	// open counts places that were reserved while spilled and not yet settled;
	// turn counts all of these. Both tell a page read from disk whether it can
	// have missed one.
	open int
	turn int
}

type entry[T any] struct {
	seq   int64
	row   T
	ready bool
}

// reserve takes the place of a row that is about to be committed. Sequence
// numbers grow from call to call.
func (b *backlog[T]) reserve(seq int64, room int) {
	if !b.spilled && len(b.rows) < room {
		b.rows = append(b.rows, entry[T]{seq: seq})
		b.last = seq
		return
	}
	b.spilled = true
	b.open++
	b.turn++
}

// fill says that the row of a reserved place is on disk. It says whether the row
// is kept in memory.
func (b *backlog[T]) fill(seq int64, row T) bool {
	for i := range b.rows {
		if b.rows[i].seq == seq && !b.rows[i].ready {
			b.rows[i].row, b.rows[i].ready = row, true
			return true
		}
	}
	b.open--
	b.turn++
	return false
}

// drop gives a reserved place up. unsure says that the row may be on disk all the
// same: then everything from there on is left to the disk, to be read again. The
// rows that so leave memory are returned.
func (b *backlog[T]) drop(seq int64, unsure bool) []T {
	for i := range b.rows {
		if b.rows[i].seq != seq || b.rows[i].ready {
			continue
		}
		if unsure {
			return b.forget(i)
		}
		b.rows = slices.Delete(b.rows, i, i+1)
		return nil
	}
	b.open--
	b.turn++
	return nil
}

// forget leaves everything from index i on to the disk. The place at i is settled
// by that; open ones behind it are not, and have no place in memory any more.
func (b *backlog[T]) forget(i int) (gone []T) {
	for _, e := range b.rows[i+1:] {
		if e.ready {
			gone = append(gone, e.row)
		} else {
			b.open++
		}
	}
	b.last = b.rows[i].seq - 1
	b.rows = slices.Delete(b.rows, i, len(b.rows))
	b.spilled = true
	b.turn++
	return gone
}

// head returns the first row. ok is false if there is none in memory, or if its
// place is still open.
func (b *backlog[T]) head() (row T, ok bool) {
	if len(b.rows) == 0 || !b.rows[0].ready {
		return row, false
	}
	return b.rows[0].row, true
}

// pop removes the row with this sequence number, wherever it stands.
func (b *backlog[T]) pop(seq int64) {
	for i := range b.rows {
		if b.rows[i].seq == seq {
			b.rows = slices.Delete(b.rows, i, i+1)
			break
		}
	}
	if len(b.rows) == 0 {
		b.rows = nil
	}
}

// wantsPage says that rows should be read from disk, above the returned
// sequence number. turn goes to page.
func (b *backlog[T]) wantsPage() (after int64, turn int, want bool) {
	return b.last, b.turn, b.spilled && len(b.rows) == 0
}

// page takes what was read from disk. more says that there may be more behind.
func (b *backlog[T]) page(rows []T, seq func(T) int64, turn int, more bool) {
	for _, r := range rows {
		b.rows = append(b.rows, entry[T]{seq: seq(r), row: r, ready: true})
		b.last = seq(r)
	}
	if !more && b.open == 0 && b.turn == turn {
		b.spilled = false
	}
}

// idle says that there is nothing in memory, on disk or on the way.
func (b *backlog[T]) idle() bool { return len(b.rows) == 0 && !b.spilled && b.open == 0 }
