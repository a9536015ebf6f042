package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// The journal is how the sandbox keeps its word over a SIGKILL: every change of the state is a record
// (key, new value or deletion), the records of several changes are written together, and nothing that
// rests on a change leaves the process before the write is on disk.
//
// File: an eight-byte magic, then batches of
//
//	length of payload, 4 bytes big-endian · CRC-32C of payload, 4 bytes · payload
//
// and in the payload records of
//
//	key length (uvarint) · key · value length + 1, or 0 for a deletion (uvarint) · value

const (
	journalName    = "journal"
	journalNewName = "journal.new"
	journalMagic   = "PSTNSBX1"
	maxBatch       = 1 << 30 // bytes of one batch; a longer one is not written, so a length above it is damage
	compactAt      = 32 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errJournalDamaged says that the journal is unreadable somewhere before its last batch, which no crash of
// this program can cause.
var errJournalDamaged = errors.New("read journal: damaged before its end")

// errJournalClosed is what a change gets that comes after the end.
var errJournalClosed = errors.New("write journal: closed")

// record is one change of a key. value nil is a deletion.
type record struct {
	key   string
	value []byte
}

// journal owns the file and the goroutine that writes it.
type journal struct {
	dir  string
	file *os.File

	// dump returns a record for everything alive, and the number of the last change in it. The writer calls
	// it, without holding mu, when the file has become much longer than what is alive.
	dump func() ([]record, uint64)
	// sync makes what was written durable; a test can hold it up.
	sync func(*os.File) error

	mu      sync.Mutex
	wake    *sync.Cond
	pending []record
	last    uint64 // number of the last change handed over
	settled uint64 // number of the last change that is on disk
	err     error
	closed  bool
	done    chan struct{}

	size    int64 // of the file
	compact int64 // size at which to rewrite it
	floor   int64 // compact is never below it
}

// openJournal opens or creates the journal in dir, feeds every record alive to replay in the order of
// writing, cuts off a torn last batch, and starts the writer.
func openJournal(dir string, replay func(record) error) (*journal, error) {
	path := filepath.Join(dir, journalName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	size, err := replayJournal(f, replay)
	if err != nil {
		f.Close()
		return nil, err
	}
	if size == 0 {
		if _, err = f.WriteAt([]byte(journalMagic), 0); err == nil {
			size = int64(len(journalMagic))
		}
	}
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &journal{dir: dir, file: f, size: size, compact: max(compactAt, 2*size), floor: compactAt, sync: (*os.File).Sync, done: make(chan struct{})}
	j.wake = sync.NewCond(&j.mu)
	return j, nil
}

// replayJournal reads f from its start and returns how many of its bytes are good. A last batch that is
// torn is left out; anything unreadable before it is errJournalDamaged.
func replayJournal(f *os.File, replay func(record) error) (int64, error) {
	data, err := io.ReadAll(f)
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	if len(data) < len(journalMagic) {
		return 0, nil
	}
	if string(data[:len(journalMagic)]) != journalMagic {
		return 0, errJournalDamaged
	}
	pos := len(journalMagic)
	for pos < len(data) {
		payload, ok := readBatch(data[pos:])
		if !ok {
			if tornTail(data[pos:]) {
				return int64(pos), nil
			}
			return 0, errJournalDamaged
		}
		recs, err := decodeRecords(payload)
		if err != nil {
			return 0, err
		}
		for _, r := range recs {
			if err := replay(r); err != nil {
				return 0, err
			}
		}
		pos += 8 + len(payload)
	}
	return int64(pos), nil
}

// readBatch returns the payload of the batch at the start of data.
func readBatch(data []byte) ([]byte, bool) {
	if len(data) < 8 {
		return nil, false
	}
	n := binary.BigEndian.Uint32(data)
	if n == 0 || n > maxBatch || uint64(len(data)-8) < uint64(n) {
		return nil, false
	}
	payload := data[8 : 8+n]
	return payload, crc32.Checksum(payload, castagnoli) == binary.BigEndian.Uint32(data[4:])
}

// tornTail says whether an unreadable batch can be the last write, cut off by a crash: it reaches to the end
// of the file or beyond, or the file was lengthened and never filled.
func tornTail(data []byte) bool {
	if len(data) < 8 {
		return true
	}
	n := binary.BigEndian.Uint32(data)
	if n != 0 && n <= maxBatch && uint64(len(data)-8) <= uint64(n) {
		return true
	}
	return len(bytes.Trim(data, "\x00")) == 0
}

func appendRecord(dst []byte, r record) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(r.key)))
	dst = append(dst, r.key...)
	if r.value == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.value))+1)
	return append(dst, r.value...)
}

