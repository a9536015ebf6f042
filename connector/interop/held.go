package interop

import (
	"context"
	"errors"
	"slices"
	"time"
)

// ErrNoTarget is what Upcalls.Deliver returns for a message that is about another
// one (a reaction, an edit, a deletion) which Matrix does not have. It is set aside
// and the chat goes on; it is handed over again after each further message of its
// chat, and for the last time with Inbound.Final when Limits.Hold is over, or when too
// many of the chat wait so. If the error is ErrNoTarget then too, Matrix will never
// have it.
var ErrNoTarget = errors.New("deliver: what it is about is not there")

// heldPage is how many rows that were set aside are read at once.
const heldPage = 16

// heldRow is what is in memory of a row that was set aside.
type heldRow struct {
	seq      int64
	received int64 // Unix milliseconds
}

// loadHeld finds what earlier runs have set aside. It is handed over before anything
// else of its chat, since one of it may have been on its way to Matrix when the run
// ended.
func (m *mail) loadHeld(ctx context.Context, chats *map[string]*mailChat, byKey *map[string]string) error {
	rows, err := m.a.store.AllHeld(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		c := (*chats)[row.Chat]
		if c == nil {
			peer, err := m.a.people.in(ctx, row.Chat)
			if err != nil {
				return err
			}
			c = &mailChat{key: peer.JID.String()}
			put(chats, row.Chat, c)
			put(byKey, c.key, row.Chat)
		}
		c.held, c.recheck = append(c.held, heldRow{row.Seq, row.Received}), true
	}
	return nil
}

// aside takes a row that was set aside out of the queue.
func (m *mail) aside(chat string, row *InRow) {
	m.mu.Lock()
	c := m.chats[chat]
	c.held = append(c.held, heldRow{row.Seq, row.Received})
	m.mu.Unlock()
	m.done(chat, row)
}

// heldAgain hands over what a chat has set aside: all of it after a message was
// delivered, else what is for the last time. An error means: again later.
func (m *mail) heldAgain(ctx context.Context, chat string) error {
	for ctx.Err() == nil {
		m.mu.Lock()
		c := m.chats[chat]
		if c == nil || len(c.held) == 0 || time.Now().Before(c.notUntil) {
			m.mu.Unlock()
			return nil
		}
		over := len(c.held) - m.a.limits.HeldChat
		cut := time.Now().Add(-m.a.limits.Hold).UnixMilli()
		all := c.recheck
		var tries []heldTry
		for i, h := range c.held {
			if final := i < over || h.received <= cut; all || final {
				tries = append(tries, heldTry{h.seq, final})
			}
		}
		if len(tries) == 0 {
			m.armHeld(chat, c)
			m.mu.Unlock()
			return nil
		}
		c.recheck = false
		m.mu.Unlock()
		gone, again, err := m.heldPass(ctx, chat, tries)
		m.mu.Lock()
		c.held = slices.DeleteFunc(c.held, func(h heldRow) bool { return gone[h.seq] })
		c.recheck = again || all && err != nil
		if err == nil {
			c.attempts = 0
		}
		m.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// heldTry is a row that was set aside and is handed over again.
type heldTry struct {
	seq   int64
	final bool
}

// heldPass hands over rows of a chat that were set aside. It returns which are not any
// more, and whether a message was delivered, which may be what another one is about.
func (m *mail) heldPass(ctx context.Context, chat string, tries []heldTry) (gone map[int64]bool, again bool, err error) {
	gone = make(map[int64]bool)
	var page []*InRow
	for i, try := range tries {
		for len(page) > 0 && page[0].Seq < try.seq {
			page = page[1:]
		}
		if len(page) == 0 {
			if page, err = m.a.store.HeldInbound(ctx, chat, try.seq-1, min(heldPage, len(tries)-i)); err != nil {
				return gone, again, err
			}
		}
		if len(page) == 0 || page[0].Seq != try.seq {
			gone[try.seq] = true // it is not what it was
			continue
		}
		what, err := m.deliver(ctx, page[0], try.final)
		if err != nil {
			return gone, again, err
		}
		gone[try.seq] = what != heldBack
		again = again || what == delivered
	}
	return gone, again, nil
}

// armHeld wakes a chat when the first row that was set aside has waited long enough;
// m.mu is held.
func (m *mail) armHeld(chat string, c *mailChat) {
	first := c.held[0].received
	for _, h := range c.held {
		first = min(first, h.received)
	}
	wait := max(time.Until(time.UnixMilli(first).Add(m.a.limits.Hold)), time.Millisecond)
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, func() { m.lanes.kick(chat) })
		return
	}
	c.timer.Reset(wait)
}
