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
