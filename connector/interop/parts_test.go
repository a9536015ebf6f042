package interop

import (
	"bytes"
	"context"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/e2ee"
	"postern/connector/jid"
	"postern/connector/profile"
	"postern/connector/stanza"
)

func TestStanzaIDsFollowFromKeyEventAndPartAlone(t *testing.T) {
	form := regexp.MustCompile(`^3EB0[0-9A-F]{18}$`)
	seen := map[string]bool{}
	for _, key := range [][32]byte{{1}, {2}} {
		for _, event := range []string{"$a", "$b", "$a\x00"} {
			for part := range 300 {
				id := StanzaID(key, event, part)
				if !form.MatchString(id) || seen[id] || StanzaID(key, event, part) != id {
					t.Fatalf("id %q of %v %q %d", id, key[0], event, part)
				}
				seen[id] = true
			}
		}
	}
	if id := StanzaID([32]byte{}, "$event:example.org", 0); id != "3EB0D2C71A0DE8A6D21CD0" {
		t.Errorf("the id of a known event has changed: %s", id) // ids are stored for ever
	}
}

func TestHowManyPeopleTypeAtOnceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(Config{Profile: profile.WhatsApp(), Device: &e2ee.Device{}})
		for i := range 3000 {
			a.typing.take(&stanza.ChatState{From: jid.JID{User: strconv.Itoa(i), Server: jid.LID}, State: stanza.Composing})
			a.typing.take(&stanza.ChatState{From: jid.JID{User: strconv.Itoa(i), Server: "newsletter"}, State: stanza.Composing})
		}
		if n := len(a.typing.theirs); n != maxTyping {
			t.Errorf("%d people are remembered, want %d", n, maxTyping)
		}
		a.typing.stop()
	})
}

func TestPaddingIsOneToFifteenBytesAndComesOffAgain(t *testing.T) {
	seen := map[byte]bool{}
	for range 2000 {
		text := bytes.Repeat([]byte("x"), rand.IntN(40))
		p := pad(text)
		n := p[len(p)-1]
		if len(p) != len(text)+int(n) || n < 1 || n > 15 || !bytes.Equal(p[len(text):], bytes.Repeat([]byte{n}, int(n))) {
			t.Fatalf("padding %v", p[len(text):])
		}
		seen[n] = true
		got, err := unpad(p)
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("got %q %v", got, err)
		}
	}
	if len(seen) != 15 {
		t.Errorf("%d lengths of 15", len(seen))
	}
}

func TestBackoffDoublesUpToItsBoundWithJitter(t *testing.T) {
	for attempt, want := range map[int]time.Duration{1: 1, 2: 2, 3: 4, 5: 16, 6: 30, 100: 30} {
		want *= time.Second
		low, high := time.Hour, time.Duration(0)
		for range 500 {
			d := backoff(attempt, time.Second, 30*time.Second)
			low, high = min(low, d), max(high, d)
		}
		if low < want/2 || high > want || high-low < want/4 {
			t.Errorf("attempt %d: %v to %v, want half of %v to all of it", attempt, low, high, want)
		}
	}
}

func TestLanesRunOneKeyInOrderAndKeysSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, runs atomic.Int32
		var mu sync.Mutex
		busy := map[string]bool{}
		l := lanes{a: &Account{limits: &Limits{RetryMin: time.Second}}}
		l.kind = &laneKind{inConnection, func(_ *Account, _ context.Context, key string) {
			mu.Lock()
			if busy[key] {
				t.Error("a key runs twice at once")
			}
			busy[key] = true
			most.Store(max(most.Load(), running.Add(1))) // or one of two at once is lost
			mu.Unlock()
			runs.Add(1)
			time.Sleep(time.Second)
			running.Add(-1)
			mu.Lock()
			busy[key] = false
			mu.Unlock()
		}}
		ctx, cancel := context.WithCancel(context.Background())
		l.kick("before the start") // does nothing
		l.start(ctx)
		for range 10 {
			l.kick("a")
			l.kick("b")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if most.Load() != 2 || runs.Load() != 4 {
			t.Errorf("%d at once, %d runs, want 2 and 4: a kick while running counts once", most.Load(), runs.Load())
		}
		cancel()
		l.stop()
		l.kick("after the end")
		synctest.Wait()
		if runs.Load() != 4 || len(l.active) != 0 {
			t.Errorf("%d runs and %d lanes after the end", runs.Load(), len(l.active))
		}
	})
}

func TestALaneThatPanicsGoesOnAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []time.Time
		l := lanes{a: &Account{limits: &Limits{RetryMin: time.Minute}, meter: noMeter{}, log: new(zerolog.Nop())}}
		l.kind = &laneKind{inConnection, func(*Account, context.Context, string) {
			runs = append(runs, time.Now())
			if len(runs) < 3 {
				panic("no")
			}
		}}
		ctx, cancel := context.WithCancel(context.Background())
		l.start(ctx)
		l.kick("a")
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(runs) != 3 || runs[1].Sub(runs[0]) != time.Minute {
			t.Errorf("runs at %v", runs)
		}
		cancel()
		l.stop()
	})
}

// TestABacklogGivesEveryCommittedRowOnceAndInOrder plays random orders of placing, committing, failing, reading and
// finishing against a list that stands for the disk.
func TestABacklogGivesEveryCommittedRowOnceAndInOrder(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var b backlog[int64]
		var disk, got, want []int64
		type open struct{ seq int64 }
		var places []open
		next := int64(1)
		settled := func(i int) { places = slices.Delete(places, i, i+1) }
		take := func() bool {
			if seq, ok := b.head(); ok {
				got = append(got, seq)
				b.pop(seq)
				disk = slices.DeleteFunc(disk, func(d int64) bool { return d == seq })
				return true
			}
			after, turn, wants := b.wantsPage()
			if !wants {
				return false
			}
			var page []int64
			for _, seq := range disk {
				if seq > after && len(page) < 3 {
					page = append(page, seq)
				}
			}
			// Between reading and taking, others go on.
			if len(places) > 0 && r.IntN(2) == 0 {
				p := places[0]
				settled(0)
				disk = append(disk, p.seq)
				want = append(want, p.seq)
				b.fill(p.seq, p.seq)
			}
			b.page(page, func(seq int64) int64 { return seq }, turn, len(page) == 3)
			return len(page) > 0
		}
		for range 60 {
			switch r.IntN(6) {
			case 0, 1:
				b.reserve(next, 4)
				places = append(places, open{next})
				next++
			case 2, 3: // commits come in the order of their places, as a chat's do
				if len(places) > 0 {
					p := places[0]
					settled(0)
					disk = append(disk, p.seq)
					want = append(want, p.seq)
					b.fill(p.seq, p.seq)
				}
			case 4:
				if len(places) > 0 {
					p := places[0]
					settled(0)
					unsure := r.IntN(2) == 0
					if unsure && r.IntN(2) == 0 { // it is on disk all the same
						disk = append(disk, p.seq)
						want = append(want, p.seq)
					}
					b.drop(p.seq, unsure)
				}
			case 5:
				take()
			}
		}
		for len(places) > 0 {
			b.drop(places[0].seq, false)
			settled(0)
		}
		for i := 0; i < 200 && !b.idle(); i++ {
			take()
		}
		if !slices.Equal(got, want) || !b.idle() || len(disk) != 0 {
			t.Fatalf("seed %d: got %v, want %v, left %v", seed, got, want, disk)
		}
	}
}

func TestPlacesGrowWithTheClockAndNeverFallBehindTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sequence{last: time.Now().Add(time.Hour).UnixMicro(), ok: true} // the clock was set back
		a := s.next(1)
		if b := s.next(3); a != s.last-3 || b != a+1 {
			t.Errorf("%d after %d", b, a)
		}
		time.Sleep(2 * time.Hour)
		if c := s.next(1); c != time.Now().UnixMicro() {
			t.Errorf("%d is not the time", c)
		}
	})
}
