package e2e_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"postern/bridge/parts"
)

func TestWithDoublePuppetingAUserIsInTheirRoomsWithoutBeingAsked(t *testing.T) {
	t.Parallel()
	s := open(t, setting{puppets: true})
	carla := s.phone("Carla", true)
	must(s.Gatekeeper.Say(s.ctx, carla.Phone, s.identifier, "is this Alice?"))(t)
	// Nobody accepts an invitation, and yet the room is one of alice's.
	got := must(s.alice.Expect(s.ctx, "Carla's text", func(e *parts.Event) bool { return e.Message().Body == "is this Alice?" }))(t)
	room := got.RoomID
	s.toPhone(room, carla, "yes, it is")
	must(s.alice.Expect(s.ctx, "the room in the space", func(e *parts.Event) bool {
		return e.Type == "m.space.child" && e.StateKey != nil && *e.StateKey == room
	}))(t)
	// It is one of her direct chats, too.
	var direct map[string][]string
	path := "/_matrix/client/v3/user/" + url.PathEscape(s.person.UserID) + "/account_data/m.direct"
	s.ok(s.Homeserver.Call(s.ctx, http.MethodGet, path, s.person.Token, nil, &direct))
	if !slices.Contains(direct[got.Sender], room) {
		t.Errorf("the direct chats are %v, without the room with %s", direct, got.Sender)
	}
	// What she writes from her own client comes from her and is sent once.
	mine, _ := s.texts(room, "yes, it is")
	if onPhone := s.phoneTexts(carla, "yes, it is"); len(mine) != 1 || len(onPhone) != 1 {
		t.Errorf("the room has it %d times, the phone %d times", len(mine), len(onPhone))
	}
}

// TestNobodyWritesThroughSomebodyElsesLogin is relay mode as the example
// configuration has it: off.
func TestNobodyWritesThroughSomebodyElsesLogin(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "from Matrix 0")
	bob := must(parts.NewPerson(s.ctx, s.Homeserver, "bob", "password-of-bob"))(t)
	t.Cleanup(bob.Close)
	invite := map[string]any{"user_id": bob.UserID}
	s.ok(s.Homeserver.Call(s.ctx, http.MethodPost, "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/invite", s.person.Token, invite, nil))
	s.ok(bob.Join(s.ctx, room))
	// Neither of them can switch it on.
	must(s.person.SendText(s.ctx, room, s.BotPrefix+" set-relay"))(t)
	must(s.alice.Expect(s.ctx, "the refusal of a relay", func(e *parts.Event) bool {
		return e.RoomID == room && e.Sender == s.Bot && strings.Contains(e.Message().Body, "There is no such command here")
	}))(t)
	event := must(bob.SendText(s.ctx, room, "from Matrix, but from Bob"))(t)
	must(bob.Expect(s.ctx, "word that it is not sent", func(e *parts.Event) bool {
		return e.RoomID == room && e.Sender == s.Bot && (strings.HasPrefix(statusOf(e, event), "fail") || e.Message().MsgType == "m.notice" && relatesTo(e, event))
	}))(t)
	s.toPhone(room, ben, "from Matrix 1")
	if got, want := s.phoneTexts(ben, "from Matrix"), []string{"from Matrix 0", "from Matrix 1"}; !slices.Equal(got, want) {
		t.Errorf("the phone shows %q, want %q", got, want)
	}
}

func TestAMessageThatCannotBeDecryptedLeavesANoticeAndTheChatGoesOn(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toMatrix(room, ben, "from the phone 0")
	// However often it is sent again, nobody can read it.
	fault := must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "corrupt_enc", Identifier: s.identifier, Match: "message", Count: -1}))(t)
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "from the phone, unreadable"))(t)
	must(s.alice.Expect(s.ctx, "a notice in its place", func(e *parts.Event) bool {
		m := e.Message()
		return e.RoomID == room && e.Sender == s.Bot && m.MsgType == "m.notice" && strings.Contains(m.Body, "could not be decrypted")
	}))(t)
	s.ok(s.Gatekeeper.RemoveFault(s.ctx, fault))
	s.toMatrix(room, ben, "from the phone 1")
	if _, got := s.texts(room, "from the phone"); !slices.Equal(got, []string{"from the phone 0", "from the phone 1"}) {
		t.Errorf("the room shows %q", got)
	}
	notices := s.alice.Seen(func(e *parts.Event) bool {
		return e.RoomID == room && strings.Contains(e.Message().Body, "could not be decrypted")
	})
	if len(notices) != 1 {
		t.Errorf("%d notices of one message", len(notices))
	}
}

func TestANewPhoneOfTheOtherPersonIsSaidAndTheChatGoesOn(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "to the old phone")
	s.toMatrix(room, ben, "from the old phone")
	s.ok(s.Gatekeeper.Call(s.ctx, http.MethodPost, "/v1/users/"+url.PathEscape(ben.Phone)+"/reinstall", map[string]any{}, nil))
	s.roomShows(room, "a notice", func(e *parts.Event) bool {
		m := e.Message()
		return e.Sender == s.Bot && m.MsgType == "m.notice" && strings.Contains(m.Body, "encryption key has changed")
	})
	s.toPhone(room, ben, "to the new phone")
	s.toMatrix(room, ben, "from the new phone")
}
