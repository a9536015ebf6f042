package faults_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// The rows of the Signal sessions, with the whole program: F-25, F-26, what F-28 leaves open, sessions that are lost.

// resent is what a message costs that has to be sent again: the other side asks for it, and it comes behind what was said since.
var resent = allowed{unreadable: true, moved: true}

// phoneDoes makes the chat's phone do one of the sandbox's things.
func (c *chat) phoneDoes(what string, in map[string]any) {
	c.r.t.Helper()
	if in == nil {
		in = map[string]any{}
	}
	in["to"] = c.r.identifier
	c.r.ok(c.r.Gatekeeper.Call(c.r.ctx, http.MethodPost, "/v1/users/"+url.PathEscape(c.ben.Phone)+"/"+what, in, nil))
}

// skip puts the phone ahead in its chain.
func (c *chat) skip(count int) { c.r.t.Helper(); c.phoneDoes("skip", map[string]any{"count": count}) }

// misbehave adds a fault on messages to alice.
func (r *rig) misbehave(kind string, count int) (id string) {
	r.t.Helper()
	f := parts.Fault{Kind: kind, Identifier: r.identifier, Match: "message", Count: count}
	if kind == "delay" {
		f.DelayMS = time.Hour.Milliseconds()
	}
	return must(r.Gatekeeper.AddFault(r.ctx, f))(r.t)
}

// change runs a statement on the dead bridge's database; there must be something that it changes.
func (r *rig) change(statement string) {
	r.t.Helper()
	if r.database == postgres {
		statement = strings.ReplaceAll(statement, "X'", "'\\x")
	}
	db := r.openDatabase()
	defer db.Close()
	result := must(db.ExecContext(r.ctx, statement))(r.t)
	if n := must(result.RowsAffected())(r.t); n == 0 {
		r.t.Fatalf("nothing to change: %s", statement)
	}
}

// killed kills the bridge and waits until the gatekeeper has noticed.
func (r *rig) killed() {
	r.t.Helper()
	r.Bridge.Kill()
	r.connected(false)
}

// onPhone waits until the phone shows a text of alice's.
func (c *chat) onPhone(text string) {
	c.r.t.Helper()
	must(c.r.Gatekeeper.Expect(c.r.ctx, c.ben.Phone, text, func(e *parts.PhoneEvent) bool { return e.Kind == "message" && e.Text == text }))(c.r.t)
}

// inRoom waits until the room shows the phone's last text.
func (c *chat) inRoom() {
	c.r.t.Helper()
	last := c.ledger.phone[len(c.ledger.phone)-1].text
	must(c.r.hs.Expect(c.r.ctx, c.room, last, func(e *homeserver.Event) bool { return e.Body() == last }))(c.r.t)
}

func TestF25MessagesThatComeOutOfOrder(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		r.misbehave("reorder", 3)
		c.fromPhone(6) // each second one comes before the first
		c.fromMatrix(2)
		c.checkBut(allowed{moved: true})
		c.fromPhone(2)
		c.checkBut(allowed{moved: true})
	})
}

// TestF25AMessageThatComesBehindManyOthers: within what a session keeps it is read; behind that its key is gone, and it is sent again.
func TestF25AMessageThatComesBehindManyOthers(t *testing.T) {
	for name, each1000 := range map[string]int{"1,998 others": 998, "2,001 others": 1_000} {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				held := r.misbehave("delay", 1)
				c.fromPhone(1)
				for range 2 {
					c.skip(each1000)
					c.fromPhone(1)
					c.inRoom()
				}
				r.ok(r.Gatekeeper.RemoveFault(r.ctx, held))
				c.fromMatrix(1)
				c.checkBut(allowed{moved: true})
				c.fromPhone(2)
				c.fromMatrix(2)
				c.checkBut(allowed{moved: true})
			})
		})
	}
}

// TestF25AMessageThatIsTooFarAheadIsSentAgain: 25,000 are missing before it. It is refused with the stored sessions untouched, and comes
// again in a new one.
func TestF25AMessageThatIsTooFarAheadIsSentAgain(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		before := r.sessions()
		c.skip(25_000)
		r.arm(killpoint.InRefused, 1)
		c.fromPhone(1)
		r.dead(killpoint.InRefused)
		if r.sessions() != before {
			r.t.Error("the stored sessions are others than before the message that was refused")
		}
		r.run()
		c.fromPhone(1)
		c.fromMatrix(1)
		c.checkBut(resent)
	})
}

