package database_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/database"
	"postern/database/databasetest"
)

func roomEvents(ids ...string) []database.JournalEvent {
	var out []database.JournalEvent
	for _, id := range ids {
		out = append(out, database.JournalEvent{Kind: "room", EventID: id, RoomID: "!a", Body: []byte(`{"secret words":"` + id + `"}`)})
	}
	return out
}

func eventIDs(events []database.JournalEvent) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.EventID)
	}
	return out
}

// mustAccept journals a transaction that has to be new.
func mustAccept(t *testing.T, j database.JournalStore, txn string, events []database.JournalEvent) []database.JournalEvent {
	t.Helper()
	stored, known, err := j.Accept(context.Background(), txn, events)
	if err != nil || known {
		t.Fatalf("accept: known %v, error %v", known, err)
	}
	return stored
}

func TestATransactionIsAcceptedOnceAndSoIsEachOfItsEvents(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, j := context.Background(), db.Journal()
		events := append(roomEvents("$1", "$2"), database.JournalEvent{Kind: "ephemeral", RoomID: "!a", Body: []byte("{}")})
		stored := mustAccept(t, j, "1", events)
		if len(stored) != 3 || stored[0].Seq >= stored[1].Seq || stored[1].Seq >= stored[2].Seq {
			t.Errorf("stored %+v", stored)
		}
		if again, known, err := j.Accept(ctx, "1", roomEvents("$3")); err != nil || !known || len(again) != 0 {
			t.Errorf("the same transaction: %v %v %v", again, known, err)
		}
		if got := eventIDs(mustAccept(t, j, "2", roomEvents("$2", "$3"))); !slices.Equal(got, []string{"$3"}) {
			t.Errorf("another transaction with a known event stored %v", got)
		}
		list, err := j.Unfinished(ctx)
		if err != nil || !slices.Equal(eventIDs(list), []string{"$1", "$2", "", "$3"}) {
			t.Errorf("unfinished: %+v %v", list, err)
		}
		for _, e := range list {
			if body, err := j.Load(ctx, e.Seq); err != nil || len(body) == 0 {
				t.Errorf("body of %q: %q %v", e.EventID, body, err)
			}
		}
	})
}

func TestAFinishedEventHasNoBodyButItsIDStays(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, j := context.Background(), db.Journal()
		stored := mustAccept(t, j, "1", roomEvents("$1", "$2"))
		if err := j.Hand(ctx, stored[1].Seq); err != nil {
			t.Fatal(err)
		}
		if err := j.Finish(ctx, []int64{stored[0].Seq, 12345}); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Load(ctx, stored[0].Seq); !errors.Is(err, database.ErrNotFound) {
			t.Errorf("load of a finished event: %v", err)
		}
		list, err := j.Unfinished(ctx)
		if err != nil || len(list) != 1 || !list[0].Handed || list[0].EventID != "$2" {
			t.Errorf("unfinished: %+v %v", list, err)
		}
		if again := mustAccept(t, j, "2", roomEvents("$1")); len(again) != 0 {
			t.Error("a finished event was accepted again")
		}
		if err := j.Purge(ctx, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if again := mustAccept(t, j, "1", roomEvents("$1", "$2")); !slices.Equal(eventIDs(again), []string{"$1"}) {
			t.Errorf("after the purge: %v", eventIDs(again))
		}
		if err := j.Hand(ctx, 999); !errors.Is(err, database.ErrNotFound) {
			t.Errorf("hand of nothing: %v", err)
		}
	})
}

