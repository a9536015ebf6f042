package interop

import (
	"context"
	"time"
)

// step is what a chat has to do next.
type step uint8

const (
	stepRest    step = iota // nothing now; whatever changes that kicks
	stepPage                // read rows from disk
	stepResend              // read parts to be sent again from disk
	stepRenew               // begin a new session
	stepExpire              // give up what has waited too long
	stepDamaged             // give up what the disk does not give back
	stepPrepare             // make the head's message of its recipe
	stepSend                // encrypt if need be, and send the head
)

// next decides what a chat does. row is the head for stepExpire, stepDamaged,
// stepPrepare and stepSend.
//
//nolint:gocyclo // one rule for each step, whose order is what counts
func (o *outbox) next(chat string) (s step, row *OutRow) {
	live := o.a.link.isLive()
	clock := o.a.link.clock()
	_, turn, _ := o.a.link.current()
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.chats[chat]
	if c == nil || !live {
		return stepRest, nil
	}
	row, ok := c.log.head()
	left := o.a.limits.Waiting
	held := ok && c.held && row.Stanza == nil && !row.Damaged
	if ok {
		if c.head != row.Seq {
			c.head, c.turn, c.tries = row.Seq, 0, 0
		}
		if left -= clock - max(c.progress, row.queued); held {
			left = o.heldFor(row)
		}
		if left <= 0 {
			return stepExpire, row
		}
	}
	pause := time.Until(c.notUntil)
	if ok || pause > 0 {
		o.arm(chat, c, left, pause)
	}
	switch {
	case ok && row.Damaged:
		return stepDamaged, row
	case pause > 0:
		return stepRest, nil
	case c.resend:
		return stepResend, nil
	case c.renew:
		return stepRenew, nil
	case held:
		return stepRest, nil
	case ok && row.Recipe != nil:
		return stepPrepare, row
	case ok && c.turn == turn:
		return stepRest, nil // written, the ack is due
	case ok && o.throttled(chat, c, row, clock):
		return stepRest, nil
	case ok:
		return stepSend, row
	}
	if _, _, want := c.log.wantsPage(); want {
		return stepPage, nil
	}
	if c.log.idle() && len(c.asked) == 0 && !c.paced && !c.held {
		drop(&o.chats, chat)
	}
	return stepRest, nil
}

// arm wakes a chat when its wait is over, or its pause; o.mu is held.
func (o *outbox) arm(chat string, c *outChat, wait, pause time.Duration) {
	if pause > 0 {
		wait = min(wait, pause)
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, func() { o.lanes.kick(chat) })
		return
	}
	c.timer.Reset(wait)
}

// work does what a chat has to do.
func (o *outbox) work(ctx context.Context, chat string) {
	for ctx.Err() == nil {
		s, row := o.next(chat)
		var err error
		switch s {
		case stepRest:
			return
		case stepPage:
			var rest bool
			if rest, err = o.page(ctx, chat); rest && err == nil {
				return
			}
		case stepResend:
			err = o.resends(ctx, chat)
		case stepRenew:
			err = o.renewed(ctx, chat)
		case stepExpire:
			err = o.expire(ctx, row)
		case stepDamaged:
			o.a.log.Error().Str("chat", chat).Int64("seq", row.Seq).Msg("an event of the queue cannot be read from disk")
			err = o.fail(ctx, row, ReasonDamaged, 0)
		case stepPrepare:
			err = o.prepare(ctx, row)
		case stepSend:
			err = o.send(ctx, row)
		}
		if err != nil && ctx.Err() == nil {
			o.trouble(ctx, chat, row, err)
		}
	}
}

// page reads rows from disk. rest says that there was none yet.
func (o *outbox) page(ctx context.Context, chat string) (rest bool, err error) {
	o.mu.Lock()
	c := o.chats[chat]
	after, turn, _ := c.log.wantsPage()
	o.mu.Unlock()
	rows, err := o.a.store.PendingOutbound(ctx, chat, after, outPage)
	if err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	c.log.page(rows, func(r *OutRow) int64 { return r.Seq }, turn, len(rows) == outPage)
	return len(rows) == 0 && c.log.spilled, nil
}
