package interop

import (
	"context"
	"slices"
	"sync"
	"time"

	"postern/connector/jid"
	"postern/connector/killpoint"
	"postern/connector/stanza"
)

// inbox takes stanzas from the reader and handles those of one sender in order, and
// those of different senders side by side, so that their commits are shared. It
// also says when to take no more.
type inbox struct {
	a     *Account
	lanes lanes
	slots chan struct{} // nil before there was anything

	mu    sync.Mutex
	queue map[string][]job // by sender's address
	// refuse holds the senders whose stanzas are left to the gatekeeper for the
	// rest of this turn, refuseAll everybody's. Once one was left, those behind it
	// must be too, or the order would be lost.
	refuse    map[string]bool
	refuseAll bool
	faults    int // commits that failed in a row, for backoff
	// grown is what faults has come to, which holds if a commit fails again before until: that something else was
	// stored meanwhile, or was found to work, does not mean that this is over.
	grown  int
	until  time.Time
	panics map[panicKey]int
	// acks are the last ones given, for the gatekeeper that asks for one again.
	acks   *[keptAcks]*stanza.Ack // nil while there was none
	ackAt  int
	paused bool // Connection was told of back-pressure
	asked  bool // what was refused for that was asked for again
}

// keptAcks is how many.
const keptAcks = 64

// job is a stanza on its way from the reader to the disk.
type job struct {
	turn int
	s    stanza.Stanza
	read time.Time                 // when it came
	do   func(ctx context.Context) // instead of a stanza
}

func newInbox(a *Account) *inbox {
	b := &inbox{a: a}
	b.lanes = lanes{a: a, kind: &inboxLanes}
	return b
}

func (b *inbox) start(ctx context.Context) { b.lanes.start(ctx) }

func (b *inbox) stop() {
	b.lanes.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, jobs := range b.queue {
		for _, j := range jobs {
			if j.s != nil {
				<-b.slots
			}
		}
	}
	b.queue = nil
}

// turned begins a new turn: what was refused comes again. What is left over in the queue
// stood before that, and is stored although it came on an earlier turn: a gatekeeper that
// has forgotten the account in between does not send it again.
func (b *inbox) turned() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = nil
	b.refuseAll, b.paused, b.asked = false, false, false
}

// take is called by the reader. It blocks while too much is between socket and
// disk, which is how the gatekeeper is slowed down.
func (b *inbox) take(ctx context.Context, from jid.JID, s stanza.Stanza) {
	_, turn, ok := b.a.link.current()
	if !ok || ctx.Err() != nil {
		return // all that comes after this too, or it would overtake what is left
	}
	key, read := from.Bare().String(), time.Now()
	if _, isAck := s.(*stanza.Ack); !isAck && b.refuses(key, s) {
		return
	}
	select {
	case b.room() <- struct{}{}:
	case <-ctx.Done():
		return
	}
	b.push(key, job{turn: turn, s: s, read: read})
}

// room has a place for each stanza between socket and disk.
func (b *inbox) room() chan<- struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.slots == nil {
		b.slots = make(chan struct{}, b.a.limits.InFlight)
	}
	return b.slots
}

// later queues work that must not run beside the handling of the sender's stanzas.
func (b *inbox) later(from jid.JID, do func(ctx context.Context)) {
	b.push(from.Bare().String(), job{do: do})
}

// push puts a job into the queue of a sender, unless one before it has just been left to
// the gatekeeper.
func (b *inbox) push(key string, j job) {
	b.mu.Lock()
	if j.refusable() && (b.refuseAll || b.refuse[key]) {
		b.mu.Unlock()
		<-b.slots
		return
	}
	put(&b.queue, key, append(b.queue[key], j))
	b.mu.Unlock()
	b.lanes.kick(key)
}

// refusable says whether the gatekeeper sends it again if it is not answered.
func (j job) refusable() bool {
	_, isAck := j.s.(*stanza.Ack)
	return j.s != nil && !isAck
}

