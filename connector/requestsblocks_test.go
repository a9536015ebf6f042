package connector

import (
	"errors"
	"strings"
	"testing"

	"maunium.net/go/mautrix/bridgev2"

	"postern/connector/interop"
	"postern/connector/words"
	"postern/database"
)

// waiting are the words of the requests command about who waits.
func (w *world) waiting() string {
	w.t.Helper()
	list, err := w.client.requests.list(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(requestLines(words.For("en"), list, map[string]int{}), "\n")
}

func TestWhoIsBlockedWhileTheirRequestWaitsCannotBeAcceptedBeforeTheBlockEnds(t *testing.T) {
	for _, state := range []database.RequestState{database.RequestAsked, database.RequestHeld} {
		w := newWorld(t)
		w.asks(requestsAsk)
		want := interop.ErrQuiet
		if state == database.RequestHeld {
			w.connector.Config.Requests.PerHour, want = 0, interop.ErrWithheld
		}
		if err := w.knocks("A", saying("hello")); !errors.Is(err, want) {
			t.Fatal(err)
		}
		handle := handleOf(w.peer.Chat)
		if said := w.waiting(); !strings.Contains(said, handle) {
			t.Fatalf("who waits is not listed: %s", said)
		}
		w.block(true)
		if said := w.waiting(); strings.Contains(said, handle) {
			t.Errorf("who is blocked is listed as a request: %s", said)
		}
		if _, err := w.client.requests.accept(t.Context(), w.peer.Chat); !errors.Is(err, errBlocked) {
			t.Errorf("accepted: %v", err)
		}
		w.says("the command", w.command("$1", "accept", ""), "Nothing was accepted", "unblock")
		portal, err := w.connector.bridge.GetExistingPortalByKey(t.Context(), portalKey(w.account, w.peer.Chat))
		if err != nil {
			t.Fatal(err)
		}
		err = w.client.HandleMatrixAcceptMessageRequest(t.Context(), &bridgev2.MatrixAcceptMessageRequest{Portal: portal})
		var status bridgev2.MessageStatus
		if !errors.As(err, &status) || !strings.Contains(status.Message, "unblock") {
			t.Errorf("a client's button: %v", err)
		}
		if row := w.request(); row.State != state {
			t.Errorf("the request is %+v", row)
		}
		w.block(false)
		if before, err := w.client.requests.accept(t.Context(), w.peer.Chat); err != nil || before.State != state {
			t.Errorf("after the block: %+v, %v", before, err)
		}
	}
}

func TestWhoWasDeclinedAndThenBlockedIsStillDeclinedAfterTheBlock(t *testing.T) {
	w := newWorld(t)
	w.asks(requestsAsk)
	if err := w.knocks("A", saying("hello")); !errors.Is(err, interop.ErrQuiet) {
		t.Fatal(err)
	}
	if err := w.client.requests.decideDecline(t.Context(), w.peer.Chat); err != nil {
		t.Fatal(err)
	}
	w.block(true)
	if _, err := w.client.requests.accept(t.Context(), w.peer.Chat); !errors.Is(err, errBlocked) {
		t.Errorf("accepted: %v", err)
	}
	w.block(false)
	if err := w.knocks("B", saying("hello again")); !errors.Is(err, interop.ErrDropped) {
		t.Errorf("after the block: %v", err)
	}
	if row := w.request(); row.State != database.RequestDeclined || row.Dropped != 1 {
		t.Errorf("%+v", row)
	}
}

func TestAStrangerWhoWasBlockedBeforeTheyWroteAsksLikeAnyOtherAfterwards(t *testing.T) {
	w := newWorld(t)
	w.asks(requestsAsk)
	w.block(true)
	w.block(false)
	if err := w.knocks("A", saying("hello")); !errors.Is(err, interop.ErrQuiet) {
		t.Errorf("%v", err)
	}
	if row := w.request(); row.State != database.RequestAsked {
		t.Errorf("%+v", row)
	}
}

func TestAReportInARequestsRoomDecidesNothing(t *testing.T) {
	w := newWorld(t)
	w.asks(requestsAsk)
	if err := w.knocks("A", saying("buy this")); !errors.Is(err, interop.ErrQuiet) {
		t.Fatal(err)
	}
	w.says("the answer", w.command("$1", "report spam", w.shown("buy this")), "You have reported", "with its words")
	if row := w.request(); row.State != database.RequestAsked {
		t.Errorf("the request is %+v", row)
	}
	w.wantBlocked(false)
	if len(w.queued()) > 0 {
		t.Error("something was sent to the reported person")
	}
}
