package connector

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
	"postern/database"
)

// newRoom is the room that the homeserver makes after the first.
const newRoom id.RoomID = "!new:test"

// closing presses a client's button for deleting the chat, and calls during when the bot is about to leave the room, the last of all.
func (w *world) closing(during func()) {
	w.t.Helper()
	left := false
	w.matrix.mu.Lock()
	w.matrix.special = func(r *http.Request) any {
		if strings.HasSuffix(r.URL.Path, "/createRoom") {
			return map[string]any{"room_id": newRoom}
		}
		return nil
	}
	w.matrix.before = func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/leave") && !left {
			left = true
			during()
		}
		return 0
	}
	w.matrix.mu.Unlock()
	w.fromPerson("$delete", "com.beeper.delete_chat", map[string]any{})
	w.matrix.mu.Lock()
	defer w.matrix.mu.Unlock()
	if w.matrix.before = nil; !left {
		w.t.Fatal("nobody has left the room")
	}
}

// TestWhoIsAcceptedWhileTheirRoomIsBeingDeletedGetsANewRoom, whether they were declined by that or only their room went, and whether it is the
// person who opens it or a message.
func TestWhoIsAcceptedWhileTheirRoomIsBeingDeletedGetsANewRoom(t *testing.T) {
	for what, policy := range map[string]string{"declined": requestsAsk, "accepted before": requestsAccept} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.asks(policy)
			if err := w.knocks("A", saying("hello")); err != nil && !errors.Is(err, interop.ErrQuiet) {
				t.Fatal(err)
			}
			type answer struct {
				portal *bridgev2.Portal
				err    error
			}
			answers := make(chan answer, 1)
			w.closing(func() {
				ch := w.client.chats.get(w.peer.Chat)
				if ch.mu.TryLock() {
					ch.mu.Unlock()
					t.Error("whoever opens the chat's room now finds the one that is being deleted")
				}
				go func() {
					var got answer
					if _, got.err = w.client.requests.accept(t.Context(), w.peer.Chat); got.err == nil {
						got.portal, got.err = w.client.openAgain(t.Context(), w.peer.Chat)
					}
					answers <- got
				}()
			})
			got := <-answers
			if got.err != nil || got.portal.MXID != newRoom {
				t.Errorf("opened: %+v", got)
			}
			if row := w.request(); row.State != database.RequestAccepted || row.Closing {
				t.Errorf("the request is %+v", row)
			}
			portal, err := w.connector.bridge.GetPortalByKey(t.Context(), portalKey(w.account, w.peer.Chat))
			if err != nil || portal.MXID != newRoom {
				t.Errorf("the chat's room is %+v, %v", portal, err)
			}
		})
	}
}

// TestADeletionThatComesAfterTheAcceptanceDeclinesNobody: which of the two came first is known.
func TestADeletionThatComesAfterTheAcceptanceDeclinesNobody(t *testing.T) {
	w := newWorld(t)
	w.asks(requestsAsk)
	if err := w.knocks("A", saying("hello")); !errors.Is(err, interop.ErrQuiet) {
		t.Fatal(err)
	}
	if _, err := w.client.requests.accept(t.Context(), w.peer.Chat); err != nil {
		t.Fatal(err)
	}
	w.closing(func() {})
	if row := w.request(); row.State != database.RequestAccepted || row.Closing {
		t.Errorf("the request is %+v", row)
	}
	if list, err := w.connector.bridge.GetAllPortalsWithMXID(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%d rooms are left, %v", len(list), err)
	}
}

// TestARoomThatIsClosedSlowlyHoldsUpNobodysChores: while the homeserver hangs, closings and rooms that have to be made wait for it, and what asks
// the database alone goes on.
func TestARoomThatIsClosedSlowlyHoldsUpNobodysChores(t *testing.T) {
	for what, x := range map[string]struct {
		prepare func(w *world)
		asks    string // the request that the homeserver does not answer
	}{
		"a room to close": {func(w *world) {
			if err := w.client.requests.decideDecline(w.t.Context(), w.peer.Chat); err != nil {
				w.t.Fatal(err)
			}
		}, "/kick"},
		"somebody without a room with the bot, of whom a consent is asked": {func(w *world) {}, "/createRoom"},
		"and whose keys were renewed": {func(w *world) {
			if _, err := w.running.db.Exec(w.t.Context(), "INSERT INTO postern_signal_counter (account_id, next_prekey, next_signed_prekey, untold) VALUES ($1, 1, 1, 'now') "+
				"ON CONFLICT (account_id) DO UPDATE SET untold='now'", w.account); err != nil {
				w.t.Fatal(err)
			}
		}, "/createRoom"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.client.arrivals.close() // the fixture's own
			x.prepare(w)
			hangs, release := make(chan struct{}), make(chan struct{})
			first := true
			w.matrix.setBefore(func(r *http.Request) int {
				if strings.HasSuffix(r.URL.Path, x.asks) && first {
					first = false
					close(hangs)
					<-release
				}
				return 0
			})
			w.connector.chores.size = 1
			w.client.Connect(t.Context())
			t.Cleanup(w.client.Disconnect)
			<-hangs
			done := make(chan struct{})
			w.connector.chores.do(func() { close(done) })
			select {
			case <-done:
			case <-time.After(30 * time.Second):
				t.Error("the chore of somebody else waits for the homeserver")
			}
			close(release)
		})
	}
}
