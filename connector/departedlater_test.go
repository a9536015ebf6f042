package connector

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// vanished is a world whose person seems to be gone, on a homeserver that does not answer administrators.
func vanished(t *testing.T) (*world, *departures, *bridgev2.User) {
	w := newWorld(t)
	d, h := w.departing("")
	person, err := w.connector.bridge.GetUserByMXID(t.Context(), fakePerson)
	if err != nil {
		t.Fatal(err)
	}
	w.manages(person, managedRoom)
	w.inRoom(event.MembershipLeave)
	if err := w.connector.matrix.StateStore.SetMembership(t.Context(), managedRoom, fakePerson, event.MembershipLeave); err != nil {
		t.Fatal(err)
	}
	h.set(func() { h.name = "" })
	return w, d, person
}

func TestAnAccountStaysUntilItsPersonWasCalledBackAndHadTheTimeOfGraceSince(t *testing.T) {
	w, d, _ := vanished(t)
	grace := w.connector.Config.Departed.grace
	status := http.StatusTeapot
	w.matrix.setBefore(func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "createRoom") {
			return status
		}
		return 0
	})
	now := time.Now()
	d.look(t.Context(), now, nil)
	now = now.Add(grace + time.Hour)
	d.look(t.Context(), now, nil)
	status = http.StatusForbidden
	d.look(t.Context(), now, nil)
	if w.leaves() != "" || len(w.waitingNotices()) > 0 {
		t.Fatal("the account is deleted, and its person was not called back")
	}
	w.matrix.setBefore(nil)
	d.look(t.Context(), now, nil)
	if n := len(w.waitingNotices()); n != 1 || w.leaves() != "" {
		t.Fatalf("called back %d times; leaves %q", n, w.leaves())
	}
	d.look(t.Context(), now.Add(grace-time.Hour), nil)
	if w.leaves() != "" {
		t.Fatal("the time of grace began before the invitation")
	}
	if d.look(t.Context(), now.Add(grace), nil); w.leaves() != reasonDeparted || len(w.waitingNotices()) != 1 {
		t.Errorf("leaves %q, told %v", w.leaves(), w.waitingNotices())
	}
}

func TestWhoHasTwoLoginsIsCalledBackOnceForBothIntoOneChat(t *testing.T) {
	w, d, person := vanished(t)
	if _, err := person.NewLogin(t.Context(), &frameworkdb.UserLogin{ID: "another", Metadata: &LoginMetadata{Gatekeeper: "whatsapp"}}, nil); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	d.look(t.Context(), now, nil)
	d.look(t.Context(), now, nil)
	rooms := 0
	w.matrix.mu.Lock()
	for _, call := range w.matrix.calls {
		if strings.Contains(call, "createRoom") {
			rooms++
		}
	}
	w.matrix.mu.Unlock()
	if n := len(w.waitingNotices()); rooms != 1 || n != 1 {
		t.Errorf("invited into %d rooms and told %d times", rooms, n)
	}
}

func TestUsersOfOtherHomeserversAreNotAskedAboutAndWhoFailedAloneIsLookedAtSoon(t *testing.T) {
	w := newWorld(t)
	d, h := w.departing("admin")
	const remote id.UserID = "@remote:far.test"
	user, err := w.connector.bridge.GetUserByMXID(t.Context(), remote)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = user.NewLogin(t.Context(), &frameworkdb.UserLogin{ID: "remote", Metadata: &LoginMetadata{Gatekeeper: "whatsapp"}}, nil); err != nil {
		t.Fatal(err)
	}
	h.set(func() { h.deactivated = false })
	now := time.Now()
	if next := d.look(t.Context(), now, nil); !next.Equal(now.Add(w.connector.Config.Departed.check)) {
		t.Errorf("looked at again after %v", next.Sub(now))
	}
	if len(h.asked) != 1 {
		t.Errorf("the homeserver was asked about %d people", len(h.asked))
	}
	h.set(func() { h.deactivated = nil }) // no answer
	if next := d.look(t.Context(), now, nil); !next.Equal(now.Add(departedPause)) {
		t.Errorf("looked at again after %v", next.Sub(now))
	}
	if who := d.due(now.Add(departedPause)); len(who) != 1 || !who[fakePerson] {
		t.Errorf("due are %v", who)
	}
}
