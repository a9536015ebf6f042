package gatekeeper

import (
	"context"
	"errors"
	"sync"
	"time"
)

// minder watches over a link until its end: that login is answered, that the stream is
// kept alive, that nothing goes unanswered, that the context lives. It has no goroutine
// of its own: a timer is set for what is due next.
type minder struct {
	mu    sync.Mutex
	timer *time.Timer
	next  time.Time // when the timer fires, zero if that is not known
	over  bool

	looking sync.Mutex    // held while the clocks are looked at
	pinged  time.Duration // when the last keep-alive was, or the login, by link.now

	forget  func() bool // to look for the end of the context
	leaving sync.WaitGroup
}

// watch begins to mind the link.
func (l *link) watch(ctx context.Context) {
	l.mind.leaving.Add(1)
	l.mind.forget = context.AfterFunc(ctx, func() {
		defer l.mind.leaving.Done()
		l.contained(func() {
			if cause := context.Cause(ctx); errors.Is(cause, ErrRest) {
				l.leave(cause)
			} else {
				l.finish(cause)
			}
		})
	})
	l.within(l.timing.Login)
}

// unwatch ends that, and returns when nothing of it goes on.
func (l *link) unwatch() {
	m := &l.mind
	m.mu.Lock()
	m.over = true
	if m.timer != nil {
		m.timer.Stop()
	}
	m.mu.Unlock()
	m.looking.Lock()
	m.looking.Unlock() //nolint:staticcheck // who held it before has returned
	if m.forget() {
		m.leaving.Done()
	}
	m.leaving.Wait()
}

// within has the clocks looked at after that time, if they are not sooner anyway.
func (l *link) within(d time.Duration) {
	m := &l.mind
	m.mu.Lock()
	defer m.mu.Unlock()
	at := time.Now().Add(d)
	if m.over || !m.next.IsZero() && !at.Before(m.next) {
		return
	}
	m.next = at
	if m.timer == nil {
		m.timer = time.AfterFunc(d, l.look)
	} else {
		m.timer.Reset(d)
	}
}

// look is what the timer does.
func (l *link) look() {
	m := &l.mind
	m.looking.Lock()
	defer m.looking.Unlock()
	m.mu.Lock()
	m.next = time.Time{}
	over := m.over
	m.mu.Unlock()
	if over || l.ended() != nil {
		return
	}
	l.contained(func() { l.within(l.check()) })
}

// contained does something in which a panic costs no more than the link.
func (l *link) contained(do func()) {
	defer func() {
		if p := recover(); p != nil {
			l.fail(panicked(l.log, p))
		}
	}()
	do()
}

// check does what is due and returns how long it is to the next time.
func (l *link) check() time.Duration {
	l.mu.Lock()
	loggedIn := l.loggedIn
	l.mu.Unlock()
	if loggedIn == 0 {
		left := l.timing.Login - time.Since(l.begun)
		if left <= 0 {
			l.fail(ErrLoginTimeout)
		}
		return left
	}
	pinged := &l.mind.pinged
	if *pinged == 0 {
		*pinged = loggedIn
	}
	if l.probe.Swap(false) || l.now()-*pinged >= l.timing.KeepAlive {
		*pinged = l.now()
		l.keepAlive()
	}
	next := l.timing.KeepAlive - (l.now() - *pinged)
	if waiting, any := l.owed.waiting(l.clock()); any {
		left := l.timing.Answer - waiting
		if left <= 0 {
			l.fail(ErrUnanswered)
		}
		next = min(next, left)
	}
	return next
}
