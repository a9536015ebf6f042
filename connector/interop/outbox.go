package interop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"postern/connector/killpoint"
	"postern/connector/stanza"
)

const (
	// outRoom is how many parts of one chat stay in memory on their way out.
	outRoom = 32
	// outPage is how many are read from disk at once.
	outPage = 16
)

// outbox sends what is queued: in order within a chat, one part at a time until it is
// acked, so that a part that must be repeated is not overtaken; chats side by side.
type outbox struct {
	a     *Account
	lanes lanes

	mu    sync.Mutex
	chats map[string]*outChat
	// loaded says that chats has every chat with unfinished parts on disk.
	loaded bool
	// flying are the parts that were written and are not acked, by stanza id.
	flying map[string]*OutRow
	// answers is the pace of answers to retry requests, by chat.
	answers pace
}

// outChat is what is in memory of one chat's out-queue.
type outChat struct {
	log backlog[*OutRow]
	// resend says that the disk has parts to be sent again on request.
	resend bool
	// paced says that answers wait for their pace; a timer asks for them again. pacing
	// says that they had to wait the last time too.
	paced, pacing bool
	// held says that what is not encrypted yet waits for the person to confirm a key.
	held bool
	// renew asks for a new session before the next part.
	renew bool
	// turn is the login on which the head was written, 0 for not yet.
	turn int
	head int64 // its sequence number
	// asked are the answers to retry requests written on a turn, by sequence number.
	asked map[int64]int
	// progress is the reading of the live clock when the chat last came forward, or
	// when there was nothing to do before.
	progress time.Duration
	attempts int
	notUntil time.Time
	// tries counts how often the head could not be prepared.
	tries int
	// slot is the head's place in the rates.
	slot slot
	// reason and code are of the last transient failure.
	reason Reason
	code   int
	timer  *time.Timer
}

func newOutbox(a *Account) *outbox {
	o := &outbox{a: a, answers: newPace(answerBurst, answerEvery)}
	o.lanes = lanes{a: a, kind: &outboxLanes}
	return o
}

// load finds the chats with unfinished parts.
func (o *outbox) load(ctx context.Context) error {
	chats, err := o.a.store.OutboundChats(ctx)
	if err != nil {
		return err
	}
	clock := o.a.link.clock()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, chat := range chats {
		c := o.chat(chat, clock)
		c.log.spilled, c.turn = true, 0 // live asks for the resends
	}
	o.loaded = true
	return nil
}

func (o *outbox) start(ctx context.Context) { o.lanes.start(ctx) }

func (o *outbox) stop() {
	o.lanes.stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.chats {
		if c.timer != nil {
			c.timer.Stop()
		}
	}
}

// live sends what is unacked again, and what has come since.
func (o *outbox) live() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for chat, c := range o.chats {
		c.turn, c.attempts, c.notUntil = 0, 0, time.Time{}
		c.asked = nil
		c.resend = true
		o.lanes.kick(chat)
	}
}

// nudge has everything that waits for another try tried now.
func (o *outbox) nudge() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for chat, c := range o.chats {
		c.notUntil = time.Time{}
		o.lanes.kick(chat)
	}
}

// chat returns a chat's entry, made now if it had nothing to do; o.mu is held.
// Until the queue is loaded, the disk may have older parts of any chat, and what
// comes stands behind them.
func (o *outbox) chat(chat string, clock time.Duration) *outChat {
	c := o.chats[chat]
	if c == nil {
		c = &outChat{progress: clock}
		c.log.spilled = !o.loaded
		put(&o.chats, chat, c)
	}
	return c
}

