package interop_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/connector/interop"
)

// delayed is for receipts that go as they do by default.
func delayed(b *bench) { b.limits.ReceiptDelay = 2 * time.Second }

// moments lets time pass in small steps, and returns when the phone got receipts, from now.
func (b *bench) moments(p *fakePhone, d time.Duration) (at []time.Duration) {
	b.t.Helper()
	start, seen := time.Now(), 0
	b.sees(func() { seen = len(p.receipts) })
	for time.Since(start) < d {
		pass(20 * time.Millisecond)
		b.sees(func() {
			if len(p.receipts) > seen {
				seen = len(p.receipts)
				at = append(at, time.Since(start))
			}
		})
	}
	return at
}

func TestWhenAReceiptComesSaysNothingOfWhenTheMessageWasTaken(t *testing.T) {
	inBubbleWith(t, delayed, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		pass(5 * time.Second) // the login is over
		var waits []time.Duration
		for i := range 60 {
			b.g.says(p, fmt.Sprint("A", i), "text")
			at := b.moments(p, 10*time.Second)
			if len(at) != 1 {
				t.Fatalf("receipts for message %d after %v", i, at)
			}
			waits = append(waits, at[0])
		}
		slices.Sort(waits)
		// Uniform over 2 s: each of these fails once in ten million runs or less.
		if longest := waits[59]; longest > 2100*time.Millisecond || longest < 1500*time.Millisecond {
			t.Errorf("the longest of 60 delays is %v", longest)
		}
		if waits[0] > 500*time.Millisecond || waits[30]-waits[10] < 100*time.Millisecond {
			t.Errorf("delays are %v", waits)
		}
	})
}

func TestReceiptsOfOneMomentGoTogetherAndReadReceiptsAreDelayedToo(t *testing.T) {
	inBubbleWith(t, delayed, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		pass(5 * time.Second) // the login is over
		b.says(p, "A", 20)
		if at := b.moments(p, 5*time.Second); len(at) != 1 {
			t.Errorf("receipts for one moment's messages after %v", at)
		}
		spread := map[time.Duration]bool{}
		for i := range 12 {
			b.says(p, fmt.Sprint("B", i), 1)
			pass(20 * time.Second)
			b.markRead(p, fmt.Sprint("B", i, "0"))
			at := b.moments(p, 10*time.Second)
			if len(at) != 1 || at[0] > 2100*time.Millisecond {
				t.Fatalf("read receipts after %v", at)
			}
			spread[at[0]] = true
		}
		if len(spread) < 3 {
			t.Errorf("read receipts come after %v", spread)
		}
	})
}

func TestReceiptsOfOneContactAreCappedAndOfOthersAreNot(t *testing.T) {
	inBubbleWith(t, delayed, func(t *testing.T, b *bench) {
		p, q := b.g.phone("1"), b.g.phone("2")
		const minutes = 5
		var at []time.Duration
		start := time.Now()
		for i := 0; time.Since(start) < minutes*time.Minute; i++ {
			b.g.says(p, fmt.Sprint("A", i), "text")
			at = append(at, b.moments(p, time.Second)...)
			if i%60 == 30 {
				b.g.says(q, fmt.Sprint("Q", i), "text")
				if other := b.moments(q, 3*time.Second); len(other) != 1 {
					t.Errorf("the other contact has receipts after %v", other)
				}
			}
		}
		// Ten at once and one in five seconds; without it there were more than a hundred.
		if most := 10 + minutes*12 + 1; len(at) > most || len(at) < minutes*8 {
			t.Errorf("receipts at %d moments, want no more than %d", len(at), most)
		}
		pass(time.Minute)
		var sent int
		b.sees(func() {
			for _, q := range b.g.queue {
				if q.key.Class == "message" {
					sent++
				}
			}
			seen := map[string]bool{}
			for _, id := range p.read {
				if seen[id] {
					t.Errorf("%s has two receipts", id)
				}
				seen[id] = true
			}
		})
		if rows := must(b.store.DueReceipts(t.Context(), 0, 100)); sent > 0 || len(rows) > 0 {
			t.Errorf("%d messages and %d receipts are left", sent, len(rows))
		}
	})
}

func TestAReceiptThatWaitsSurvivesARestart(t *testing.T) {
	inBubbleWith(t, delayed, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "text")
		for range 100 { // until it is due and has not gone, which a short delay may spoil
			settle()
			if len(must(b.store.DueReceipts(t.Context(), 0, 10))) > 0 {
				break
			}
		}
		if err := b.end(); err != nil {
			t.Fatal(err)
		}
		want := []string{"A"}
		b.sees(func() { want = append(want, p.read...) }) // what a short delay let go before the end, unacked, goes once more
		b.run()
		pass(time.Minute)
		b.wantReceipts(p, want...)
	})
}

func TestAStreamDoesNotRestWhileAReceiptWaitsForItsMoment(t *testing.T) {
	inBubbleWith(t, func(b *bench) {
		b.limits.ReceiptDelay = time.Hour
		b.edit = func(c *interop.Config) { c.Attendance = interop.Attendance{Idle: idle} }
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "text")
		pass(2 * time.Hour)
		b.wantReceipts(p, "A")
		b.wantLogins(1, false)
	})
}

func TestAReceiptThatComesToBeDueAsTheStreamGoesToRestIsReasonForANewOne(t *testing.T) {
	inBubbleWith(t, func(b *bench) {
		b.limits.ReceiptDelay = time.Minute
		b.edit = func(c *interop.Config) { c.Attendance = interop.Attendance{Idle: idle} }
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "text")
		settle()
		b.sees(func() {
			if len(p.read) > 0 {
				t.Skip("the delay happened to be none") // one in ten thousand
			}
		})
		b.a.Rest()
		pass(5 * time.Minute)
		b.wantReceipts(p, "A")
		b.wantLogins(2, false)
	})
}

func TestWhatIsDealtWithAndShowsNothingGetsNoReceiptOfAnyKind(t *testing.T) {
	inBubbleWith(t, delayed, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.decides(func(in *interop.Inbound) error {
			if in.MessageID == "silent" {
				return fmt.Errorf("a reaction to nothing: %w", interop.ErrUnseen)
			}
			return nil
		})
		b.g.says(p, "silent", "one")
		b.g.says(p, "B", "two")
		pass(time.Minute)
		b.markRead(p, "B")
		pass(time.Minute)
		b.wantReceipts(p, "B", "readB")
		b.wantQueue(0)
		b.g.says(p, "silent", "one") // again
		pass(time.Minute)
		b.wantReceipts(p, "B", "readB")
	})
}