// decodeRecords splits a payload whose checksum was right. The records alias it.
func decodeRecords(payload []byte) ([]record, error) {
	var recs []record
	next := func() ([]byte, uint64, bool) {
		n, w := binary.Uvarint(payload)
		if w <= 0 {
			return nil, 0, false
		}
		payload = payload[w:]
		return payload, n, true
	}
	for len(payload) > 0 {
		rest, n, ok := next()
		if !ok || n > uint64(len(rest)) {
			return nil, errJournalDamaged
		}
		key := string(rest[:n])
		payload = rest[n:]
		rest, n, ok = next()
		if !ok || (n > 0 && n-1 > uint64(len(rest))) {
			return nil, errJournalDamaged
		}
		if n == 0 {
			recs = append(recs, record{key: key})
			continue
		}
		recs = append(recs, record{key: key, value: rest[: n-1 : n-1]})
		payload = rest[n-1:]
	}
	return recs, nil
}

// start runs the writer; dump is set before.
func (j *journal) start() { go j.run() }

// add hands over the records of change number seq, which grows by one with each call. It does not wait.
func (j *journal) add(seq uint64, recs []record) {
	j.mu.Lock()
	j.pending = append(j.pending, recs...)
	j.last = seq
	j.mu.Unlock()
	j.wake.Broadcast()
}

// wait returns when change number seq is on disk, or with the error that keeps it from getting there.
func (j *journal) wait(seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.settled < seq && j.err == nil {
		j.wake.Wait()
	}
	if j.settled >= seq {
		return nil
	}
	return j.err
}

func (j *journal) run() {
	defer close(j.done)
	var buf []byte
	for {
		j.mu.Lock()
		for j.settled == j.last && !j.closed && j.err == nil {
			j.wake.Wait()
		}
		if j.err != nil || (j.closed && j.settled == j.last) {
			j.mu.Unlock()
			return
		}
		recs, upto := j.pending, j.last
		j.pending = nil
		j.mu.Unlock()

		var err error
		if len(recs) > 0 {
			buf, err = j.write(buf[:0], recs)
		}
		if err == nil && j.size > j.compact {
			var at uint64
			if at, err = j.rewrite(); at > upto {
				upto = at
			}
		}
		j.mu.Lock()
		if err != nil {
			j.err = fmt.Errorf("write journal: %w", err)
		} else if upto > j.settled {
			j.settled = upto
		}
		j.mu.Unlock()
		j.wake.Broadcast()
	}
}

// write appends one batch and waits for the disk.
func (j *journal) write(buf []byte, recs []record) ([]byte, error) {
	buf = append(buf, make([]byte, 8)...)
	for _, r := range recs {
		buf = appendRecord(buf, r)
	}
	if len(buf)-8 > maxBatch {
		return buf, errors.New("batch too large")
	}
	binary.BigEndian.PutUint32(buf, uint32(len(buf)-8))
	binary.BigEndian.PutUint32(buf[4:], crc32.Checksum(buf[8:], castagnoli))
	if _, err := j.file.Write(buf); err != nil {
		return buf, err
	}
	j.size += int64(len(buf))
	return buf, j.sync(j.file)
}

// rewrite replaces the file by one that holds only what is alive. What was handed over meanwhile is in the
// dump or is written again after it: records say what is, not what changed, so repeating them is harmless.
func (j *journal) rewrite() (uint64, error) {
	recs, at := j.dump()
	path := filepath.Join(j.dir, journalNewName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	old := j.file
	if _, err := f.WriteString(journalMagic); err != nil {
		f.Close()
		return 0, err
	}
	j.file, j.size = f, int64(len(journalMagic))
	for len(recs) > 0 {
		n, bytes := 0, 0
		for n < len(recs) && bytes < 8<<20 {
			bytes += len(recs[n].key) + len(recs[n].value)
			n++
		}
		if _, err := j.write(nil, recs[:n]); err != nil {
			return 0, err
		}
		recs = recs[n:]
	}
	if err := os.Rename(path, filepath.Join(j.dir, journalName)); err != nil {
		return 0, err
	}
	old.Close()
	j.compact = max(j.floor, 4*j.size)
	return at, syncDir(j.dir)
}

// close writes what is pending and closes the file.
func (j *journal) close() error {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.wake.Broadcast()
	<-j.done
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.file.Close()
	if err != nil {
		err = fmt.Errorf("close journal: %w", err)
	}
	if j.err != nil {
		return j.err
	}
	j.err = errJournalClosed // for whoever still waits
	j.wake.Broadcast()
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
