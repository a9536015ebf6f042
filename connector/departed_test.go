package connector

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// homeserverSays is what a homeserver knows of the person.
type homeserverSays struct {
	mu          sync.Mutex
	deactivated any // true, false, or nil for no answer
	joined      map[string]bool
	name        string
	asked       []string // Authorization of each question to an administrator
	looked      chan struct{}
}

func (h *homeserverSays) set(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

func (h *homeserverSays) answer(r *http.Request) any {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/_synapse/admin/v2/users/"):
		h.asked = append(h.asked, r.Header.Get("Authorization"))
		select {
		case h.looked <- struct{}{}:
		default:
		}
		return map[string]any{"name": strings.TrimPrefix(path, "/_synapse/admin/v2/users/"), "deactivated": h.deactivated}
	case strings.Contains(path, "/state/m.room.member/"+fakePerson.String()):
		if h.joined[strings.Split(path, "/")[5]] {
			return map[string]any{"membership": "join"}
		}
		return map[string]any{"membership": "leave"}
	case strings.Contains(path, "/profile/"):
		return map[string]any{"displayname": h.name}
	}
	return nil
}

// departing prepares a world in which the person is in the chat's room, and gives what looks.
func (w *world) departing(token string) (*departures, *homeserverSays) {
	w.t.Helper()
	h := &homeserverSays{joined: map[string]bool{}, name: "Anna", looked: make(chan struct{}, 100)}
	w.matrix.mu.Lock()
	w.matrix.special = h.answer
	w.matrix.mu.Unlock()
	w.connector.Config.Departed.AdminToken = token
	w.connector.departures = newDepartures(w.connector, token, w.matrix)
	return w.connector.departures, h
}

// inRoom says what the bridge has seen of the person.
func (w *world) inRoom(m event.Membership) {
	w.t.Helper()
	if err := w.connector.matrix.StateStore.SetMembership(w.t.Context(), fakeRoom, fakePerson, m); err != nil {
		w.t.Fatal(err)
	}
}

// leaves says whether the account is being deleted, and why.
func (w *world) leaves() string {
	w.t.Helper()
	row, err := w.connector.db.Leavings().Get(w.t.Context(), w.account)
	if err != nil {
		w.t.Fatal(err)
	}
	if row == nil {
		return ""
	}
	return row.Reason
}

func (w *world) goneSince() int64 {
	w.t.Helper()
	meta, ok := w.client.login.Metadata.(*LoginMetadata)
	if !ok {
		w.t.Fatal("no metadata")
	}
	return meta.GoneSince
}

func TestWhoIsDeactivatedIsGoneAfterTheTimeOfGraceAndNobodyElse(t *testing.T) {
	w := newWorld(t)
	d, h := w.departing("admin")
	now, ctx := time.Now(), t.Context()
	grace := w.connector.Config.Departed.grace
	w.inRoom(event.MembershipLeave) // of all rooms: that alone says nothing
	h.set(func() { h.deactivated = false })
	d.look(ctx, now, nil)
	if w.goneSince() != 0 {
		t.Fatal("who is not deactivated counts as gone")
	}
	h.set(func() { h.deactivated = true })
	next := d.look(ctx, now, nil)
	if w.goneSince() != now.UnixMilli() || !next.Equal(now.Add(w.connector.Config.Departed.check)) && !next.Equal(time.UnixMilli(now.UnixMilli()).Add(grace)) {
		t.Fatalf("gone since %d, looked at again at %v", w.goneSince(), next)
	}
	// Back again, and gone again.
	h.set(func() { h.deactivated = false })
	d.look(ctx, now.Add(grace-time.Second), nil)
	if w.goneSince() != 0 {
		t.Fatal("who is back is gone still")
	}
	h.set(func() { h.deactivated = true })
	again := now.Add(2 * grace)
	d.look(ctx, again, nil)
	if w.leaves() != "" {
		t.Fatal("the time of grace was not waited for")
	}
	// No answer changes nothing: neither before nor after the time.
	for _, none := range []any{nil, "yes"} {
		h.set(func() { h.deactivated = none })
		if next = d.look(ctx, again.Add(2*grace), nil); !next.Equal(again.Add(2*grace + departedPause)) {
			t.Errorf("looked at again at %v", next)
		}
	}
	if w.goneSince() == 0 || w.leaves() != "" {
		t.Fatal("an answer that says nothing has changed something")
	}
	h.set(func() { h.deactivated = true })
	d.look(ctx, again.Add(grace), nil)
	if w.leaves() != reasonDeparted {
		t.Fatal("the account stays")
	}
	for _, token := range h.asked {
		if token != "Bearer admin" {
			t.Errorf("asked with %q", token)
		}
	}
	if len(w.waitingNotices()) > 0 {
		t.Errorf("somebody who is gone is told %v", w.waitingNotices())
	}
}

