package connector

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/admin"
	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/connector/words"
	"postern/database"
	"postern/database/databasetest"
)

// notices are those that wait to be sent, by their rooms.
func (w *world) waitingNotices() (list []matrixdurable.Notice) {
	w.t.Helper()
	list, err := notices{w.connector.db.Notices()}.Notices(w.t.Context(), 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func plainText(s string) *waE2E.Message { return &waE2E.Message{Conversation: &s} }

func TestWhatMatrixRefusesIsToldWithWhatCanBeDone(t *testing.T) {
	for status, want := range map[int]struct{ reason, part string }{
		http.StatusRequestEntityTooLarge: {"too_large", "smaller pieces"},
		http.StatusForbidden:             {"forbidden", "in the room and may write"},
	} {
		w := newWorld(t)
		w.matrix.setBefore(func(r *http.Request) int {
			if strings.Contains(r.URL.Path, "/send/") {
				return status
			}
			return 0
		})
		for range 2 { // the operator has it tried again, and the person is not told twice
			err := w.client.Deliver(t.Context(), w.inbound("A", plainText("hello")))
			var rejected *interop.Rejected
			if !errors.As(err, &rejected) || rejected.Reason != want.reason {
				t.Fatalf("%d: %v", status, err)
			}
		}
		list := w.waitingNotices()
		if len(list) != 1 || list[0].Room != fakeRoom || !strings.Contains(string(list[0].Content), want.part) ||
			!strings.Contains(string(list[0].Content), fakePerson.String()) {
			t.Errorf("%d: notices %+v", status, list)
		}
	}
}

// A chat whose room cannot be made has no place for the notice: the management room has it.
func TestAMessageOfAChatWithoutARoomIsToldInTheManagementRoom(t *testing.T) {
	w := newWorld(t)
	user, err := w.connector.bridge.GetExistingUserByMXID(t.Context(), fakePerson)
	if err != nil {
		t.Fatal(err)
	}
	user.ManagementRoom = "!management:test"
	portal, err := w.connector.bridge.GetPortalByKey(t.Context(), portalKey(w.account, w.peer.Chat))
	if err != nil {
		t.Fatal(err)
	}
	portal.MXID = ""
	w.matrix.setBefore(func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/createRoom") {
			return http.StatusForbidden
		}
		return 0
	})
	var rejected *interop.Rejected
	if err = w.client.Deliver(t.Context(), w.inbound("A", plainText("hello"))); !errors.As(err, &rejected) {
		t.Fatalf("delivery: %v", err)
	}
	if list := w.waitingNotices(); len(list) != 1 || list[0].Room != "!management:test" || !strings.Contains(string(list[0].Content), "make a room") {
		t.Errorf("notices %+v", list)
	}
}

// A notice whose own room does not take it goes to the management room of whom it is for.
func TestANoticeThatItsRoomDoesNotTakeGoesToTheManagementRoom(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	user, err := w.connector.bridge.GetExistingUserByMXID(ctx, fakePerson)
	if err != nil {
		t.Fatal(err)
	}
	user.ManagementRoom = "!management:test"
	notice, err := matrixdurable.ReplyNotice("x", fakeRoom, "$1", fakePerson, "Your message was not delivered.")
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.connector.elsewhere(ctx, notice)
	if err != nil || other == nil {
		t.Fatal(other, err)
	}
	if other.Room != "!management:test" || other.ID == notice.ID || strings.Contains(string(other.Content), "m.in_reply_to") ||
		!strings.Contains(string(other.Content), "was not delivered") || !strings.Contains(string(other.Content), fakeRoom.String()) {
		t.Errorf("notice %+v: %s", other, other.Content)
	}
	if again, err := w.connector.elsewhere(ctx, notice); err != nil || again == nil || again.ID != other.ID {
		t.Errorf("the same notice has another identity the second time: %+v (%v)", again, err)
	}
	if next, err := w.connector.elsewhere(ctx, *other); next != nil || err != nil {
		t.Errorf("the management room does not take it, and it goes to %+v (%v)", next, err)
	}
	nobody, err := matrixdurable.ReplyNotice("x", fakeRoom, "", "", "Hello.")
	if err != nil {
		t.Fatal(err)
	}
	if next, err := w.connector.elsewhere(ctx, nobody); next != nil || err != nil {
		t.Errorf("a notice for nobody goes to %+v (%v)", next, err)
	}
}

