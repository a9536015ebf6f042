package database

import (
	"math/rand/v2"
	"testing"
)

func TestSumsAreKeptAsTheyAreWithoutThoseThatAreZero(t *testing.T) {
	for range 200 {
		var s sums
		n := rand.IntN(rowSums + 1)
		for range n {
			s[rand.IntN(rowSums)] = sum{rand.Uint64N(2), rand.Uint64N(2)}
		}
		k := s.kept()
		if got := k.all(); got != s {
			t.Fatalf("%v became %v", s, got)
		}
		if len(k.list) > n || cap(k.list) != len(k.list) {
			t.Fatalf("%d sums are kept of at most %d", cap(k.list), n)
		}
	}
}

func TestASetOfKeysHasWhatWasPutInAndNotTakenOut(t *testing.T) {
	var s keySet
	want := map[uint64]bool{}
	for range 5000 {
		id, in := rand.Uint64N(1000), rand.IntN(2) == 0
		if s.set(id, in); in {
			want[id] = true
		} else {
			delete(want, id)
		}
		if got := s.get(id) == 1; got != in {
			t.Fatalf("%d is in the set: %v, want %v", id, got, in)
		}
	}
	for id := range uint64(1000) {
		if got := s.get(id) == 1; got != want[id] {
			t.Fatalf("%d is in the set: %v", id, got)
		}
	}
	for i := 1; i < len(s); i++ {
		if s[i-1].at >= s[i].at || s[i].bits == 0 {
			t.Fatalf("word %d is %v after %v", i, s[i], s[i-1])
		}
	}
}
