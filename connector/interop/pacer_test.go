package interop

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// paced lets n wait and returns when each went, in order.
func paced(p *Pacer, n int) (went []time.Time) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			_ = p.Wait(context.Background(), nil) // the context does not end
			mu.Lock()
			defer mu.Unlock()
			went = append(went, time.Now())
		})
	}
	all.Wait()
	return went
}

func TestNoMoreConnectInASecondThanMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, count = 20, 1000
		begun := time.Now()
		went := paced(NewPacer(rate), count)
		for i, at := range went {
			for _, span := range []time.Duration{time.Second, 7 * time.Second} {
				n := 0
				for _, other := range went[i:] {
					if other.Sub(at) < span {
						n++
					}
				}
				if most := int(span.Seconds()*rate) + 1; n > most {
					t.Fatalf("%d in %v from %v on, want at most %d", n, span, at.Sub(begun), most)
				}
			}
		}
		if took := went[count-1].Sub(begun); took < 49*time.Second || took > 51*time.Second {
			t.Errorf("it took %v", took)
		}
		gaps := map[time.Duration]bool{}
		for i := 1; i < len(went); i++ {
			gaps[went[i].Sub(went[i-1])] = true
		}
		if len(gaps) < count/2 {
			t.Errorf("only %d different pauses: there is no jitter", len(gaps))
		}
	})
}

func TestWhoeverComesAloneDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(1)
		for range 3 {
			begun := time.Now()
			if paced(p, 1); time.Since(begun) > 0 {
				t.Errorf("waited for %v", time.Since(begun))
			}
			time.Sleep(3 * time.Second)
		}
	})
}

// TestWhoeverIsWaitedForGoesFirst: a push comes for somebody who stands at the end of a long line.
func TestWhoeverIsWaitedForGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(10)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() { _ = p.Wait(ctx, nil) }) // either way it ends
		}
		synctest.Wait()
		hurry := make(chan struct{})
		done := make(chan time.Time, 2)
		begun := time.Now()
		all.Go(func() { _ = p.Wait(ctx, hurry); done <- time.Now() })
		time.Sleep(5 * time.Second)
		select {
		case <-done:
			t.Error("went before its time")
		default:
		}
		close(hurry)
		if at := <-done; at.Sub(begun) > 5500*time.Millisecond {
			t.Errorf("went %v after the push", at.Sub(begun)-5*time.Second)
		}
		begun = time.Now()
		if err := p.Wait(ctx, hurry); err != nil || time.Since(begun) > time.Second {
			t.Errorf("somebody in a hurry waited for %v, %v", time.Since(begun), err)
		}
		cancel()
		all.Wait()
		begun = time.Now()
		if paced(p, 1); time.Since(begun) > time.Second {
			t.Errorf("those who left are waited for: %v", time.Since(begun))
		}
	})
}

func TestWhoeverLeavesIsToldAndTakesNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(1)
		paced(p, 1)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Wait(ctx, nil); err == nil {
			t.Error("no error")
		}
		begun := time.Now()
		if paced(p, 1); time.Since(begun) > 2*time.Second {
			t.Errorf("waited for %v", time.Since(begun))
		}
	})
}
