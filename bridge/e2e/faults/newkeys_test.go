package faults_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"postern/connector/killpoint"
)

// The rows of new keys and of prekeys, with the whole program: F-29, F-30, F-31.

// keyNotice is in what the room shows when the other person's key has changed.
const keyNotice = "encryption key has changed"

// keyNotices fails unless the room has as many notices of new keys.
func (c *chat) keyNotices(want int) {
	c.r.t.Helper()
	if n := len(c.r.hs.Messages(c.room, keyNotice)); n != want {
		c.r.t.Errorf("%d notices of new keys, want %d", n, want)
	}
}

func (c *chat) reinstall(silent bool) {
	c.r.t.Helper()
	path := "/v1/users/" + url.PathEscape(c.ben.Phone) + "/reinstall"
	c.r.ok(c.r.Gatekeeper.Call(c.r.ctx, http.MethodPost, path, map[string]any{"silent": silent}, nil))
}

// TestF29ANewPhoneGetsWhatIsUnderWayAndTheRoomIsToldOnce: a message each way is under way, encrypted with the old keys; the bridge is killed
// where it learns of the new ones.
func TestF29ANewPhoneGetsWhatIsUnderWayAndTheRoomIsToldOnce(t *testing.T) {
	for _, silent := range []bool{false, true} {
		points := []string{"", killpoint.KeysBegun, killpoint.InStored, killpoint.OutResealed}
		if silent && !all() {
			points = points[:2]
		}
		for _, point := range points {
			t.Run(fmt.Sprintf("silent: %t, killed at %q", silent, point), func(t *testing.T) {
				each(t, func(r *rig) { r.newPhone(silent, point) })
			})
		}
	}
	t.Run("killed when the old session is ended", func(t *testing.T) {
		each(t, func(r *rig) { r.newPhone(false, killpoint.KeysEnded) })
	})
}

func (r *rig) newPhone(silent bool, point string) {
	r.t.Helper()
	c := r.newChat()
	r.arm(killpoint.OutSealed, 1)
	c.fromMatrix(1)
	r.dead(killpoint.OutSealed)
	r.connected(false)
	c.fromPhone(1)
	c.reinstall(silent)
	if point != "" {
		r.arm(point, 1)
		r.ok(r.Bridge.Launch())
		if point == killpoint.KeysBegun && silent {
			r.connected(true) // the answer to the new phone begins the session
		}
		if point == killpoint.InStored {
			c.fromPhone(1)
		}
		r.dead(point)
	}
	r.run()
	c.fromPhone(1)
	c.fromMatrix(1)
	c.checkBut(resent)
	c.fromMatrix(2)
	c.fromPhone(2)
	c.checkBut(resent)
	c.keyNotices(1)
}

// TestF29ManyNewPhonesInARow: each one is talked to and told of, and what is kept of the old ones stays bounded.
func TestF29ManyNewPhonesInARow(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		const phones = 10
		for i := range phones {
			c.reinstall(i%2 == 0)
			c.fromMatrix(1)
			c.fromPhone(1)
			c.settled()
		}
		c.checkBut(resent)
		c.keyNotices(phones)
	})
}

// prekeys waits until the gatekeeper has as many of alice's one-time prekeys.
func (r *rig) prekeys(want int) {
	r.t.Helper()
	have := -1
	r.until(fmt.Sprintf("%d prekeys at the gatekeeper", want), func() bool {
		for _, p := range must(r.Gatekeeper.Partners(r.ctx))(r.t) {
			if p.Identifier == r.identifier {
				have = p.Prekeys
			}
		}
		return have == want
	})
}

// drain throws all of alice's one-time prekeys but some away.
func (r *rig) drain(keep int) {
	r.t.Helper()
	r.ok(r.Gatekeeper.Call(r.ctx, "POST", "/v1/partners/prekeys", map[string]any{"to": r.identifier, "keep": keep}, nil))
}

// restock has the bridge, started anew, fill the gatekeeper's stock from nothing.
func (r *rig) restock() {
	r.t.Helper()
	r.killed()
	r.drain(0)
	r.run()
	r.prekeys(200)
}

