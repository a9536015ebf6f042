package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// The row F-17: what is made once, and the bridge killed while it is: accounts, keys, rooms.

// newcomer is somebody who is not logged in yet, and talks with the bot.
type newcomer struct {
	*parts.Person
	r    *rig
	room string
	name string // under which the gatekeeper knows them
}

func (r *rig) newcomer() *newcomer {
	r.t.Helper()
	name := fmt.Sprintf("dora%d-%d", time.Now().UnixNano()%1_000_000, numbers.Add(1))
	n := &newcomer{r: r, name: name}
	n.Person = must(parts.NewPerson(context.WithoutCancel(r.ctx), r.Homeserver, name, "password-of-"+name))(r.t)
	r.t.Cleanup(n.Close)
	since := time.Now().Add(-time.Second)
	n.room = must(n.CreateDM(r.ctx, r.Bot))(r.t)
	must(r.BotSays(r.ctx, n.Person, n.room, since, "hello"))(r.t)
	return n
}

// logIn types what a login takes.
func (n *newcomer) logIn() {
	r := n.r
	r.t.Helper()
	seen := len(n.said("please enter"))
	must(n.SendText(r.ctx, n.room, "login whatsapp"))(r.t)
	r.until("the bot to ask for consent", func() bool { return len(n.said("please enter")) > seen })
	must(n.SendText(r.ctx, n.room, "agree"))(r.t)
}

// said are the bot's messages with these words.
func (n *newcomer) said(words string) []parts.Event {
	return n.Seen(func(e *parts.Event) bool {
		return e.RoomID == n.room && e.Sender == n.r.Bot && strings.Contains(strings.ToLower(e.Message().Body), words)
	})
}

// partners are the gatekeeper's accounts with this person's name.
func (n *newcomer) partners() (list []parts.Partner) {
	n.r.t.Helper()
	for _, p := range must(n.r.Gatekeeper.Partners(n.r.ctx))(n.r.t) {
		if p.Identifier == n.name {
			list = append(list, p)
		}
	}
	return list
}

func (n *newcomer) connected() bool {
	list := n.partners()
	return len(list) == 1 && list[0].Connected && list[0].Prekeys > 0
}

// checkOne fails unless there is one login of this person, everywhere, and its keys are those that the gatekeeper gives out.
func (n *newcomer) checkOne() {
	r := n.r
	r.t.Helper()
	r.until("one account that is connected and has prekeys", n.connected)
	if got := r.count("SELECT COUNT(*) FROM postern_account WHERE mxid='" + n.UserID + "'"); got != 1 {
		r.t.Errorf("there are %d accounts, want one", got)
	}
	if got := r.count("SELECT COUNT(*) FROM user_login WHERE user_mxid='" + n.UserID + "'"); got != 1 {
		r.t.Errorf("the framework has %d logins, want one", got)
	}
	// Each phone's first message uses up a prekey of those that the gatekeeper has.
	for i := range 4 {
		number := fmt.Sprintf("+4915231%06d", 100_000+(time.Now().UnixNano()/1000+int64(i))%800_000)
		phone := must(r.Gatekeeper.AddUser(r.ctx, parts.Phone{Phone: number, Name: "Emil", OptedIn: true}))(r.t)
		id := must(r.Gatekeeper.Say(r.ctx, phone.Phone, n.name, "hello"))(r.t)
		must(r.Gatekeeper.Expect(r.ctx, phone.Phone, "the receipt of a first message", func(e *parts.PhoneEvent) bool {
			return e.Kind == "receipt" && e.Type == "delivery" && slices.Contains(e.IDs, id)
		}))(r.t)
	}
	if got := r.count("SELECT COUNT(*) FROM postern_in WHERE retries>0 AND account_id IN (SELECT id FROM postern_account WHERE mxid='" + n.UserID + "')"); got != 0 {
		r.t.Errorf("%d first messages could not be read: the gatekeeper has prekeys that the bridge does not have", got)
	}
	r.checkComplaints()
}

// TestF17KilledWhileSomebodyLogsIn: what was begun is gone on with, by itself or when they log in again, and there is one account in the end.
func TestF17KilledWhileSomebodyLogsIn(t *testing.T) {
	for _, point := range []string{
		killpoint.LoginAgreed, killpoint.LoginKeyed, killpoint.LoginEnlisted, killpoint.LoginStored, killpoint.LoginNoted,
		killpoint.KeysMade, killpoint.KeysMarked, killpoint.KeysUploaded,
	} {
		t.Run(point, func(t *testing.T) {
			each(t, func(r *rig) {
				n := r.newcomer()
				r.arm(point, 1)
				n.logIn()
				r.dead(point)
				known := n.partners()
				if len(known) > 1 {
					r.t.Errorf("the gatekeeper has %d accounts of one person", len(known))
				}
				logins := r.count("SELECT COUNT(*) FROM user_login WHERE user_mxid='" + n.UserID + "'")
				r.run()
				if logins == 0 {
					// The person is told that it was cut off, and does it again.
					r.until("the bot to say that it was restarted", func() bool { return len(n.said("was restarted")) > 0 })
					n.logIn()
				}
				n.checkOne()
				if after := n.partners(); len(known) == 1 && (len(after) != 1 || after[0].JID != known[0].JID) {
					r.t.Errorf("the account was %s and is %v", known[0].JID, after)
				}
			})
		})
	}
}

