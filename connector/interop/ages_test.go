package interop_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"postern/connector/interop"
)

// TestWhatAgesByAnotherClockIsKeptThoughTheMachinesIsFarAhead: dead letters, plaintexts that may be asked for again, and what repetitions are known by.
func TestWhatAgesByAnotherClockIsKeptThoughTheMachinesIsFarAhead(t *testing.T) {
	var right atomic.Bool // the machine's clock
	prepare := func(b *bench) {
		b.edit = func(c *interop.Config) {
			c.Age = func() time.Time {
				if right.Load() {
					return time.Now()
				}
				return time.Now().Add(-60 * 24 * time.Hour)
			}
		}
	}
	inBubbleWith(t, prepare, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.refusing("A")
		b.g.says(p, "A", "text A")
		b.g.says(p, "B", "text B")
		settle()
		id := b.send(b.chatWith(p), "$1", "text")[0]
		settle()
		kept := func() (letters int, plaintext bool) {
			row := must(b.store.OutboundStanza(context.Background(), id))
			return len(b.letters()), row != nil && row.Plaintext != nil
		}
		pass(55 * 24 * time.Hour)
		if letters, plaintext := kept(); letters != 1 || !plaintext {
			t.Errorf("%d dead letters, a plaintext: %v", letters, plaintext)
		}
		b.g.says(p, "B", "text B")
		settle()
		b.wantTexts("text B") // it is known still
		right.Store(true)
		pass(10 * time.Hour) // there are chores every nine hours at most
		if letters, plaintext := kept(); letters != 0 || plaintext {
			t.Errorf("when so much time has gone by: %d dead letters, a plaintext: %v", letters, plaintext)
		}
	})
}
