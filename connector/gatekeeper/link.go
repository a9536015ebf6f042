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
// Run reads it; any goroutine writes; a timer watches the clocks, so that one who is
// idle costs a single goroutine.
type link struct {
	carrier carrier
	conn    *noise.Conn
	codec   binxml.Codec
	timing  *profile.Timing
	log     *zerolog.Logger
	begun   time.Time
	prefix  string // of the ids of our iqs

	owed  ledger
	probe atomic.Bool // a keep-alive is wanted now
	mind  minder

	mu       sync.Mutex
	loggedIn time.Duration // when it was, from begun on, 0 before success
	busy     time.Duration // since when the reader has been in the handler, from begun on, 0 if it reads
	busyFor  time.Duration
	asked    map[string]chan *stanza.IQ // nil while nothing is; an answer's channel is closed at the end
	iqs      uint64
	cause    error
	unread   bool          // nobody reads any more
	gone     chan struct{} // closed then, if somebody waits for it
}

func newLink(s *Stream, c carrier, conn *noise.Conn, prefix string) *link {
	p := s.cfg.Profile
	return &link{
		carrier: c, conn: conn, log: s.cfg.Log, timing: &p.Timing, prefix: prefix,
		codec: binxml.Codec{Read: p.ReadDialect, Write: p.WriteDialect},
		begun: time.Now().Add(-1), // for now
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
		case <-l.whenUnread():
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
	for _, answer := range l.asked {
		close(answer) // none will come
	}
	l.asked = nil
	return true
}

// whenUnread is closed when nobody reads any more.
func (l *link) whenUnread() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone == nil {
		l.gone = make(chan struct{})
		if l.unread {
			close(l.gone)
		}
	}
	return l.gone
}

// left is called by the reader when it reads no more.
func (l *link) left() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unread = true
	if l.gone != nil {
		close(l.gone)
	}
}

// ended returns the cause of the end, nil before it.
func (l *link) ended() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// now is the time since the link's beginning, and never 0.
func (l *link) now() time.Duration { return time.Since(l.begun) }

// clock reads the time for which the reader has been free to read.
func (l *link) clock() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	free := now - l.busyFor
	if l.busy != 0 {
		free -= now - l.busy
	}
	return free
}

// occupied runs f with the clock stopped.
func (l *link) occupied(f func()) {
	l.mu.Lock()
	l.busy = l.now()
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.busyFor += l.now() - l.busy
		l.busy = 0
		l.mu.Unlock()
	}()
	f()
}

// login marks the link as logged in: from here it keeps itself alive.
func (l *link) login() {
	l.mu.Lock()
	l.loggedIn = l.now()
	l.mu.Unlock()
	l.within(l.timing.KeepAlive)
}

func (l *link) isLoggedIn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loggedIn != 0
}

// goodFor returns how long ago the login was, 0 without one.
func (l *link) goodFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loggedIn == 0 {
		return 0
	}
	return l.now() - l.loggedIn
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
		l.within(l.timing.Answer)
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
	if l.cause != nil {
		l.mu.Unlock()
		return nil, l.notConnected()
	}
	l.iqs++
	iq.ID = fmt.Sprintf("%s-%d", l.prefix, l.iqs)
	if l.asked == nil {
		l.asked = make(map[string]chan *stanza.IQ)
	}
	l.asked[iq.ID] = answer
	l.mu.Unlock()
	defer l.takeAsked(iq.ID)
	if err := l.send(&iq); err != nil {
		return nil, err
	}
	select {
	case got, came := <-answer:
		if !came {
			return nil, l.notConnected()
		}
		return got, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// takeAsked takes a question off the list, and returns where its answer goes; nil if it is not there any more.
func (l *link) takeAsked(id string) chan<- *stanza.IQ {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := l.asked[id]
	if delete(l.asked, id); len(l.asked) == 0 {
		l.asked = nil // most streams are idle most of the time
	}
	return answer
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
		if answer := l.takeAsked(s.ID); answer != nil {
			answer <- s
		}
	}
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
func panicked(log *zerolog.Logger, value any) error {
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
