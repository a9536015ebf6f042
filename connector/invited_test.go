package connector

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// watched are the requests that somebody of ours sends about rooms: "who action room".
type watched struct {
	mu     sync.Mutex
	list   []string
	answer map[string]int // by action
}

func (a *watched) watch(r *http.Request) int {
	steps := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case len(steps) > 5 && steps[3] == "rooms" && r.Method == http.MethodPost:
		a.list = append(a.list, r.URL.Query().Get("user_id")+" "+steps[5]+" "+steps[4])
		return a.answer[steps[5]]
	case len(steps) > 4 && steps[3] == "join":
		a.list = append(a.list, r.URL.Query().Get("user_id")+" join "+steps[4])
		return a.answer["join"]
	case len(steps) > 3 && steps[3] == "register":
		a.list = append(a.list, "register")
	}
	return 0
}

// took returns what was asked and forgets it.
func (a *watched) took() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := strings.Join(a.list, "; ")
	a.list = nil
	return list
}

const (
	elsewhereRoom id.RoomID = "!elsewhere:test"
	managedRoom   id.RoomID = "!managed:test"
	strangerMXID  id.UserID = "@stranger:far.test"
	guestMXID     id.UserID = "@guest:test"
)

// membership is a membership event as the homeserver brings it.
func membership(sender, who id.UserID, room id.RoomID, m event.Membership, direct bool) *event.Event {
	key := who.String()
	return &event.Event{
		Type: event.StateMember, ID: id.EventID("$" + string(m) + who.String() + room.String()), RoomID: room, Sender: sender, StateKey: &key,
		Content: event.Content{Parsed: &event.MemberEventContent{Membership: m, IsDirect: direct}},
	}
}

// invitations prepares a world for them.
func (w *world) invitations() *watched {
	w.t.Helper()
	a := &watched{answer: map[string]int{}}
	w.matrix.setBefore(a.watch)
	ctx := w.t.Context()
	stranger, err := w.connector.bridge.GetUserByMXID(ctx, strangerMXID)
	if err != nil {
		w.t.Fatal(err)
	}
	stranger.Permissions = bridgeconfig.PermissionLevelBlock
	person, err := w.connector.bridge.GetUserByMXID(ctx, fakePerson)
	if err != nil {
		w.t.Fatal(err)
	}
	person.ManagementRoom = managedRoom
	return a
}

// ghostOf is the ghost of a contact, or of anything.
func (w *world) ghostOf(what networkid.UserID) id.UserID {
	return w.connector.matrix.FormatGhostMXID(what)
}

