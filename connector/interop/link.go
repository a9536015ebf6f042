package interop

import (
	"context"
	"errors"
	"sync"
	"time"

	"postern/connector/gatekeeper"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// link is the account's connection: which stream it has, how far that is, and the
// clock of how long it was live. It restarts the stream where that is ours to do.
type link struct {
	a *Account

	mu     sync.Mutex
	login  jid.JID
	stream Stream
	end    context.CancelFunc // ends the stream, for recycle
	// turn counts logins. What came on an earlier one is not answered on this one:
	// the gatekeeper sends it again.
	turn      int
	up, live  bool
	liveSince time.Time
	liveFor   time.Duration
	again     *time.Timer // a recycle that is due, of the turn againOf
	againOf   int
	hurried   time.Time // when sooner last ended a stream
	recycled  bool
	relogin   time.Time // when Reenlist last succeeded
}

func newLink(a *Account, c *Config) *link {
	return &link{a: a, login: c.JID, relogin: c.Reenlisted}
}

// JID is the login that stands.
func (a *Account) JID() jid.JID {
	a.link.mu.Lock()
	defer a.link.mu.Unlock()
	return a.link.login
}

// current returns the stream and the turn, ok if it is logged in.
func (l *link) current() (s Stream, turn int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream, l.turn, l.up && l.stream != nil
}

// isLive says whether new stanzas may be sent: logged in, and the queue is through.
func (l *link) isLive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live
}

// clock is for how long the stream was live since the account was made.
func (l *link) clock() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.live {
		return l.liveFor + time.Since(l.liveSince)
	}
	return l.liveFor
}

// send writes a stanza if the turn is still the one given (0: any).
func (l *link) send(ctx context.Context, turn int, s stanza.Stanza) error {
	stream, now, ok := l.current()
	if !ok || turn != 0 && turn != now {
		return gatekeeper.ErrNotConnected
	}
	return stream.Send(ctx, s)
}

// request asks the gatekeeper; answers of type error come as *stanza.IQError.
func (l *link) request(ctx context.Context, r stanza.Request) (*stanza.IQ, error) {
	iq, err := r.IQ()
	if err != nil {
		return nil, err
	}
	stream, _, ok := l.current()
	if !ok {
		return nil, gatekeeper.ErrNotConnected
	}
	return stream.Request(ctx, iq)
}

// run keeps a stream until ctx ends (nil) or only a person can help (*StopError).
func (l *link) run(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := l.one(ctx)
		if l.a.deleted.Load() {
			l.a.conn.set(ConnState{Kind: ConnDeleted})
			return &StopError{Kind: ConnDeleted}
		}
		if ctx.Err() != nil {
			l.a.conn.set(ConnState{Kind: ConnEnded})
			return nil
		}
		if l.a.attend.hasRested() {
			if l.a.attend.wait(ctx) != nil {
				l.a.conn.set(ConnState{Kind: ConnEnded})
				return nil
			}
			attempt = 0
			continue
		}
		if l.takeRecycled() {
			attempt = 0
			continue
		}
		var stop *gatekeeper.StopError
		if errors.As(err, &stop) {
			if stop.Action == stanza.ActionReenlist && l.reenlist(ctx) {
				attempt = 0
				continue
			}
			if l.clockMended(ctx, stop) {
				attempt = 0
				continue
			}
			if ctx.Err() == nil {
				return l.stopped(stop)
			}
		} else if errors.Is(err, gatekeeper.ErrConfig) {
			l.a.log.Error().Err(err).Msg("stream cannot be made")
			l.a.conn.set(ConnState{Kind: ConnRefused})
			return &StopError{Kind: ConnRefused}
		}
		wait := backoff(attempt, l.a.limits.RetryMin, l.a.limits.RetryMax)
		l.a.conn.set(ConnState{Kind: ConnWaiting, Until: time.Now().Add(wait)})
		if sleep(ctx, wait) != nil {
			l.a.conn.set(ConnState{Kind: ConnEnded})
			return nil
		}
	}
}

