package gatekeeper

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/binxml"
	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// link is one connection, from the end of the handshake to its end. The goroutine of
// Run reads it; any goroutine writes; the minder watches the clocks and is the only
// other goroutine.
type link struct {
	carrier carrier
	conn    *noise.Conn
	codec   binxml.Codec
	timing  profile.Timing
	log     zerolog.Logger
	begun   time.Time
	prefix  string // of the ids of our iqs

	owed    ledger
	wakeup  chan struct{} // to the minder: its clocks have changed
	probe   atomic.Bool   // a keep-alive is wanted now
	gone    chan struct{} // closed when nobody reads any more
	minding chan struct{} // closed when the minder has returned

	mu       sync.Mutex
	loggedIn time.Time // zero before success
	busy     time.Time // since when the reader has been in the handler, zero if it reads
	busyFor  time.Duration
	asked    map[string]chan *stanza.IQ
	iqs      uint64
	cause    error
	done     chan struct{} // closed when cause is set
}

func newLink(s *Stream, c carrier, conn *noise.Conn, prefix string) *link {
	p := s.cfg.Profile
	return &link{
		carrier: c, conn: conn, log: s.cfg.Log, timing: p.Timing, prefix: prefix,
		codec:   binxml.Codec{Read: p.ReadDialect, Write: p.WriteDialect},
		begun:   time.Now(),
		wakeup:  make(chan struct{}, 1),
		gone:    make(chan struct{}),
		minding: make(chan struct{}),
		asked:   make(map[string]chan *stanza.IQ),
		done:    make(chan struct{}),
	}
}

// fail ends the link at once. The first cause stands; later ones are consequences.
func (l *link) fail(cause error) {
	if l.settleCause(cause) {
		// What closing says is of no interest: the link is over either way.
		_ = l.carrier.Close()
	}
}

// finish ends the link in good order.
func (l *link) finish(cause error) {
	if l.settleCause(cause) {
		_ = l.carrier.Finish()
	}
}

// leave ends the link in good order, and lets the reader have what the server has sent before it
// noticed. What was not acknowledged stays in its queue.
func (l *link) leave(cause error) {
	if !l.settleCause(cause) {
		return
	}
	if l.carrier.CloseWrite() == nil {
		timer := time.NewTimer(finishTime)
		defer timer.Stop()
		select {
		case <-l.gone:
		case <-timer.C:
		}
	}
	_ = l.carrier.Finish()
}

func (l *link) settleCause(cause error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return false
	}
	l.cause = cause
	close(l.done)
	return true
}

// ended returns the cause of the end, nil before it.
func (l *link) ended() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// clock reads the time for which the reader has been free to read.
func (l *link) clock() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	free := now.Sub(l.begun) - l.busyFor
	if !l.busy.IsZero() {
		free -= now.Sub(l.busy)
	}
	return free
}

// occupied runs f with the clock stopped.
func (l *link) occupied(f func()) {
	l.mu.Lock()
	l.busy = time.Now()
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.busyFor += time.Since(l.busy)
		l.busy = time.Time{}
		l.mu.Unlock()
	}()
	f()
}

// login marks the link as logged in: from here it keeps itself alive.
func (l *link) login() {
	l.mu.Lock()
	l.loggedIn = time.Now()
	l.mu.Unlock()
	l.wake()
}

func (l *link) isLoggedIn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.loggedIn.IsZero()
}

// goodFor returns how long ago the login was, 0 without one.
func (l *link) goodFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loggedIn.IsZero() {
		return 0
	}
	return time.Since(l.loggedIn)
}

func (l *link) wake() {
	select {
	case l.wakeup <- struct{}{}:
	default:
	}
}

// buffers holds plaintexts being written.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// maxKeptBuffer is the largest that goes back to the pool, in bytes.
const maxKeptBuffer = 64 << 10

// send encodes and writes a stanza.
func (l *link) send(s stanza.Stanza) error {
	buf := buffers.Get().(*[]byte)
	frame, err := l.codec.Append((*buf)[:0], s.Node())
	if err == nil {
		key, owed := stanza.Expects(s)
		err = l.write(frame, key, owed)
	}
	if cap(frame) <= maxKeptBuffer && frame != nil {
		*buf = frame
	}
	buffers.Put(buf)
	return err
}

