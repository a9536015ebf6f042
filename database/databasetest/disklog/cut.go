//go:build linux && cgo

package disklog

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// sector is the unit in which a write may be torn, in bytes.
const sector = 512

// State is what a power cut may leave: of each file the first so many operations, perhaps with the next
// one torn, or any sectors of what was not synced; and of the folder the first so many changes.
type State struct {
	// At is how many operations of the recording had ended when the power went, at the latest.
	At int
	// Torn tells whether part of a write is there, Scattered whether any sectors of unsynced writes are.
	Torn, Scattered bool

	kept    map[int64]int
	names   int
	torn    int64 // the file
	tear    int64 // where in it, an offset
	scatter uint64
}

// history is that of one file, or of the folder: its operations, by their place in the recording, and
// from which place on how many of them are on disk.
type history struct {
	ops   []int
	syncs []synced
}

type synced struct{ at, count int }

// written is how many operations had ended before a place in the recording.
func (h *history) written(at int) int {
	n, _ := slices.BinarySearch(h.ops, at)
	return n
}

// durable is how many of them were on disk.
func (h *history) durable(at int) int {
	i, _ := slices.BinarySearchFunc(h.syncs, at, func(s synced, at int) int { return cmp.Compare(s.at, at) })
	if i == 0 {
		return 0
	}
	return h.syncs[i-1].count
}

// until is the last place at which the operation numbered n may still be missing.
func (h *history) until(n, end int) int {
	for _, s := range h.syncs {
		if s.count > n {
			return s.at
		}
	}
	return end
}

// sync notes that what was done before begun is on disk from at on.
func (h *history) sync(begun, at int) {
	n := h.written(begun)
	if len(h.syncs) == 0 || h.syncs[len(h.syncs)-1].count < n {
		h.syncs = append(h.syncs, synced{at, n})
	}
}

// Disk is a recording, taken apart.
type Disk struct {
	ops    []Op
	files  map[int64]*history
	order  []int64
	folder history

	base map[int64]*image // what Files has built so far
}

// image is a file's content after so many of its operations.
type image struct {
	count int
	data  []byte
}

// NewDisk takes a recording apart.
func NewDisk(ops []Op) *Disk {
	d := &Disk{ops: ops, files: map[int64]*history{}, base: map[int64]*image{}}
	for i, op := range ops {
		h := d.files[op.File]
		switch op.Kind {
		case Create:
			d.files[op.File] = &history{}
			d.order = append(d.order, op.File)
			d.folder.ops = append(d.folder.ops, i)
		case Remove:
			d.folder.ops = append(d.folder.ops, i)
			if op.Synced {
				d.folder.sync(i+1, i)
			}
		case Write, Truncate:
			h.ops = append(h.ops, i)
		case SyncEnd:
			if len(h.syncs) == 0 {
				d.folder.sync(op.Begun, i) // the first sync of a new journal or log is one of the folder too
			}
			h.sync(op.Begun, i)
		}
	}
	return d
}

