package connector

import (
	"context"
	"sync"
	"time"
)

// spell is a loop without a goroutine while there is nothing to do: it works when it is called for or when it is time, one step after another.
// Logins are many and idle, and a loop that waits holds a stack for each.
type spell struct {
	// step works, and returns when to work again by itself, zero for never. It catches its own panics.
	step func(ctx context.Context) time.Time

	mu    sync.Mutex
	ctx   context.Context // between begin and end
	busy  chan struct{}   // closed when the goroutine that works ends, nil if there is none
	due   time.Time       // when the timer rings, zero for never
	timer *time.Timer
	// wish is when to work again, for what came in while nothing could be begun: before begin, and during a step.
	wish time.Time
}

// begin lets it work until ctx ends, and forgets nothing that it was called for before.
func (s *spell) begin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx = ctx
	if s.busy == nil {
		s.arm(s.wish)
	}
}

// end returns when no step of ctx is under way any more; ctx has to have ended.
func (s *spell) end(ctx context.Context) {
	s.mu.Lock()
	busy := s.busy
	if s.ctx == ctx {
		s.ctx, s.due, s.wish = nil, time.Time{}, time.Time{}
		if s.timer != nil {
			s.timer.Stop()
		}
	}
	s.mu.Unlock()
	if busy != nil {
		<-busy
	}
}

// now calls for a step.
func (s *spell) now() { s.at(time.Now()) }

// at calls for a step at a time, or sooner.
func (s *spell) at(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.busy != nil {
		s.wish = earlier(s.wish, t)
		return
	}
	s.arm(t)
}

// wanted says whether there is to be a step.
func (s *spell) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy != nil || !earlier(s.due, s.wish).IsZero()
}

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// arm works at t, or now if that is past; s.mu is held, nothing is under way.
func (s *spell) arm(t time.Time) {
	s.wish = time.Time{}
	if t.IsZero() || !s.due.IsZero() && !t.Before(s.due) {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		s.work()
		return
	}
	s.due = t
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.ring)
	} else {
		s.timer.Reset(wait)
	}
}

// ring is the timer's.
func (s *spell) ring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.busy != nil || s.due.IsZero() || time.Until(s.due) > 0 {
		return // it was set anew, or is late
	}
	s.work()
}

// work begins with steps; s.mu is held.
func (s *spell) work() {
	s.due = time.Time{}
	s.busy = make(chan struct{})
	go s.steps(s.ctx, s.busy)
}

func (s *spell) steps(ctx context.Context, done chan struct{}) {
	defer close(done)
	for {
		next := s.step(ctx)
		s.mu.Lock()
		again := s.ctx == ctx && ctx.Err() == nil
		if again {
			next = earlier(next, s.wish)
		} else {
			next = s.wish // of the next begin
		}
		if again && !next.IsZero() && time.Until(next) <= 0 {
			s.wish = time.Time{}
			s.mu.Unlock()
			continue
		}
		s.busy = nil
		if s.ctx != nil && s.ctx.Err() == nil {
			s.arm(next)
		}
		s.mu.Unlock()
		return
	}
}

// wake has whoever waits for c go on, once.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // is awake
	}
}
