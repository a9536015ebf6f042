package interop_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/interop/interoptest"
	"postern/connector/stanza"
)

// idleStream is a stream that is live from the start, on which nothing comes.
type idleStream struct {
	g  *fakeGate
	h  gatekeeper.Handler
	up atomic.Bool
}

func (s *idleStream) Run(ctx context.Context) error {
	s.up.Store(true)
	s.h.State(gatekeeper.State{Phase: gatekeeper.Draining})
	s.h.State(gatekeeper.State{Phase: gatekeeper.Live})
	<-ctx.Done()
	s.up.Store(false)
	s.h.State(gatekeeper.State{Phase: gatekeeper.Stopped})
	return ctx.Err()
}

func (s *idleStream) Send(context.Context, stanza.Stanza) error { return gatekeeper.ErrNotConnected }
func (s *idleStream) SendFrame(context.Context, []byte) error   { return gatekeeper.ErrNotConnected }
func (s *idleStream) Request(_ context.Context, iq *stanza.IQ) (*stanza.IQ, error) {
	if !s.up.Load() {
		return nil, gatekeeper.ErrNotConnected
	}
	q := *iq
	q.ID = "q"
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	answer := s.g.iq(&q)
	if answer.Err != nil {
		return nil, answer.Err
	}
	return answer, nil
}

// idleBytes is what an account that is connected and idle may take, besides its stream and what is made of it by others.
const idleBytes = 5632

// TestAnIdleAccountCostsOneGoroutineAndLittleMemory has many accounts on one store, so that what the store takes does not count.
func TestAnIdleAccountCostsOneGoroutineAndLittleMemory(t *testing.T) {
	const accounts = 1000
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, interoptest.NewMemStore())
		b.edit = func(c *interop.Config) {
			c.NewStream = func(c gatekeeper.Config) interop.Stream { return &idleStream{g: b.g, h: c.Handler} }
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		begin := func(n int) (list []*interop.Account) {
			for range n {
				a := interop.New(b.config())
				list = append(list, a)
				running.Go(func() {
					if err := a.Run(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
			for _, a := range list {
				if r := a.Report(); !r.Live || r.PreKeys < 0 || a.Busy() {
					t.Fatalf("not live and idle: %+v", r)
				}
			}
			return list
		}
		first := begin(10) // what is made once for all
		memory, routines := inUse()
		rest := begin(accounts)
		more, moreRoutines := inUse()
		each, eachRoutines := (more-memory)/accounts, moreRoutines-routines
		t.Logf("%d bytes for each account, %d goroutines for all", each, eachRoutines)
		if each > idleBytes || each < 500 {
			t.Errorf("an idle account takes %d bytes, want at most %d", each, idleBytes)
		}
		if eachRoutines != accounts {
			t.Errorf("%d idle accounts have %d goroutines, want one each", accounts, eachRoutines)
		}
		runtime.KeepAlive(first)
		runtime.KeepAlive(rest)
	})
}

// inUse is how many bytes the heap has, and how many goroutines there are.
func inUse() (bytes int64, routines int) {
	var m runtime.MemStats
	for range 2 { // what is in a sync.Pool goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), runtime.NumGoroutine()
}
