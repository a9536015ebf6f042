package faults_test

import (
	"context"
	"testing"
	"time"

	"postern/bridge/parts"
)

// The rows F-20 and F-21: the stream between the bridge and the gatekeeper is cut at a byte, or a bit of it is another.

// partner is alice as the gatekeeper sees her.
func (r *rig) partner() parts.Partner {
	r.t.Helper()
	for _, p := range must(r.Gatekeeper.Partners(r.ctx))(r.t) {
		if p.Identifier == r.identifier {
			return p
		}
	}
	r.t.Fatal("the gatekeeper does not know alice")
	return parts.Partner{}
}

// sayTo lets one side of a chat write a text, the one whose message goes that way.
func (c *chat) sayTo(d direction) {
	c.r.t.Helper()
	if d == toBridge {
		c.fromPhone(1)
	} else {
		c.fromMatrix(1)
	}
}

// exchange is how many bytes go in a direction for one message that goes that way, with what is said to it.
func (c *chat) exchange(d direction) int64 {
	c.r.t.Helper()
	before := c.r.wire.bytes(d)
	c.sayTo(d)
	c.settled()
	return c.r.wire.bytes(d) - before
}

// broken plays an order to a message and waits until the bridge is logged in again. It says whether the order was played at all.
func (c *chat) broken(d direction, at int64, flip bool) (*order, bool) {
	r := c.r
	r.t.Helper()
	before := r.partner().Logins
	o := r.wire.after(d, at, flip)
	c.sayTo(d)
	id := c.last(d)
	r.until("the stream to break", func() bool {
		select {
		case <-o.played:
			return true
		default:
			return c.knows(d, id)
		}
	})
	select {
	case <-o.played:
	default:
		r.wire.after(d, 1<<40, false) // the message was shorter this time
		return o, false
	}
	gone := func() bool { p := r.partner(); return !p.Connected || p.Logins > before }
	r.until("the gatekeeper to notice", gone)
	// A push wakes the bridge, whose pauses grow. There is one in a second at most.
	next := time.Now()
	r.until("another login", func() bool {
		p := r.partner()
		if !p.Connected && time.Now().After(next) {
			c.fromPhone(1)
			next = time.Now().Add(1100 * time.Millisecond)
		}
		return p.Connected && p.Logins > before
	})
	if logins := r.partner().Logins; logins != before+1 {
		r.t.Errorf("the bridge has logged in %d times for one broken connection", logins-before)
	}
	return o, true
}

// last is the id of the last message that goes a way, in the words of its sender's side.
func (c *chat) last(d direction) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == toBridge {
		return c.ledger.phone[len(c.ledger.phone)-1].id
	}
	return c.ledger.matrix[len(c.ledger.matrix)-1].id
}

// knows says whether the message's sender knows that it was delivered.
func (c *chat) knows(d direction, id string) bool {
	if d == toBridge {
		for _, e := range c.r.phoneEvents(c.ben) {
			for _, got := range e.IDs {
				if e.Kind == "receipt" && got == id {
					return true
				}
			}
		}
		return false
	}
	for _, e := range c.r.hs.Events(c.room, "com.beeper.message_send_status") {
		if st, ok := statusOf(&e); ok && st.event == id && st.step >= delivered {
			return true
		}
	}
	return false
}

// TestF20TheStreamIsCutAtEachByteOfAnExchange, in each direction: a message goes one way, and the stream ends after so many of the bytes
// that go that way for it: the message itself, and what is said about others.
func TestF20TheStreamIsCutAtEachByteOfAnExchange(t *testing.T) {
	each(t, func(r *rig) {
		for _, d := range []direction{toBridge, toGate} {
			c := r.newChat()
			size := c.exchange(d)
			offsets := []int64{0, size / 2, size - 1}
			if all() {
				ctx, cancel := context.WithTimeout(r.t.Context(), time.Hour)
				defer cancel()
				r.ctx, offsets = ctx, nil
				for at := range size {
					offsets = append(offsets, at)
				}
			}
			played := 0
			for _, at := range offsets {
				if _, ok := c.broken(d, at, false); ok {
					played++
				}
				if len(c.ledger.phone) > 60 {
					c.check()
					c = r.newChat()
				}
			}
			c.check()
			r.t.Logf("%s: cut at %d of %d bytes", d, played, size)
			if played < len(offsets)-len(offsets)/4-1 {
				r.t.Errorf("%s: cut %d times only", d, played)
			}
		}
	})
}

// TestF21AFrameThatDoesNotAuthenticateEndsTheStreamAtOnce: whoever reads it hangs up, and nothing behind it is read.
func TestF21AFrameThatDoesNotAuthenticateEndsTheStreamAtOnce(t *testing.T) {
	each(t, func(r *rig) {
		for _, d := range []direction{toBridge, toGate} {
			c := r.newChat()
			for _, at := range []int64{3, 40} { // behind the frame's length
				o, ok := c.broken(d, at, true)
				if !ok {
					r.t.Fatalf("%s: no frame of %d bytes", d, at)
				}
				<-o.over
				// Without that it would be noticed when something is not answered, in 10 s at the earliest.
				if took := o.ended.Sub(o.at); took > 5*time.Second {
					r.t.Errorf("%s: the stream went on for %s", d, took)
				}
			}
			c.check()
		}
	})
}