// However the homeserver answers, there is one word before the message and one message.
func TestALateMessageIsShownOnceWithAWordBeforeIt(t *testing.T) {
	for name, trouble := range map[string]func(w *world){
		"all goes well": func(*world) {},
		"the answer to the word is lost": func(w *world) {
			n := 0
			w.matrix.setAfter(func(r *http.Request) int {
				if strings.Contains(r.URL.Path, "/send/") {
					if n++; n == 1 {
						return -1
					}
				}
				return 0
			})
		},
		"the answer to the message is lost, and the homeserver forgets": func(w *world) {
			n := 0
			w.matrix.setAfter(func(r *http.Request) int {
				if strings.Contains(r.URL.Path, "/send/") {
					if n++; n == 2 {
						clear(w.matrix.txns)
						return -1
					}
				}
				return 0
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.say("A", "first")
			trouble(w)
			in := w.inbound("B", plainText("late words"))
			in.Late = true
			for range 5 {
				if err := w.client.Deliver(t.Context(), in); err == nil {
					break
				}
			}
			w.say("C", "last")
			w.expect("m.room.message first", "m.room.message comes late", "m.room.message late words", "m.room.message last")
		})
	}
}

func TestADamagedMessageIsANoticeInItsRoom(t *testing.T) {
	w := newWorld(t)
	in := w.inbound("A", plainText("x"))
	in.Kind, in.Reason, in.Message, in.Raw = interop.KindUndecryptable, interop.ReasonUnstored, nil, nil
	if err := w.client.Deliver(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	w.expect("m.room.message damaged on the bridge's disk")
	if said := failureWords(words.For("en"), interop.ReasonDamaged, "WhatsApp"); !strings.Contains(said, "damaged") {
		t.Errorf("of an outgoing one: %q", said)
	}
}

// askAdmin is a client of a bridge's admin requests.
func (w *world) askAdmin() *admin.Client {
	w.t.Helper()
	server := httptest.NewServer(w.connector.matrix.AS.Router)
	w.t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	port, err := strconv.ParseUint(at.Port(), 10, 16)
	if err != nil {
		w.t.Fatal(err)
	}
	secret, err := admin.Secret(w.key[:])
	if err != nil {
		w.t.Fatal(err)
	}
	return admin.NewClient(at.Hostname(), uint16(port), secret)
}

// buryIn makes a message a dead letter, and returns its id.
func buryIn(t *testing.T, db *database.DB, store interop.Store, chat, stanza, reason string) string {
	t.Helper()
	payload, err := proto.Marshal(plainText("words of " + stanza))
	if err != nil {
		t.Fatal(err)
	}
	row := &interop.InRow{Seq: 1, Chat: chat, ID: stanza, Kind: interop.KindMessage, Payload: payload, Received: 1}
	if err = store.InsertInbound(t.Context(), row); err == nil {
		err = store.BuryInbound(t.Context(), row, reason, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := store.DeadLetters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list[slices.IndexFunc(list, func(l *interop.Letter) bool { return !l.Outgoing && l.Reason == reason })].ID
}

func outcomes(results []admin.Result) (list []admin.Outcome) {
	for _, r := range results {
		list = append(list, r.Outcome)
	}
	return list
}

func TestTheOperatorSeesRetriesAndDropsDeadLettersOfARunningBridge(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	client := w.askAdmin()
	store := NewAccountStore(w.connector.db, w.account, "whatsapp")
	one := buryIn(t, w.connector.db, store, w.peer.Chat, "A", "forbidden")
	two := buryIn(t, w.connector.db, store, w.peer.Chat, "B", "too_large")
	err := store.InsertOutbound(ctx, []*interop.OutRow{{Seq: 5, Chat: w.peer.Chat, EventID: "$e", StanzaID: "S", Type: "text", Parts: 1, Plaintext: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = store.FailOutbound(ctx, "S", interop.ReasonBlocked, 403, 2); err != nil {
		t.Fatal(err)
	}
	list, err := client.DeadLetters(ctx, "", 0, 10)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	failed := list[2]
	if failed.Direction != admin.Outgoing || failed.Retryable || failed.Reason != "blocked" || failed.Code != 403 || failed.Account != w.account {
		t.Errorf("the failed event is %+v", failed)
	}
	if _, err = client.RetryDeadLetters(ctx, []string{one}); !errors.Is(err, admin.ErrNotReady) {
		t.Errorf("while it starts: %v", err)
	}
	w.connector.taking.Store(true)
	for i, c := range []struct {
		do   func(ctx context.Context, ids []string) ([]admin.Result, error)
		want []admin.Outcome
	}{
		{client.RetryDeadLetters, []admin.Outcome{admin.Retried, admin.Final, admin.Unknown}},
		{client.RetryDeadLetters, []admin.Outcome{admin.Waiting, admin.Final, admin.Unknown}},
		{client.DropDeadLetters, []admin.Outcome{admin.Waiting, admin.Dropped, admin.Unknown}},
	} {
		results, err := c.do(ctx, []string{one, failed.ID, "nobody"})
		if err != nil || !slices.Equal(outcomes(results), c.want) {
			t.Errorf("%d: %v (%v), want %v", i, results, err, c.want)
		}
	}
	if list, err = client.DeadLetters(ctx, w.account, 0, 10); err != nil || len(list) != 1 || list[0].ID != two {
		t.Errorf("left are %+v (%v)", list, err)
	}
	if list, err = client.DeadLetters(ctx, "somebody", 0, 10); err != nil || len(list) != 0 {
		t.Errorf("of another account: %+v (%v)", list, err)
	}
}

func TestTheOperatorSeesToDeadLettersWithoutABridge(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		ctx := t.Context()
		db := databasetest.Open(t, cfg)
		store := NewAccountStore(db, newTestAccount(t, db), "whatsapp")
		peer, err := store.PeerByJID(ctx, testPeer)
		if err != nil {
			t.Fatal(err)
		}
		good := buryIn(t, db, store, peer.Chat, "A", "forbidden")
		bad := buryIn(t, db, store, peer.Chat, "B", "too_large")
		if _, err = db.Raw().Exec(ctx, "UPDATE postern_in SET payload=$1 WHERE item_id='B'", make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		holder, err := db.AcquireLease(ctx, "a bridge")
		if err != nil {
			t.Fatal(err)
		}
		var held *database.LeaseHeldError
		if _, _, err = OpenAdmin(ctx, cfg.Dialect, cfg.URI, cfg.MasterKey, zerolog.Nop()); !errors.As(err, &held) {
			t.Errorf("beside a bridge: %v", err)
		}
		if err = holder.Release(); err != nil {
			t.Fatal(err)
		}
		service, closer, err := OpenAdmin(ctx, cfg.Dialect, cfg.URI, cfg.MasterKey, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		results, err := service.RetryDeadLetters(ctx, []string{good, bad, good})
		if want := []admin.Outcome{admin.Retried, admin.Damaged, admin.Waiting}; err != nil || !slices.Equal(outcomes(results), want) {
			t.Errorf("retry: %v (%v), want %v", results, err, want)
		}
		if results, err = service.DropDeadLetters(ctx, []string{bad}); err != nil || outcomes(results)[0] != admin.Dropped {
			t.Errorf("drop: %v (%v)", results, err)
		}
		if err = closer.Close(); err != nil {
			t.Error(err)
		}
		rows, err := store.PendingInbound(ctx, peer.Chat, 0, 10)
		if err != nil || len(rows) != 1 || rows[0].ID != "A" || !rows[0].Late {
			t.Errorf("pending %+v (%v)", rows, err)
		}
	})
	_, _, err := OpenAdmin(t.Context(), "sqlite3-fk-wal", filepath.Join(t.TempDir(), "none.db"), [32]byte{}, zerolog.Nop())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a database: %v", err)
	}
}
