package interop

import (
	"context"
	"sync"
	"time"

	"postern/connector/stanza"
)

// settle is how long nothing may have come or gone before a stream that nobody needs is ended.
const settle = 2 * time.Second

// Attendance says when an account's stream is open.
type Attendance struct {
	// Idle is for how long after the last sign of life a stream stays open (Attend, Wake, and
	// everything that is sent). 0: always.
	Idle time.Duration
	// AtLeast is how long an account stays without a stream at most, for a push may be lost, and
	// an account that does not connect is forgotten (PROTOCOL.md 3.4, 8.2); 0: a day.
	AtLeast time.Duration
}

// attendance knows whether an account needs a stream, and ends one that is not needed. At its start an
// account needs one: nobody knows what was missed.
type attendance struct {
	a   *Account
	cfg Attendance

	mu sync.Mutex
	// live says that a stream is live and is not being ended for lack of need.
	live bool
	// wanted says that there is a need that no live stream has met yet; push that it is a push.
	wanted, push bool
	// sign is the last sign of life, traffic the last stanza that came or went.
	sign, traffic time.Time
	// asking counts questions that wait for a stream, or for their answer.
	asking int
	// rested says that the stream was ended for lack of need.
	rested bool
	// hurry is closed when somebody waits for the next stream, if it was asked for; hurrying says that somebody does.
	hurry    chan struct{}
	hurrying bool
	// changed wakes whoever waits, nil if nobody has yet; upped is closed when a stream becomes live, if somebody waits for that.
	changed chan struct{}
	upped   chan struct{}
	since   time.Time // when the stream became live
	last    time.Time // when one was live last
}

func newAttendance(a *Account, cfg Attendance) *attendance {
	if cfg.AtLeast == 0 {
		cfg.AtLeast = 24 * time.Hour
	}
	return &attendance{
		a: a, cfg: cfg, wanted: true,
	}
}

// Attend says that the person shows signs of life: if the stream is open only while it is needed
// (Attendance), it is needed from now. It returns at once.
func (a *Account) Attend() { a.attend.signed(false) }

// Wake says that the gatekeeper has pushed (PROTOCOL.md 8.2): a stream that is needed only for that is
// opened, and one that waits before its next attempt waits no longer. It returns at once, and is
// nothing but a sign of life where the stream is up.
func (a *Account) Wake() {
	a.attend.signed(true)
	a.link.mu.Lock()
	s := a.link.stream
	a.link.mu.Unlock()
	if w, ok := s.(waker); ok {
		w.Wake()
	}
}

// Again says that what an attempt to connect has failed for on our side may be there now: a wait for the next one ends.
func (a *Account) Again() {
	a.link.mu.Lock()
	s := a.link.stream
	a.link.mu.Unlock()
	if w, ok := s.(interface{ Again() }); ok {
		w.Again()
	}
}

// waker is a Stream that can be told of a push.
type waker interface{ Wake() }

// signed notes a sign of life.
func (t *attendance) signed(push bool) {
	t.mu.Lock()
	t.sign = time.Now()
	if !t.live {
		t.wanted, t.push = true, t.push || push
		if !t.hurrying {
			t.hurrying = true
			if t.hurry != nil {
				close(t.hurry)
			}
		}
	}
	t.mu.Unlock()
	t.tell()
}

// want notes a need of our own: something has to be sent, or fetched again.
func (t *attendance) want() {
	t.mu.Lock()
	t.wanted = true
	t.mu.Unlock()
	t.tell()
}

// touch notes that a stanza came or went. True if the stream is being ended: what comes then is left
// to the gatekeeper, and asked for again.
func (t *attendance) touch() (leaving bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.traffic = time.Now()
	if t.rested {
		t.wanted = true
	}
	return t.rested
}

func (t *attendance) tell() {
	t.mu.Lock()
	changed := t.changed
	t.mu.Unlock()
	select {
	case changed <- struct{}{}:
	default:
	}
}

// up begins the time of a live stream: what wanted it has it.
func (t *attendance) up() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live {
		return
	}
	now := time.Now()
	t.live, t.wanted, t.push = true, false, false
	t.since, t.last, t.sign = now, now, now
	t.hurrying, t.hurry = false, nil
	if t.upped != nil {
		close(t.upped)
		t.upped = nil
	}
}

// down ends it.
func (t *attendance) down() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live {
		t.notLive()
	}
}

// notLive ends a live stream's time; t.mu is held.
func (t *attendance) notLive() {
	t.live, t.since, t.last = false, time.Time{}, time.Now()
}

// begin is called before a stream is made. It says whether a push asks for it.
func (t *attendance) begin() (push bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rested = false
	return t.push
}

// hurried is closed when somebody waits for the next stream.
func (t *attendance) hurried() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hurry == nil {
		t.hurry = make(chan struct{})
		if t.hurrying {
			close(t.hurry)
		}
	}
	return t.hurry
}

