package interop

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/killpoint"
)

const (
	// mailRoom is how many rows of one chat stay in memory on their way to Matrix;
	// the rest is read from disk when these are through.
	mailRoom = 32
	// mailBytes is how many bytes of memory those of one account may take.
	mailBytes = 4 << 20
	// mailPage is how many rows are read at once, while there is room for them.
	mailPage = 16
	// mailTurns is how many chats of one account hand over a row at the same time, mailTurn how long one of them can keep
	// others from it: those that take long are not counted any more, so that slow rooms hold up nobody.
	mailTurns = 64
	mailTurn  = time.Second
	// mailRow is about what a row takes besides its payload.
	mailRow = 600
)

// mail hands the in-queue to Matrix: in order within a chat, chats side by side.
type mail struct {
	a     *Account
	lanes lanes
	turns chan struct{} // nil before anything was handed over

	mu    sync.Mutex
	chats map[string]*mailChat
	// byKey finds a chat by its person's address, for full.
	byKey map[string]string
	total int // rows that wait for Matrix, on disk and in memory
	bytes int // that rows in memory take
}

// weight is about how many bytes a row takes in memory.
func weight(row *InRow) int { return mailRow + len(row.Payload) }

type mailChat struct {
	key      string // the person's address
	log      backlog[*InRow]
	count    int // rows that wait, on disk and in memory
	attempts int
	notUntil time.Time
	// held are the rows that were set aside, in order; recheck says that they are to be
	// handed over again; timer wakes the chat for their last time.
	held    []heldRow
	recheck bool
	timer   *time.Timer
}

func newMail(a *Account) *mail {
	m := &mail{a: a}
	m.lanes = lanes{a: a, kind: &mailLanes}
	return m
}

// load counts what earlier runs have left.
func (m *mail) load(ctx context.Context) error {
	counts, err := m.a.store.InboundBacklog(ctx)
	if err != nil {
		return err
	}
	var fresh map[string]*mailChat
	var byKey map[string]string
	total := 0
	for chat, n := range counts {
		peer, err := m.a.people.in(ctx, chat)
		if err != nil {
			return err
		}
		key := peer.JID.String()
		put(&fresh, chat, &mailChat{key: key, count: n, log: backlog[*InRow]{spilled: true}})
		put(&byKey, key, chat)
		total += n
	}
	if err = m.loadHeld(ctx, &fresh, &byKey); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chats, m.byKey, m.total, m.bytes = fresh, byKey, total, 0
	return nil
}

func (m *mail) start(ctx context.Context) {
	m.lanes.start(ctx)
	m.kickAll()
}

func (m *mail) stop() {
	m.lanes.stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.chats {
		if c.timer != nil {
			c.timer.Stop()
		}
	}
}

// Nudge says that Matrix is well again: what waits for another try is tried now. Without a
// Run it does nothing.
func (a *Account) Nudge() {
	a.mail.nudge()
	a.news.nudge()
}

// StorageAgain tells the account that storing works again: what was left to the gatekeeper is asked for now, and what waits is tried.
func (a *Account) StorageAgain() {
	a.inbox.wellAgain()
	a.mail.nudge()
	a.outbox.nudge()
}

func (m *mail) nudge() {
	m.mu.Lock()
	for _, c := range m.chats {
		c.notUntil = time.Time{}
	}
	m.mu.Unlock()
	m.kickAll()
}

func (m *mail) kickAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for chat := range m.chats {
		m.lanes.kick(chat)
	}
}

// place takes the next place in the order of a chat for a row that is about to be
// committed; settle or drop must follow.
func (m *mail) place(peer Peer) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.chats[peer.Chat]
	if c == nil {
		c = &mailChat{key: peer.JID.String()}
		put(&m.chats, peer.Chat, c)
		put(&m.byKey, c.key, peer.Chat)
	}
	seq := m.a.seq.next(1)
	room := mailRoom
	if m.bytes > mailBytes {
		room = 0
	}
	c.log.reserve(seq, room)
	return seq
}

// settle says that the row of a place is on disk, or that there is none (nil).
func (m *mail) settle(chat string, seq int64, row *InRow) {
	if row == nil {
		m.drop(chat, seq, false)
		return
	}
	m.mu.Lock()
	c := m.chats[chat]
	c.count++
	m.total++
	if c.log.fill(seq, row) {
		m.bytes += weight(row)
	}
	m.mu.Unlock()
	m.lanes.kick(chat)
}

