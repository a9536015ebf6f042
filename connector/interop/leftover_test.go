package interop_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"postern/connector/e2ee"
	"postern/connector/interop"
)

// slowStore holds up what is received while it is told to.
type slowStore struct {
	interop.Store
	gate chan struct{} // nil: open
}

func (s *slowStore) Commit(ctx context.Context, c *e2ee.Change, extra func(ctx context.Context) error) error {
	if s.gate != nil {
		<-s.gate
	}
	return s.Store.Commit(ctx, c, extra)
}

func TestWhatIsLeftOverFromAnEarlierLoginIsStoredOnceAndInOrder(t *testing.T) {
	for name, forgets := range map[string]bool{"sent again": false, "by a gatekeeper that has forgotten it": true} {
		t.Run(name, func(t *testing.T) {
			store := &slowStore{}
			inBubbleWith(t, func(b *bench) {
				store.Store = b.store
				b.store = store
			}, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				b.g.says(p, "first", "zero")
				settle()
				store.gate = make(chan struct{})
				want := []string{"zero"}
				for i := range 10 {
					want = append(want, fmt.Sprint("text ", i))
					b.g.says(p, fmt.Sprint("A", i), want[i+1])
				}
				settle()
				if forgets {
					b.g.mu.Lock()
					b.g.queue = nil
					b.g.mu.Unlock()
				}
				b.g.breaks(errors.New("cut"))
				pass(5 * time.Second)
				b.wantTexts("zero")
				close(store.gate)
				b.g.says(p, "B", "after")
				pass(time.Minute)
				b.wantTexts(append(want, "after")...)
				b.wantQueue(0)
				b.sees(func() {
					if len(p.retry) != 0 {
						t.Errorf("%d were asked for again", len(p.retry))
					}
				})
			})
		})
	}
}

func TestWhatIsLeftOverDoesNotOvertakeWhatCouldNotBeStored(t *testing.T) {
	store, disk := &slowStore{}, &brokenStore{}
	inBubbleWith(t, func(b *bench) {
		disk.Store = b.store
		store.Store = disk
		b.store = store
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "first", "zero")
		settle()
		store.gate = make(chan struct{})
		b.says(p, "A", 3)
		settle()
		b.g.breaks(errors.New("cut"))
		pass(5 * time.Second)
		disk.broken.Store(true)
		store.gate <- struct{}{} // one fails, while the others wait behind it
		settle()
		disk.broken.Store(false)
		close(store.gate)
		pass(5 * time.Minute)
		b.wantTexts("zero", "text A0", "text A1", "text A2")
		b.wantQueue(0)
	})
}

func TestWhatTheReaderHoldsDoesNotOvertakeWhatCouldNotBeStored(t *testing.T) {
	store, disk := &slowStore{}, &brokenStore{}
	inBubbleWith(t, func(b *bench) {
		disk.Store = b.store
		store.Store = disk
		b.store = store
		b.limits.InFlight = 1
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "first", "zero")
		settle()
		store.gate = make(chan struct{}, 1)
		b.says(p, "A", 3) // the second is in the reader's hands
		settle()
		disk.broken.Store(true)
		store.gate <- struct{}{}
		settle()
		disk.broken.Store(false)
		close(store.gate)
		pass(5 * time.Minute)
		b.wantTexts("zero", "text A0", "text A1", "text A2")
		b.wantQueue(0)
	})
}

func TestWhatStoodBeforeTheRefusedIsStoredThoughTheGatekeeperForgetsIt(t *testing.T) {
	store := &slowStore{}
	inBubbleWith(t, func(b *bench) {
		store.Store = b.store
		b.store = store
		b.limits.MaxPendingChat = 3
	}, func(t *testing.T, b *bench) {
		var down atomic.Bool
		down.Store(true)
		b.m.deliver = func(*interop.Inbound) error {
			if down.Load() {
				return errors.New("Matrix is down")
			}
			return nil
		}
		p := b.g.phone("1")
		b.says(p, "A", 2)
		settle()
		store.gate = make(chan struct{})
		b.says(p, "B", 3)
		settle()
		store.gate <- struct{}{}
		settle()
		b.says(p, "C", 1) // too much waits for Matrix now
		settle()
		b.sees(func() {
			if !slices.ContainsFunc(b.m.conn, func(s interop.ConnState) bool { return s.Kind == interop.ConnBackPressure }) {
				t.Error("nothing was refused")
			}
		})
		b.g.mu.Lock()
		b.g.queue = nil
		b.g.mu.Unlock()
		b.g.breaks(errors.New("cut"))
		pass(5 * time.Second)
		close(store.gate)
		down.Store(false)
		pass(5 * time.Minute)
		b.wantTexts("text A0", "text A1", "text B0", "text B1", "text B2")
	})
}

func TestWhatIsLeftOverDoesNotOvertakeWhatWasRefused(t *testing.T) {
	store := &brokenStore{}
	inBubbleWith(t, func(b *bench) {
		store.Store = b.store
		b.store = store
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "first", "zero")
		settle()
		want := []string{"zero"}
		for round := range 20 {
			store.broken.Store(true)
			for i := range 5 {
				text := fmt.Sprint("text ", round, " ", i)
				want = append(want, text)
				b.g.says(p, fmt.Sprint("A", round, "-", i), text)
			}
			b.g.breaks(errors.New("cut"))
			pass(time.Duration(round) * 100 * time.Millisecond)
			store.broken.Store(false)
			b.g.breaks(errors.New("cut"))
			pass(time.Duration(round) * 70 * time.Millisecond)
		}
		pass(5 * time.Minute)
		b.wantTexts(want...)
		b.wantQueue(0)
	})
}