// Send stores a Matrix event for a chat and returns the stanza ids of its parts.
// When it returns nil, the event is on disk together with what also wrote; sending
// happens later and is told through Upcalls.Status. also may be nil; it runs inside
// the transaction, and its error, returned as it is, takes everything back.
//
// An event that is stored already is left as it is: also is not called, and the
// same ids come back. Errors: ErrBadOutgoing, ErrNoChat, ErrStopped, or the store's;
// after ErrStopped and ErrBadOutgoing trying again is useless.
func (a *Account) Send(ctx context.Context, out Outgoing, also func(ctx context.Context) error) ([]string, error) {
	if a.deleted.Load() {
		return nil, ErrStopped
	}
	if err := out.check(); err != nil {
		return nil, err
	}
	if _, err := a.people.in(ctx, out.Chat); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	if err := a.seq.load(ctx, a.store); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	rows := a.rowsOf(&out)
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.StanzaID
	}
	old, err := a.store.OutboundParts(ctx, ids[:1])
	if err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	if len(old) > 0 {
		return ids, nil
	}
	a.outbox.place(rows)
	placed := true
	defer func() {
		if placed { // something has panicked, before the commit or behind it
			a.outbox.drop(rows, true)
		}
	}()
	err = a.store.Do(ctx, func(ctx context.Context) error {
		if err := a.store.InsertOutbound(ctx, rows); err != nil {
			return err
		}
		defer killpoint.Hit(killpoint.OutQueueing)
		if also == nil {
			return nil
		}
		return also(ctx)
	})
	if errors.Is(err, ErrExists) {
		placed = false
		a.outbox.drop(rows, false) // two calls at once: the other has stored it
		return ids, nil
	}
	if err != nil {
		return nil, err
	}
	// It is on disk, so it is not refused any more, come what may.
	a.guard("queued", func() {
		killpoint.Hit(killpoint.OutQueued)
		placed = false
		a.meter.Outgoing(rows[0].content(), stateAccepted)
		a.outbox.fill(rows)
		a.attend.signed(false)
		if out.Type != stanza.TypeReaction {
			a.typing.wrote(out.Chat)
		}
	})
	return ids, nil
}

// check looks at the rules of Outgoing.
func (out *Outgoing) check() error {
	switch {
	case out.EventID == "", out.Chat == "":
		return ErrBadOutgoing
	case out.Recipe != nil:
		if len(out.Recipe) == 0 || len(out.Recipe) > MaxRecipe || len(out.Parts)+len(out.Fallbacks) > 0 || out.Type+out.MediaType != "" {
			return ErrBadOutgoing
		}
		return nil
	case len(out.Parts) == 0, len(out.Parts) > MaxParts, !validType(out.Type, out.MediaType):
		return ErrBadOutgoing
	case out.Fallbacks != nil && len(out.Fallbacks) != len(out.Parts):
		return ErrBadOutgoing
	}
	for _, p := range out.Parts {
		if !validPlaintext(p) {
			return ErrBadOutgoing
		}
	}
	for _, p := range out.Fallbacks {
		if p != nil && !validPlaintext(p) {
			return ErrBadOutgoing
		}
	}
	return nil
}

// rowsOf makes the rows of an event, which have no places yet.
func (a *Account) rowsOf(out *Outgoing) []*OutRow {
	now := time.Now().UnixMilli()
	rows := make([]*OutRow, max(len(out.Parts), 1))
	for i := range rows {
		rows[i] = &OutRow{
			Chat: out.Chat, EventID: out.EventID, RoomID: out.RoomID, Part: i, Parts: len(rows),
			StanzaID: StanzaID(a.cfg.StanzaKey, out.EventID, i), Type: out.Type, MediaType: out.MediaType,
			Recipe: out.Recipe, State: PartQueued, Created: now, Changed: now,
		}
		if out.Parts != nil {
			rows[i].Plaintext = out.Parts[i]
		}
		if out.Fallbacks != nil {
			rows[i].Fallback = out.Fallbacks[i]
		}
	}
	return rows
}

// place takes the next places in the order of their chat for rows that are about to be
// committed; fill or drop must follow.
func (o *outbox) place(rows []*OutRow) {
	clock := o.a.link.clock()
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.chat(rows[0].Chat, clock)
	first := o.a.seq.next(len(rows))
	for i, row := range rows {
		row.Seq, row.queued = first+int64(i), clock
		c.log.reserve(row.Seq, outRoom)
	}
}

func (o *outbox) fill(rows []*OutRow) {
	o.mu.Lock()
	c := o.chats[rows[0].Chat]
	for _, row := range rows {
		c.log.fill(row.Seq, row)
	}
	o.mu.Unlock()
	o.lanes.kick(rows[0].Chat)
}

