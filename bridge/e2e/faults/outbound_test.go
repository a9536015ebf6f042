package faults_test

import (
	"testing"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// The rows F-09 to F-15: a message of alice's, and the bridge killed on its way to the phone.

// diesOutbound lets alice write while the bridge is to die at a point, and compares. before, if not nil, looks at the world while the
// bridge is dead.
func (r *rig) diesOutbound(point string, before func(c *chat)) {
	r.t.Helper()
	c := r.newChat()
	r.ok(r.hs.Pushed(r.ctx))
	r.arm(point, 1)
	c.fromMatrix(3)
	r.dead(point)
	c.fromPhone(1)
	c.fromMatrix(1)
	if before != nil {
		before(c)
	}
	r.run()
	c.fromPhone(1)
	c.fromMatrix(1)
	c.check()
}

// unseen fails if the phone has more of what alice wrote than what was there before the kill.
func unseen(c *chat) {
	c.r.t.Helper()
	n := 0
	for _, e := range c.r.phoneEvents(c.ben) {
		if e.Kind == "message" {
			n++
		}
	}
	if n != 1 {
		c.r.t.Errorf("the phone has %d messages, want 1: something was sent before it was stored", n)
	}
}

// mute makes the homeserver tell nothing new to who asks it what has happened, until the function is called. Then the bridge has
// what was pushed to it and nothing else.
func (r *rig) mute() (end func()) {
	return r.hs.AddFault(homeserver.Fault{
		Method: "GET", Path: "/sync", Users: func(id string) bool { return id == r.Bot },
		Status: 200, Kind: "application/json", Body: `{"next_batch":"s0_0","rooms":{}}`,
	})
}

// pushedOnly plays a row twice: as it is, and with a homeserver that tells nothing but what it pushes. Only then is it looked at what was
// sent before the kill: a bridge that happens to ask at this moment may have stored and sent the same message that way.
func pushedOnly(t *testing.T, point string, before func(c *chat)) {
	each(t, func(r *rig) { r.diesOutbound(point, nil) })
	t.Run("from what was pushed alone", func(t *testing.T) {
		each(t, func(r *rig) {
			defer r.mute()()
			r.diesOutbound(point, before)
		})
	})
}

func TestF09KilledBeforeTheJournalTheHomeserverRepeats(t *testing.T) {
	pushedOnly(t, killpoint.OutTaken, unseen)
}

func TestF10KilledWhileJournallingAllOrNothing(t *testing.T) {
	pushedOnly(t, killpoint.OutJournalling, unseen)
}

func TestF11KilledBetweenTheJournalsCommitAndTheAnswer(t *testing.T) {
	pushedOnly(t, killpoint.OutJournalled, unseen)
}

// forgetsPushes is a homeserver that was killed too: what it has noted as handed over it does not hand over again.
func forgetsPushes(c *chat) { c.r.hs.LosePushes() }

func TestF12KilledAfterTheAnswerBeforeEncrypting(t *testing.T) {
	t.Run(killpoint.OutAnswered, func(t *testing.T) { pushedOnly(t, killpoint.OutAnswered, nil) })
	for _, point := range []string{killpoint.OutHanded, killpoint.OutQueueing, killpoint.OutQueued} {
		t.Run(point, func(t *testing.T) { pushedOnly(t, point, unseen) })
	}
	t.Run("and the homeserver forgets what it has not pushed", func(t *testing.T) {
		each(t, func(r *rig) { r.diesOutbound(killpoint.OutAnswered, forgetsPushes) })
	})
}

// oneSided is diesOutbound with a phone that keeps silent, so that all of alice's messages are in one chain of the ratchet: a key that
// is used twice, or a counter, is not covered up by the next chain.
func (r *rig) oneSided(point string) {
	r.t.Helper()
	c := r.newChat()
	c.fromMatrix(2)
	c.settled()
	r.arm(point, 1)
	c.fromMatrix(3)
	r.dead(point)
	r.run()
	c.fromMatrix(2)
	c.check()
}

func TestF13KilledWhileStoringTheStanzaAllOrNothing(t *testing.T) {
	each(t, func(r *rig) { r.diesOutbound(killpoint.OutSealing, unseen) })
	t.Run("in one chain", func(t *testing.T) { each(t, func(r *rig) { r.oneSided(killpoint.OutSealing) }) })
}

func TestF14KilledBetweenCommitAndWriteTheSameBytesGoOut(t *testing.T) {
	each(t, func(r *rig) { r.diesOutbound(killpoint.OutSealed, unseen) })
	t.Run("in one chain", func(t *testing.T) { each(t, func(r *rig) { r.oneSided(killpoint.OutSealed) }) })
}

func TestF15KilledBeforeTheServersAckIsNoted(t *testing.T) {
	for _, point := range []string{killpoint.OutWritten, killpoint.OutAck, killpoint.OutSent, killpoint.OutReceipt} {
		t.Run(point, func(t *testing.T) { each(t, func(r *rig) { r.diesOutbound(point, nil) }) })
	}
	t.Run("the ack never came", func(t *testing.T) {
		each(t, func(r *rig) {
			c := r.newChat()
			r.ok(r.hs.Pushed(r.ctx))
			must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "no_ack", Identifier: r.identifier, Match: "message", Count: 1}))(r.t)
			r.arm(killpoint.OutReceipt, 1) // the phone's receipt is there, the ack is not
			c.fromMatrix(2)
			r.dead(killpoint.OutReceipt)
			r.run()
			c.fromMatrix(1)
			c.check()
		})
	})
}

