package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"postern/bridge/parts"
)

// members is what somebody sees of who is in a room: by user, join, invite, leave or ban.
func (s *scene) members(who *parts.Person, room string) map[string]string {
	s.t.Helper()
	var answer struct {
		Chunk []parts.Event `json:"chunk"`
	}
	s.ok(s.Homeserver.Call(s.ctx, http.MethodGet, "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/members", who.Token, nil, &answer))
	list := map[string]string{}
	for _, e := range answer.Chunk {
		var c struct {
			Membership string `json:"membership"`
		}
		s.ok(json.Unmarshal(e.Content, &c))
		list[*e.StateKey] = c.Membership
	}
	return list
}

// makeRoom makes a room with others invited.
func (s *scene) makeRoom(who *parts.Person, direct bool, invite ...string) string {
	s.t.Helper()
	var answer struct {
		RoomID string `json:"room_id"`
	}
	s.ok(s.Homeserver.Call(s.ctx, http.MethodPost, "/_matrix/client/v3/createRoom", who.Token, map[string]any{
		"preset": "trusted_private_chat", "is_direct": direct, "invite": append([]string{}, invite...),
	}, &answer))
	return answer.RoomID
}

// leaves waits until somebody has gone from a room, or has declined to come.
func (s *scene) leaves(who *parts.Person, room, gone string) *parts.Event {
	s.t.Helper()
	return must(who.Expect(s.ctx, gone+" to leave", func(e *parts.Event) bool {
		return e.RoomID == room && e.Type == "m.room.member" && e.StateKey != nil && *e.StateKey == gone && strings.Contains(string(e.Content), `"leave"`)
	}))(s.t)
}

// ghostIn is the ghost that has said something in a chat.
func (s *scene) ghostIn(room string, p parts.Phone) string {
	s.t.Helper()
	return s.toMatrix(room, p, "here I am").Sender
}

// bridgeToken is what the bridge speaks to the homeserver with, for itself and for its ghosts.
func (s *scene) bridgeToken() string {
	s.t.Helper()
	var registration struct {
		AppToken string `yaml:"as_token"`
	}
	s.ok(yaml.Unmarshal(must(os.ReadFile(s.Bridge.RegistrationPath()))(s.t), &registration))
	return registration.AppToken
}

func TestPeopleOfAnotherServiceComeToNoRoomButTheirChats(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	chat := s.startChat(ben)
	ghost := s.ghostIn(chat, ben)
	bob := must(parts.NewPerson(s.ctx, s.Homeserver, "bob", "password-of-bob"))(t)
	defer bob.Close()

	// Bob has nothing to do with the bridge. He invites Ben's ghost to a direct chat, and then into a group.
	for _, direct := range []bool{true, false} {
		room := s.makeRoom(bob, direct, ghost)
		s.leaves(bob, room, ghost)
	}
	// Alice does so too. She is told where her chat with Ben is, in her chat with the bot and not before others.
	k := &talk{s: s, who: s.person, room: s.management, since: time.Now().Add(-time.Millisecond)}
	room := s.makeRoom(s.person, true, ghost)
	s.leaves(s.person, room, ghost)
	if said := k.hears("comes to no other room"); !strings.Contains(said, strings.TrimPrefix(chat, "!")) {
		t.Errorf("the bot says %q, and the chat is %s", said, chat)
	}
	k.since = time.Now().Add(-time.Millisecond)
	room = s.makeRoom(s.person, false, bob.UserID, ghost)
	s.leaves(s.person, room, ghost)
	k.hears("cannot be brought into rooms")
	if m := s.members(s.person, room); m[s.Bot] != "" {
		t.Errorf("the bot is in the group: %v", m)
	}

	// While the bridge is down an invitation waits, and an administrator of the homeserver puts the ghost into a room.
	s.ok(s.Bridge.Stop())
	waiting := s.makeRoom(bob, false, ghost)
	s.ok(s.Homeserver.Register(s.ctx, "root", "password-of-root", true))
	root := must(parts.NewPerson(s.ctx, s.Homeserver, "root", "password-of-root"))(t)
	defer root.Close()
	put := s.makeRoom(root, false)
	s.ok(s.Homeserver.Call(s.ctx, http.MethodPost, "/_synapse/admin/v1/join/"+url.PathEscape(put), root.Token, map[string]any{"user_id": ghost}, nil))
	if m := s.members(root, put); m[ghost] != "join" {
		t.Fatalf("the ghost is not in the room: %v", m)
	}
	s.ok(s.Bridge.Start(s.ctx))
	s.leaves(bob, waiting, ghost)
	s.leaves(root, put, ghost)

	// The bot speaks with one person, and leaves where others are.
	group := s.makeRoom(s.person, false, bob.UserID, s.Bot)
	s.leaves(s.person, group, s.Bot)
	// The chat itself goes on.
	s.toPhone(chat, ben, "nobody has heard us")
	s.toMatrix(chat, ben, "nobody")
}

