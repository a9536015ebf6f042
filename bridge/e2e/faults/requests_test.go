package faults_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// First contacts that alice is asked about: nothing is told to the phone before she accepts, whatever happens to the bridge meanwhile.

// stranger is a phone that alice has never written to.
func (r *rig) stranger() parts.Phone {
	r.t.Helper()
	n := numbers.Add(1)
	number := fmt.Sprintf("+4915233%06d", 100_000+n)
	return must(r.Gatekeeper.AddUser(r.ctx, parts.Phone{Phone: number, Name: fmt.Sprintf("Stranger %d", n), OptedIn: true}))(r.t)
}

// policy lets alice choose what becomes of strangers, and takes it back in the end.
func (r *rig) policy(policy string) {
	r.t.Helper()
	r.command("requests "+policy, map[string]string{"ask": "you decide", "accept": "gets a chat", "refuse": "is refused"}[policy])
}

// command types something in the management room and waits for an answer with these words.
func (r *rig) command(text, answer string) parts.Event {
	r.t.Helper()
	said := func() []parts.Event {
		return r.alice.Seen(func(e *parts.Event) bool {
			return e.RoomID == r.management && e.Sender == r.Bot && strings.Contains(e.Message().Body, answer)
		})
	}
	before := len(said())
	must(r.alice.SendText(r.ctx, r.management, text))(r.t)
	r.until("the answer to "+text, func() bool { return len(said()) > before })
	list := said()
	return list[len(list)-1]
}

// receipts are the receipts on a phone, of any type.
func (r *rig) receipts(phone parts.Phone) int {
	r.t.Helper()
	events := must(r.Gatekeeper.Events(r.ctx, phone.Phone, 0, 0))(r.t)
	n := 0
	for _, e := range events {
		if e.Kind == "receipt" {
			n++
		}
	}
	return n
}

// request waits for the room in which a stranger asks, and goes there.
func (r *rig) request(who parts.Phone) string {
	r.t.Helper()
	invite := must(r.alice.ExpectInvite(r.ctx, "the request", func(i parts.Invite) bool { return !i.Space && i.Shows(who.Name) }))(r.t)
	r.ok(r.alice.Join(r.ctx, invite.Room))
	return invite.Room
}

func (r *rig) shows(room, text string) {
	r.t.Helper()
	must(r.alice.Expect(r.ctx, text, func(e *parts.Event) bool { return e.RoomID == room && e.Message().Body == text }))(r.t)
}

func (r *rig) receipted(who parts.Phone, id string) {
	r.t.Helper()
	must(r.Gatekeeper.Expect(r.ctx, who.Phone, "the delivery receipt", func(e *parts.PhoneEvent) bool {
		return e.Kind == "receipt" && e.Type == "delivery" && strings.Contains(strings.Join(e.IDs, " "), id)
	}))(r.t)
}

// TestKilledBetweenARequestAndItsAcceptanceNothingIsLostOrTold: the bridge dies while the request is shown, and again while it waits. The phone
// hears nothing until alice accepts, and then everything.
func TestKilledBetweenARequestAndItsAcceptanceNothingIsLostOrTold(t *testing.T) {
	for _, point := range []string{killpoint.InStored, killpoint.InDelivered, killpoint.InFinished} {
		t.Run(point, func(t *testing.T) {
			each(t, func(r *rig) {
				r.policy("ask")
				defer r.policy("accept")
				eve := r.stranger()
				held := r.count("SELECT COUNT(*) FROM postern_in WHERE receipt=4") // of other tests' strangers
				r.arm(point, 1)
				id := must(r.Gatekeeper.Say(r.ctx, eve.Phone, r.identifier, "hello from a stranger"))(r.t)
				r.dead(point)
				r.run()
				room := r.request(eve)
				r.shows(room, "hello from a stranger")
				r.until("the message to be settled", func() bool {
					return r.count("SELECT COUNT(*) FROM postern_in WHERE receipt=4") == held+1
				})
				r.Bridge.Kill()
				<-r.Bridge.Done()
				r.run()
				second := must(r.Gatekeeper.Say(r.ctx, eve.Phone, r.identifier, "are you there?"))(r.t)
				r.shows(room, "are you there?")
				r.until("both to be settled", func() bool { return r.count("SELECT COUNT(*) FROM postern_in WHERE receipt=4") == held+2 })
				if n := r.receipts(eve); n != 0 {
					r.t.Errorf("the phone has %d receipts before alice has accepted", n)
				}
				r.command("accept "+eve.Phone, "Accepted")
				r.receipted(eve, id)
				r.receipted(eve, second)
				if n := r.count("SELECT COUNT(*) FROM postern_in WHERE receipt=4"); n != held {
					r.t.Errorf("%d receipts are still held back", n)
				}
				for _, text := range []string{"hello from a stranger", "are you there?"} {
					if n := len(r.alice.Seen(func(e *parts.Event) bool { return e.RoomID == room && e.Message().Body == text })); n != 1 {
						r.t.Errorf("%q is there %d times", text, n)
					}
				}
				r.checkComplaints()
			})
		})
	}
}