// TestF26LateMessagesOfAnOldSessionAreReadAndHarmNoNewerOne: the phone writes in three sessions, one after the other, and of each of
// the older ones messages come after those of the newest. One that begins a session looks like a newer one to the bridge, and the phone, which
// has lost that session, asks for what it cannot read.
func TestF26LateMessagesOfAnOldSessionAreReadAndHarmNoNewerOne(t *testing.T) {
	rounds := 1
	if all() {
		rounds = 50
	}
	each(t, func(r *rig) {
		c := r.newChat()
		for round := range rounds {
			held := r.misbehave("delay", 4)
			c.fromPhone(2)
			c.phoneDoes("lose", nil)
			c.fromPhone(2) // begins a session, and is late as well
			c.phoneDoes("lose", nil)
			c.fromPhone(2)
			c.inRoom()
			c.fromMatrix(1)
			c.onPhone(c.matrix[len(c.matrix)-1].text)
			c.fromPhone(1)
			c.inRoom()
			if round%2 == 1 {
				r.again() // and what was held comes first again, since it was not acked
				c.fromPhone(1)
			} else {
				r.ok(r.Gatekeeper.RemoveFault(r.ctx, held))
			}
			c.fromPhone(1)
			c.fromMatrix(1)
			c.settled()
		}
		c.checkBut(resent)
		c.fromPhone(3)
		c.fromMatrix(3)
		c.checkBut(resent)
	})
}

// unreadableNotice is in what the room shows for a message that nobody could read.
const unreadableNotice = "could not be decrypted"

// TestF28WhatStaysDamagedIsAskedForFiveTimesAndThenTheRoomIsTold: every form of one message comes damaged.
func TestF28WhatStaysDamagedIsAskedForFiveTimesAndThenTheRoomIsTold(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		damaged := r.misbehave("corrupt_enc", -1)
		must(r.Gatekeeper.Say(r.ctx, c.ben.Phone, r.identifier, c.phoneText()))(r.t) // not in the ledger: it will not come
		must(r.hs.Expect(r.ctx, c.room, "the notice", func(e *homeserver.Event) bool {
			return strings.Contains(e.Body(), unreadableNotice)
		}))(r.t)
		r.ok(r.Gatekeeper.RemoveFault(r.ctx, damaged))
		c.fromPhone(2)
		c.fromMatrix(2)
		c.checkBut(allowed{refused: true})
		if n := len(r.hs.Messages(c.room, unreadableNotice)); n != 1 {
			r.t.Errorf("%d notices, want 1", n)
		}
	})
}

// TestF27AnEndThatLostItsSessionIsTalkedToInANewOne: of the bridge's end the row is gone, or damaged, or the identity's; the phone's end is gone.
// Messages are under way in both directions, in the session that one end does not know any more.
func TestF27AnEndThatLostItsSessionIsTalkedToInANewOne(t *testing.T) {
	for name, statement := range map[string]string{
		"the bridge, which has no row":           "DELETE FROM postern_signal_session",
		"the bridge, whose row is damaged":       "UPDATE postern_signal_session SET session=X'010203'",
		"the bridge, of whose identity rows too": "UPDATE postern_signal_identity SET identity=X'010203'",
		"the phone":                              "",
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				r.arm(killpoint.OutSealed, 1)
				c.fromMatrix(1) // encrypted, and not sent
				r.dead(killpoint.OutSealed)
				r.connected(false)
				c.fromPhone(2)
				if statement == "" {
					c.phoneDoes("lose", nil)
				} else {
					r.change(statement)
				}
				c.fromMatrix(2)
				r.run()
				c.fromPhone(1)
				c.checkBut(resent)
				c.fromMatrix(2)
				c.fromPhone(2)
				c.checkBut(resent)
			})
		})
	}
}

// TestBothSidesSpeakAtOnceAndEverythingIsReadable: everything is readable, and in order.
func TestBothSidesSpeakAtOnceAndEverythingIsReadable(t *testing.T) {
	count := 40
	if all() {
		count = 1_000
	}
	each(t, func(r *rig) {
		c := r.newChat()
		<-r.load([]*chat{c}, count)
		c.check()
	})
}