// drop gives a place up; unsure says that its row may be on disk all the same.
func (m *mail) drop(chat string, seq int64, unsure bool) {
	m.mu.Lock()
	c := m.chats[chat]
	for _, row := range c.log.drop(seq, unsure) {
		m.bytes -= weight(row)
	}
	m.mu.Unlock()
	m.lanes.kick(chat)
}

// full says whether too much waits for Matrix: of the account, of one person.
func (m *mail) full(key string) (all, one bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.chats[m.byKey[key]]; c != nil {
		one = c.count >= m.a.limits.MaxPendingChat
	}
	return m.total >= m.a.limits.MaxPending, one
}

// done takes a delivered row out.
func (m *mail) done(chat string, row *InRow) {
	m.mu.Lock()
	c := m.chats[chat]
	c.log.pop(row.Seq)
	c.count = max(c.count-1, 0)
	m.total = max(m.total-1, 0)
	m.bytes -= weight(row)
	c.attempts = 0
	all, one := m.total <= m.a.limits.MaxPending/2, c.count <= m.a.limits.MaxPendingChat/2
	key := c.key
	m.mu.Unlock()
	if all || one {
		m.a.inbox.eased(key, all, one)
	}
}

// failed notes that a row must be tried again.
func (m *mail) failed(chat string) {
	m.a.meter.Again(againMatrix)
	m.mu.Lock()
	c := m.chats[chat]
	c.attempts++
	wait := backoff(c.attempts, m.a.limits.RetryMin, m.a.limits.RetryMax)
	c.notUntil = time.Now().Add(wait)
	m.mu.Unlock()
	time.AfterFunc(wait, func() { m.lanes.kick(chat) })
}

// next finds the row to deliver; nil if there is none now.
func (m *mail) next(ctx context.Context, chat string) (*InRow, error) {
	for {
		m.mu.Lock()
		c := m.chats[chat]
		if c == nil || time.Now().Before(c.notUntil) {
			m.mu.Unlock()
			return nil, nil
		}
		if row, ok := c.log.head(); ok {
			m.mu.Unlock()
			return row, nil
		}
		after, turn, want := c.log.wantsPage()
		if !want {
			if c.log.idle() && len(c.held) == 0 {
				drop(&m.chats, chat)
				drop(&m.byKey, c.key)
				m.total -= c.count // the rest of a count that was off
			}
			m.mu.Unlock()
			return nil, nil
		}
		page := mailPage
		if m.bytes > mailBytes {
			page = 1
		}
		m.mu.Unlock()
		rows, err := m.a.store.PendingInbound(ctx, chat, after, page)
		if err != nil {
			return nil, err
		}
		m.mu.Lock()
		c.log.page(rows, func(r *InRow) int64 { return r.Seq }, turn, len(rows) == page)
		for _, row := range rows {
			m.bytes += weight(row)
		}
		empty := len(rows) == 0 && c.log.spilled
		m.mu.Unlock()
		if empty {
			return nil, nil // a commit is on its way and kicks when it is there
		}
	}
}

// work delivers what a chat has.
func (m *mail) work(ctx context.Context, chat string) {
	for ctx.Err() == nil {
		err := m.heldAgain(ctx, chat)
		var row *InRow
		if err == nil {
			if row, err = m.next(ctx, chat); err == nil && row == nil {
				return
			}
		}
		var what outcome
		if err == nil {
			what, err = m.deliver(ctx, row, false)
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			m.a.log.Warn().Err(err).Str("chat", chat).Msg("delivery failed, will be tried again")
			m.failed(chat)
			return
		}
		switch what {
		case heldBack:
			m.aside(chat, row)
		case delivered:
			m.done(chat, row)
			m.mu.Lock()
			if c := m.chats[chat]; c != nil {
				c.recheck = len(c.held) > 0
			}
			m.mu.Unlock()
		case settled:
			m.done(chat, row)
		}
	}
}

// outcome is what came of handing a row to Matrix.
type outcome uint8

const (
	settled   outcome = iota // it is off the queue: a notice, or a dead letter
	delivered                // Matrix has a message more
	heldBack                 // it is set aside
)

