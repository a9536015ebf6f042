package e2e_test

import (
	"net/http"
	"net/url"
	"testing"

	"postern/bridge/parts"
)

// deactivates is what people do who want no Matrix account any more.
func (s *scene) deactivates(who *parts.Person, erase bool) {
	s.t.Helper()
	s.ok(s.Homeserver.Call(s.ctx, http.MethodPost, "/_matrix/client/v3/account/deactivate", who.Token, map[string]any{
		"erase": erase,
		"auth": map[string]any{
			"type": "m.login.password", "identifier": map[string]any{"type": "m.id.user", "user": who.UserID}, "password": who.Password,
		},
	}, nil))
}

// leavesRoom has somebody leave a room.
func (s *scene) leavesRoom(who *parts.Person, room string) {
	s.t.Helper()
	s.ok(s.Homeserver.Call(s.ctx, http.MethodPost, "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/leave", who.Token, map[string]any{}, nil))
}

// joined are all rooms that somebody is in.
func (s *scene) joined(who *parts.Person) []string {
	s.t.Helper()
	var answer struct {
		Rooms []string `json:"joined_rooms"`
	}
	s.ok(s.Homeserver.Call(s.ctx, http.MethodGet, "/_matrix/client/v3/joined_rooms", who.Token, nil, &answer))
	return answer.Rooms
}

func TestSomebodyWhoseMatrixAccountIsDeactivatedIsDeletedAtTheGatekeeperToo(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.departed.grace": "1ms"}})
	s.ok(s.Homeserver.Register(s.ctx, "root", "password-of-root", true))
	root := must(parts.NewPerson(s.ctx, s.Homeserver, "root", "password-of-root"))(t)
	defer root.Close()
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Set(map[string]any{"network.departed.admin_token": root.Token}))
	s.ok(s.Bridge.Start(s.ctx))
	ben := s.phone("Ben", true)
	chat := s.startChat(ben)
	s.toPhone(chat, ben, "hello")
	// Bob joins too, and stays.
	bob := must(parts.NewPerson(s.ctx, s.Homeserver, "bob", "password-of-bob"))(t)
	defer bob.Close()
	bobs := must(s.LogIn(s.ctx, bob))(t)

	// Alice tidies up: she leaves all her rooms. She is not gone, and comes back.
	for _, room := range s.joined(s.person) {
		s.leavesRoom(s.person, room)
	}
	k := s.talkTo()
	k.says("status")
	k.hears("connected since")

	// She deactivates her account while the bridge is down.
	s.ok(s.Bridge.Stop())
	s.deactivates(s.person, false)
	s.ok(s.Bridge.Start(s.ctx))
	s.gone(s.identifier)

	// Bob deactivates his while it runs.
	s.deactivates(bob, true)
	s.gone(bobs.Identifier)
}

func TestWithoutAnAdministratorsTokenAnErasedUserWhoHasLeftEverythingIsGone(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.departed.grace": "1ms"}})
	chat := s.startChat(s.phone("Ben", true))
	s.leavesRoom(s.person, chat)
	for _, room := range s.joined(s.person) {
		s.leavesRoom(s.person, room)
	}
	k := s.talkTo() // her profile has a name: she is there still
	k.says("status")
	k.hears("connected since")
	s.deactivates(s.person, true)
	s.gone(s.identifier)
}