func TestAGhostComesIntoNoRoomButItsChatsWhoeverInvitesItAndHow(t *testing.T) {
	w := newWorld(t)
	// What is asked of a ghost elsewhere is the same before and after a restart.
	for _, round := range []string{"before", "after"} {
		a := w.invitations()
		self := w.ghostOf(selfID(w.client.profile, w.account))
		unknown, another := w.ghostOf("wa-nobody"), w.ghostOf("wa-another")
		bot := w.connector.matrix.Bot.UserID
		for name, c := range map[string]struct {
			evt    *event.Event
			taken  bool
			asks   string
			notice string // in the inviter's management room
		}{
			"a stranger into a group":               {membership(strangerMXID, w.ghost, elsewhereRoom, event.MembershipInvite, false), true, "leave", ""},
			"a stranger into a direct chat":         {membership(strangerMXID, w.ghost, elsewhereRoom, event.MembershipInvite, true), true, "leave", ""},
			"a user who has not joined":             {membership(guestMXID, w.ghost, elsewhereRoom, event.MembershipInvite, true), true, "leave", ""},
			"a user who has, into a group":          {membership(fakePerson, w.ghost, elsewhereRoom, event.MembershipInvite, false), true, "leave", "cannot be brought into rooms"},
			"a direct chat with a contact":          {membership(fakePerson, w.ghost, elsewhereRoom, event.MembershipInvite, true), true, "leave", "which is here"},
			"a direct chat with nobody they know":   {membership(fakePerson, another, elsewhereRoom, event.MembershipInvite, true), true, "leave", "start-chat"},
			"a ghost that was never made":           {membership(strangerMXID, unknown, elsewhereRoom, event.MembershipInvite, true), true, "leave", ""},
			"the login's own ghost":                 {membership(guestMXID, self, elsewhereRoom, event.MembershipInvite, true), true, "leave", ""},
			"into the management room":              {membership(fakePerson, w.ghost, managedRoom, event.MembershipInvite, false), true, "leave", "cannot be brought into rooms"},
			"another contact's chat":                {membership(fakePerson, another, fakeRoom, event.MembershipInvite, false), true, "leave", "cannot be brought into rooms"},
			"put into a room by an administrator":   {membership(w.ghost, w.ghost, elsewhereRoom, event.MembershipJoin, false), true, "leave", ""},
			"its own chat, by the bridge":           {membership(bot, w.ghost, fakeRoom, event.MembershipInvite, false), false, "", ""},
			"its own chat, joining":                 {membership(w.ghost, w.ghost, fakeRoom, event.MembershipJoin, false), false, "", ""},
			"the login's own ghost in its own chat": {membership(bot, self, fakeRoom, event.MembershipInvite, false), false, "", ""},
			"somebody else":                         {membership(fakePerson, guestMXID, elsewhereRoom, event.MembershipInvite, false), false, "", ""},
			"leaving":                               {membership(w.ghost, w.ghost, elsewhereRoom, event.MembershipLeave, false), false, "", ""},
		} {
			before := len(w.waitingNotices())
			c.evt.ID += id.EventID(name + round)
			taken, err := w.connector.member(t.Context(), c.evt)
			if err != nil || taken != c.taken {
				t.Errorf("%s: taken %v, %v", name, taken, err)
			}
			want := ""
			if c.asks != "" {
				want = *c.evt.StateKey + " " + c.asks + " " + c.evt.RoomID.String()
			}
			if got := a.took(); got != want && !strings.HasPrefix(got, want+"; ") || strings.Contains(got, "register") || strings.Contains(got, "join "+elsewhereRoom.String()) {
				t.Errorf("%s: asked for %q", name, got)
			}
			list := w.waitingNotices()[before:]
			if c.notice == "" && len(list) > 0 || c.notice != "" && (len(list) != 1 || list[0].Room != managedRoom || !strings.Contains(string(list[0].Content), c.notice)) {
				t.Errorf("%s: told %v", name, list)
			}
			for _, n := range list {
				if err := w.connector.db.Notices().SetSent(t.Context(), n.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.restart()
	}
}

func TestAGhostThatWasRemovedFromItsChatComesBackWhenItIsInvited(t *testing.T) {
	w := newWorld(t)
	a := w.invitations()
	evt := membership(fakePerson, w.ghost, fakeRoom, event.MembershipInvite, false)
	if err := w.connector.matrix.StateStore.SetMembership(t.Context(), fakeRoom, w.ghost, event.MembershipInvite); err != nil {
		t.Fatal(err)
	}
	if taken, err := w.connector.member(t.Context(), evt); err != nil || !taken {
		t.Fatalf("taken %v, %v", taken, err)
	}
	if got := a.took(); !strings.Contains(got, w.ghost.String()+" join "+fakeRoom.String()) {
		t.Errorf("asked for %q", got)
	}
}

func TestAnInvitationIsDeclinedThoughTheHomeserverIsAwayForAWhile(t *testing.T) {
	w := newWorld(t)
	a := w.invitations()
	evt := membership(strangerMXID, w.ghost, elsewhereRoom, event.MembershipInvite, false)
	for _, status := range []int{500, 502, 503} {
		a.answer["leave"] = status
		if _, err := w.connector.member(t.Context(), evt); err == nil {
			t.Errorf("after %d it is not tried again", status)
		}
	}
	for _, status := range []int{403, 0} { // it was taken back; it is declined
		a.answer["leave"] = status
		if taken, err := w.connector.member(t.Context(), evt); err != nil || !taken {
			t.Errorf("after %d: taken %v, %v", status, taken, err)
		}
	}
}

func TestTheBotSpeaksWithOnePersonAloneAndOnlyWithWhoMayCommandIt(t *testing.T) {
	w := newWorld(t)
	a := w.invitations()
	bot := w.connector.matrix.Bot.UserID
	relay, err := w.connector.bridge.GetUserByMXID(t.Context(), "@relay:test")
	if err != nil {
		t.Fatal(err)
	}
	relay.Permissions = bridgeconfig.PermissionLevelRelay
	for name, c := range map[string]struct {
		sender id.UserID
		room   id.RoomID
		others []id.UserID
		taken  bool
		asks   []string
	}{
		"a stranger":                  {strangerMXID, "!1:test", nil, true, []string{"leave"}},
		"who may not command":         {relay.MXID, "!2:test", nil, true, []string{"leave"}},
		"a user, alone":               {guestMXID, "!3:test", []id.UserID{guestMXID}, true, []string{"join"}},
		"a user, with somebody":       {guestMXID, "!4:test", []id.UserID{guestMXID, strangerMXID}, true, []string{"join", "leave"}},
		"a user's chat":               {fakePerson, fakeRoom, nil, false, nil},
		"a user with a ghost invited": {fakePerson, "!5:test", []id.UserID{fakePerson, w.ghost}, true, []string{"join", "leave"}},
	} {
		store := w.connector.matrix.StateStore
		for _, who := range append(c.others, bot) {
			m := event.MembershipJoin
			if who == bot || who == strangerMXID {
				m = event.MembershipInvite
			}
			if c.room != fakeRoom {
				if err := store.SetMembership(t.Context(), c.room, who, m); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := store.MarkMembersFetched(t.Context(), c.room); err != nil {
			t.Fatal(err)
		}
		a.took()
		taken, err := w.connector.member(t.Context(), membership(c.sender, bot, c.room, event.MembershipInvite, true))
		if err != nil || taken != c.taken {
			t.Errorf("%s: taken %v, %v", name, taken, err)
		}
		var want []string
		for _, action := range c.asks {
			want = append(want, bot.String()+" "+action+" "+c.room.String())
		}
		got := strings.Split(a.took(), "; ")
		if got = slices.Compact(got); strings.Join(got, "; ") != strings.Join(want, "; ") {
			t.Errorf("%s: asked for %q", name, got)
		}
	}
}