// hasRested says whether the last stream was ended because nobody needed it.
func (t *attendance) hasRested() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rested
}

// wait returns when a stream is needed, or with ctx's error.
func (t *attendance) wait(ctx context.Context) error {
	t.a.conn.set(ConnState{Kind: ConnIdle})
	t.mu.Lock()
	timer := time.NewTimer(time.Until(t.last.Add(t.cfg.AtLeast)))
	t.mu.Unlock()
	defer timer.Stop()
	for {
		t.mu.Lock()
		wanted := t.wanted
		if t.changed == nil {
			t.changed = make(chan struct{}, 1)
		}
		changed := t.changed
		t.mu.Unlock()
		if wanted {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-timer.C:
			t.want()
		}
	}
}

// watch ends a stream when nobody needs it any more, until ctx, the stream's, ends.
func (t *attendance) watch(ctx context.Context, rest func()) {
	if t.cfg.Idle == 0 {
		return
	}
	timer := time.NewTimer(t.cfg.Idle)
	defer timer.Stop()
	for {
		wait := t.left()
		if wait <= 0 && t.a.busy() {
			wait = settle / 2 // looked at again
		}
		if wait <= 0 && t.tryRest() {
			rest()
			return
		}
		timer.Reset(max(wait, time.Millisecond))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// left is for how long the stream is needed yet, as far as is known now.
func (t *attendance) left() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.live || t.wanted || t.asking > 0 {
		return settle
	}
	return max(time.Until(t.sign.Add(t.cfg.Idle)), time.Until(t.traffic.Add(min(settle, t.cfg.Idle))))
}

// tryRest decides to end the stream, unless something has come up.
func (t *attendance) tryRest() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.live || t.wanted || t.asking > 0 || time.Since(t.sign) < t.cfg.Idle {
		return false
	}
	t.rested = true
	t.notLive()
	return true
}

// question asks the gatekeeper something for the person. Where streams are open only while they are needed, it
// waits for one.
func (a *Account) question(ctx context.Context, r stanza.Request) (*stanza.IQ, error) {
	defer a.attend.ask(ctx)()
	return a.link.request(ctx, r)
}

// ask sees to it that there is a live stream, and keeps it until done is called. Where streams are open only while they are
// needed it waits for one, until ctx ends or askPatience is over: then the question itself says what is wrong.
func (t *attendance) ask(ctx context.Context) (done func()) {
	t.signed(false)
	t.mu.Lock()
	t.asking++
	if t.upped == nil && !t.live {
		t.upped = make(chan struct{})
	}
	upped, live := t.upped, t.live
	t.mu.Unlock()
	if t.cfg.Idle > 0 && !live {
		ctx, cancel := context.WithTimeout(ctx, askPatience)
		defer cancel()
		select {
		case <-upped:
		case <-ctx.Done():
		}
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.asking--
		t.sign = time.Now()
	}
}

// askPatience is how long a question waits for its stream.
const askPatience = 15 * time.Second

// Busy says whether anything is under way that needs the stream.
func (a *Account) Busy() bool { return a.busy() }

// busy says whether anything is under way that needs the stream.
func (a *Account) busy() bool {
	a.outbox.mu.Lock()
	out := len(a.outbox.flying)
	for _, c := range a.outbox.chats {
		if !c.held { // what is held waits for the person, and for no stream
			out++
		}
	}
	a.outbox.mu.Unlock()
	a.inbox.mu.Lock()
	in := len(a.inbox.queue) + len(a.inbox.slots)
	a.inbox.mu.Unlock()
	a.receipts.mu.Lock()
	receipts := len(a.receipts.fresh) + len(a.receipts.reads) + a.receipts.wire.counted + len(a.receipts.acks) + len(a.receipts.waiting)
	a.receipts.mu.Unlock()
	return out+in+receipts > 0 || a.receipts.lanes.busy() || a.keys.lanes.busy() || a.blocks.lanes.busy() || a.mail.lanes.busy()
}

// Report is how an account's connection is doing.
type Report struct {
	// Live says that the stream is live, since Since.
	Live  bool
	Since time.Time
	// LastLive is when a stream was live last, also of this one; zero for never since the account was made.
	LastLive time.Time
	// PreKeys is how many one-time prekeys the gatekeeper has left, -1 if that is not known.
	PreKeys int
}

// Report says how the connection is doing.
func (a *Account) Report() Report {
	var r Report
	t := a.attend
	t.mu.Lock()
	r.Live, r.Since, r.LastLive = t.live, t.since, t.last
	if t.live {
		r.LastLive = time.Now()
	}
	t.mu.Unlock()
	a.keys.mu.Lock()
	defer a.keys.mu.Unlock()
	r.PreKeys = a.keys.left
	return r
}
