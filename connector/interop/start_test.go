package interop_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/interop/interoptest"
)

// TestManyAccountsConnectNoFasterThanMayBeAndAllAreReady is a start with 200 accounts at the sandbox, and then another after the
// gatekeeper has ended all their streams at once.
func TestManyAccountsConnectNoFasterThanMayBeAndAllAreReady(t *testing.T) {
	const accounts, rate = 200, 50
	g := newGate(t)
	g.prof.PreKeys.Initial, g.prof.PreKeys.RefillTo, g.prof.PreKeys.RefillBelow = 2, 2, 1 // they are not what is tested
	pacer := interop.NewPacer(rate)
	var mu sync.Mutex
	var begun []time.Time
	pace := func(ctx context.Context, hurry <-chan struct{}) error {
		err := pacer.Wait(ctx, hurry)
		mu.Lock()
		defer mu.Unlock()
		begun = append(begun, time.Now())
		return err
	}
	partners := make([]*partner, accounts)
	for i := range partners {
		p := g.enlistAs(t, fmt.Sprintf("user-%d@example.org", i), interoptest.NewMemStore())
		p.edit = func(c *interop.Config) { c.Pace = pace }
		p.make(t)
		partners[i] = p
	}
	round := func(what string, logins int, start func()) {
		t.Helper()
		from := time.Now()
		start()
		for _, p := range partners {
			p.m.wait(t, "live", func() bool {
				n := 0
				for _, s := range p.m.conn {
					if s.Kind == interop.ConnLive {
						n++
					}
				}
				return n >= logins
			})
		}
		took := time.Since(from)
		mu.Lock()
		defer mu.Unlock()
		slices.SortFunc(begun, time.Time.Compare)
		most := 0
		for i := range begun {
			n := 0
			for _, at := range begun[i:] {
				if at.Sub(begun[i]) < time.Second {
					n++
				}
			}
			most = max(most, n)
		}
		t.Logf("%s: %d accounts are live after %v; %d attempts, at most %d in a second, %d allowed", what, accounts, took.Round(time.Millisecond), len(begun), most, rate)
		// A goroutine that has its turn may be late on a busy machine, and then stands close to the next: the bound allows for a fifth.
		if most > rate+rate/5+1 {
			t.Errorf("%s: %d attempts in a second, want at most %d", what, most, rate)
		}
		if took < accounts/rate*time.Second-time.Second {
			t.Errorf("%s: all were live after %v: nothing was paced", what, took)
		}
		begun = nil
	}
	round("start", 1, func() {
		for _, p := range partners {
			p.begin(t)
		}
	})
	round("outage", 2, func() {
		g.post("/v1/faults", map[string]any{"kind": "cut", "count": accounts})
	})
	g.blameless()
}
