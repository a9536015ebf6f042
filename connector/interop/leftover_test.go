package interop_test

import (
	"context"
	"errors"
	"fmt"
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