// States lists what cuts may leave, each state once, with the last moment at which it may come about: each
// file cut off at each of its operations, whole or with the next write torn at a sector's border (choose says
// at which of n), while the others are as written or only as synced; and as many scattered states. The order is that
// of the recording.
func (d *Disk) States(choose func(n int) int) []State {
	found := map[string]int{}
	var list []State
	add := func(s State) {
		key := binary.AppendVarint(nil, int64(s.names))
		key = binary.AppendUvarint(binary.AppendVarint(binary.AppendVarint(key, s.torn), s.tear), s.scatter)
		for _, file := range d.order {
			key = binary.AppendVarint(key, int64(s.kept[file]))
		}
		if i, ok := found[string(key)]; ok {
			list[i].At = max(list[i].At, s.At)
			return
		}
		found[string(key)] = len(list)
		list = append(list, s)
	}
	for _, file := range d.order {
		h := d.files[file]
		for n := range len(h.ops) + 1 {
			last := h.until(n, len(d.ops))
			first := 0
			if n > 0 {
				first = h.ops[n-1] + 1
			}
			for _, at := range []int{first, last} {
				d.cut(file, n, at, choose, add)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b State) int { return cmp.Compare(a.At, b.At) })
	return list
}

// cut adds the states of a cut at a moment that leaves n operations of a file.
func (d *Disk) cut(file int64, n, at int, choose func(n int) int, add func(State)) {
	for _, all := range []bool{true, false} {
		s := State{At: at, kept: map[int64]int{}}
		count := (*history).durable
		if all {
			count = (*history).written
		}
		for _, other := range d.order {
			s.kept[other] = count(d.files[other], at)
		}
		s.kept[file], s.names = n, count(&d.folder, at)
		add(s)
		if h := d.files[file]; n < len(h.ops) && h.ops[n] < at {
			if tear := d.tear(d.ops[h.ops[n]], choose); tear > 0 {
				torn := s
				torn.Torn, torn.torn, torn.tear = true, file, tear
				add(torn)
			}
			if h.written(at) > h.durable(at)+1 && !all {
				scattered := s
				scattered.Scattered, scattered.torn, scattered.scatter = true, file, uint64(choose(1<<62))|1
				add(scattered)
			}
		}
	}
}

// tear chooses one of the borders of sectors inside a write, 0 for none.
func (d *Disk) tear(op Op, choose func(n int) int) int64 {
	first := op.Offset/sector + 1
	n := (op.Offset+int64(len(op.Data))-1)/sector - first + 1
	if op.Kind != Write || n <= 0 {
		return 0
	}
	return (first + int64(choose(int(n)))) * sector
}

// Files is the content of the files that a state has, by name. It is cheapest for states in their order.
func (d *Disk) Files(s State) map[string][]byte {
	names := map[string]int64{}
	for _, i := range d.folder.ops[:s.names] {
		if op := d.ops[i]; op.Kind == Create {
			names[op.Name] = op.File
		} else {
			delete(names, op.Name)
		}
	}
	files := make(map[string][]byte, len(names))
	for name, file := range names {
		files[name] = d.content(s, file)
	}
	return files
}

// content builds one file, on top of what was durable already the last time.
func (d *Disk) content(s State, file int64) []byte {
	h := d.files[file]
	durable := min(h.durable(s.At), s.kept[file])
	b := d.base[file]
	if b == nil || b.count > durable {
		b = &image{}
		d.base[file] = b
	}
	for ; b.count < durable; b.count++ {
		b.data = apply(b.data, d.ops[h.ops[b.count]])
	}
	data := slices.Clone(b.data)
	if s.Scattered && s.torn == file {
		return d.scattered(data, s, h)
	}
	for _, i := range h.ops[durable:s.kept[file]] {
		data = apply(data, d.ops[i])
	}
	if s.Torn && s.torn == file {
		op := d.ops[h.ops[s.kept[file]]]
		op.Data = op.Data[:s.tear-op.Offset]
		data = apply(data, op)
	}
	return data
}

// scattered lets some sectors of all that was written and not synced arrive, by the bits of a generator.
func (d *Disk) scattered(data []byte, s State, h *history) []byte {
	random := s.scatter
	for _, i := range h.ops[h.durable(s.At):h.written(s.At)] {
		op := d.ops[i]
		if op.Kind == Truncate {
			data = apply(data, op)
			continue
		}
		for at := op.Offset; at < op.Offset+int64(len(op.Data)); {
			end := min(at/sector*sector+sector, op.Offset+int64(len(op.Data)))
			random ^= random << 13
			random ^= random >> 7
			random ^= random << 17
			if random>>32&1 == 1 {
				data = apply(data, Op{Kind: Write, Offset: at, Data: op.Data[at-op.Offset : end-op.Offset]})
			}
			at = end
		}
	}
	return data
}

func apply(data []byte, op Op) []byte {
	if op.Kind == Truncate {
		if int64(len(data)) > op.Offset {
			return data[:op.Offset]
		}
		return append(data, make([]byte, op.Offset-int64(len(data)))...)
	}
	if end := op.Offset + int64(len(op.Data)); int64(len(data)) < end {
		data = append(data, make([]byte, end-int64(len(data)))...)
	}
	copy(data[op.Offset:], op.Data)
	return data
}
