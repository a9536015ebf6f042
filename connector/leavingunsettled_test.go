package connector

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"maunium.net/go/mautrix/event"

	"postern/connector/interop"
	"postern/database"
)

// TestWhatWaitsWhenSomebodyLeavesIsToldToBeFailed: once for each event, in words and as a status, whatever had become of it; what was sent is left
// alone.
func TestWhatWaitsWhenSomebodyLeavesIsToldToBeFailed(t *testing.T) {
	w := newWorld(t)
	w.connector.matrix.Config.Matrix.MessageStatusEvents = true
	w.own("MINE", "$mine")
	w.fromPerson("$p1", "m.room.message", text("waits"))
	w.fromPerson("$p2", "m.reaction", related("m.annotation", "$mine", map[string]any{"key": "👍"}))
	w.fromPerson("$p3", "m.room.message", text("was sent"))
	w.fromPerson("$p4", "m.room.message", text("was refused"))
	rows, store := w.queued(), NewAccountStore(w.connector.db, w.account, "whatsapp")
	if len(rows) != 4 {
		t.Fatalf("%d parts wait; %s", len(rows), w.notices())
	}
	for _, state := range []interop.PartState{interop.PartEncrypted, interop.PartSent} {
		if _, err := store.AdvanceOutbound(t.Context(), rows[2].StanzaID, state, 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.FailOutbound(t.Context(), rows[3].StanzaID, interop.ReasonBlocked, 403, 1); err != nil {
		t.Fatal(err)
	}
	leavings := w.connector.db.Leavings()
	if err := leavings.Begin(t.Context(), w.account, "", ""); err != nil {
		t.Fatal(err)
	}
	row, err := leavings.Get(t.Context(), w.account)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it may be done again
		if err = w.connector.emptyAccount(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	said, statuses := map[string]string{}, map[string]event.BeeperMessageStatusEventContent{}
	for _, n := range w.waitingNotices() {
		if n.Status {
			var content event.BeeperMessageStatusEventContent
			if err = json.Unmarshal(n.Content, &content); err != nil {
				t.Fatal(err)
			}
			statuses[content.RelatesTo.EventID.String()] = content
			continue
		}
		var content event.MessageEventContent
		if err = json.Unmarshal(n.Content, &content); err != nil {
			t.Fatal(err)
		}
		if to := content.RelatesTo.GetReplyTo(); to != "" {
			said[to.String()] = content.Body
		}
	}
	want := map[string][]string{
		"$p1": {"Your message was not delivered", "you have logged out"}, "$p2": {"Your reaction was not delivered", "you have logged out"},
		"$p4": {"Your message was not delivered", "has blocked you"},
	}
	if len(said) != len(want) || len(statuses) != len(want) {
		t.Errorf("said %v, statuses %v", said, statuses)
	}
	for evt, parts := range want {
		w.says(evt, said[evt], parts...)
		if s := statuses[evt]; s.Status != event.MessageStatusFail || !strings.Contains(s.Message, parts[1]) {
			t.Errorf("the status of %s: %+v", evt, s)
		}
	}
	if list, err := leavings.Unsettled(t.Context(), w.account); err != nil || len(list) > 0 {
		t.Errorf("left: %v %v", list, err)
	}
}

// TestAStatusWaitsForMatrixLikeANotice: it is sent as what it is, unencrypted and under the identity that it was stored with.
func TestAStatusWaitsForMatrixLikeANotice(t *testing.T) {
	w := newWorld(t)
	w.connector.matrix.Config.Matrix.MessageStatusEvents = true
	err := w.connector.failLeft(t.Context(), &database.Leaving{MXID: fakePerson.String(), Gatekeeper: "whatsapp"}, database.Unsettled{EventID: "$e", RoomID: fakeRoom.String()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.connector.stack.Notices.Run(ctx) }()
	w.until("both to be sent", func() bool { return len(w.waitingNotices()) == 0 })
	stop()
	<-done
	kinds := map[string]int{}
	for _, e := range w.matrix.timeline() {
		kinds[e.Type]++
	}
	if kinds[event.BeeperMessageStatus.Type] != 1 || kinds["m.room.message"] != 1 {
		t.Errorf("the room has %v", kinds)
	}
}
