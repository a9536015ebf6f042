package gatekeeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/stanza"
)

// walker is one Run: it walks the state table. It belongs to one goroutine, which is
// also the one that reads and that calls the Handler.
type walker struct {
	s   *Stream
	ctx context.Context

	link    *link
	backoff backoff
	reason  waWa6.ClientPayload_ConnectReason

	// What the next published state says of its why.
	code   int
	remedy stanza.Remedy
	cause  error

	// tokenRefused: the last login failed for its token.
	tokenRefused bool
	// restarted: the last stream ended with 515.
	restarted bool
	// live: this connection's queue is through.
	live bool
}

// walk follows the table to its end.
func (w *walker) walk() error {
	phase, ev := Idle, evBegin
	if w.ctx.Err() != nil {
		ev = evCancelled
	}
	for {
		t := transitions[phase][ev]
		if t.do == actNone {
			// No event is raised where the table has no place for it; a test walks through
			// all that are.
			w.drop()
			return fmt.Errorf("gatekeeper: no way on from %v after %v", phase, ev)
		}
		phase = t.next
		if t.do == actStop {
			return w.stop(ev)
		}
		ev = w.perform(phase, t.do)
	}
}

// perform does what the table says and returns what came of it. A panic in it, the
// Handler's mostly, ends the connection and is one more event.
func (w *walker) perform(phase Phase, do action) (ev event) {
	defer func() {
		if p := recover(); p != nil {
			w.note(0, stanza.Remedy{}, panicked(w.s.cfg.Log, p))
			ev = evPanicked
			if phase == Waiting {
				// The handler panicked on being told of the wait itself.
				ev = w.sleep(w.backoff.next())
			}
		}
	}()
	switch do {
	case actConnect:
		return w.connect()
	case actAwaitLogin:
		w.publish(State{Phase: LoggingIn})
		return w.awaitLogin()
	case actServe:
		w.publish(State{Phase: phase})
		return w.serve(phase)
	}
	return w.wait(do)
}

// stop ends the walk.
func (w *walker) stop(ev event) error {
	w.drop()
	st := State{Phase: Stopped, Code: w.code, Remedy: w.remedy, Cause: w.cause}
	var err error
	if ev == evCancelled {
		st = State{Phase: Stopped}
		err = w.ctx.Err()
	} else {
		if ev == evTokenRefusedAgain {
			// The second time it is for a person to mend (PROTOCOL.md 4.4).
			st.Remedy = stanza.Remedy{Action: stanza.ActionRefused, TellOperator: true}
		}
		err = &StopError{Action: st.Remedy.Action, Code: st.Code}
	}
	func() {
		defer func() {
			if p := recover(); p != nil {
				_ = panicked(w.s.cfg.Log, p) // logged; there is nothing left to give up
			}
		}()
		w.s.publish(st)
	}()
	return err
}

// publish makes a connected state known.
func (w *walker) publish(st State) {
	if w.link == nil {
		w.s.publish(st)
		return
	}
	w.link.occupied(func() { w.s.publish(st) })
}

// note keeps why the connection ended, for the next state. If it was good for long
// enough, what went before is forgotten.
func (w *walker) note(code int, remedy stanza.Remedy, cause error) {
	w.code, w.remedy, w.cause = code, remedy, cause
	timing := w.s.cfg.Profile.Timing
	switch {
	case w.link == nil:
	case w.link.goodFor() >= timing.GoodStream:
		w.backoff.reset()
		w.restarted = false
	case w.live && isLost(cause):
		// The network has failed, not the gatekeeper: it took us, and gave us what it had. A bridge whose
		// connections are short would else be away for most of the time.
		w.backoff.forgive(timing.BackoffLost)
	}
}

// isLost says whether a connection ended without anybody's having ended it for a reason.
func isLost(cause error) bool {
	return !errors.Is(cause, ErrFailure) && !errors.Is(cause, ErrPanic) && !errors.Is(cause, ErrMalformed) && !errors.Is(cause, ErrUnanswered)
}

