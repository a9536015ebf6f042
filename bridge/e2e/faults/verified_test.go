package faults_test

import (
	"strings"
	"testing"

	"postern/bridge/e2e/faults/homeserver"
	"postern/connector/killpoint"
)

// F-29 for somebody whose safety number was confirmed, with the whole program. These words are in what the room says of it.
const (
	confirmedNotice = "You have confirmed the safety number"
	heldKeyNotice   = "and you had confirmed their safety number"
	heldNotice      = "This waits, because"
)

// confirm has alice look at a chat's safety number, which is that of the phone, and confirm it. The bridge dies at that point on the way, if
// it is one.
func (c *chat) confirm(point string) {
	r := c.r
	r.t.Helper()
	before := len(r.hs.Messages(c.room, confirmedNotice))
	must(r.alice.SendText(r.ctx, c.room, "!postern verify"))(r.t)
	number := must(r.Gatekeeper.Safety(r.ctx, c.ben.Phone, r.identifier))(r.t).Number
	must(r.hs.Expect(r.ctx, c.room, "the safety number", func(e *homeserver.Event) bool {
		return e.Sender == r.Bot && strings.Contains(strings.Join(strings.Fields(e.Body()), ""), number)
	}))(r.t)
	must(r.hs.Expect(r.ctx, c.room, "the QR code", func(e *homeserver.Event) bool {
		return e.Sender == r.Bot && strings.Contains(string(e.Content), `"m.image"`)
	}))(r.t)
	c.command(point, c.room, "!postern verify confirm")
	r.soon("the confirmation", func() bool { return len(r.hs.Messages(c.room, confirmedNotice)) == before+1 })
}

// TestF29AConfirmedContactsNewPhoneGetsNothingBeforeItIsConfirmed: the bridge is killed where it learns of the new key, between that and the
// confirmation, and when that is on disk.
func TestF29AConfirmedContactsNewPhoneGetsNothingBeforeItIsConfirmed(t *testing.T) {
	for name, f := range map[string]struct {
		silent, underWay   bool
		learning, settling string
	}{
		"told":                              {},
		"told, killed when the key is new":  {learning: killpoint.KeysBegun},
		"not told, killed when it is new":   {silent: true, learning: killpoint.InStored},
		"killed when it is confirmed":       {settling: killpoint.SafetySettled},
		"not told, with a message underway": {silent: true, underWay: true},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) { r.confirmedContact(f.silent, f.underWay, f.learning, f.settling) })
		})
	}
}

func (r *rig) confirmedContact(silent, underWay bool, learning, settling string) {
	r.t.Helper()
	c := r.newChat()
	c.confirm("")
	c.fromMatrix(1)
	c.settled()
	but := allowed{}
	if underWay {
		but = resent
		r.arm(killpoint.OutSealed, 1)
		c.fromMatrix(1)
		r.dead(killpoint.OutSealed)
		r.connected(false)
	}
	if learning != "" {
		r.arm(learning, 1)
	}
	c.reinstall(silent)
	if silent {
		c.fromPhone(1)
	}
	if learning != "" {
		r.dead(learning)
	}
	r.run()
	r.botSays(c.room, heldKeyNotice)
	known := len(r.phoneEvents(c.ben))
	c.fromMatrix(2)
	r.botSays(c.room, heldNotice)
	r.killed()
	r.run()
	r.connected(true)
	c.fromMatrix(1)
	c.fromPhone(1)
	c.inRoom()
	r.newChat().check() // nobody else is held up
	for _, e := range r.phoneEvents(c.ben)[known:] {
		if e.Kind == "message" || e.Kind == "undecryptable" && !underWay {
			r.t.Errorf("before the new key is confirmed the phone gets a %s", e.Kind)
		}
	}
	c.confirm(settling)
	c.fromMatrix(1)
	c.checkBut(but)
	c.fromPhone(1)
	c.checkBut(but)
	for notice, want := range map[string]int{heldKeyNotice: 1, heldNotice: 1, confirmedNotice: 2} {
		if n := len(r.hs.Messages(c.room, notice)); n != want {
			r.t.Errorf("the room says %d times, want %d: %s", n, want, notice)
		}
	}
}
