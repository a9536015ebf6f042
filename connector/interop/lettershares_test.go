package interop

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// letterList makes letters of chats, one a millisecond, the oldest first.
func letterList(size int64, chats ...string) (list []*Letter) {
	for i, chat := range chats {
		list = append(list, &Letter{ID: fmt.Sprint(i + 1), Chat: chat, At: int64(i + 1), Size: size})
	}
	return list
}

// kept are the times of the letters that stay.
func kept(list, drop []*Letter) (at []int64) {
	for _, l := range list {
		if !slices.Contains(drop, l) {
			at = append(at, l.At)
		}
	}
	return at
}

func TestDeadLettersAreBoundedByAgeCountAndBytes(t *testing.T) {
	list := letterList(1000, "a", "a", "a", "a", "a", "a", "a")
	for _, c := range []struct {
		what         string
		before       int64
		keep         int
		bytes        int64
		left         []int64
		outgoingLeft []int64
	}{
		{"nothing is too much", 0, 7, 7000, []int64{1, 2, 3, 4, 5, 6, 7}, []int64{1, 2, 3, 4, 5, 6, 7}},
		{"age", 3, 7, 7000, []int64{3, 4, 5, 6, 7}, []int64{3, 4, 5, 6, 7}},
		{"count", 0, 5, 7000, []int64{3, 4, 5, 6, 7}, []int64{3, 4, 5, 6, 7}},
		{"bytes", 0, 7, 3300, []int64{5, 6, 7}, []int64{1, 2, 3, 4, 5, 6, 7}},
		{"the newest is kept, however large", 0, 7, 1, []int64{7}, []int64{1, 2, 3, 4, 5, 6, 7}},
		{"all", 100, 7, 7000, nil, nil},
	} {
		for _, outgoing := range []bool{false, true} {
			want := c.left
			if outgoing {
				want = c.outgoingLeft
			}
			for _, l := range list {
				l.Outgoing = outgoing
			}
			if got := kept(list, surplus(list, c.before, c.keep, c.bytes)); !slices.Equal(got, want) {
				t.Errorf("%s, outgoing %v: %v are left, want %v", c.what, outgoing, got, want)
			}
		}
	}
	if drop := surplus(nil, 5, 5, 5); len(drop) != 0 {
		t.Error("something of nothing")
	}
}

func TestOnePersonsDeadLettersDoNotPushOutThoseOfOthers(t *testing.T) {
	list := letterList(1000, "a", "b", "b", "evil", "evil", "evil", "evil", "evil", "evil", "evil")
	if got := kept(list, surplus(list, 0, 6, 1<<20)); !slices.Equal(got, []int64{1, 2, 3, 8, 9, 10}) {
		t.Errorf("by count %v are left", got)
	}
	if got := kept(list, surplus(list, 0, 100, 6000)); !slices.Equal(got, []int64{1, 2, 3, 8, 9, 10}) {
		t.Errorf("by bytes %v are left", got)
	}
	list[9].Size = 1 << 40 // one that is larger than everything
	if got := kept(list, surplus(list, 0, 100, 6000)); !slices.Equal(got, []int64{1, 2, 3, 10}) {
		t.Errorf("beside a huge one %v are left", got)
	}
	later := letterList(1000, "a", "a")
	later[0].At, later[1].At = 11, 12
	list = append(list, later...)
	if got := kept(list, surplus(list, 0, 100, 6000)); !slices.Equal(got, []int64{1, 2, 3, 11, 12}) {
		t.Errorf("beside a huge one that is not the newest any more %v are left", got)
	}
}

// Whatever there is: the bounds hold, who has no more than their share loses nothing, and of a chat the oldest go.
func TestWhoHasNoMoreThanTheirShareOfDeadLettersLosesNone(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 4))
		chats := 1 + random.IntN(6)
		var list []*Letter
		for i := range random.IntN(40) {
			list = append(list, &Letter{
				ID: fmt.Sprint(i), Chat: fmt.Sprint(random.IntN(chats)), At: int64(i), Outgoing: random.IntN(3) == 0, Size: random.Int64N(500),
			})
		}
		keep, size, enough := 1+random.IntN(20), random.Int64N(6000), random.IntN(2) == 0
		if enough { // so that the count alone decides
			size = 40 * 500
		}
		drop := surplus(list, 0, keep, size)
		in, out, bytes, newest := 0, 0, int64(0), int64(0)
		counts := map[string]int{}
		for _, l := range list {
			if !l.Outgoing {
				counts[l.Chat]++
			}
			switch gone := slices.Contains(drop, l); {
			case gone && slices.ContainsFunc(list, func(o *Letter) bool {
				return o.Chat == l.Chat && o.Outgoing == l.Outgoing && o.At < l.At && !slices.Contains(drop, o)
			}):
				t.Fatalf("seed %d: %+v went before an older one", seed, l)
			case gone:
			case l.Outgoing:
				out++
			default:
				in++
				bytes, newest = bytes+l.Size, l.Size
			}
		}
		if in > keep || out > keep || bytes-newest+min(newest, size/2) > size && in > 1 {
			t.Fatalf("seed %d: %d in, %d out, %d bytes for %d, %d", seed, in, out, bytes, keep, size)
		}
		for _, l := range drop {
			if enough && !l.Outgoing && counts[l.Chat] <= keep/chats {
				t.Fatalf("seed %d: %+v has gone though its chat has %d of %d", seed, l, counts[l.Chat], keep)
			}
		}
	}
}
