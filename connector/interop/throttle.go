package interop

import "time"

// A Throttle says for how long a message of this account has to wait for its place in a rate, and keeps that place for it:
// it is called once for each message, in the order in which they are to go.
type Throttle func() time.Duration

// slot is the place in the rates that the head of a chat has.
type slot struct {
	seq    int64
	passed int // how many throttles it has been through
	at     time.Time
}

// throttled holds back the head of a chat that was not encrypted yet until its place in the rates has come; o.mu is held.
// That it waits is not the gatekeeper's fault, so it does not count as waiting for an answer.
func (o *outbox) throttled(chat string, c *outChat, row *OutRow, clock time.Duration) bool {
	if row.Stanza != nil || len(o.a.cfg.Throttles) == 0 {
		return false
	}
	if c.slot.seq != row.Seq {
		c.slot = slot{seq: row.Seq}
	}
	for {
		if wait := time.Until(c.slot.at); wait > 0 {
			c.progress = max(c.progress, clock+wait)
			o.arm(chat, c, wait, wait)
			return true
		}
		if c.slot.passed == len(o.a.cfg.Throttles) {
			return false
		}
		wait := o.a.cfg.Throttles[c.slot.passed]()
		c.slot.passed++
		c.slot.at = time.Now().Add(wait)
	}
}