func TestSinceWhenSomebodyIsGoneIsKnownAfterARestart(t *testing.T) {
	w := newWorld(t)
	d, h := w.departing("admin")
	h.set(func() { h.deactivated = true })
	now := time.Now()
	d.look(t.Context(), now, nil)
	rows, err := w.connector.rows.UserLogin.GetAllForUser(t.Context(), fakePerson)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	if meta, ok := rows[0].Metadata.(*LoginMetadata); !ok || meta.GoneSince != now.UnixMilli() {
		t.Fatalf("on disk is %+v", rows[0].Metadata)
	}
	d.look(t.Context(), now.Add(-time.Hour), nil) // the clock was set back
	if w.goneSince() != now.Add(-time.Hour).UnixMilli() {
		t.Error("a clock that was set back makes the time of grace longer")
	}
}

func TestWithoutAnAdministratorsTokenOnlyWhoHasLeftEverythingAndHasNoProfileIsGone(t *testing.T) {
	w := newWorld(t)
	d, h := w.departing("")
	person, err := w.connector.bridge.GetUserByMXID(t.Context(), fakePerson)
	if err != nil {
		t.Fatal(err)
	}
	w.manages(person, managedRoom)
	now := time.Now()
	for name, c := range map[string]struct {
		seen   event.Membership
		joined string // room in which the homeserver sees the person
		name   string
		gone   bool
	}{
		"in their chat":                          {event.MembershipJoin, "", "", false},
		"left one chat, and not the bot":         {event.MembershipLeave, managedRoom.String(), "", false},
		"left everything, and has a name":        {event.MembershipLeave, "", "Anna", false},
		"the bridge has missed that they came":   {event.MembershipLeave, fakeRoom.String(), "", false},
		"left everything, and nothing of a name": {event.MembershipLeave, "", "", true},
	} {
		w.inRoom(c.seen)
		// What the homeserver said before is remembered; since then they have left.
		if err := w.connector.matrix.StateStore.SetMembership(t.Context(), managedRoom, fakePerson, event.MembershipLeave); err != nil {
			t.Fatal(err)
		}
		h.set(func() { h.name, h.joined = c.name, map[string]bool{c.joined: true} })
		d.look(t.Context(), now, map[id.UserID]bool{fakePerson: true})
		if gone := w.goneSince() != 0; gone != c.gone {
			t.Errorf("%s: gone is %v", name, gone)
		}
		if c.gone {
			list := w.waitingNotices()
			if len(list) != 1 || list[0].Room == managedRoom || !strings.Contains(string(list[0].Content), "join this chat before") {
				t.Errorf("%s: told %v", name, list)
			}
		}
		meta := w.client.login.Metadata.(*LoginMetadata)
		meta.GoneSince, meta.CalledBack = 0, 0
		w.manages(person, managedRoom)
	}
	if w.leaves() != "" {
		t.Error("an account is deleted at once")
	}
	d.look(t.Context(), now, map[id.UserID]bool{"@somebody:test": true})
	if len(h.asked) > 0 {
		t.Error("an administrator's question was asked without a token")
	}
}

func TestWhoLeavesARoomIsLookedAtAtOnce(t *testing.T) {
	w := newWorld(t)
	d, h := w.departing("admin")
	w.connector.Config.Departed.grace = 0
	h.set(func() { h.deactivated = false })
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.run(ctx) })
	defer running.Wait()
	defer cancel()
	looked := func() {
		t.Helper()
		select {
		case <-h.looked:
		case <-time.After(time.Minute):
			t.Fatal("nobody was looked at")
		}
	}
	looked() // at the start
	h.set(func() { h.deactivated = true })
	taken, err := w.connector.member(ctx, membership(fakePerson, fakePerson, fakeRoom, event.MembershipLeave, false))
	if taken || err != nil {
		t.Fatal(taken, err)
	}
	looked()
	select {
	case <-w.connector.leavings.kick: // the wish is stored
	case <-time.After(time.Minute):
		t.Fatal("the account stays")
	}
	if w.leaves() != reasonDeparted {
		t.Fatal("the account stays")
	}
}

// manages makes a room somebody's chat with the bot.
func (w *world) manages(person *bridgev2.User, room id.RoomID) {
	w.t.Helper()
	person.ManagementRoom = room
	if err := person.Save(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}
