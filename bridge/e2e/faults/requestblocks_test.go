package faults_test

import (
	"slices"
	"strings"
	"testing"

	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// TestWhoIsBlockedWhileTheirRequestWaitsHearsNothingAlsoNotOverKills: the bridge dies between the wish and the gatekeeper's knowledge of it, and
// again while the block holds. What came before the block and after it is receipted when alice accepts, what came meanwhile never.
func TestWhoIsBlockedWhileTheirRequestWaitsHearsNothingAlsoNotOverKills(t *testing.T) {
	each(t, func(r *rig) {
		r.policy("ask")
		defer r.policy("accept")
		eve := r.stranger()
		first := must(r.Gatekeeper.Say(r.ctx, eve.Phone, r.identifier, "before the block"))(r.t)
		room := r.request(eve)
		r.shows(room, "before the block")
		r.arm(killpoint.BlockWished, 1)
		must(r.alice.SendText(r.ctx, room, "!postern block"))(r.t)
		r.dead(killpoint.BlockWished)
		r.run()
		r.botSays(room, blockedNotice)
		meanwhile := must(r.Gatekeeper.Say(r.ctx, eve.Phone, r.identifier, "while the block holds"))(r.t)
		r.command("accept "+eve.Name, "Nothing was accepted")
		r.until("the bridge to have taken what came", func() bool { return r.partner().Queued == 0 }) // or it comes again after the block
		r.Bridge.Kill()
		<-r.Bridge.Done()
		r.run()
		r.command("unblock "+eve.Name, "is not blocked any more")
		r.until("the gatekeeper to know of the end", func() bool {
			return r.count("SELECT COUNT(*) FROM postern_block WHERE chat_id IN (SELECT chat_id FROM postern_chat_room WHERE room_id='"+room+"')") == 0
		})
		last := must(r.Gatekeeper.Say(r.ctx, eve.Phone, r.identifier, "after the block"))(r.t)
		r.shows(room, "after the block")
		if n := r.receipts(eve); n != 0 {
			r.t.Errorf("the phone has %d receipts before alice has accepted", n)
		}
		r.command("accept "+eve.Name, "Accepted")
		r.receipted(eve, first)
		r.receipted(eve, last)
		if n := len(r.hs.Messages(room, "while the block holds")); n != 0 {
			r.t.Error("what came while the block held is shown")
		}
		if slices.ContainsFunc(r.phoneEvents(eve), func(e parts.PhoneEvent) bool {
			return e.Kind == "receipt" && strings.Contains(strings.Join(e.IDs, " "), meanwhile)
		}) {
			r.t.Error("what came while the block held is receipted")
		}
		r.checkComplaints()
	})
}

// TestAReportIsStoredThoughTheBridgeIsKilledBeforeItSaysSo: alice is told that the command was cut off, and the operator has the report once.
func TestAReportIsStoredThoughTheBridgeIsKilledBeforeItSaysSo(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		c.command(killpoint.Reported, c.room, "!postern report he is rude")
		r.botSays(c.room, "was handling this command")
		if n := r.count("SELECT COUNT(*) FROM postern_report WHERE reason IS NOT NULL AND chat_id IN (SELECT chat_id FROM postern_chat_room WHERE room_id='" + c.room + "')"); n != 1 {
			r.t.Errorf("%d reports", n)
		}
	})
}
