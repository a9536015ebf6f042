package e2e_test

import (
	"net/http"
	"slices"
	"testing"
)

// TestAliceIsForgottenComesBackIntoHerRoomsAndLeavesForGood: a gatekeeper forgets who has not connected for 30 days (PROTOCOL.md 8.1). The
// first time the bridge enlists alice again by itself and says so; the second time on one day it asks her. Each time her chat goes on in the
// room that it has. Then she leaves, and nobody there knows her any more.
func TestAliceIsForgottenComesBackIntoHerRoomsAndLeavesForGood(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben, k := s.phone("Ben", true), &talk{s: s, who: s.person, room: s.management}
	room := s.startChat(ben)
	goesOn := func(words string) {
		t.Helper()
		s.toPhone(room, ben, words+", says alice")
		s.toMatrix(room, ben, words+", says Ben")
	}
	goesOn("before")

	s.forgets()
	k.hears("has enlisted you again")
	goesOn("enlisted again")

	s.forgets()
	k.hears("please log in again")
	k.says("login " + s.Gatekeeper.Info.Profile)
	k.asked("read this before you agree")
	k.says("agree")
	k.hears("you are on")
	goesOn("logged in again")
	if rooms := s.roomsOf(s.ghostIn(room, ben)); !slices.Equal(rooms, []string{room}) {
		t.Errorf("alice's rooms with Ben are %v, and the first was %s", rooms, room)
	}

	k.says("logout")
	k.hears("has deleted your account")
	s.gone(s.identifier)
	s.botSays(room, "You have logged out")
	if _, err := s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "still there?"); err == nil {
		t.Error("Ben can write to somebody who has left")
	}
}

// forgets makes the gatekeeper forget alice.
func (s *scene) forgets() {
	s.t.Helper()
	s.ok(s.Gatekeeper.Call(s.ctx, http.MethodPost, "/v1/partners/unenlist", map[string]any{"to": s.identifier}, nil))
}

// roomsOf are alice's rooms in which ghost is.
func (s *scene) roomsOf(ghost string) (rooms []string) {
	s.t.Helper()
	for _, room := range s.joined(s.person) {
		if s.members(s.person, room)[ghost] == "join" {
			rooms = append(rooms, room)
		}
	}
	return rooms
}