// drop gives the connection up, if there is one, and waits until nobody minds it any more.
func (w *walker) drop() {
	l := w.link
	if l == nil {
		return
	}
	w.s.mu.Lock()
	w.s.current = nil
	w.s.mu.Unlock()
	l.fail(ErrNotConnected)
	l.left()
	l.unwatch()
	w.link = nil
}

func (w *walker) connect() event {
	w.drop()
	if w.s.cfg.Pace != nil && w.s.cfg.Pace(w.ctx) != nil {
		return evCancelled
	}
	w.publish(State{Phase: Connecting})
	if w.s.takeWoken() {
		w.reason = waWa6.ClientPayload_PUSH
	}
	l, err := w.s.connect(w.ctx, w.reason)
	w.reason = waWa6.ClientPayload_ERROR_RECONNECT
	if err != nil {
		if w.ctx.Err() != nil {
			return evCancelled
		}
		w.note(0, stanza.Remedy{}, err)
		return evUnreachable
	}
	w.link, w.live = l, false
	l.watch(w.ctx)
	return evLinked
}

// awaitLogin reads up to success or failure.
func (w *walker) awaitLogin() event {
	for {
		st, ev, ok := w.read()
		if !ok {
			return ev
		}
		switch st := st.(type) {
		case *stanza.Success:
			w.loggedIn(st)
			return evLoggedIn
		case *stanza.Failure:
			return w.classify(st.Reason, st.Remedy())
		case *stanza.StreamError:
			return w.classify(st.Code, st.Remedy())
		case *stanza.StreamEnd:
			return w.lost(ErrClosed)
		case *stanza.IB, *stanza.Unknown:
			// Hints about the service may come at any time.
		default:
			return w.lost(ErrUnexpected)
		}
	}
}

func (w *walker) loggedIn(st *stanza.Success) {
	w.code, w.remedy, w.cause = 0, stanza.Remedy{}, nil
	w.tokenRefused = false
	if apart := time.Since(time.Unix(st.T, 0)).Abs(); st.T != 0 && apart > ClockSkew {
		// Tokens and certificates are dated; who reads this knows why they will fail.
		w.s.cfg.Log.Warn().Dur("apart", apart.Round(time.Second)).Msg("clock differs from the gatekeeper's")
	}
	w.s.takeWoken() // a push that woke us has had its effect
	w.link.login()
	w.s.mu.Lock()
	w.s.current = w.link
	w.s.mu.Unlock()
	w.hand(st)
}

// serve reads until something happens that the table is about.
func (w *walker) serve(phase Phase) event {
	for {
		st, ev, ok := w.read()
		if !ok {
			return ev
		}
		switch st := st.(type) {
		case *stanza.IQ:
			w.iq(st)
			continue
		case *stanza.Failure:
			return w.classify(st.Reason, st.Remedy())
		case *stanza.StreamError:
			w.hand(st)
			return w.classify(st.Code, st.Remedy())
		case *stanza.StreamEnd:
			return w.lost(ErrClosed)
		case *stanza.Ack:
			w.link.answered(st)
		case *stanza.IB:
			w.hand(st)
			if st.Offline != nil && phase == Draining {
				w.live = true
				return evDrained
			}
			continue
		}
		w.hand(st)
	}
}

// hand gives a stanza to the handler, with the clock of unanswered ones stopped.
func (w *walker) hand(st stanza.Stanza) {
	w.link.occupied(func() { w.s.cfg.Handler.Stanza(w.ctx, st) })
}

// iq matches an answer or answers a question (PROTOCOL.md 4.11).
func (w *walker) iq(iq *stanza.IQ) {
	switch {
	case iq.Type == stanza.IQResult || iq.Type == stanza.IQFailed:
		w.link.answered(iq)
	case iq.Type == stanza.IQGet && iq.XMLNS == stanza.NSPing:
		w.reply(iq.Result())
	default:
		w.reply(iq.Fail(501))
	}
}

// reply sends an answer of the stream's own. If it cannot be sent the link has ended,
// and reading says so next; an answer that cannot be coded is given up with the link.
func (w *walker) reply(st stanza.Stanza) {
	if err := w.link.send(st); err != nil && !errors.Is(err, ErrNotConnected) {
		w.link.fail(err)
	}
}