// write sends a plaintext, entered into the ledger first if it is to be answered: its
// answer may come before the write returns.
func (l *link) write(frame []byte, key stanza.Key, owed bool) error {
	if l.ended() != nil {
		return l.notConnected()
	}
	if owed && l.owed.add(key, l.clock()) {
		l.wake()
	}
	err := l.conn.WriteFrame(frame)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, noise.ErrFrameTooLarge):
		if owed {
			l.owed.settle(key, l.clock())
		}
		return err
	}
	l.fail(err)
	return l.notConnected()
}

func (l *link) notConnected() error {
	return fmt.Errorf("%w: %w", ErrNotConnected, l.ended())
}

// request sends an iq and waits for its answer.
func (l *link) request(ctx context.Context, iq stanza.IQ) (*stanza.IQ, error) {
	answer := make(chan *stanza.IQ, 1)
	l.mu.Lock()
	l.iqs++
	iq.ID = fmt.Sprintf("%s-%d", l.prefix, l.iqs)
	l.asked[iq.ID] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.asked, iq.ID)
		l.mu.Unlock()
	}()
	if err := l.send(&iq); err != nil {
		return nil, err
	}
	select {
	case got := <-answer:
		return got, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-l.done:
	}
	select {
	case got := <-answer: // it came before the end did
		return got, nil
	default:
		return nil, l.notConnected()
	}
}

// answered takes what is an answer off the ledger, and gives an iq's to whoever asked.
func (l *link) answered(s stanza.Stanza) {
	switch s := s.(type) {
	case *stanza.Ack:
		for _, key := range stanza.Answers(s) {
			l.owed.settle(key, l.clock())
		}
	case *stanza.IQ:
		for _, key := range stanza.Answers(s) {
			l.owed.settle(key, l.clock())
		}
		l.mu.Lock()
		answer := l.asked[s.ID]
		delete(l.asked, s.ID)
		l.mu.Unlock()
		if answer != nil {
			answer <- s
		}
	}
}

// mind watches over the link until its end: that login is answered, that the stream is
// kept alive, that nothing goes unanswered, that the context lives.
func (l *link) mind(ctx context.Context) {
	defer close(l.minding)
	defer func() {
		if p := recover(); p != nil {
			l.fail(panicked(l.log, p))
		}
	}()
	var pinged time.Time // the last keep-alive, or the login
	timer := time.NewTimer(l.timing.Login)
	defer timer.Stop()
	for {
		timer.Reset(l.check(&pinged))
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); errors.Is(cause, ErrRest) {
				l.leave(cause)
			} else {
				l.finish(cause)
			}
			return
		case <-l.done:
			return
		case <-l.wakeup:
		case <-timer.C:
		}
	}
}

// check does what is due and returns how long it is to the next time.
func (l *link) check(pinged *time.Time) time.Duration {
	l.mu.Lock()
	loggedIn := l.loggedIn
	l.mu.Unlock()
	if loggedIn.IsZero() {
		left := l.timing.Login - time.Since(l.begun)
		if left <= 0 {
			l.fail(ErrLoginTimeout)
		}
		return left
	}
	if pinged.IsZero() {
		*pinged = loggedIn
	}
	if l.probe.Swap(false) || time.Since(*pinged) >= l.timing.KeepAlive {
		*pinged = time.Now()
		l.keepAlive()
	}
	next := l.timing.KeepAlive - time.Since(*pinged)
	if waiting, any := l.owed.waiting(l.clock()); any {
		left := l.timing.Answer - waiting
		if left <= 0 {
			l.fail(ErrUnanswered)
		}
		next = min(next, left)
	}
	return next
}

// keepAlive asks the server for a sign of life. Its answer is waited for in the
// ledger, like every other.
func (l *link) keepAlive() {
	iq, err := stanza.KeepAlive{}.IQ()
	if err == nil {
		l.mu.Lock()
		l.iqs++
		iq.ID = fmt.Sprintf("%s-%d", l.prefix, l.iqs)
		l.mu.Unlock()
		err = l.send(iq)
	}
	if err != nil {
		l.fail(err)
	}
}

// panicked notes a caught panic. Neither its value nor arguments on the stack are
// logged: they may be anything, a message's text among them.
func panicked(log zerolog.Logger, value any) error {
	var pcs [24]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	var where strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&where, "%s:%d ", f.Function[strings.LastIndexByte(f.Function, '/')+1:], f.Line)
		if !more {
			break
		}
	}
	log.Error().Type("panic", value).Str("where", where.String()).Msg("panic on a stream caught")
	return ErrPanic
}
