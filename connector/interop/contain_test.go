package interop_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"postern/connector/interop"
)

// trap is a store that panics when a message with a marked id is looked up.
type trap struct {
	interop.Store
	id    string
	times int // how often
}

func (s *trap) Inbound(ctx context.Context, chat string, class interop.Class, id string) (*interop.InRow, error) {
	if id == s.id && s.times > 0 {
		s.times--
		panic("a store that cannot take it")
	}
	return s.Store.Inbound(ctx, chat, class, id)
}

// TestAPanicWhileAStanzaIsHandledLeavesItToTheGatekeeper: it comes again, in its place.
func TestAPanicWhileAStanzaIsHandledLeavesItToTheGatekeeper(t *testing.T) {
	inBubbleWith(t, func(b *bench) { b.store = &trap{b.store, "B", 2} }, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "one")
		b.g.says(p, "B", "two")
		b.g.says(p, "C", "three")
		pass(time.Minute)
		b.wantTexts("one", "two", "three")
		b.wantQueue(0)
		b.sees(func() { b.m.conn = nil }) // the panics were meant
	})
}

// TestAStanzaWhoseHandlingHasPanickedThreeTimesIsGivenUpVisibly: it does not keep the account busy for ever, and the person is told.
func TestAStanzaWhoseHandlingHasPanickedThreeTimesIsGivenUpVisibly(t *testing.T) {
	inBubbleWith(t, func(b *bench) { b.store = &trap{b.store, "B", 3} }, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		var told []string
		b.m.deliver = func(in *interop.Inbound) error {
			if in.Kind == interop.KindUndecryptable {
				told = append(told, in.MessageID+" "+in.Reason)
			}
			return nil
		}
		b.g.says(p, "A", "one")
		b.g.says(p, "B", "two")
		b.g.says(p, "C", "three")
		pass(5 * time.Minute)
		b.wantQueue(0)
		b.sees(func() {
			if got := b.m.texts(); !slices.Contains(got, "one") || !slices.Contains(got, "three") {
				t.Errorf("Matrix has %q", got)
			}
			if !slices.Equal(told, []string{"B " + interop.ReasonFault}) {
				t.Errorf("told %q", told)
			}
			if !slices.Equal(b.g.blunder, []string{"nack 500"}) {
				t.Errorf("the gate saw %q", b.g.blunder)
			}
			b.m.conn, b.g.blunder = nil, nil // the panics were meant, and the nack
		})
	})
}