// TestOfFiftyFirstContactsTenAreShownAndTheRestIsKept: the rest is listed, survives a kill, and is shown when alice accepts.
func TestOfFiftyFirstContactsTenAreShownAndTheRestIsKept(t *testing.T) {
	each(t, func(r *rig) {
		n := r.newcomer()
		n.logIn()
		r.until("the account to be connected", n.connected)
		must(n.SendText(r.ctx, n.room, "requests ask"))(r.t)
		r.until("the bot to say so", func() bool { return len(n.said("you decide")) > 0 })
		const all, shown = 50, 10
		phones, ids := make([]parts.Phone, all), make([]string, all)
		for i := range phones {
			phones[i] = r.stranger()
			ids[i] = must(r.Gatekeeper.Say(r.ctx, phones[i].Phone, n.name, fmt.Sprintf("hello %d", i)))(r.t)
		}
		mine := " AND account_id IN (SELECT id FROM postern_account WHERE mxid='" + n.UserID + "')"
		r.until("all to be settled", func() bool {
			return r.count("SELECT COUNT(*) FROM postern_in WHERE state=5"+mine) == all-shown && r.count("SELECT COUNT(*) FROM postern_in WHERE receipt=4"+mine) == shown
		})
		r.until("the bot to tell of the rest", func() bool { return len(n.said("held back")) > 0 })
		r.Bridge.Kill()
		<-r.Bridge.Done()
		r.run()
		r.until("the account to be connected again", n.connected)
		if got := r.count("SELECT COUNT(*) FROM postern_request WHERE state=1" + mine); got != shown {
			r.t.Errorf("%d requests are shown, want %d", got, shown)
		}
		for _, phone := range phones {
			if got := r.receipts(phone); got != 0 {
				r.t.Errorf("a phone has %d receipts", got)
			}
		}
		must(n.SendText(r.ctx, n.room, "requests"))(r.t)
		r.until("the list", func() bool { return len(n.said("messages kept: 1")) > 0 })
		// One of those that were held back is let in.
		last := slices.IndexFunc(phones, func(p parts.Phone) bool { return n.heldBack(p.Name) })
		if last < 0 {
			r.t.Fatal("nobody is listed as held back")
		}
		must(n.SendText(r.ctx, n.room, "accept "+phones[last].Phone))(r.t)
		r.receipted(phones[last], ids[last])
		if got := r.count("SELECT COUNT(*) FROM postern_in WHERE state=5" + mine); got != all-shown-1 {
			r.t.Errorf("%d messages are held back, want %d", got, all-shown-1)
		}
		r.checkComplaints()
	})
}

// heldBack says whether the list has somebody as held back.
func (n *newcomer) heldBack(name string) bool {
	for _, e := range n.said("messages kept: 1") {
		for line := range strings.Lines(e.Message().Body) {
			if strings.Contains(line, name+": held back") {
				return true
			}
		}
	}
	return false
}
