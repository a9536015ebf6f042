package database

import (
	"errors"
	"runtime"
	"testing"
)

// FuzzUnseal opens any bytes as a sealed column, in any place. Nothing opens that was not sealed for the very place, and
// what is allocated is bounded by 64 KiB and 4 bytes for each byte given.
//
// decoder: seal.go:sealer.unseal,sealer.aead,sealAAD
func FuzzUnseal(f *testing.F) {
	const column, row, version, secret = "table.column", "row", 7, "the secret"
	s, err := newSealer([KeySize]byte{1, 2, 3}) // the same in every process
	if err != nil {
		f.Fatal(err)
	}
	good := s.seal(column, row, version, []byte(secret))
	f.Add(good, column, row, version)
	f.Add(good, column, row, version+1)
	f.Add(good, "table.colum", "nrow", version)
	f.Add(good[:len(good)-1], column, row, version)
	f.Add(good[:SealOverhead-1], column, row, version)
	f.Add(append([]byte{2}, good[1:]...), column, row, version)
	f.Add([]byte{}, "", "", 0)
	f.Fuzz(func(t *testing.T, sealed []byte, c, r string, v int) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		plaintext, err := s.unseal(c, r, v, sealed)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(64<<10+4*(len(sealed)+len(c)+len(r))) {
			t.Errorf("%d bytes allocated for %d", grown, len(sealed))
		}
		switch {
		case err == nil && (c != column || r != row || v != version || string(plaintext) != secret):
			t.Error("opened what was never sealed there")
		case err != nil && (!errors.Is(err, ErrSealBroken) || plaintext != nil):
			t.Errorf("%d bytes and %v", len(plaintext), err)
		}
	})
}

// FuzzEpochFile reads any bytes as an epoch file. What is taken says counters in their order, and what it says, written again, reads the same.
//
// decoder: epoch_file.go:parseEpoch,cutLast
func FuzzEpochFile(f *testing.F) {
	good := &epochState{database: "d", branch: "b", low: 7, high: 70}
	whole := good.head() + epochMark(9)
	f.Add([]byte(whole))
	f.Add([]byte((&epochState{database: "d", branch: "b", heads: true, low: 7, high: 70}).head() + epochMark(9)))
	f.Add([]byte(good.head()))
	f.Add([]byte(whole[:len(whole)-3]))
	f.Add([]byte(whole[:20]))
	f.Add([]byte(epochPrefix))
	f.Add([]byte((&epochState{database: "d", branch: "b", closed: true, low: 7, high: 7}).head() + epochMark(7)))
	f.Add([]byte((&epochState{database: "d", branch: "b", low: 70, high: 7}).head() + epochMark(99)))
	f.Add([]byte(good.head() + epochMark(99)))
	f.Add([]byte("another file\n"))
	f.Add(make([]byte, maxEpochFile+1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseEpoch(raw)
		switch {
		case err != nil:
			if s != nil || (!errors.Is(err, ErrEpochFormat) && !errors.Is(err, errEpochDamaged)) {
				t.Fatalf("%+v and %v", s, err)
			}
			return
		case s.low < 0 || s.low > s.mark || s.mark > s.high || s.database == "" || s.branch == "":
			t.Fatalf("%+v", s)
		}
		again, err := parseEpoch([]byte(s.head() + epochMark(s.mark)))
		if err != nil || *again != *s {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	})
}