func TestAMergePutsMissedEventsBeforeThoseThatWait(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, j := context.Background(), db.Journal()
		stored := mustAccept(t, j, "1", roomEvents("$1", "$4", "$5", "$6"))
		if err := j.Finish(ctx, []int64{stored[0].Seq}); err != nil {
			t.Fatal(err)
		}
		waiting := func(id string) bool { return id != "$4" } // 4 is being handled just now
		out, err := j.Merge(ctx, "look", "token", roomEvents("$1", "$2", "$3", "$4", "$5", "$6"), waiting)
		if err != nil || !slices.Equal(eventIDs(out), []string{"$2", "$3", "$5", "$6"}) {
			t.Fatalf("merged %v %v", eventIDs(out), err)
		}
		list, err := j.Unfinished(ctx)
		if err != nil || !slices.Equal(eventIDs(list), []string{"$4", "$2", "$3", "$5", "$6"}) {
			t.Errorf("unfinished: %v %v", eventIDs(list), err)
		}
		for _, e := range list {
			want := fmt.Sprintf(`{"secret words":"%s"}`, e.EventID)
			if body, err := j.Load(ctx, e.Seq); err != nil || string(body) != want {
				t.Errorf("body of %s: %q %v", e.EventID, body, err)
			}
		}
		if token, err := j.Token(ctx, "look"); err != nil || token != "token" {
			t.Errorf("token %q %v", token, err)
		}
		if out, err = j.Merge(ctx, "look", "token2", roomEvents("$2", "$3", "$5"), func(string) bool { return true }); err != nil || len(out) != 0 {
			t.Errorf("a look without news moved %v %v", eventIDs(out), err)
		}
		if token, err := j.Token(ctx, "look"); err != nil || token != "token2" {
			t.Errorf("token %q %v", token, err)
		}
		if token, err := j.Token(ctx, "unknown"); err != nil || token != "" {
			t.Errorf("unknown token %q %v", token, err)
		}
	})
}

func TestAMergePutsWaitingEventsInOrderEvenIfNoneWasMissed(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, j := context.Background(), db.Journal()
		all := func(string) bool { return true }
		mustAccept(t, j, "2", roomEvents("$3")) // pushed before its predecessors, which had failed at first
		mustAccept(t, j, "1", roomEvents("$1", "$2"))
		out, err := j.Merge(ctx, "look", "token", roomEvents("$1", "$2", "$3"), all)
		if err != nil || !slices.Equal(eventIDs(out), []string{"$1", "$2", "$3"}) {
			t.Fatalf("merged %v %v", eventIDs(out), err)
		}
		list, err := j.Unfinished(ctx)
		if err != nil || !slices.Equal(eventIDs(list), []string{"$1", "$2", "$3"}) {
			t.Errorf("unfinished: %v %v", eventIDs(list), err)
		}
		if out, err = j.Merge(ctx, "look", "token", roomEvents("$1", "$2", "$3"), all); err != nil || len(out) != 0 {
			t.Errorf("what is in order was moved: %v %v", eventIDs(out), err)
		}
	})
}

// A piece begins with the last event of the one before, so that it goes behind that also if all of it was there.
func TestAMergeInPiecesKeepsTheOrderAndTheTokenUntilTheLastOne(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, j := context.Background(), db.Journal()
		all := func(string) bool { return true }
		if err := j.SetToken(ctx, "look", "before"); err != nil {
			t.Fatal(err)
		}
		mustAccept(t, j, "1", roomEvents("$3", "$4")) // $1 and $2 were never pushed
		for i, piece := range [][]database.JournalEvent{roomEvents("$1", "$2"), roomEvents("$2", "$3", "$4")} {
			for again := range 2 {
				if out, err := j.Merge(ctx, "look", "", piece, all); err != nil || again == 1 && len(out) != 0 {
					t.Fatalf("piece %d moved %v %v", i, eventIDs(out), err)
				}
			}
		}
		list, err := j.Unfinished(ctx)
		if err != nil || !slices.Equal(eventIDs(list), []string{"$1", "$2", "$3", "$4"}) {
			t.Errorf("unfinished: %v %v", eventIDs(list), err)
		}
		if token, err := j.Token(ctx, "look"); err != nil || token != "before" {
			t.Errorf("token %q %v", token, err)
		}
	})
}

