package faults_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
)

// The row F-32: everything that the gatekeeper and the phones may refuse, with its code (PROTOCOL.md 4.4, 4.5 and 6.11).

// notices are what the bridge's bot has said in a room with these words in it.
func (r *rig) notices(room, words string) (n int) {
	for _, e := range r.hs.Events(room, "m.room.message") {
		if e.Sender == r.Bot && strings.Contains(e.Body(), words) {
			n++
		}
	}
	return n
}

// refusedOnce lets alice write something that is refused, and wants one failure and one notice of it in the room.
func (c *chat) refusedOnce(fault parts.Fault, words string) {
	r := c.r
	r.t.Helper()
	before := r.notices(c.room, words)
	fault.Identifier, fault.Match, fault.Count = r.identifier, "message", 1
	must(r.Gatekeeper.AddFault(r.ctx, fault))(r.t)
	text := fmt.Sprintf("refused with %d, %d", fault.Code, numbers.Add(1))
	event := must(r.alice.SendText(r.ctx, c.room, text))(r.t)
	must(r.hs.Expect(r.ctx, c.room, text+" to fail", func(e *homeserver.Event) bool {
		st, ok := statusOf(e)
		return ok && st.event == event && st.step == failed
	}))(r.t)
	c.fromMatrix(1) // the chat goes on, and what is told is told before what comes after it
	c.settled()
	r.until("the notice that "+text+" was not delivered", func() bool { return r.notices(c.room, words) > before })
	if n := r.notices(c.room, words); n != before+1 {
		r.t.Errorf("%s: %d notices", text, n-before)
	}
	fails := 0
	for _, e := range r.hs.Events(c.room, "com.beeper.message_send_status") {
		if st, ok := statusOf(&e); ok && st.event == event {
			if fails > 0 {
				r.t.Errorf("%s: told %d after it had failed", text, st.step)
			}
			if st.step == failed {
				fails++
			}
		}
	}
	if fails != 1 {
		r.t.Errorf("%s: %d failures are told", text, fails)
	}
}

// TestF32WhatIsRefusedForGoodFailsOnceWithItsReason, and neither the chat nor the stream ends.
func TestF32WhatIsRefusedForGoodFailsOnceWithItsReason(t *testing.T) {
	eachByItself(t, func(r *rig) {
		c := r.newChat()
		connections := r.wire.connections()
		for code, words := range map[int]string{
			403: "has blocked you", 404: "is not on", 463: "does not let you start this chat", 475: "more new chats", 479: "the bridge made a mistake",
			418: "the bridge made a mistake", 491: "could not read it",
		} {
			c.refusedOnce(parts.Fault{Kind: "ack_error", Code: code}, words)
		}
		for _, code := range []int{491, 495, 500} { // by the phone, after the gatekeeper has acked it
			c.refusedOnce(parts.Fault{Kind: "nack", Code: code}, "could not read it")
		}
		c.fromPhone(1)
		c.check()
		if now := r.wire.connections(); now != connections {
			r.t.Errorf("the bridge has connected %d times", now-connections)
		}
	})
}

// TestF32WhatIsRefusedForNowIsSentAgain.
func TestF32WhatIsRefusedForNowIsSentAgain(t *testing.T) {
	eachByItself(t, func(r *rig) {
		c := r.newChat()
		connections := r.wire.connections()
		for _, code := range []int{429, 500, 599} {
			must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "ack_error", Identifier: r.identifier, Match: "message", Count: 1, Code: code}))(r.t)
			c.fromMatrix(2)
			c.settled()
		}
		c.check()
		if now := r.wire.connections(); now != connections {
			r.t.Errorf("the bridge has connected %d times", now-connections)
		}
	})
}

// logsIn waits until alice is logged in for the nth time; pushes wake a bridge whose pauses have grown.
func (c *chat) logsIn(n int64) {
	r := c.r
	r.t.Helper()
	next := time.Now()
	r.until("another login", func() bool {
		p := r.partner()
		if !p.Connected && time.Now().After(next) {
			c.fromPhone(1)
			next = time.Now().Add(1100 * time.Millisecond)
		}
		return p.Connected && p.Logins >= n
	})
	if p := r.partner(); p.Logins != n {
		r.t.Errorf("%d logins, want %d", p.Logins, n)
	}
}

// TestF32AfterAFaultOfTheGatekeeperTheBridgeLogsInAgainOnce.
func TestF32AfterAFaultOfTheGatekeeperTheBridgeLogsInAgainOnce(t *testing.T) {
	eachByItself(t, func(r *rig) {
		c := r.newChat()
		for _, code := range []int{503, 515, 599} {
			logins, connections := r.partner().Logins, r.wire.connections()
			must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "stream_error", Identifier: r.identifier, Code: code}))(r.t)
			c.logsIn(logins + 1)
			if n := r.wire.connections() - connections; n != 1 {
				r.t.Errorf("stream error %d: %d connections", code, n)
			}
			c.fromMatrix(1)
		}
		// At the login: theirs, and a token that is refused once.
		for _, code := range []int{503, 500, 413, 414} {
			logins, connections := r.partner().Logins, r.wire.connections()
			must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "failure", Identifier: r.identifier, Code: code}))(r.t)
			must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "cut", Identifier: r.identifier}))(r.t)
			c.logsIn(logins + 1)
			if n := r.wire.connections() - connections; n != 2 {
				r.t.Errorf("failure %d: %d connections, want 2", code, n)
			}
			c.fromMatrix(1)
		}
		c.check()
	})
}