// read returns the next stanza, or the event that it cannot.
func (w *walker) read() (stanza.Stanza, event, bool) {
	for {
		frame, err := w.link.conn.ReadFrame()
		if err != nil {
			if err == io.EOF { //nolint:errorlint // what wraps io.EOF is no orderly end
				err = ErrClosed
			}
			return nil, w.lost(err), false
		}
		node, err := w.link.codec.Decode(frame)
		if err != nil {
			// The other side is told why; if it cannot be, it will notice (PROTOCOL.md 4.9).
			_ = w.link.send(&stanza.StreamError{NotWellFormed: true})
			return nil, w.lost(fmt.Errorf("%w: %w", ErrMalformed, err)), false
		}
		st, err := stanza.Parse(node)
		if err == nil {
			return st, 0, true
		}
		if !w.malformed(err) {
			return nil, w.lost(fmt.Errorf("%w: %w", ErrMalformed, err)), false
		}
	}
}

// malformed deals with a well-formed element that is not the stanza it claims to be.
// It is refused, or else it would come back with every login; a stream goes on after
// it, unless it was about the stream itself. Before login nothing is answered.
func (w *walker) malformed(err error) bool {
	var bad *stanza.ParseError
	if !errors.As(err, &bad) || !w.link.isLoggedIn() {
		return false
	}
	switch bad.Kind {
	case stanza.KindSuccess, stanza.KindFailure, stanza.KindStreamError:
		return false
	}
	w.s.cfg.Log.Warn().Err(bad).Msg("malformed stanza refused")
	if ack, ok := bad.Ack(stanza.NackParse); ok {
		w.reply(ack)
	} else if iq, ok := bad.Answer(400); ok {
		w.reply(iq)
	}
	return true
}

// lost ends the link, with the cause that came first: the minder's, if it closed it.
func (w *walker) lost(cause error) event {
	w.link.fail(cause)
	cause = w.link.ended()
	if isCancelled(w.ctx, cause) {
		return evCancelled
	}
	w.note(0, stanza.Remedy{}, cause)
	return evLost
}

// classify turns a failure or stream:error into an event, with what has gone before.
func (w *walker) classify(code int, remedy stanza.Remedy) event {
	w.note(code, remedy, ErrFailure)
	ev, ok := remedyEvents[remedy.Action]
	if !ok {
		ev = evFault
	}
	switch {
	case ev == evTokenRefused && w.link.isLoggedIn():
		// The token was good at login; the next one is new anyway, and may wait.
		ev = evFault
	case ev == evTokenRefused && w.tokenRefused:
		ev = evTokenRefusedAgain
	case ev == evTokenRefused:
		w.tokenRefused = true
	case ev == evRestart && w.restarted:
		ev = evRestartAgain
	case ev == evRestart:
		w.restarted = true
	}
	return ev
}

// wait gives the connection up and sleeps before the next attempt.
func (w *walker) wait(do action) event {
	w.drop()
	wait := w.backoff.next()
	switch do {
	case actWaitLimit:
		wait += max(w.remedy.Wait, w.s.cfg.Profile.Timing.RateLimited)
	case actWaitBan:
		wait += w.remedy.Wait
	}
	until := time.Now().Add(wait)
	w.publish(State{Phase: Waiting, Wait: wait, Code: w.code, Remedy: w.remedy, Cause: w.cause})
	left := time.Until(until)
	if do != actBackoff {
		return w.sleepThrough(left)
	}
	return w.sleep(left)
}

// sleep waits for backoff; a push ends it.
func (w *walker) sleep(d time.Duration) event {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		woken, again, asleep := w.s.takeWake()
		if woken {
			w.reason = waWa6.ClientPayload_PUSH
		}
		if woken || again {
			return evWoken
		}
		select {
		case <-w.ctx.Done():
			return evCancelled
		case <-asleep:
		case <-timer.C:
			return evElapsed
		}
	}
}

// sleepThrough waits because the gatekeeper said so, push or not.
func (w *walker) sleepThrough(d time.Duration) event {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.ctx.Done():
		return evCancelled
	case <-timer.C:
		return evElapsed
	}
}