func (o *outbox) drop(rows []*OutRow, unsure bool) {
	o.mu.Lock()
	c := o.chats[rows[0].Chat]
	for _, row := range rows {
		c.log.drop(row.Seq, unsure)
	}
	o.mu.Unlock()
	o.lanes.kick(rows[0].Chat)
}

// renew asks for a new session with a chat's person, at once if there is a stream.
func (o *outbox) renew(chat string) {
	clock := o.a.link.clock()
	o.mu.Lock()
	o.chat(chat, clock).renew = true
	o.mu.Unlock()
	o.lanes.kick(chat)
}

// finish takes a part out that is acked or failed. forward says that its chat came
// forward by it.
func (o *outbox) finish(stanzaID, chat string, seq int64, forward bool) {
	clock := o.a.link.clock()
	o.mu.Lock()
	drop(&o.flying, stanzaID)
	if c := o.chats[chat]; c != nil {
		c.log.pop(seq)
		if _, ok := c.asked[seq]; ok {
			drop(&c.asked, seq)
			c.resend = true // there may be more than were read
		}
		// What could not be made has held up those behind it by no fault of theirs.
		if forward || c.head == seq && c.tries > 0 {
			c.forward(clock)
		}
	}
	o.mu.Unlock()
	o.lanes.kick(chat)
}

// pause holds a chat back after a transient failure.
func (o *outbox) pause(chat string, reason Reason, code int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.chats[chat]
	if c == nil {
		return
	}
	c.attempts++
	o.a.meter.Again(againGatekeeper)
	c.turn = 0
	c.notUntil = time.Now().Add(backoff(c.attempts, o.a.limits.RetryMin, o.a.limits.RetryMax))
	if reason != "" {
		c.reason, c.code = reason, code
	}
	o.lanes.kick(chat) // which arms the timer
}

// fail makes a part fail for good, and with it those of the same event that are not
// sent yet.
func (o *outbox) fail(ctx context.Context, row *OutRow, reason Reason, code int) error {
	a := o.a
	now := time.Now().UnixMilli()
	changed := false
	var parts []*OutRow
	err := a.store.Do(ctx, func(ctx context.Context) error {
		changed = false
		var err error
		if parts, err = a.partsOf(ctx, row.EventID, row.Parts); err != nil {
			return err
		}
		for _, p := range parts {
			if p.Seq != row.Seq && p.State >= PartSent {
				continue
			}
			one, err := a.store.FailOutbound(ctx, p.StanzaID, reason, code, now)
			if err != nil {
				return err
			}
			changed = changed || one
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.State < PartSent {
			o.finish(p.StanzaID, p.Chat, p.Seq, false)
		}
	}
	o.finish(row.StanzaID, row.Chat, row.Seq, false)
	if changed {
		a.log.Info().Str("chat", row.Chat).Str("reason", string(reason)).Int("code", code).Msg("outgoing event failed")
		a.news.changed(row)
	}
	return nil
}

// expire gives up the head, which has waited for too long while the stream was live
// and its chat did not move. Those behind it have their own time (promise 3).
func (o *outbox) expire(ctx context.Context, row *OutRow) error {
	o.mu.Lock()
	reason, code := ReasonNoAnswer, 0
	switch c := o.chats[row.Chat]; {
	case c != nil && c.held && row.Stanza == nil:
		reason = ReasonHeld
	case c != nil && c.reason != "":
		reason, code = c.reason, c.code
	}
	o.mu.Unlock()
	return o.fail(ctx, row, reason, code)
}

// trouble deals with an error of ours: refusals that are final fail the head, all
// else waits.
func (o *outbox) trouble(ctx context.Context, chat string, row *OutRow, err error) {
	var refused *refusal
	switch {
	case errors.As(err, &refused) && refused.final && row != nil:
		if err = o.fail(ctx, row, refused.reason, refused.code); err == nil {
			return
		}
		o.pause(chat, "", 0)
	case errors.As(err, &refused):
		o.pause(chat, refused.reason, refused.code)
	case errors.Is(err, errOffline):
		o.pause(chat, "", 0)
	case errors.Is(err, errHeld):
		o.hold(ctx, chat)
	default:
		o.a.log.Warn().Err(err).Str("chat", chat).Msg("sending failed, will be tried again")
		o.pause(chat, "", 0)
	}
}