// keepsAway has something happen after which the bridge is not to connect any more by itself, though it is pushed, and wants it told once. A
// start of the process is a person's doing, and connects again.
func (c *chat) keepsAway(name, words string, attempts int, happen func()) {
	r := c.r
	r.t.Helper()
	connections, before := r.wire.connections(), r.notices(r.management, words)
	happen()
	r.until(name+": the last attempt", func() bool { return r.wire.connections() >= connections+attempts && !r.partner().Connected })
	if words != "" {
		r.until(name+": the person to be told", func() bool { return r.notices(r.management, words) > before })
	}
	pushes := r.pushes()
	r.until(name+": a push", func() bool { // one in a second at most
		c.fromPhone(1)
		return r.pushes() > pushes
	})
	c.logsInAfterRestart(name, connections+attempts)
	if n := r.notices(r.management, words) - before; words != "" && n != 1 {
		r.t.Errorf("%s: told %d times", name, n)
	}
}

func (c *chat) logsInAfterRestart(name string, connections int) {
	r := c.r
	r.t.Helper()
	if n := r.wire.connections(); n != connections {
		r.t.Errorf("%s: %d connections, want %d", name, n, connections)
	}
	logins := r.partner().Logins
	r.ok(r.Bridge.Stop())
	r.ok(r.Bridge.Start(r.ctx))
	c.logsIn(logins + 1)
	c.fromMatrix(1)
	c.check()
}

// pushes is how many pushes were taken.
func (r *rig) pushes() (n int) {
	r.t.Helper()
	var out struct {
		Pushes []struct {
			Status int `json:"status"`
		} `json:"pushes"`
	}
	r.ok(r.Gatekeeper.Call(r.ctx, http.MethodGet, "/v1/pushes", nil, &out))
	for _, p := range out.Pushes {
		if p.Status/100 == 2 {
			n++
		}
	}
	return n
}

// TestF32WhoIsToKeepAwayDoes: nothing that ends an account's stream for good, or for long, leads to a loop, and the person is told once.
func TestF32WhoIsToKeepAwayDoes(t *testing.T) {
	for _, database := range []string{sqlite, postgres} {
		t.Run(database, func(t *testing.T) {
			r := alone(t, database, 2*bound, nil)
			c := r.newChat()
			add := func(f parts.Fault) func() {
				return func() {
					f.Identifier = r.identifier
					must(r.Gatekeeper.AddFault(r.ctx, f))(r.t)
					if f.Kind == "failure" {
						must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "cut", Identifier: r.identifier}))(r.t)
					}
				}
			}
			c.keepsAway("replaced", "Another bridge is logged in", 0, add(parts.Fault{Kind: "stream_error", Reason: "replaced"}))
			c.keepsAway("429", "", 0, add(parts.Fault{Kind: "stream_error", Code: 429}))
			codes := []int{403}
			if all() {
				codes = []int{400, 403, 405, 406, 409}
			}
			for _, code := range codes {
				c.keepsAway(fmt.Sprint("failure ", code), "refuses this login", 1, add(parts.Fault{Kind: "failure", Code: code}))
			}
			c.keepsAway("two tokens refused", "refuses this login", 2, add(parts.Fault{Kind: "failure", Code: 413, Count: 2}))
			c.keepsAway("banned", "", 1, add(parts.Fault{Kind: "failure", Code: 402, Expire: 3600}))
			// (The framework tells of a ban, as of everything that passes by itself, when it has lasted for three minutes.)
			// Forgotten: it enlists again by itself, once a day.
			logins := r.partner().Logins
			unenlist := func() {
				r.ok(r.Gatekeeper.Call(r.ctx, http.MethodPost, "/v1/partners/unenlist", map[string]any{"to": r.identifier}, nil))
			}
			unenlist()
			r.until("a second enlistment", func() bool { p := r.partner(); return p.Connected && p.Logins > logins })
			c.fromMatrix(1)
			c.fromPhone(1)
			c.check()
			connections, before := r.wire.connections(), r.notices(r.management, "does not know this login")
			unenlist()
			r.until("the person to be told", func() bool { return r.notices(r.management, "does not know this login") > before })
			r.ok(r.Bridge.Stop())
			r.ok(r.Bridge.Start(r.ctx))
			r.until("the attempt after a restart", func() bool { return r.wire.connections() == connections+1 })
			if p := r.partner(); p.Connected {
				r.t.Error("enlisted again though that was done today")
			}
		})
	}
}