// refuses says whether a stanza is left to the gatekeeper, and decides it for
// messages when too much waits for Matrix.
func (b *inbox) refuses(key string, s stanza.Stanza) bool {
	all, one := false, false
	if _, ok := s.(*stanza.Message); ok {
		all, one = b.a.mail.full(key)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if all {
		b.refuseAll = true
	}
	if one {
		put(&b.refuse, key, true)
	}
	if !b.refuseAll && !b.refuse[key] {
		return false
	}
	if (all || one) && !b.paused {
		b.paused = true
		b.a.conn.set(ConnState{Kind: ConnBackPressure})
		b.a.log.Warn().Bool("all", all).Msg("too much waits for Matrix: stanzas are left to the gatekeeper")
	}
	return true
}

// eased is called when few items wait for Matrix: of the account (all), or of one
// person (one). What was refused for that is asked for again.
func (b *inbox) eased(key string, all, one bool) {
	b.mu.Lock()
	again := b.paused && !b.asked && (all && b.refuseAll || one && b.refuse[key])
	b.asked = b.asked || again
	b.mu.Unlock()
	if again {
		b.a.link.recycle(0)
	}
}

// fault leaves everything to the gatekeeper after a commit failed, what waits in the
// queue too, and asks for it again after a while.
func (b *inbox) fault(err error) {
	b.mu.Lock()
	first := !b.refuseAll
	b.refuseAll = true
	for key, jobs := range b.queue {
		b.queue[key] = slices.DeleteFunc(jobs, func(j job) bool {
			if j.refusable() {
				<-b.slots
			}
			return j.refusable()
		})
	}
	now := time.Now()
	if first {
		if now.Before(b.until) {
			b.faults = max(b.faults, b.grown)
		}
		b.faults++
		b.grown = b.faults
	}
	wait := backoff(b.faults, b.a.limits.RetryMin, b.a.limits.RetryMax)
	if first {
		b.until = now.Add(wait + relapse)
	}
	b.mu.Unlock()
	if first {
		// Whoever keeps the database tells the operator, once.
		b.a.log.Debug().Err(err).Msg("storing failed: stanzas are left to the gatekeeper")
		b.a.conn.set(ConnState{Kind: ConnStorage, Until: now.Add(wait)})
	}
	b.a.link.recycle(wait)
}

// wellAgain is called when storing works again.
func (b *inbox) wellAgain() {
	b.mu.Lock()
	faulty := b.faults > 0 || b.refuseAll && !b.paused
	b.faults = 0
	b.mu.Unlock()
	if faulty {
		b.a.link.sooner()
	}
}

// relapse is how long after the end of a fault another one counts as the same.
const relapse = 30 * time.Second

// work handles the stanzas of one sender.
func (b *inbox) work(ctx context.Context, key string) {
	for ctx.Err() == nil {
		b.mu.Lock()
		jobs := b.queue[key]
		if len(jobs) == 0 {
			drop(&b.queue, key)
			b.mu.Unlock()
			return
		}
		j := jobs[0]
		jobs[0] = job{}
		b.queue[key] = jobs[1:]
		b.mu.Unlock()
		b.one(ctx, j)
	}
}

func (b *inbox) one(ctx context.Context, j job) {
	if j.do != nil {
		j.do(ctx)
		return
	}
	defer func() { <-b.slots }()
	code, err := b.contained(ctx, j)
	_, isAck := j.s.(*stanza.Ack)
	if b.settle(ctx, err) && !isAck {
		stored := b.a.storedIn(j)
		b.a.guard("ack", func() { b.answer(ctx, j.turn, j.s, code) })
		b.a.ackedIn(j, stored, code)
	}
}

// handle stores what a stanza says; code is the error of its ack, 0 for none.
func (b *inbox) handle(ctx context.Context, j job) (code int, err error) {
	switch s := j.s.(type) {
	case *stanza.Ack:
		err = b.a.outbox.acked(ctx, s)
	case *stanza.Message:
		code, err = b.message(ctx, j.turn, s)
	case *stanza.Receipt:
		err = b.a.outbox.receipt(ctx, s)
	case *stanza.Notification:
		err = b.notification(ctx, s)
	}
	return code, err
}

// settle looks at what came of handling a stanza: true if it is on disk.
func (b *inbox) settle(ctx context.Context, err error) bool {
	if err != nil {
		if ctx.Err() == nil {
			b.fault(err)
		}
		return false
	}
	b.mu.Lock()
	b.faults = 0
	b.mu.Unlock()
	return true
}

// answer acks a stanza that is on disk (PROTOCOL.md 4.11).
func (b *inbox) answer(ctx context.Context, turn int, s stanza.Stanza, code int) {
	ack, ok := stanza.AckFor(s, code)
	if !ok {
		return
	}
	b.mu.Lock()
	if b.acks == nil {
		b.acks = new([keptAcks]*stanza.Ack)
	}
	b.acks[b.ackAt] = ack
	b.ackAt = (b.ackAt + 1) % len(b.acks)
	b.mu.Unlock()
	if err := b.a.link.send(ctx, turn, ack); err != nil {
		b.a.log.Debug().Err(err).Msg("ack not sent, the stanza will come again")
	}
	if ack.Class == "message" {
		killpoint.Hit(killpoint.InAcked)
	}
}

// given returns the ack of the last ones that the gatekeeper asks for.
func (b *inbox) given(owed *stanza.OwedAck) *stanza.Ack {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.acks == nil {
		return nil
	}
	for _, ack := range b.acks {
		if ack != nil && ack.Class == owed.Class && ack.ID == owed.ID && ack.Type == owed.Type {
			return ack
		}
	}
	return nil
}
