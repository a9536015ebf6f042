package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func journalContents(t *testing.T, dir string) (map[string]string, *journal) {
	t.Helper()
	got := map[string]string{}
	j, err := openJournal(dir, func(r record) error {
		if r.value == nil {
			delete(got, r.key)
		} else {
			got[r.key] = string(r.value)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("open journal: %v", err)
	}
	j.dump = func() ([]record, uint64) { t.Error("rewritten although small"); return nil, 0 }
	j.start()
	return got, j
}

func writeJournal(t *testing.T, dir string, batches ...[]record) {
	t.Helper()
	_, j := journalContents(t, dir)
	for i, recs := range batches {
		j.add(uint64(i+1), recs)
		if err := j.wait(uint64(i + 1)); err != nil {
			t.Fatalf("wait: %v", err)
		}
	}
	if err := j.close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func kv(key, value string) record { return record{key: key, value: []byte(value)} }

func TestJournalGivesBackWhatWasSettled(t *testing.T) {
	dir := t.TempDir()
	writeJournal(t, dir,
		[]record{kv("a", "1"), kv("b", "2"), kv("empty", "")},
		[]record{kv("a", "3"), {key: "b"}},
	)
	got, j := journalContents(t, dir)
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "3", "empty": ""}
	if !maps.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestJournalCutAtAnyByteLosesOnlyTheLastBatchAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	writeJournal(t, dir, []record{kv("first", "kept")}, []record{kv("second", "torn"), kv("third", "torn")})
	whole, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	firstEnd := len(journalMagic) + 8 + len(appendRecord(nil, kv("first", "kept")))
	for cut := firstEnd; cut < len(whole); cut++ {
		for _, tail := range [][]byte{nil, make([]byte, len(whole)-cut), make([]byte, 4096)} {
			if cut > firstEnd && len(tail) == 4096 {
				continue // a half-written batch in a file longer than the batch is no crash of ours
			}
			d := t.TempDir()
			if err := os.WriteFile(filepath.Join(d, journalName), append(bytes.Clone(whole[:cut]), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			got, j := journalContents(t, d)
			j.add(1, []record{kv("after", "new")})
			if err := j.close(); err != nil {
				t.Fatal(err)
			}
			if want := map[string]string{"first": "kept"}; !maps.Equal(got, want) {
				t.Fatalf("cut at %d: got %v", cut, got)
			}
			got, j = journalContents(t, d)
			if err := j.close(); err != nil {
				t.Fatal(err)
			}
			if want := map[string]string{"first": "kept", "after": "new"}; !maps.Equal(got, want) {
				t.Fatalf("cut at %d, second opening: got %v", cut, got)
			}
		}
	}
}

func TestJournalDamagedBeforeItsEndIsRefused(t *testing.T) {
	dir := t.TempDir()
	writeJournal(t, dir, []record{kv("first", "value")}, []record{kv("second", "value")}, []record{kv("third", "value")})
	path := filepath.Join(dir, journalName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, len(journalMagic) + 4, len(journalMagic) + 10} {
		broken := bytes.Clone(whole)
		broken[at] ^= 0x40
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openJournal(dir, func(record) error { return nil }); !errors.Is(err, errJournalDamaged) {
			t.Errorf("byte %d: got %v, want errJournalDamaged", at, err)
		}
	}
}

func TestJournalIsRewrittenToWhatIsAlive(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir, func(record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	alive := map[string]string{}
	var seq uint64
	j.compact, j.floor = 1<<10, 1<<10
	rewritten := 0
	j.dump = func() ([]record, uint64) {
		rewritten++
		var recs []record
		for k, v := range alive {
			recs = append(recs, kv(k, v))
		}
		return recs, seq
	}
	j.start()
	for i := range 100 {
		seq++
		r := kv(fmt.Sprint("key", i%3), fmt.Sprintf("%0100d", i))
		alive[r.key] = string(r.value)
		j.add(seq, []record{r})
		if err := j.wait(seq); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if rewritten == 0 {
		t.Fatal("never rewritten")
	}
	got := map[string]string{}
	j2, err := openJournal(dir, func(r record) error { got[r.key] = string(r.value); return nil })
	if err != nil {
		t.Fatal(err)
	}
	j2.file.Close()
	if !maps.Equal(got, alive) {
		t.Fatalf("got %v, want %v", got, alive)
	}
	if info, err := os.Stat(filepath.Join(dir, journalName)); err != nil || info.Size() > 4<<10 {
		t.Fatalf("file still long: %v %v", info.Size(), err)
	}
}

// FuzzDecodeRecords splits any payload; what was read can be written and read again, no record is longer than the input,
// and what is allocated is bounded by 64 KiB and 128 bytes for each byte.
//
// decoder: journal.go:decodeRecords
func FuzzDecodeRecords(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, kv("key", "value")), record{key: "gone"}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		var recs []record
		var err error
		bounded(t, 64<<10+128*len(payload), func() { recs, err = decodeRecords(payload) })
		if err != nil {
			return
		}
		var again []byte
		for _, r := range recs {
			if len(r.key) > len(payload) || len(r.value) > len(payload) {
				t.Fatal("longer than the input")
			}
			again = appendRecord(again, r)
		}
		if back, err := decodeRecords(again); err != nil || len(back) != len(recs) {
			t.Fatalf("second reading: %d records of %d, %v", len(back), len(recs), err)
		}
	})
}

// FuzzJournalFile reads any file as a journal. What counts as good is read the same again, a torn end is left out, and
// what is allocated is bounded by 64 KiB and 64 bytes for each byte of the file.
//
// decoder: journal.go:replayJournal,readBatch,tornTail,decodeRecords
func FuzzJournalFile(f *testing.F) {
	dir := f.TempDir()
	j, err := openJournal(dir, func(record) error { return nil })
	if err != nil {
		f.Fatal(err)
	}
	j.start()
	for seq, rec := range []record{kv("first", "value"), {key: "gone"}, kv("second", "")} {
		j.add(uint64(seq+1), []record{rec})
		if err := j.wait(uint64(seq + 1)); err != nil {
			f.Fatal(err)
		}
	}
	if err := j.close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:len(journalMagic)+9])
	f.Add(whole[:3])
	f.Add(append(bytes.Clone(whole), make([]byte, 40)...))
	for _, at := range []int{0, len(journalMagic), len(journalMagic) + 4, len(journalMagic) + 10, len(whole) - 1} {
		broken := bytes.Clone(whole)
		broken[at] ^= 0x40
		f.Add(broken)
	}
	batch := func(payload []byte) []byte {
		b := binary.BigEndian.AppendUint32([]byte(journalMagic), uint32(len(payload)))
		return append(binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli)), payload...)
	}
	f.Add(batch([]byte{5, 'x'}))
	f.Add(batch([]byte{1, 'x', 9}))
	f.Add(batch([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}))
	file, err := os.Create(filepath.Join(dir, "any"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { file.Close() })
	read := func(t *testing.T, data []byte) (keys []string, size int64, err error) {
		if _, err := file.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if err := file.Truncate(int64(len(data))); err != nil {
			t.Fatal(err)
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		size, err = replayJournal(file, func(r record) error { keys = append(keys, r.key); return nil })
		return keys, size, err
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var keys []string
		var size int64
		var err error
		bounded(t, 64<<10+64*len(data), func() { keys, size, err = read(t, data) })
		if err != nil {
			return
		}
		if size < 0 || size > int64(len(data)) {
			t.Fatalf("%d good bytes of %d", size, len(data))
		}
		again, whole, err := read(t, data[:size])
		if err != nil || whole != size || !slices.Equal(again, keys) {
			t.Fatalf("second reading: %d bytes of %d, %v", whole, size, err)
		}
	})
}
