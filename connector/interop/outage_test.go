package interop_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"postern/connector/interop"
)

// TestAfterADayWithoutMatrixEverythingComesWithinAMinuteAndInOrder: nothing that waits for Matrix has a bound of time, and however long it was
// away, the pauses between attempts stay so short that nobody waits for longer (promise 3). Nothing says that Matrix is well again.
func TestAfterADayWithoutMatrixEverythingComesWithinAMinuteAndInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, q := b.g.phone("1"), b.g.phone("2")
		var away atomic.Bool
		var attempts atomic.Int32
		away.Store(true)
		b.m.deliver = func(*interop.Inbound) error {
			if away.Load() {
				attempts.Add(1)
				return errors.New("no")
			}
			return nil
		}
		var first, second []string
		for i := range 30 {
			b.g.says(p, fmt.Sprint("A", i), fmt.Sprint("first ", i))
			b.g.says(q, fmt.Sprint("B", i), fmt.Sprint("second ", i))
			first, second = append(first, fmt.Sprint("first ", i)), append(second, fmt.Sprint("second ", i))
			pass(50 * time.Minute)
		}
		b.wantQueue(0) // all of it is on our disk
		// At the shortest an attempt comes every RetryMin, and there are two chats in these 25 hours.
		if n := attempts.Load(); n > 2*25*3600 {
			t.Errorf("%d attempts", n)
		}
		away.Store(false)
		pass(time.Minute)
		b.sees(func() {
			var got [2][]string
			for _, text := range b.m.texts() {
				if slices.Contains(first, text) {
					got[0] = append(got[0], text)
				} else {
					got[1] = append(got[1], text)
				}
			}
			if !slices.Equal(got[0], first) || !slices.Equal(got[1], second) {
				t.Errorf("Matrix has %q", b.m.texts())
			}
		})
		b.blameless()
	})
}

// TestOnlySoManyChatsAreHandedOverAtOnceAndSlowOnesHoldUpNobody: many chats that have much to say do not all use the database and the homeserver
// at the same time, and chats that hang are not counted.
func TestOnlySoManyChatsAreHandedOverAtOnceAndSlowOnesHoldUpNobody(t *testing.T) {
	const chats, hang, most = 200, 150, 64
	inBubble(t, func(t *testing.T, b *bench) {
		var now, peak, slow atomic.Int32
		b.m.deliver = func(in *interop.Inbound) error {
			if in.Message.GetConversation() == "hang" {
				slow.Add(1)
				time.Sleep(time.Hour)
				return nil
			}
			n := now.Add(1)
			for {
				old := peak.Load()
				if n <= old || peak.CompareAndSwap(old, n) {
					break
				}
			}
			time.Sleep(20 * time.Millisecond)
			now.Add(-1)
			return nil
		}
		for i := range chats {
			b.g.says(b.g.phone(fmt.Sprint(1000+i)), fmt.Sprint("A", i), "quick")
		}
		pass(time.Minute)
		if n := peak.Load(); n > most || n < most/2 {
			t.Errorf("%d chats at once, want at most %d and not much less", n, most)
		}
		for i := range hang {
			b.g.says(b.g.phone(fmt.Sprint(1000+i)), fmt.Sprint("B", i), "hang")
		}
		pass(time.Minute)
		if n := slow.Load(); n != hang {
			t.Errorf("%d chats hang, want %d", n, hang)
		}
		last := b.g.phone("9999")
		b.g.says(last, "C", "the last")
		pass(5 * time.Second)
		b.sees(func() {
			if !slices.Contains(b.m.texts(), "the last") {
				t.Error("a chat waits for others that hang")
			}
		})
		pass(2 * time.Hour)
	})
}
