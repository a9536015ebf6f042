package database

import (
	"cmp"
	"math/bits"
	"slices"
)

// What is known of an account's rows is in memory for all accounts at all times, most of which have few: it takes no more room than they need.

// keptSums are sums of which most are zero.
type keptSums struct {
	which uint64 // those that are not zero, a bit for each
	list  []sum  // in order
}

// kept is s as it is kept.
func (s *sums) kept() (k keptSums) {
	n := 0
	for i, x := range s {
		if x != (sum{}) {
			k.which |= 1 << i
			n++
		}
	}
	k.list = make([]sum, 0, n)
	for i := range bits.Len64(k.which) {
		if k.which>>i&1 != 0 {
			k.list = append(k.list, s[i])
		}
	}
	return k
}

// all are the sums that k was made of.
func (k keptSums) all() (s sums) {
	at := 0
	for i := range s {
		if k.which>>i&1 != 0 {
			s[i] = k.list[at]
			at++
		}
	}
	return s
}

// keySet is a set of key ids, 64 in a word, in the order of the words.
type keySet []keyWord

type keyWord struct {
	at   uint32 // the id's upper bits
	bits uint64
}

func (s keySet) find(id uint64) (i int, there bool) {
	return slices.BinarySearchFunc(s, uint32(id>>6), func(w keyWord, at uint32) int { return cmp.Compare(w.at, at) })
}

// get is 1 for an id that is in the set, else 0.
func (s keySet) get(id uint64) int64 {
	if i, there := s.find(id); there {
		return int64(s[i].bits >> (id & 63) & 1)
	}
	return 0
}

// set puts an id into the set or takes it out.
func (s *keySet) set(id uint64, in bool) {
	i, there := s.find(id)
	switch {
	case in && there:
		(*s)[i].bits |= 1 << (id & 63)
	case in:
		*s = slices.Insert(*s, i, keyWord{uint32(id >> 6), 1 << (id & 63)})
	case there:
		if (*s)[i].bits &^= 1 << (id & 63); (*s)[i].bits == 0 {
			*s = slices.Delete(*s, i, i+1)
		}
	}
}