// drains are what may happen to alice's prekeys while the bridge is dead.
var drains = map[string]struct {
	drain     bool
	statement string
	but       allowed
}{
	"used up":                                {drain: true},
	"not known any more":                     {statement: "DELETE FROM postern_signal_prekey", but: resent},
	"damaged":                                {statement: "UPDATE postern_signal_prekey SET record=X'010203'", but: resent},
	"used up, and the signed one is damaged": {drain: true, statement: "UPDATE postern_signal_signed_prekey SET record=X'010203'", but: resent},
	"used up, and those never offered are damaged": {drain: true, statement: "UPDATE postern_signal_prekey SET record=X'010203', uploaded=false"},
	"used up, and the signed one is old":           {drain: true, statement: "UPDATE postern_signal_signed_prekey SET created_at=created_at-700000000"},
}

// TestF30WhateverHappensToThePrekeysTheFirstMessageOfASessionArrives: a phone begins a session with what the gatekeeper has handed out. The
// bridge cannot use it, or can no longer; the message comes all the same, and the stock is whole again.
func TestF30WhateverHappensToThePrekeysTheFirstMessageOfASessionArrives(t *testing.T) {
	for name, d := range drains {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				r.restock()
				r.killed()
				if d.drain {
					r.drain(0)
				}
				if d.statement != "" {
					r.change(d.statement)
				}
				c.phoneDoes("lose", nil)
				c.fromPhone(2)
				r.run()
				c.inRoom() // or hers would go in the session that the phone has lost
				c.fromMatrix(1)
				if d.drain {
					r.prekeys(200)
				}
				c.checkBut(d.but)
				// And who comes now finds prekeys that work, once those are gone that the bridge does not have.
				if d.but.unreadable {
					r.restock()
				}
				c.phoneDoes("lose", nil)
				c.fromPhone(1)
				c.inRoom()
				c.fromMatrix(1)
				c.checkBut(d.but)
			})
		})
	}
}

// TestF30ASignedPrekeyIsRotatedWhileAMessageUnderItIsUnderWay: the message was encrypted with the old one and comes when the new one stands.
func TestF30ASignedPrekeyIsRotatedWhileAMessageUnderItIsUnderWay(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		r.killed()
		r.change("UPDATE postern_signal_signed_prekey SET created_at=created_at-700000000") // eight days
		c.phoneDoes("lose", nil)
		c.fromPhone(1)
		r.misbehave("drop", 1)
		// Hers: whoever else is logged in here rotates too.
		const signed = "SELECT COUNT(*) FROM postern_signal_signed_prekey WHERE account_id IN (SELECT id FROM postern_account WHERE mxid LIKE '@alice:%')"
		before := r.count(signed)
		r.run()
		r.until("the rotation", func() bool { return r.count(signed) > before })
		r.again() // what was dropped comes with the next stream
		c.fromMatrix(1)
		c.fromPhone(1)
		c.check()
	})
}

// TestF30ADrainWhileTheStreamIsUpIsRefilledAfterAWhile: the gatekeeper tells that few are left, and the refill comes within its delay.
func TestF30ADrainWhileTheStreamIsUpIsRefilledAfterAWhile(t *testing.T) {
	if !all() {
		t.Log("the delay is up to half a minute: with POSTERN_ALL=1")
		return
	}
	each(t, func(r *rig) {
		c := r.newChat()
		r.drain(3)
		r.prekeys(200)
		c.phoneDoes("lose", nil)
		c.fromPhone(1)
		c.fromMatrix(1)
		c.check()
	})
}

// TestF31AMessageIsSentAgainThoughTheBridgeIsKilledBetweenRequestAndAnswer: the phone has lost its session, and asks.
func TestF31AMessageIsSentAgainThoughTheBridgeIsKilledBetweenRequestAndAnswer(t *testing.T) {
	for _, point := range []string{killpoint.OutWritten, killpoint.OutAsked, killpoint.OutResealing, killpoint.OutResealed} {
		t.Run(point, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				c.phoneDoes("lose", nil)
				r.arm(point, 1)
				c.fromMatrix(2)
				r.dead(point)
				r.run()
				c.fromMatrix(1)
				c.checkBut(resent)
				c.fromMatrix(1)
				c.fromPhone(1)
				c.checkBut(resent)
			})
		})
	}
}

// TestF31AMessageIsAskedForThoughTheBridgeIsKilledBeforeItsRequest is the other direction.
func TestF31AMessageIsAskedForThoughTheBridgeIsKilledBeforeItsRequest(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		r.misbehave("corrupt_enc", 2)
		r.arm(killpoint.InWaiting, 1)
		c.fromPhone(3)
		r.dead(killpoint.InWaiting)
		r.run()
		c.fromPhone(1)
		c.fromMatrix(1)
		c.checkBut(resent)
	})
}