// turn waits until it is a chat's turn to hand over a row. done ends it.
func (m *mail) turn(ctx context.Context) (done func(), err error) {
	m.mu.Lock()
	if m.turns == nil {
		m.turns = make(chan struct{}, mailTurns)
	}
	turns := m.turns
	m.mu.Unlock()
	select {
	case turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	free := sync.OnceFunc(func() { <-turns })
	late := time.AfterFunc(mailTurn, free)
	return func() { late.Stop(); free() }, nil
}

// deliver hands one row to Matrix and stores the outcome. An error means: again.
//
//nolint:gocyclo // one case for each answer, whose order is what counts
func (m *mail) deliver(ctx context.Context, row *InRow, final bool) (outcome, error) {
	a := m.a
	if row.Kind == KindMessage && a.blocks.has(row.Chat) {
		quiet := *row
		a.silence(&quiet)
		a.meter.Incoming(rowContent(row), stateDropped)
		return settled, a.store.UpdateInbound(ctx, &quiet)
	}
	in, err := a.inbound(ctx, row)
	damaged := row.Damaged || errors.Is(err, errContent)
	if damaged {
		in, err = a.unstored(ctx, row)
	}
	if err != nil {
		return settled, err
	}
	in.Final = final
	done, err := m.turn(ctx)
	if err != nil {
		return settled, err
	}
	before := a.decisions.of(row.Chat)
	err = errDeliverPanic
	a.guard("deliver", func() { err = a.up.Deliver(ctx, in) })
	done()
	// Matrix has decided: that is stored even if the account is being stopped.
	stored := context.WithoutCancel(ctx)
	receipt, what := ReceiptNone, settled
	var rejected *Rejected
	switch {
	case damaged && (err == nil || errors.As(err, &rejected) || undecided(err)):
		a.log.Error().Str("chat", row.Chat).Int64("seq", row.Seq).Msg("an item of the queue cannot be read from disk")
		return settled, a.bury(stored, row, LetterDamaged)
	case undecided(err):
		return a.decisions.settle(stored, row, err, before)
	case errors.Is(err, ErrUnseen):
		return settled, a.unseen(stored, row)
	case errors.Is(err, ErrNoTarget) && row.Kind == KindMessage && !final:
		return heldBack, a.store.HoldInbound(stored, row)
	case errors.Is(err, ErrNoTarget):
		a.log.Info().Str("chat", row.Chat).Msg("what a message is about has not come")
		return settled, a.bury(stored, row, LetterNoTarget) // nothing of it is shown, so it gets no receipt
	case errors.As(err, &rejected):
		a.log.Warn().Str("chat", row.Chat).Str("reason", rejected.Reason).Msg("Matrix refuses an item for good")
		return settled, a.bury(stored, row, rejected.Reason)
	case err != nil:
		return settled, err
	case row.Kind == KindMessage:
		receipt, what = ReceiptDue, delivered
		atDelivered()
	}
	if err = a.store.FinishInbound(stored, row, InDone, receipt); err != nil {
		return settled, err
	}
	a.came(row, contentOf(in))
	if receipt == ReceiptDue {
		atFinished()
		a.receipts.due(row)
	}
	return what, nil
}

// atDelivered and atFinished are the points of whatever is shown, quietly or not.
func atDelivered() { killpoint.Hit(killpoint.InDelivered) }
func atFinished()  { killpoint.Hit(killpoint.InFinished) }

var errDeliverPanic = errors.New("deliver: panic")

// inbound makes what Matrix is given of a row.
func (a *Account) inbound(ctx context.Context, row *InRow) (*Inbound, error) {
	peer, err := a.people.in(ctx, row.Chat)
	if err != nil {
		return nil, err
	}
	in := &Inbound{
		Chat: row.Chat, Contact: peer.Contact, Sender: peer.JID, MessageID: row.ID,
		Timestamp: time.Unix(row.Timestamp, 0), Kind: row.Kind, Late: row.Late, Notify: row.Notify,
	}
	if row.Kind != KindMessage {
		in.Reason = string(row.Payload)
		return in, nil
	} else if row.Damaged {
		return in, nil
	}
	in.Message, in.Raw = &waE2E.Message{}, row.Payload
	if err = proto.Unmarshal(row.Payload, in.Message); err != nil {
		return nil, errContent
	}
	return in, nil
}