// TestF15WhatThePhoneHasGoesOutAgainAsTheSameBytes: neither the ack nor the phone's receipt comes before the kill, so the bridge cannot
// know that the stanza has arrived. The gatekeeper complains about a second encryption.
func TestF15WhatThePhoneHasGoesOutAgainAsTheSameBytes(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "no_ack", Identifier: r.identifier, Match: "message", Count: 1}))(r.t)
		must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "drop", Identifier: r.identifier, Match: "receipt", Count: 2}))(r.t)
		c.fromMatrix(1)
		last := c.matrix[len(c.matrix)-1]
		must(r.Gatekeeper.Expect(r.ctx, c.ben.Phone, last.text, func(e *parts.PhoneEvent) bool { return e.Kind == "message" && e.Text == last.text }))(r.t)
		r.again()
		must(r.hs.Expect(r.ctx, c.room, "the message to be sent", func(e *homeserver.Event) bool {
			st, ok := statusOf(e)
			return ok && st.event == last.id && st.step >= sent
		}))(r.t)
		r.again() // with it comes the receipt
		c.fromMatrix(1)
		c.check()
	})
}

// TestF15AStateIsToldOnce: killed after Matrix was told of a state and before that was noted, with a homeserver that knows the
// transaction id of the first time, and with one that does not. The phone's receipt is dropped on its way, so that "sent" is still
// the state after the kill.
func TestF15AStateIsToldOnce(t *testing.T) {
	for name, before := range map[string]func(c *chat){"the homeserver remembers": func(*chat) {}, "the homeserver has forgotten": forgets} {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "drop", Identifier: r.identifier, Match: "receipt", Count: 1}))(r.t)
				r.arm(killpoint.OutTold, 1)
				c.fromMatrix(1)
				r.dead(killpoint.OutTold)
				before(c)
				r.run()
				c.fromMatrix(1)
				r.until("a receipt to be dropped", func() bool { return len(must(r.faultsLeft(r.ctx))(r.t)) == 0 })
				r.again() // it may have been dropped after the kill only, and comes again at the next login
				c.check()
			})
		})
	}
}

// TestF06KilledWhileTheHomeserverStores: it has the event and its answer never comes, or it never got the request.
func TestF06KilledWhileTheHomeserverStores(t *testing.T) {
	const place = "/send/m.room.message/"
	kinds := map[string]struct {
		fault  homeserver.Fault
		before func(c *chat)
	}{
		"stored, and remembered":  {homeserver.Fault{Cut: true}, nil},
		"stored, and forgotten":   {homeserver.Fault{Cut: true}, forgets},
		"the request was refused": {homeserver.Fault{Status: 500, Cut: true}, nil},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				f := kind.fault
				f.Method, f.Path, f.Count, f.Between = "PUT", place, 1, r.Bridge.Kill
				f.Users = func(id string) bool { return id != r.alice.UserID }
				r.hs.AddFault(f)
				c.fromPhone(3)
				<-r.Bridge.Done()
				if kind.before != nil {
					kind.before(c)
				}
				r.run()
				c.fromPhone(1)
				c.fromMatrix(1)
				c.check()
			})
		})
	}
}