// TestF17KilledWhileASpaceIsMade: somebody's first chat comes with a space for all of them. The bridge dies at one request after another that
// makes the two; in the end there is one of each.
func TestF17KilledWhileASpaceIsMade(t *testing.T) {
	for _, nth := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("room %d", nth), func(t *testing.T) {
			each(t, func(r *rig) {
				n := r.newcomer()
				n.logIn()
				r.until("the account to be connected", n.connected)
				seen, killed := 0, make(chan struct{})
				remove := r.hs.AddFault(homeserver.Fault{
					Method: "POST", Path: "/createRoom", Users: func(id string) bool { return id != n.UserID },
					Between: func() {
						if seen++; seen == nth {
							r.Bridge.Kill()
							close(killed)
						}
					},
				})
				number := fmt.Sprintf("+4915232%06d", 100_000+time.Now().UnixMilli()%800_000)
				phone := must(r.Gatekeeper.AddUser(r.ctx, parts.Phone{Phone: number, Name: "Fritz", OptedIn: true}))(r.t)
				id := must(r.Gatekeeper.Say(r.ctx, phone.Phone, n.name, "hello"))(r.t)
				delivered := make(chan error, 1)
				go func() {
					_, err := r.Gatekeeper.Expect(r.ctx, phone.Phone, "the receipt", func(e *parts.PhoneEvent) bool {
						return e.Kind == "receipt" && e.Type == "delivery" && slices.Contains(e.IDs, id)
					})
					delivered <- err
				}()
				spaces := func() []string { return n.rooms(func(kind string, _ bool) bool { return kind == "m.space" }) }
				died := false
				for !died && len(delivered) == 0 || !died && len(spaces()) == 0 {
					select {
					case <-killed:
						<-r.Bridge.Done()
						died = true
					case <-time.After(5 * time.Millisecond):
					case <-r.ctx.Done():
						r.t.Fatal("neither killed nor done")
					}
				}
				if !died && nth < 3 {
					r.t.Errorf("the bridge was not killed: %d rooms were made", seen)
				}
				remove()
				r.run()
				r.ok(<-delivered)
				r.until("a space", func() bool { return len(spaces()) > 0 })
				chats := n.rooms(func(kind string, bridged bool) bool { return kind == "" && bridged })
				if len(spaces()) != 1 || len(chats) != 1 {
					r.t.Errorf("there are %d spaces and %d rooms of the chat, want one of each", len(spaces()), len(chats))
				}
			})
		})
	}
}

// rooms are those that this person was invited to or has joined, by their type and whether they are of a chat.
func (n *newcomer) rooms(is func(kind string, bridged bool) bool) (list []string) {
	r := n.r
	for _, room := range r.hs.Rooms("m.room.member", func(e *homeserver.Event) bool { return *e.StateKey == n.UserID }) {
		if room == n.room {
			continue
		}
		var content struct{ Type string }
		for _, e := range r.hs.Events(room, "m.room.create") {
			r.ok(json.Unmarshal(e.Content, &content))
		}
		if is(content.Type, len(r.hs.Events(room, "m.bridge")) > 0) {
			list = append(list, room)
		}
	}
	return list
}

// TestF17KilledWhileAManagementRoomIsMade: the framework makes one when it has something to say and knows of none, as after a login that did
// not come from a chat with the bot.
func TestF17KilledWhileAManagementRoomIsMade(t *testing.T) {
	each(t, func(r *rig) {
		n := r.newcomer()
		n.logIn()
		r.until("the account to be connected", n.connected)
		r.Bridge.Kill()
		r.forgetManagement(n)
		r.run()
		r.until("the account to be connected", n.connected)
		killed := make(chan struct{})
		remove := r.hs.AddFault(homeserver.Fault{
			Method: "POST", Path: "/createRoom", Count: 1, Users: func(id string) bool { return id == r.Bot },
			Between: func() { r.Bridge.Kill(); close(killed) },
		})
		fail := parts.Fault{Kind: "stream_error", Identifier: n.name, Code: 409}
		must(r.Gatekeeper.AddFault(r.ctx, fail))(r.t)
		select {
		case <-killed:
		case <-r.ctx.Done():
			r.t.Fatal("no management room was made")
		}
		<-r.Bridge.Done()
		remove()
		r.run()
		r.until("the account to be connected", n.connected)
		must(r.Gatekeeper.AddFault(r.ctx, fail))(r.t)
		r.until("the bot to say something", func() bool {
			for _, room := range n.rooms(func(kind string, bridged bool) bool { return kind == "" && !bridged }) {
				if len(r.hs.Messages(room, "")) > 0 {
					return true
				}
			}
			return false
		})
		rooms := n.rooms(func(kind string, bridged bool) bool { return kind == "" && !bridged })
		if len(rooms) != 1 {
			r.t.Fatalf("there are %d management rooms that the bridge has made, want one", len(rooms))
		}
		// Who has left it is not invited into it again.
		r.ok(n.Join(r.ctx, rooms[0]))
		r.ok(n.HS.Call(r.ctx, "POST", "/_matrix/client/v3/rooms/"+rooms[0]+"/leave", n.Token, map[string]any{}, nil))
		r.Bridge.Kill()
		r.forgetManagement(n)
		r.run()
		r.until("the account to be connected", n.connected)
		must(r.Gatekeeper.AddFault(r.ctx, fail))(r.t)
		r.until("another management room", func() bool {
			return len(n.rooms(func(kind string, bridged bool) bool { return kind == "" && !bridged })) == 2
		})
	})
}

// forgetManagement makes the framework not know of this person's chat with the bot, as if they had logged in without one.
func (r *rig) forgetManagement(n *newcomer) {
	r.t.Helper()
	db := r.openDatabase()
	defer db.Close()
	must(db.ExecContext(r.ctx, `UPDATE "user" SET management_room=NULL WHERE mxid='`+n.UserID+`'`))(r.t)
}