// one runs one stream to its end.
func (l *link) one(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	cancel := func() { end(nil) }
	defer cancel()
	s, reads := l.newStream()
	l.mu.Lock()
	l.stream, l.end = s, cancel
	if l.a.reads.Load() != reads { // changed since it was made
		l.recycled = true
		cancel()
	}
	l.mu.Unlock()
	if w, ok := s.(waker); ok && l.a.attend.begin() {
		w.Wake() // or the log-in would not say that a push was its reason
	}
	var watching sync.WaitGroup
	watching.Go(func() { l.a.attend.watch(ctx, func() { end(gatekeeper.ErrRest) }) })
	err := s.Run(ctx)
	l.down()
	cancel()
	watching.Wait()
	l.mu.Lock()
	l.stream, l.end = nil, nil
	l.mu.Unlock()
	return err
}

// newStream makes a stream, and says whether it was told that the person wants read receipts. It is not a part of one so that the configuration does not
// lie on the stack as long as the stream runs: with it the stack has 16 KiB and not 8.
//
//go:noinline
func (l *link) newStream() (s Stream, reads bool) {
	c := l.a.cfg.gatekeeper()
	if pace := l.a.cfg.Pace; pace != nil {
		c.Pace = func(ctx context.Context) error { return pace(ctx, l.a.attend.hurried()) }
	}
	c.Profile, c.Log, c.ReadReceipts = l.a.prof, l.a.log, l.a.reads.Load()
	c.Handler = &handler{a: l.a, meter: streamMeter{meter: l.a.meter}}
	l.mu.Lock()
	c.AccountID, _ = l.login.Account()
	l.mu.Unlock()
	if l.a.cfg.NewStream != nil {
		return l.a.cfg.NewStream(c), c.ReadReceipts
	}
	return gatekeeper.New(c), c.ReadReceipts
}

// stopped tells why the account stops.
func (l *link) stopped(stop *gatekeeper.StopError) error {
	kind := ConnRefused
	switch stop.Action {
	case stanza.ActionReplaced:
		kind = ConnReplaced
	case stanza.ActionReenlist:
		kind = ConnNotEnlisted
	}
	l.a.conn.set(ConnState{Kind: kind, Code: stop.Code})
	return &StopError{Kind: kind, Code: stop.Code}
}

// reenlist enlists again after the gatekeeper has forgotten the account, once in
// Timing.Reenlist and as long as the person's consent stands (PROTOCOL.md 4.4,
// 401). Transient failures are tried again; false if it is not to be.
func (l *link) reenlist(ctx context.Context) bool {
	l.mu.Lock()
	last := l.relogin
	l.mu.Unlock()
	ago := time.Since(last) // negative if the clock was set back, which says nothing
	if l.a.cfg.Reenlist == nil || !last.IsZero() && ago >= 0 && ago < l.a.prof.Timing.Reenlist {
		return false
	}
	for attempt := 1; ; attempt++ {
		login, err := l.a.cfg.Reenlist(ctx)
		if err == nil {
			l.mu.Lock()
			l.login, l.relogin = login, time.Now()
			l.mu.Unlock()
			l.a.log.Info().Msg("enlisted again")
			return true
		}
		var refused *EnlistError
		if ctx.Err() != nil || errors.As(err, &refused) && refused.Permanent {
			return false
		}
		wait := backoff(attempt, l.a.prof.Timing.BackoffMin, l.a.prof.Timing.BackoffMax)
		l.a.log.Warn().Err(err).Msg("enlisting again failed")
		l.a.conn.set(ConnState{Kind: ConnWaiting, Code: 401, Until: time.Now().Add(wait)})
		if sleep(ctx, wait) != nil {
			return false
		}
	}
}

// recycle ends the stream after a while so that the gatekeeper sends again what
// was not acked. A recycle of the same turn that is due already stands.
func (l *link) recycle(after time.Duration) {
	l.a.attend.want() // also where there is no stream to end
	l.mu.Lock()
	defer l.mu.Unlock()
	turn := l.turn
	if l.again != nil && l.againOf == turn {
		return
	}
	if l.again != nil {
		l.again.Stop() // its stream has gone by itself
	}
	l.againOf = turn
	l.again = time.AfterFunc(after, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.againOf == turn {
			l.again = nil
		}
		if l.end == nil || l.turn != turn {
			return // it came back by itself meanwhile
		}
		l.recycled = true
		l.end()
	})
}

// anew ends the stream, which was made with settings that hold no more, and has another
// one made at once.
func (l *link) anew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.recycled = true
		l.end()
	}
}