func TestGhostsHaveNoPowerInTheRoomsOfTheBridge(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	chat := s.startChat(ben)
	ghost := s.ghostIn(chat, ben)
	space := must(s.alice.ExpectInvite(s.ctx, "the space", func(i parts.Invite) bool { return i.Space }))(t).Room
	s.ok(s.alice.Join(s.ctx, space))
	for name, room := range map[string]string{"the chat": chat, "the space": space} {
		levels := struct {
			Users        map[string]int `json:"users"`
			UsersDefault int            `json:"users_default"`
			State        *int           `json:"state_default"`
			Ban, Kick    *int
			Redact       *int
			Events       map[string]int `json:"events"`
		}{}
		s.ok(s.person.RoomState(s.ctx, room, "m.room.power_levels", "", &levels))
		for who, level := range levels.Users {
			if who != s.Bot && who != s.person.UserID || who == s.person.UserID && level > 50 {
				t.Errorf("in %s %s has power %d", name, who, level)
			}
		}
		for what, level := range map[string]*int{"state": levels.State, "ban": levels.Ban, "kick": levels.Kick, "redact": levels.Redact} {
			if have := levels.UsersDefault; level != nil && *level <= have {
				t.Errorf("in %s everybody may %s: %d", name, what, *level)
			}
		}
		if levels.UsersDefault != 0 {
			t.Errorf("in %s everybody has power %d", name, levels.UsersDefault)
		}
		in := s.members(s.person, room)
		for who, membership := range in {
			known := who == s.Bot || who == s.person.UserID || name == "the chat" && (who == ghost || strings.Contains(who, "-me-"))
			if !known && (membership == "join" || membership == "invite") {
				t.Errorf("%s is in %s", who, name)
			}
		}
	}
	// What the levels say is what the homeserver does: a ghost's own token is the bridge's, so it is asked as the bridge would.
	for what, call := range map[string]struct {
		method, path string
		body         any
	}{
		"kick": {http.MethodPost, "kick", map[string]any{"user_id": s.person.UserID}}, "ban": {http.MethodPost, "ban", map[string]any{"user_id": s.person.UserID}},
		"rename":         {http.MethodPut, "state/m.room.name/", map[string]any{"name": "mine"}},
		"take power":     {http.MethodPut, "state/m.room.power_levels/", map[string]any{"users": map[string]int{ghost: 100}}},
		"open the doors": {http.MethodPut, "state/m.room.join_rules/", map[string]any{"join_rule": "public"}},
	} {
		path := "/_matrix/client/v3/rooms/" + url.PathEscape(chat) + "/" + call.path + "?user_id=" + url.QueryEscape(ghost)
		if err := s.Homeserver.Call(s.ctx, call.method, path, s.bridgeToken(), call.body, nil); !parts.IsMatrixError(err, "M_FORBIDDEN") {
			t.Errorf("a ghost can %s: %v", what, err)
		}
	}
}
