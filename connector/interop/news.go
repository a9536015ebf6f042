package interop

import (
	"context"
	"errors"
	"sync"
	"time"

	"postern/connector/killpoint"
)

const (
	// newsRoom is how many events of a chat are kept in memory that have something to
	// tell; the rest is read from disk when these are through.
	newsRoom = 64
	// newsPage is how many parts are read at once.
	newsPage = 100
)

// news tells Matrix how far outgoing events have come, until it knows. Events of
// one chat go one after another, chats side by side.
type news struct {
	a     *Account
	lanes lanes // "" reads from disk

	mu      sync.Mutex
	chats   map[string]*newsChat
	spilled bool // the disk has more for some chat
}

type newsChat struct {
	events   []eventRef
	attempts int
	notUntil time.Time
}

// eventRef names an outgoing event.
type eventRef struct {
	id, room string
	parts    int
}

func newNews(a *Account) *news {
	n := &news{a: a}
	n.lanes = lanes{a: a, kind: &newsLanes}
	return n
}

// start begins with what an earlier run has left on disk.
func (n *news) start(ctx context.Context) {
	n.lanes.start(ctx)
	n.lanes.kick("")
}

func (n *news) stop() {
	n.lanes.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.chats = nil
}

// changed says that the state of a part of an event has changed on disk.
func (n *news) changed(row *OutRow) {
	n.mu.Lock()
	n.add(row)
	n.mu.Unlock()
	n.lanes.kick(row.Chat)
}

// add notes an event that has something to tell; n.mu is held.
func (n *news) add(row *OutRow) {
	c := n.chats[row.Chat]
	if c == nil {
		c = &newsChat{}
		put(&n.chats, row.Chat, c)
	}
	for _, ev := range c.events {
		if ev.id == row.EventID {
			return
		}
	}
	if len(c.events) >= newsRoom {
		n.spilled = true
		return
	}
	c.events = append(c.events, eventRef{row.EventID, row.RoomID, row.Parts})
}

func (n *news) nudge() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for chat, c := range n.chats {
		c.notUntil = time.Time{}
		n.lanes.kick(chat)
	}
}

func (n *news) work(ctx context.Context, chat string) {
	if chat == "" {
		n.refill(ctx)
		return
	}
	for ctx.Err() == nil {
		n.mu.Lock()
		c := n.chats[chat]
		if c == nil || time.Now().Before(c.notUntil) {
			n.mu.Unlock()
			return
		}
		if len(c.events) == 0 {
			drop(&n.chats, chat)
			more := n.spilled
			n.mu.Unlock()
			if more {
				n.lanes.kick("")
			}
			return
		}
		ev := c.events[0]
		n.mu.Unlock()
		err := n.tell(ctx, chat, ev)
		n.mu.Lock()
		if err == nil {
			c.attempts = 0
			n.mu.Unlock()
			continue
		}
		c.attempts++
		n.a.meter.Again(againStatus)
		wait := backoff(c.attempts, n.a.limits.RetryMin, n.a.limits.RetryMax)
		c.notUntil = time.Now().Add(wait)
		n.mu.Unlock()
		if ctx.Err() == nil {
			n.a.log.Warn().Err(err).Str("chat", chat).Msg("status not told, will be tried again")
			time.AfterFunc(wait, func() { n.lanes.kick(chat) })
		}
		return
	}
}

// refill reads from disk what did not fit, or what an earlier run has left.
func (n *news) refill(ctx context.Context) {
	n.mu.Lock()
	n.spilled = false
	n.mu.Unlock()
	for after := int64(0); ctx.Err() == nil; {
		rows, err := n.a.store.DueStatuses(ctx, after, newsPage)
		if err != nil {
			n.a.log.Warn().Err(err).Msg("reading due statuses failed")
			time.AfterFunc(n.a.limits.RetryMax, func() { n.lanes.kick("") })
			return
		}
		n.mu.Lock()
		for _, row := range rows {
			n.add(row)
			n.lanes.kick(row.Chat)
			after = row.Seq
		}
		n.mu.Unlock()
		if len(rows) < newsPage {
			return
		}
	}
}

// tell reports the state of one event, if there is something new, and takes it off
// the list.
func (n *news) tell(ctx context.Context, chat string, ev eventRef) error {
	a := n.a
	// Off the list first: what changes from here on puts it there again.
	n.mu.Lock()
	c := n.chats[chat]
	c.events = c.events[1:]
	n.mu.Unlock()
	err := func() error {
		rows, err := a.partsOf(ctx, ev.id, ev.parts)
		if err != nil || len(rows) == 0 {
			return err
		}
		s, reported := eventStatus(rows)
		s.StanzaIDs, s.Told = a.idsOf(ev, rows), reported
		if s.State != OutWaiting && canFollow(reported, s.State) {
			err = errStatusPanic
			a.guard("status", func() { err = a.up.Status(ctx, s) })
			if err != nil {
				return err
			}
			killpoint.Hit(killpoint.OutTold)
			a.went(rows[0].content(), reported, s)
		} else {
			s.State = reported
		}
		return a.store.SetReported(context.WithoutCancel(ctx), rows, s.State)
	}()
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.chats[chat] == c { // at the front again, unless it is there anew
			for _, other := range c.events {
				if other.id == ev.id {
					return err
				}
			}
			c.events = append([]eventRef{ev}, c.events...)
		}
	}
	return err
}

var errStatusPanic = errors.New("status: panic")

// canFollow says whether a state may follow one that was told (promise 3).
func canFollow(told, next OutState) bool {
	if next == OutFailed {
		return told != OutFailed && told != OutRead
	}
	return told != OutFailed && next > told
}

// idsOf lists the stanza ids that an event's parts have on the phone.
func (a *Account) idsOf(ev eventRef, rows []*OutRow) []string {
	ids := make([]string, ev.parts)
	for i := range ids {
		ids[i] = StanzaID(a.cfg.StanzaKey, ev.id, i)
	}
	for _, row := range rows {
		if part := row.Part - MaxParts; part >= 0 && part < len(ids) {
			ids[part] = row.StanzaID
		}
	}
	return ids
}

// eventStatus derives the state of an event from its parts: it is as far as the part
// that is least far, and failed if one is; a part that was replaced does not count.
// reported is what was told of it.
func eventStatus(rows []*OutRow) (s OutStatus, reported OutState) {
	first := rows[0]
	s = OutStatus{EventID: first.EventID, RoomID: first.RoomID, Chat: first.Chat, MediaType: first.MediaType, State: OutRead}
	counted := false
	for _, row := range rows {
		reported = max(reported, row.Reported)
		if row.State == PartReplaced {
			continue
		}
		counted = true
		s.At = maxTime(s.At, time.UnixMilli(row.Changed))
		state := OutState(row.State)
		if row.State < PartSent {
			state = OutWaiting
		}
		if row.State == PartFailed {
			if s.State != OutFailed {
				s.State, s.Reason, s.Code = OutFailed, row.Reason, row.Code
			}
		} else if s.State != OutFailed {
			s.State = min(s.State, state)
		}
	}
	if !counted {
		s.State = OutWaiting
	}
	return s, reported
}

func maxTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
