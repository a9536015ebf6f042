package interop_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"postern/connector/interop"
)

// decides makes Deliver answer every item of a chat with an error, or nil, that may change. What Matrix has not taken is not in b.m.in.
func (b *bench) decides(answer func(in *interop.Inbound) error) {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.m.deliver = answer
}

func nothing(context.Context) error { return nil }

func TestWhatIsShownToSomebodyWhoHasNotAcceptedIsReceiptedWhenTheyDo(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.decides(func(*interop.Inbound) error { return interop.ErrQuiet })
		p := b.g.phone("1")
		chat := b.chatWith(p)
		b.g.says(p, "A1", "one")
		b.g.says(p, "A2", "two")
		settle()
		b.markRead(p, "A2")
		settle()
		b.wantReceipts(p)
		b.wantReads(p)
		b.wantQueue(0)
		if err := b.end(); err != nil {
			t.Fatal(err)
		}
		b.run()
		settle()
		b.wantReceipts(p)
		b.wantReads(p)
		b.decides(nil)
		if err := b.a.Release(t.Context(), chat, nothing); err != nil {
			t.Fatal(err)
		}
		settle()
		b.wantReceipts(p, "A1", "A2", "readA1", "readA2")
		b.wantReads(p, "A1 A2")
	})
}

func TestWhatIsWithheldComesInOrderWhenTheChatIsReleased(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", again), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				withheld := 0
				b.decides(func(in *interop.Inbound) error {
					if strings.HasPrefix(in.MessageID, "A") {
						withheld++
						return interop.ErrWithheld
					}
					return nil
				})
				p, other := b.g.phone("1"), b.g.phone("2")
				chat := b.chatWith(p)
				for i := range 3 {
					b.g.says(p, fmt.Sprint("A", i), fmt.Sprint("kept ", i))
				}
				b.g.says(other, "B1", "of somebody else")
				settle()
				b.wantQueue(0)
				b.wantReceipts(p)
				b.wantReceipts(other, "B1")
				if again {
					if err := b.end(); err != nil {
						t.Fatal(err)
					}
					b.run()
					settle()
				}
				if withheld != 3 {
					t.Errorf("handed over %d times", withheld)
				}
				b.decides(nil)
				b.sees(func() { b.m.in = nil })
				if err := b.a.Release(t.Context(), chat, nothing); err != nil {
					t.Fatal(err)
				}
				b.g.says(p, "A3", "after that")
				settle()
				b.wantTexts("kept 0", "kept 1", "kept 2", "after that")
				b.wantReceipts(p, "A0", "A1", "A2", "A3")
			})
		})
	}
}

// TestADecisionWhileAMessageIsHandedOverIsNotLost: the person decides between what Deliver finds out and what is stored of it.
func TestADecisionWhileAMessageIsHandedOverIsNotLost(t *testing.T) {
	for _, why := range []error{interop.ErrQuiet, interop.ErrWithheld} {
		for _, accepted := range []bool{true, false} {
			t.Run(fmt.Sprint(why, accepted), func(t *testing.T) {
				inBubble(t, func(t *testing.T, b *bench) {
					p := b.g.phone("1")
					chat := b.chatWith(p)
					first := true
					b.decides(func(*interop.Inbound) error {
						switch {
						case first && accepted:
							first = false
							if err := b.a.Release(t.Context(), chat, nothing); err != nil {
								t.Error(err)
							}
							return why
						case first:
							first = false
							if _, err := b.a.Discard(t.Context(), chat, nothing); err != nil {
								t.Error(err)
							}
							return why
						case accepted:
							return nil
						}
						return interop.ErrDropped
					})
					b.g.says(p, "A1", "hello")
					settle()
					pass(b.config().Limits.RetryMax + 40e9)
					b.wantQueue(0)
					if accepted {
						b.wantReceipts(p, "A1")
					} else {
						b.wantReceipts(p)
					}
				})
			})
		}
	}
}

func TestWhatIsDeclinedOrDroppedIsAckedAndNeverReceipted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		answer := interop.ErrQuiet
		b.decides(func(*interop.Inbound) error { return answer })
		p := b.g.phone("1")
		chat := b.chatWith(p)
		b.g.says(p, "A1", "shown")
		settle()
		b.sees(func() { answer = interop.ErrWithheld })
		b.g.says(p, "A2", "withheld")
		settle()
		if n, err := b.a.Discard(t.Context(), chat, nothing); n != 1 || err != nil {
			t.Fatalf("%d were discarded, %v", n, err)
		}
		b.sees(func() { answer = interop.ErrDropped })
		b.g.says(p, "A3", "dropped")
		settle()
		b.wantQueue(0)
		if err := b.a.Release(t.Context(), chat, nothing); err != nil {
			t.Fatal(err)
		}
		settle()
		b.wantReceipts(p)
		if rows := must(b.store.WithheldInbound(context.Background(), chat, 10)); len(rows) != 0 {
			t.Errorf("%d are withheld", len(rows))
		}
	})
}
