package connector

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"
)

func TestGhostsLeaveRoomsWhoseChatsAreNoMoreAndNoOthers(t *testing.T) {
	w := newWorld(t)
	a := w.invitations()
	const former, formerToo, made id.RoomID = "!former:test", "!former-too:test", "!made:test"
	person, err := w.connector.bridge.GetUserByMXID(t.Context(), fakePerson)
	if err != nil {
		t.Fatal(err)
	}
	if err = person.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The framework remembers a chat whose rows were deleted with its account.
	portal, err := w.connector.bridge.GetPortalByKey(t.Context(), portalKey(w.account, "gone"))
	if err != nil {
		t.Fatal(err)
	}
	if portal.MXID = former; portal.Save(t.Context()) != nil {
		t.Fatal("not saved")
	}
	if cached, err := w.connector.bridge.GetPortalByMXID(t.Context(), former); err != nil || cached == nil {
		t.Fatal(cached, err)
	}
	if _, err = w.connector.db.Raw().Exec(t.Context(), "DELETE FROM portal WHERE mxid=$1", string(former)); err != nil {
		t.Fatal(err)
	}
	self := w.ghostOf(selfID(w.client.profile, w.account))
	joined := map[id.RoomID][]id.UserID{
		fakeRoom: {w.ghost, fakePerson}, managedRoom: {fakePerson}, former: {w.ghost, self, fakePerson}, formerToo: {fakePerson}, made: {fakePerson},
	}
	var looked []string
	w.matrix.mu.Lock()
	w.matrix.special = func(r *http.Request) any {
		if strings.HasSuffix(r.URL.Path, "/joined_rooms") {
			return map[string]any{"joined_rooms": []id.RoomID{fakeRoom, managedRoom, former, formerToo, made}}
		}
		if room, ok := strings.CutSuffix(r.URL.Path, "/joined_members"); ok {
			room = room[strings.LastIndex(room, "/")+1:]
			looked = append(looked, room)
			list := map[id.UserID]any{w.connector.matrix.Bot.UserID: map[string]any{}}
			for _, who := range joined[id.RoomID(room)] {
				list[who] = map[string]any{}
			}
			return map[string]any{"joined": list}
		}
		return nil
	}
	w.matrix.mu.Unlock()
	a.took()
	if err = w.connector.sweepStrays(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(a.took(), "; ")
	got = slices.DeleteFunc(got, func(s string) bool { return !strings.Contains(s, " leave ") })
	slices.Sort(got)
	want := []string{w.ghost.String() + " leave " + former.String(), self.String() + " leave " + former.String()}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("asked for %v", got)
	}
	if slices.Contains(looked, fakeRoom.String()) || slices.Contains(looked, managedRoom.String()) {
		t.Errorf("looked into %v", looked)
	}
	a.answer["leave"] = 500
	if err = w.connector.sweepStrays(t.Context()); err == nil {
		t.Error("a ghost that could not leave is not noticed")
	}
}
