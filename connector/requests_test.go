package connector

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/interop"
	"postern/connector/jid"
	"postern/database"
)

// asks makes the bridge ask about first contacts.
func (w *world) asks(policy string) { w.connector.Config.Requests.Policy = policy }

// knocks hands a message over and returns what interop is told.
func (w *world) knocks(stanza string, msg *waE2E.Message) error {
	w.t.Helper()
	return w.client.Deliver(w.t.Context(), w.inbound(stanza, msg))
}

func saying(s string) *waE2E.Message { return &waE2E.Message{Conversation: proto.String(s)} }

func (w *world) request() *database.Request {
	w.t.Helper()
	row, err := w.connector.db.Requests().Get(w.t.Context(), w.account, w.peer.Chat)
	if err != nil {
		w.t.Fatal(err)
	}
	return row
}

func TestAnAttachmentOfSomebodyWhoAsksIsNotLoadedBeforeTheyAreAccepted(t *testing.T) {
	w := newWorld(t)
	w.asks(requestsAsk)
	picture := png(640, 480)
	const path = "/v/t/asked.enc"
	msg := w.host.image(t, path, "look", picture)
	if err := w.knocks("A", msg); !errors.Is(err, interop.ErrQuiet) {
		t.Fatalf("delivered: %v", err)
	}
	list := w.expect("m.room.message not loaded")
	if said := body(list[0]); !strings.Contains(said, "look") || !strings.Contains(said, "KiB") && !strings.Contains(said, " bytes)") {
		t.Errorf("the placeholder says %q", said)
	}
	w.restart()
	w.asks(requestsAsk)
	if err := w.knocks("A", msg); !errors.Is(err, interop.ErrQuiet) {
		t.Fatalf("delivered again: %v", err)
	}
	if w.expect("m.room.message not loaded"); w.host.times(path) != 0 {
		t.Fatal("it was loaded")
	}
	if _, err := w.client.requests.accept(t.Context(), w.peer.Chat); err != nil {
		t.Fatal(err)
	}
	list = w.matrix.await(t, func(events []*fakeEvent) bool { return len(events) == 2 })
	if !bytes.Equal(w.file(newContent(list[1])), picture) {
		t.Error("the homeserver has another file")
	}
	if err := w.knocks("B", saying("thank you")); err != nil {
		t.Errorf("after it was accepted: %v", err)
	}
}

func TestWhoIsDeclinedOrRefusedIsCountedAndMayBeAcceptedLater(t *testing.T) {
	w := newWorld(t)
	w.asks(requestsRefuse)
	for i := range 2 {
		if err := w.knocks(fmt.Sprint("R", i), saying("hello")); !errors.Is(err, interop.ErrDropped) {
			t.Fatalf("refused: %v", err)
		}
	}
	if row := w.request(); row.State != database.RequestRefused || row.Dropped != 2 {
		t.Errorf("refused: %+v", row)
	}
	w.expect()
	w.asks(requestsAsk)
	if err := w.knocks("A", saying("it is me")); !errors.Is(err, interop.ErrQuiet) {
		t.Fatalf("asked: %v", err)
	}
	w.expect("m.room.message it is me")
	if err := w.client.requests.decideDecline(t.Context(), w.peer.Chat); err != nil {
		t.Fatal(err)
	}
	if err := w.knocks("B", saying("and again")); !errors.Is(err, interop.ErrDropped) {
		t.Errorf("declined: %v", err)
	}
	if row := w.request(); row.State != database.RequestDeclined || row.Dropped != 3 || !row.Closing {
		t.Errorf("declined: %+v", row)
	}
	before, err := w.client.requests.accept(t.Context(), w.peer.Chat)
	if err != nil || before.State != database.RequestDeclined || before.Dropped != 3 {
		t.Fatalf("accepted: %+v, %v", before, err)
	}
	if err := w.knocks("C", saying("thank you")); err != nil {
		t.Errorf("accepted: %v", err)
	}
}

func TestAnsweringIsAccepting(t *testing.T) {
	w := newWorld(t)
	w.asks(requestsAsk)
	if err := w.knocks("A", saying("hello")); !errors.Is(err, interop.ErrQuiet) {
		t.Fatal(err)
	}
	if waits, err := w.client.requests.waits(t.Context(), w.peer.Chat); err != nil || !waits {
		t.Errorf("waits: %v, %v", waits, err)
	}
	w.fromPerson("$answer", "m.room.message", map[string]any{"msgtype": "m.text", "body": "who are you?"})
	if row := w.request(); row.State != database.RequestAccepted {
		t.Errorf("after an answer: %+v", row)
	}
	if len(w.queued()) != 1 {
		t.Error("the answer is not queued")
	}
}

func TestOnlySoManyRequestsAreShownInAnHour(t *testing.T) {
	w := newWorld(t)
	w.asks(requestsAsk)
	w.connector.Config.Requests.PerHour = 2
	gate := func(n int, stanza string) passage {
		t.Helper()
		peer, err := NewAccountStore(w.connector.db, w.account, "whatsapp").PeerByJID(t.Context(), jid.JID{User: fmt.Sprint(4915000000000 + n), Server: testPeer.Server})
		if err != nil {
			t.Fatal(err)
		}
		in := &interop.Inbound{Chat: peer.Chat, Contact: peer.Contact, MessageID: stanza, Timestamp: time.Now(), Kind: interop.KindMessage, Message: saying("hello")}
		got, err := w.client.requests.gate(t.Context(), in, w.client.read(in))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for n, want := range []passage{quiet, quiet, withhold, withhold} {
		if got := gate(n, "A"); got != want {
			t.Errorf("the one with number %d: %d, want %d", n, got, want)
		}
	}
	if gate(0, "B") != quiet || gate(2, "B") != withhold {
		t.Error("a second message is treated otherwise than the first")
	}
	list, err := w.client.requests.list(t.Context())
	if err != nil || len(list) != 4 {
		t.Fatalf("%d are listed, %v", len(list), err)
	}
	lines := strings.Join(requestLines(w.client.words(), list, map[string]int{list[2].ChatID: 1}), "\n")
	if strings.Count(lines, "waits for your answer") != 2 || strings.Count(lines, "held back") != 2 {
		t.Errorf("the list: %s", lines)
	}
}
