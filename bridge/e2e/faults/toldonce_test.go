package faults_test

import (
	"encoding/json"
	"strings"
	"testing"

	"postern/bridge/parts"
	"postern/connector/admin"
)

// What keeps somebody from being connected until they do something, and what the operator has to know, is told once.

// reads are the bot's messages about the state of this person's login with these words; answers to commands are none.
func (n *newcomer) reads(words string) (count int) {
	for _, e := range n.said(words) {
		if strings.HasPrefix(strings.NewReplacer("*", "", `\`, "").Replace(e.Message().Body), n.name) {
			count++
		}
	}
	return count
}

// comesTo waits until this person's login is in a state, as the operator sees it.
func (n *newcomer) comesTo(state string) {
	n.r.t.Helper()
	n.r.until("the state "+state, func() bool {
		said, _ := n.r.postern(0, "admin", "user", n.UserID, "--json")
		var answer admin.Answer
		n.r.ok(json.Unmarshal([]byte(said), &answer))
		return len(answer.Users) == 1 && answer.Users[0].State == state
	})
}

// toldOnce waits until this person has read something about their login for the nth time, and restarts and kills the bridge, in which nothing changes.
func (n *newcomer) toldOnce(nth int, words, state string) {
	r := n.r
	r.t.Helper()
	r.until("the person to be told: "+words, func() bool { return n.reads(words) >= nth })
	for _, end := range []func(){func() { r.ok(r.Bridge.Stop()) }, r.Bridge.Kill} {
		end()
		r.run()
		n.comesTo(state)
		before := len(n.said("forgets logins"))
		must(n.SendText(r.ctx, n.room, "status"))(r.t) // is answered behind what was told before
		r.until("the answer to a command", func() bool { return len(n.said("forgets logins")) > before })
	}
	if count := n.reads(words); count != nth {
		r.t.Errorf("%q was told %d times, want %d", words, count, nth)
	}
}

// TestWhoIsLoggedOutOrUnEnlistedIsToldOnceWithWhatToDoAlsoOverRestarts: by the gatekeeper, or since another bridge has taken over. After they were connected
// again, the same is news again.
func TestWhoIsLoggedOutOrUnEnlistedIsToldOnceWithWhatToDoAlsoOverRestarts(t *testing.T) {
	each(t, func(r *rig) {
		n := r.newcomer()
		forget := func() {
			r.ok(r.Gatekeeper.Call(r.ctx, "POST", "/v1/partners/unenlist", map[string]any{"to": n.name}, nil))
		}
		n.logIn()
		r.until("the account to be connected", n.connected)
		logins := n.partners()[0].Logins
		forget() // the first time it is enlisted again by itself
		r.until("the account to be enlisted again", func() bool { return n.connected() && n.partners()[0].Logins > logins })
		for nth := 1; nth <= 2; nth++ {
			forget()
			n.toldOnce(nth, "please log in again: your chats go on in the same rooms", "not_enlisted")
			n.logIn()
			r.until("the account to be connected", n.connected)
			n.comesTo("live")
		}

		refusal := must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "failure", Identifier: n.name, Code: 403, Count: -1}))(r.t)
		must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "cut", Identifier: n.name}))(r.t)
		n.toldOnce(1, "refuses this login. please tell whoever runs the bridge", "refused")
		r.ok(r.Gatekeeper.RemoveFault(r.ctx, refusal))
		r.ok(r.Bridge.Stop())
		r.run()
		n.comesTo("live")

		// Another bridge has taken over: a start takes back.
		must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "stream_error", Identifier: n.name, Reason: "replaced"}))(r.t)
		n.comesTo("replaced")
		n.toldOnce(1, "log in again to take over", "live")
		r.checkComplaints()
		r.checkLog()
	})
}

// TestADrainOfPrekeysIsToldToTheOperatorOnceWhileItGoesOn, over restarts too: somebody takes them from the gatekeeper and writes nothing.
func TestADrainOfPrekeysIsToldToTheOperatorOnceWhileItGoesOn(t *testing.T) {
	onOwn(t, func(r *rig) {
		boss := must(parts.NewPerson(r.ctx, r.Homeserver, "admin", "password-of-admin"))(r.t)
		r.t.Cleanup(boss.Close)
		r.prekeys(200)
		r.drain(3)
		invite := must(boss.ExpectInvite(r.ctx, "the operator's room", func(i parts.Invite) bool { return i.Shows("Postern: for the operator") }))(r.t)
		r.ok(boss.Join(r.ctx, invite.Room))
		said := func(words string) []parts.Event {
			return boss.Seen(func(e *parts.Event) bool {
				return e.RoomID == invite.Room && e.Sender == r.Bot && strings.Contains(e.Message().Body, words)
			})
		}
		const told = "one-time keys somebody takes at the gatekeeper without writing to them: 1"
		r.until("the operator to be told", func() bool { return len(said(told)) > 0 })

		r.killed()
		r.run()
		r.prekeys(200)
		from := r.logSize()
		r.drain(3)
		r.until("another drain to be noticed", func() bool { return r.loggedOfHers(from, "handed out without a message to us") > 0 })
		r.postern(0, "admin", "maintenance", "on") // is told after it
		r.until("other news", func() bool { return len(said("Maintenance has begun")) > 0 })
		if n := len(said("one-time keys")); n != 1 {
			r.t.Errorf("the operator is told %d times", n)
		}
		r.postern(0, "admin", "maintenance", "off")
		c := r.newChat() // first messages arrive all the same
		c.check()
	})
}

// onOwn plays a test on both databases, each in a world of its own.
func onOwn(t *testing.T, play func(r *rig)) { withProgram(t, armed, play) }