func TestANoticeIsKeptOnceUntilItIsSent(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, s := context.Background(), db.Notices()
		for _, text := range []string{"first", "second"} {
			if err := s.Add(ctx, &database.Notice{ID: "n", RoomID: "!a", Content: []byte(text)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.SetTried(ctx, "n"); err != nil {
			t.Fatal(err)
		}
		if err := s.Add(ctx, &database.Notice{ID: "m", RoomID: "!b", Content: []byte("other")}); err != nil {
			t.Fatal(err)
		}
		list, err := s.Waiting(ctx, 10)
		if err != nil || len(list) != 2 || list[0].ID != "m" || list[1].ID != "n" || string(list[1].Content) != "first" || !list[1].Tried || list[0].Tried {
			t.Fatalf("waiting: %+v %v", list, err)
		}
		for _, id := range []string{"n", "m"} {
			if err := s.SetSent(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Add(ctx, &database.Notice{ID: "n", RoomID: "!a", Content: []byte("third")}); err != nil {
			t.Fatal(err)
		}
		if list, err = s.Waiting(ctx, 10); err != nil || len(list) != 0 {
			t.Errorf("after sending: %+v %v", list, err)
		}
		if err := s.Purge(ctx, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := s.SetSent(ctx, "n"); !errors.Is(err, database.ErrNotFound) {
			t.Errorf("after the purge: %v", err)
		}
	})
}

func TestJournalAndNoticesStandSealedInTheDatabase(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := context.Background()
		mustAccept(t, db.Journal(), "1", roomEvents("$1"))
		if err := db.Notices().Add(ctx, &database.Notice{ID: "n", RoomID: "!a", Content: []byte("secret words")}); err != nil {
			t.Fatal(err)
		}
		for _, query := range []string{"SELECT body FROM postern_as_event", "SELECT content FROM postern_notice"} {
			var raw []byte
			if err := db.Raw().QueryRow(ctx, query).Scan(&raw); err != nil {
				t.Fatal(err)
			}
			if len(raw) == 0 || bytes.Contains(raw, []byte("secret")) {
				t.Errorf("%s: in the clear", query)
			}
		}
	})
}

func TestAChatRoomIsKeptWithItsTitleSealed(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := context.Background()
		account := &database.Account{ID: "acc", Gatekeeper: "whatsapp", MXID: "@a:b", Identifier: "a", ReenlistedAt: 5}
		if err := db.Accounts().Put(ctx, account); err != nil {
			t.Fatal(err)
		}
		if got, err := db.Accounts().Get(ctx, "acc"); err != nil || got.ReenlistedAt != 5 {
			t.Errorf("account: %+v %v", got, err)
		}
		contact, err := db.Contacts().Ensure(ctx, "whatsapp", "1@lid")
		if err != nil {
			t.Fatal(err)
		}
		chat, err := db.Chats().Ensure(ctx, "acc", contact.ID)
		if err != nil {
			t.Fatal(err)
		}
		rooms := db.ChatRooms()
		if got, err := rooms.Get(ctx, chat.ID); err != nil || *got != (database.ChatRoom{ChatID: chat.ID}) {
			t.Fatalf("before: %+v %v", got, err)
		}
		for _, want := range []database.ChatRoom{{chat.ID, "", "secret name"}, {chat.ID, "!a", "secret name"}, {chat.ID, "!b", ""}} {
			if err := rooms.Put(ctx, &want); err != nil {
				t.Fatal(err)
			}
			if got, err := rooms.Get(ctx, chat.ID); err != nil || *got != want {
				t.Errorf("got %+v %v, want %+v", got, err, want)
			}
			var raw []byte
			if err := db.Raw().QueryRow(ctx, "SELECT title FROM postern_chat_room").Scan(&raw); err != nil || bytes.Contains(raw, []byte("secret")) {
				t.Errorf("title in the clear, or %v", err)
			}
		}
		if err := db.Accounts().Delete(ctx, "acc"); err != nil {
			t.Fatal(err)
		}
		if got, err := rooms.Get(ctx, chat.ID); err != nil || got.RoomID != "" {
			t.Errorf("after the account's deletion: %+v %v", got, err)
		}
	})
}
