package interop_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// targets makes Matrix take a message "about X" only if it has a message "X" (or "X about Y", for that matter).
func (b *bench) targets() {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.m.deliver = func(in *interop.Inbound) error {
		_, target, ok := strings.Cut(in.Message.GetConversation(), " about ")
		if !ok {
			return nil
		}
		b.m.mu.Lock()
		defer b.m.mu.Unlock()
		for _, text := range b.m.texts() {
			if name, _, _ := strings.Cut(text, " about "); name == target {
				return nil
			}
		}
		return fmt.Errorf("a reaction: %w", interop.ErrNoTarget)
	}
}

func (b *bench) wantReceipts(p *fakePhone, want ...string) {
	b.t.Helper()
	b.sees(func() {
		if !slices.Equal(p.read, want) {
			b.t.Errorf("the phone has receipts %q, want %q", p.read, want)
		}
	})
}

func TestWhatComesBeforeItsTargetWaitsForItAndTheChatGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.targets()
		p := b.g.phone("1")
		for i, text := range []string{"like about M", "one", "love about M", "two"} {
			b.g.says(p, fmt.Sprint("A", i), text)
		}
		settle()
		b.wantTexts("one", "two")
		b.wantReceipts(p, "A1", "A3")
		b.wantQueue(0)
		pass(time.Minute)
		b.wantTexts("one", "two")
		b.g.says(p, "A4", "M")
		b.g.says(p, "A5", "three")
		settle()
		b.wantTexts("one", "two", "M", "like about M", "love about M", "three")
		b.sees(func() {
			for _, in := range b.m.in {
				if in.Final {
					t.Errorf("%s was handed over for the last time", in.MessageID)
				}
			}
			if got := slices.Sorted(slices.Values(p.read)); !slices.Equal(got, []string{"A0", "A1", "A2", "A3", "A4", "A5"}) {
				t.Errorf("receipts %q", p.read)
			}
		})
		b.send(b.chatWith(p), "$1", "end")
		settle()
		if rows := must(b.store.AllHeld(context.Background())); len(rows) != 0 {
			t.Errorf("%d rows are still set aside", len(rows))
		}
	})
}

func TestWhatWasSetAsideMayBeWhatAnotherIsAbout(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.targets()
		p := b.g.phone("1")
		for i, text := range []string{"c about b", "b about a", "x about y", "d about c", "a"} {
			b.g.says(p, fmt.Sprint("A", i), text)
		}
		settle()
		b.wantTexts("a", "b about a", "c about b", "d about c")
	})
}

// finals are the ids that were handed over for the last time, and when.
func (b *bench) finals(answer func(in *interop.Inbound) error) *[]string {
	var ids []string
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	start := time.Now()
	b.m.deliver = func(in *interop.Inbound) error {
		if !strings.Contains(in.Message.GetConversation(), " about ") {
			return nil
		}
		if !in.Final {
			return interop.ErrNoTarget
		}
		b.m.mu.Lock()
		ids = append(ids, in.MessageID+" "+time.Since(start).Truncate(time.Second).String())
		b.m.mu.Unlock()
		return answer(in)
	}
	return &ids
}

func TestAfterTenMinutesItIsHandedOverForTheLastTime(t *testing.T) {
	for _, c := range []struct {
		name     string
		answer   error
		texts    []string
		receipts []string
	}{
		{"and shown, if Matrix can", nil, []string{"one", "like about M", "two"}, []string{"B", "A", "C"}},
		{"and dropped without a receipt, if it cannot", interop.ErrNoTarget, []string{"one", "two"}, []string{"B", "C"}},
		{"and dead, if it is refused", &interop.Rejected{Reason: "x"}, []string{"one", "two"}, []string{"B", "C"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				ids := b.finals(func(*interop.Inbound) error { return c.answer })
				p := b.g.phone("1")
				b.g.says(p, "A", "like about M")
				pass(time.Minute)
				b.g.says(p, "B", "one")
				pass(8 * time.Minute)
				b.sees(func() {
					if len(*ids) != 0 {
						t.Errorf("too early: %v", *ids)
					}
				})
				pass(2 * time.Minute)
				b.g.says(p, "C", "two")
				settle()
				b.wantTexts(c.texts...)
				b.wantReceipts(p, c.receipts...)
				b.sees(func() {
					if !slices.Equal(*ids, []string{"A 10m0s"}) {
						t.Errorf("handed over for the last time: %v, want A after 10 minutes", *ids)
					}
				})
				if err := b.a.MarkRead(context.Background(), b.chatWith(p), "C"); err != nil {
					t.Fatal(err)
				}
				settle()
				b.sees(func() {
					if c.answer != nil && slices.Contains(p.read, "readA") {
						t.Error("what was not shown is said to be read")
					}
				})
			})
		})
	}
}

func TestWhatWasSetAsideOutlivesARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ids := b.finals(func(*interop.Inbound) error { return nil })
		p := b.g.phone("1")
		b.g.says(p, "A", "like about M")
		pass(4 * time.Minute)
		b.g.says(p, "B", "love about M")
		settle()
		b.end()
		pass(time.Minute)
		b.run()
		pass(4 * time.Minute)
		b.end()
		b.wantTexts()
		pass(3 * time.Minute) // its time passes while nobody is there
		b.run()
		settle()
		b.wantTexts("like about M")
		pass(5 * time.Minute)
		b.wantTexts("like about M", "love about M")
		b.sees(func() {
			if !slices.Equal(*ids, []string{"A 12m0s", "B 14m0s"}) {
				t.Errorf("handed over for the last time: %v", *ids)
			}
		})
	})
}

func TestAfterARestartWhatWasSetAsideComesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.targets()
		p := b.g.phone("1")
		b.g.says(p, "A", "like about M")
		settle()
		b.end()
		b.g.says(p, "B", "M")
		var order []string
		b.m.mu.Lock()
		deliver := b.m.deliver
		b.m.deliver = func(in *interop.Inbound) error {
			order = append(order, in.MessageID)
			return deliver(in)
		}
		b.m.mu.Unlock()
		b.run()
		settle()
		b.wantTexts("M", "like about M")
		if !slices.Equal(order, []string{"A", "B", "A"}) {
			t.Errorf("handed over %v, want what was set aside first", order)
		}
	})
}

func TestHowManyWaitInAChatIsBounded(t *testing.T) {
	inBubbleWith(t, func(b *bench) { b.limits.HeldChat = 3 }, func(t *testing.T, b *bench) {
		ids := b.finals(func(*interop.Inbound) error { return interop.ErrNoTarget })
		p, q := b.g.phone("1"), b.g.phone("2")
		for i := range 6 {
			b.g.says(p, fmt.Sprint("A", i), "like about M")
		}
		b.g.says(q, "B", "like about M")
		settle()
		b.sees(func() {
			if !slices.Equal(*ids, []string{"A0 0s", "A1 0s", "A2 0s"}) {
				t.Errorf("handed over for the last time: %v, want the oldest", *ids)
			}
		})
		if rows := must(b.store.AllHeld(context.Background())); len(rows) != 4 {
			t.Errorf("%d rows are set aside, want 4", len(rows))
		}
	})
}

func TestATextOfAChatWithMuchSetAsideCostsFewDeliveries(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var times atomic.Int32
		b.m.deliver = func(in *interop.Inbound) error {
			times.Add(1)
			if strings.Contains(in.Message.GetConversation(), " about ") {
				return interop.ErrNoTarget
			}
			return nil
		}
		p := b.g.phone("1")
		for i := range 300 {
			b.g.says(p, fmt.Sprint("A", i), "like about nothing")
		}
		settle()
		for i := range 3 {
			before := times.Load()
			b.g.says(p, fmt.Sprint("B", i), "text")
			settle()
			if n := times.Load() - before; n > 25 {
				t.Errorf("a text cost %d deliveries", n)
			}
		}
	})
}

func TestManyRowsThatWaitAreHandedOverInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.targets()
		p := b.g.phone("1")
		want := []string{"M"}
		for i := range 20 { // more than are read at once
			text := fmt.Sprint("r", i, " about M")
			if i%3 == 1 {
				text = fmt.Sprint("r", i, " about nothing")
			} else {
				want = append(want, text)
			}
			b.g.says(p, fmt.Sprint("A", i), text)
		}
		b.g.says(p, "B", "M")
		settle()
		b.wantTexts(want...)
	})
}

func TestATroubleWithWhatWasSetAsideLosesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.targets()
		deliver := b.m.deliver
		var down atomic.Bool
		b.m.deliver = func(in *interop.Inbound) error {
			if in.MessageID == "B" && down.Load() {
				return errors.New("Matrix is down")
			}
			return deliver(in)
		}
		p := b.g.phone("1")
		for i, text := range []string{"like about M", "love about M", "wow about M"} {
			b.g.says(p, string(rune('A'+i)), text)
		}
		settle()
		down.Store(true)
		b.g.says(p, "D", "M")
		b.g.says(p, "E", "behind")
		settle()
		b.wantTexts("M", "like about M")
		pass(5 * time.Minute)
		down.Store(false)
		b.a.Nudge()
		settle()
		b.wantTexts("M", "like about M", "love about M", "wow about M", "behind")
	})
}

func TestOnlyMessagesAreSetAside(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		var times atomic.Int32
		b.m.deliver = func(in *interop.Inbound) error {
			if in.Kind != interop.KindMessage {
				times.Add(1)
				return interop.ErrNoTarget
			}
			return nil
		}
		b.push(&stanza.Notification{ID: "n1", From: jid.ServerJID, Type: "w:interop", T: 5, Children: reachChild(p.jid, "accepted")})
		b.g.says(p, "A", "one")
		pass(time.Hour)
		b.wantTexts("one")
		if rows := must(b.store.AllHeld(context.Background())); len(rows) != 0 || times.Load() != 1 {
			t.Errorf("%d notices are set aside, handed over %d times", len(rows), times.Load())
		}
	})
}
