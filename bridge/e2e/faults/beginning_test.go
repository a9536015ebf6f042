package faults_test

import (
	"testing"

	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// Beginning a chat: the question whether alice may write, and the brakes that count it, whatever happens to the bridge in between.

// pings are the questions that a phone has shown.
func (r *rig) pings(who parts.Phone) (n int) {
	r.t.Helper()
	for _, e := range must(r.Gatekeeper.Events(r.ctx, who.Phone, 0, 0))(r.t) {
		if e.Kind == "ping" {
			n++
		}
	}
	return n
}

// braked is what the brakes have counted of a kind for alice.
func (r *rig) braked(kind string) int {
	r.t.Helper()
	return r.count("SELECT COUNT(*) FROM postern_brake WHERE kind=" + kind + " AND mxid='" + r.alice.UserID + "'")
}

// reach is how many of alice's chats are in a state of being asked.
func (r *rig) reach(state string) int {
	r.t.Helper()
	return r.count("SELECT COUNT(*) FROM postern_reach WHERE state=" + state + " AND account_id IN (SELECT id FROM postern_account WHERE mxid='" + r.alice.UserID + "')")
}

// TestWhoIsAskedIsAskedThoughTheBridgeIsKilledAndNotAskedTwice: the wish is on disk first, and who was asked waits over kills. Only a process that
// dies before it has noted that the gatekeeper took the question lets the next one ask again. The brake has counted the chat once.
func TestWhoIsAskedIsAskedThoughTheBridgeIsKilledAndNotAskedTwice(t *testing.T) {
	for point, most := range map[string]int{killpoint.ReachWished: 1, killpoint.ReachTaken: 2} {
		t.Run(point, func(t *testing.T) {
			each(t, func(r *rig) {
				eve := r.stranger()
				chats, asked := r.braked("1"), r.reach("2")
				r.arm(point, 1)
				must(r.alice.SendText(r.ctx, r.management, "start-chat "+eve.Phone))(r.t)
				r.dead(point)
				r.run()
				r.connected(true)
				r.until("eve to be asked", func() bool { return r.reach("1") == 0 && r.reach("2") == asked+1 })
				r.command("start-chat "+eve.Phone, "not asked a second time")
				r.Bridge.Kill()
				<-r.Bridge.Done()
				r.run()
				r.connected(true)
				r.command("start-chat "+eve.Phone, "not asked a second time")
				if n := r.pings(eve); n < 1 || n > most {
					r.t.Errorf("eve was asked %d times, want 1 to %d", n, most)
				}
				if n := r.braked("1"); n != chats+1 {
					r.t.Errorf("the brake has counted %d chats, want 1", n-chats)
				}
				room := must(r.alice.ExpectInvite(r.ctx, "the chat", func(i parts.Invite) bool { return !i.Space && i.Shows(eve.Name, eve.Phone) }))(r.t).Room
				r.ok(r.alice.Join(r.ctx, room))
				r.ok(r.Gatekeeper.Answer(r.ctx, eve.Phone, r.identifier, "declined"))
				must(r.alice.Expect(r.ctx, "her answer", func(e *parts.Event) bool {
					return e.RoomID == room && e.Sender == r.Bot && e.Message().Body == "The other person has declined this chat. Messages do not arrive until they write to you or accept."
				}))(r.t)
				r.checkComplaints()
			})
		})
	}
}

// TestAKillGivesNoLookUpBack: what was counted before the question stays counted.
func TestAKillGivesNoLookUpBack(t *testing.T) {
	each(t, func(r *rig) {
		eve := r.stranger()
		before := r.braked("2")
		r.arm(killpoint.LookupCounted, 1)
		must(r.alice.SendText(r.ctx, r.management, "start-chat "+eve.Phone))(r.t)
		r.dead(killpoint.LookupCounted)
		r.run()
		r.connected(true)
		if n := r.braked("2"); n != before+1 {
			r.t.Errorf("the brake has counted %d look-ups, want 1", n-before)
		}
		r.startChat(eve.Name, eve.Phone)
		if n := r.braked("2"); n < before+2 {
			r.t.Errorf("the brake has counted %d look-ups, want 2", n-before)
		}
	})
}