// sooner ends the stream at once instead of when its recycle is due, once in a relapse at most: somebody may believe time and again
// that a fault is over.
func (l *link) sooner() {
	l.mu.Lock()
	now := time.Now()
	early := !l.hurried.IsZero() && now.Sub(l.hurried) < relapse
	if !early {
		l.hurried = now
	}
	l.mu.Unlock()
	if !early {
		l.anew()
	}
}

func (l *link) takeRecycled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.recycled
	l.recycled = false
	return was
}

// loggedIn begins a turn.
func (l *link) loggedIn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn++
	l.up = true
}

// drained starts the clock of being live.
func (l *link) drained() {
	l.a.attend.up()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.live {
		l.live, l.liveSince = true, time.Now()
	}
}

// down ends a turn.
func (l *link) down() {
	l.a.attend.down()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = false
	if l.live {
		l.live = false
		l.liveFor += time.Since(l.liveSince)
	}
}

// handler takes what one stream brings. Its methods run on the goroutine that
// reads the stream: they hand on and return.
type handler struct {
	a *Account
	// owed is the ack that the gatekeeper wants before anything else on the next
	// turn (PROTOCOL.md 4.5).
	owed  *stanza.OwedAck
	meter streamMeter
}

// State follows the stream.
func (h *handler) State(s gatekeeper.State) {
	a := h.a
	h.meter.state(s)
	switch s.Phase {
	case gatekeeper.Connecting:
		a.link.down()
		a.conn.set(ConnState{Kind: ConnConnecting})
	case gatekeeper.Draining:
		a.link.loggedIn()
		a.inbox.turned()
		h.answerOwed()
	case gatekeeper.Live:
		a.link.drained()
		a.conn.set(ConnState{Kind: ConnLive})
		a.receipts.live()
		a.waits.live()
		a.outbox.live()
		a.keys.live()
		a.blocks.live()
	case gatekeeper.Waiting:
		a.link.down()
		kind := ConnWaiting
		if s.Remedy.Action == stanza.ActionWait && s.Code != 0 {
			kind = ConnBanned
		}
		if errors.Is(s.Cause, gatekeeper.ErrNoAddress) {
			kind = ConnNoAddress
		}
		a.conn.set(ConnState{Kind: kind, Code: s.Code, Until: time.Now().Add(s.Wait)})
	case gatekeeper.Stopped:
		a.link.down()
	}
}

// answerOwed sends the ack that ended the last turn, if it is one that we had
// sent, or would have. What was never stored is not acked: it comes again, and is
// answered then.
func (h *handler) answerOwed() {
	owed := h.owed
	h.owed = nil
	if owed == nil {
		return
	}
	if ack := h.a.inbox.given(owed); ack != nil {
		if err := h.a.link.send(context.Background(), 0, ack); err != nil {
			h.a.log.Debug().Err(err).Msg("answering an owed ack failed")
		}
	}
}

// Stanza hands a stanza to whoever it is for.
func (h *handler) Stanza(ctx context.Context, s stanza.Stanza) {
	a := h.a
	switch s.(type) {
	case *stanza.Message, *stanza.Receipt, *stanza.Notification, *stanza.Ack:
		if a.attend.touch() {
			return // it comes again on the next stream, which is made at once
		}
	}
	switch s := s.(type) {
	case *stanza.Message:
		a.typing.ended(s.From)
		a.inbox.take(ctx, s.From, s)
	case *stanza.Receipt:
		a.inbox.take(ctx, s.From, s)
	case *stanza.Notification:
		a.inbox.take(ctx, s.From, s)
	case *stanza.Ack:
		switch s.Class {
		case "message":
			a.inbox.take(ctx, s.From, s)
		case "receipt":
			a.receipts.acked(s)
		}
	case *stanza.StreamError:
		h.owed = s.Ack
	case *stanza.ChatState:
		a.typing.take(s)
	case *stanza.Success:
		if a.cfg.Clock != nil && s.T != 0 {
			a.cfg.Clock(time.Unix(s.T, 0))
		}
	case *stanza.IB:
		// nothing to keep
	default:
		a.log.Debug().Stringer("kind", s.Kind()).Msg("stanza of an unknown kind")
	}
}

// hangUp ends the stream.
func (l *link) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.end()
	}
}
