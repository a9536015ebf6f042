package interop_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"postern/connector/interop"
)

// halfFaulty is a store on which storing messages fails, while everything else works.
type halfFaulty struct {
	interop.Store
	faulty func() bool
}

func (s halfFaulty) InsertInbound(ctx context.Context, row *interop.InRow) error {
	if s.faulty() {
		return errors.New("full")
	}
	return s.Store.InsertInbound(ctx, row)
}

// TestAFaultThatIsFoundMendedTooEarlyBringsTheStreamBackEverMoreRarely: whoever looks after the database says each time that it is well
// again, since its attempts do not meet what the messages meet.
func TestAFaultThatIsFoundMendedTooEarlyBringsTheStreamBackEverMoreRarely(t *testing.T) {
	faulty := true
	inBubbleWith(t, func(b *bench) {
		b.edit = func(c *interop.Config) { c.Store = halfFaulty{c.Store, func() bool { return faulty }} }
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "refused")
		for range 1200 {
			b.a.StorageAgain()
			pass(250 * time.Millisecond)
		}
		b.sees(func() {
			if b.g.logins > 30 {
				t.Errorf("%d logins in five minutes", b.g.logins)
			}
		})
		faulty = false
		b.a.StorageAgain()
		pass(35 * time.Second)
		b.sees(func() {
			if got := fmt.Sprint(b.m.texts()); got != "[refused]" {
				t.Errorf("Matrix has %s", got)
			}
		})
	})
}

// TestTheFirstTimeThatStoringWorksAgainNobodyWaits is the other side of it.
func TestTheFirstTimeThatStoringWorksAgainNobodyWaits(t *testing.T) {
	faulty := true
	inBubbleWith(t, func(b *bench) {
		b.edit = func(c *interop.Config) { c.Store = halfFaulty{c.Store, func() bool { return faulty }} }
	}, func(t *testing.T, b *bench) {
		b.g.says(b.g.phone("1"), "A", "refused")
		pass(100 * time.Second)
		for last := interop.ConnKind(""); last != interop.ConnStorage; b.sees(func() { last = b.m.conn[len(b.m.conn)-1].Kind }) {
			pass(time.Millisecond)
		}
		faulty = false
		b.a.StorageAgain()
		settle()
		b.sees(func() {
			if got := fmt.Sprint(b.m.texts()); got != "[refused]" {
				t.Errorf("Matrix has %s", got)
			}
		})
	})
}
