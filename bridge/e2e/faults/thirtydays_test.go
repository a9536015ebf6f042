package faults_test

import (
	"fmt"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
)

// The 30 days after which the gatekeeper forgets who does not connect, with the whole program.

// forgotten makes the gatekeeper forget somebody.
func (d *resident) forgotten() {
	d.r.t.Helper()
	d.r.ok(d.r.Gatekeeper.Call(d.r.ctx, "POST", "/v1/partners/unenlist", map[string]any{"to": d.name}, nil))
}

// goesOn fails unless what the phone says is in the room of old, and there is no other.
func (d *resident) goesOn(text string) {
	r := d.r
	r.t.Helper()
	r.until("the account to be connected", d.connected)
	must(r.Gatekeeper.Say(r.ctx, d.ben.Phone, d.name, text))(r.t)
	must(r.hs.Expect(r.ctx, d.chat, "the phone's text", func(e *homeserver.Event) bool { return e.Body() == text }))(r.t)
	if rooms := d.rooms(func(kind string, bridged bool) bool { return kind == "" && bridged }); len(rooms) != 1 {
		r.t.Errorf("there are %d rooms of the chat, want one", len(rooms))
	}
	must(d.SendText(r.ctx, d.chat, text+" back"))(r.t)
	must(r.Gatekeeper.Expect(r.ctx, d.ben.Phone, "an answer", func(e *parts.PhoneEvent) bool { return e.Text == text+" back" }))(r.t)
}

// TestForgottenAfter30DaysSomebodyIsEnlistedAgainOnceAndComesBackWithOneCommand: they are told each time, and their chats go on in the rooms
// that they have.
func TestForgottenAfter30DaysSomebodyIsEnlistedAgainOnceAndComesBackWithOneCommand(t *testing.T) {
	each(t, func(r *rig) {
		d := r.resident()
		logins := d.partners()[0].Logins
		d.forgotten()
		r.until("the account to be enlisted again", func() bool { return d.connected() && d.partners()[0].Logins > logins })
		r.until("the person to be told", func() bool { return len(d.said("has enlisted you again")) > 0 })
		d.goesOn("kanarienvogel again")
		r.killed()
		r.run()
		d.goesOn("kanarienvogel after a restart")
		if n := len(d.said("has enlisted you again")); n != 1 {
			r.t.Errorf("the person was told %d times", n)
		}
		d.forgotten() // on the same day: this time it needs the person
		r.until("the person to be asked", func() bool { return len(d.said("please log in again")) > 0 })
		d.logIn()
		d.goesOn("kanarienvogel at last")
		r.checkComplaints()
		r.checkLog()
	})
}

// TestForgottenSoonSomebodyIsWarnedOnce: the bridge has not been able to connect for more than 25 days.
func TestForgottenSoonSomebodyIsWarnedOnce(t *testing.T) {
	each(t, func(r *rig) {
		d := r.resident()
		r.killed()
		last := time.Now().Add(-26 * 24 * time.Hour)
		r.change(fmt.Sprintf("UPDATE postern_account SET enlisted_at=%d, last_connected=%d WHERE id='%s'", last.UnixMilli()-1, last.UnixMilli(), d.account))
		fault := must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "failure", Identifier: d.name, Code: 503, Count: -1}))(r.t)
		r.run()
		day := last.Add(30 * 24 * time.Hour).UTC().Format(time.DateOnly)
		r.until("the warning", func() bool { return len(d.said("on "+day)) > 0 })
		before := d.partners()[0].Logins
		r.Bridge.Kill()
		r.run()
		r.ok(r.Gatekeeper.RemoveFault(r.ctx, fault))
		d.goesOn("kanarienvogel in time")
		if n := len(d.said("on " + day)); n != 1 {
			r.t.Errorf("the person was warned %d times (%d logins before)", n, before)
		}
	})
}
