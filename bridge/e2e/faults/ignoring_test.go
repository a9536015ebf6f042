package faults_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// TestKilledWhileItWritesTheIgnoreListTheBridgeTakesThatForNobodysWish: the bridge may act as somebody, who blocks a contact. It dies when it is about to
// write their list of ignored users, and when the homeserver has it and the bridge does not know. The block stands, and the list says so.
func TestKilledWhileItWritesTheIgnoreListTheBridgeTakesThatForNobodysWish(t *testing.T) {
	for _, point := range killpoint.Ignoring {
		t.Run(point, func(t *testing.T) {
			each(t, func(r *rig) {
				n := r.newcomer()
				n.logIn()
				r.until("the account to be connected", n.connected)
				eve := r.stranger()
				must(r.Gatekeeper.Say(r.ctx, eve.Phone, n.name, "a word from "+eve.Name))(r.t)
				invite := must(n.ExpectInvite(r.ctx, "the chat", func(i parts.Invite) bool { return !i.Space && i.Shows(eve.Name) }))(r.t)
				r.ok(n.Join(r.ctx, invite.Room))
				first := must(n.Expect(r.ctx, "the first message", func(e *parts.Event) bool { return e.Message().Body == "a word from "+eve.Name }))(r.t)
				must(n.SendText(r.ctx, n.room, "login-matrix "+n.Token))(r.t)
				r.until("the bridge to act as them", func() bool { return len(n.said("acts in matrix in your name")) > 0 })
				r.arm(point, 1)
				must(n.SendText(r.ctx, first.RoomID, "!postern block"))(r.t)
				r.dead(point)
				r.run()
				list := "/_matrix/client/v3/user/" + url.PathEscape(n.UserID) + "/account_data/m.ignored_user_list"
				of := " WHERE chat_id IN (SELECT chat_id FROM postern_chat_room WHERE room_id='" + first.RoomID + "')"
				r.until("the list to have them", func() bool {
					var ignored struct {
						Users map[string]any `json:"ignored_users"`
					}
					err := r.Homeserver.Call(r.ctx, http.MethodGet, list, n.Token, nil, &ignored)
					return err == nil && ignored.Users[first.Sender] != nil && r.count("SELECT COUNT(*) FROM postern_ignored"+of) == 1
				})
				if n := r.count("SELECT COUNT(*) FROM postern_block" + of + " AND blocked"); n != 1 {
					r.t.Error("the block does not stand")
				}
				must(n.SendText(r.ctx, n.room, "blocked"))(r.t)
				r.until("the bot to list them", func() bool { return len(n.said(strings.ToLower(eve.Name))) > 0 })
				if len(r.hs.Messages(first.RoomID, "Matrix client")) > 0 {
					r.t.Error("what the bridge wrote was taken for the person's wish")
				}
			})
		})
	}
}
