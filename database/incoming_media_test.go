package database_test

import (
	"bytes"
	"reflect"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// mediaChat makes an account with a chat.
func mediaChat(t *testing.T, db *database.DB, account string) *database.Chat {
	t.Helper()
	putAccount(t, db, account)
	contact, err := db.Contacts().Ensure(t.Context(), "whatsapp", "491@lid")
	if err != nil {
		t.Fatal(err)
	}
	chat, err := db.Chats().Ensure(t.Context(), account, contact.ID)
	if err != nil {
		t.Fatal(err)
	}
	return chat
}

func TestOnlyWhatIsMissingIsWantedAgain(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.IncomingMedia()
		chat := mediaChat(t, db, "a")
		for state, want := range map[database.IncomingMediaState]bool{
			database.IncomingMediaWanted: false, database.IncomingMediaMissing: true, database.IncomingMediaShown: false,
		} {
			m := &database.IncomingMedia{ChatID: chat.ID, MessageID: "1", AccountID: "a", State: state, Payload: []byte("a key")}
			if err := store.Put(ctx, m); err != nil {
				t.Fatal(err)
			}
			if again, err := store.WantAgain(ctx, chat.ID, "1"); err != nil || again != want {
				t.Errorf("state %d: %t, %v, want %t", state, again, err, want)
			}
			if want {
				m.State = database.IncomingMediaWanted
			}
			if got, err := store.Get(ctx, chat.ID, "1"); err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("state %d has become %+v, %v", state, got, err)
			}
		}
		if again, err := store.WantAgain(ctx, chat.ID, "2"); err != nil || again {
			t.Errorf("what is not there: %t, %v", again, err)
		}
	})
}

func TestIncomingMediaIsListedByWhatIsToBeDoneWithIt(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.IncomingMedia()
		chat, other := mediaChat(t, db, "a"), mediaChat(t, db, "b")
		row := func(chat *database.Chat, id string, state database.IncomingMediaState, at int64) *database.IncomingMedia {
			m := &database.IncomingMedia{
				ChatID: chat.ID, MessageID: id, AccountID: chat.AccountID, State: state, Reason: "gone", Tries: 2,
				Payload: []byte("the key of " + id), Timestamp: at, Expires: at + 1000,
			}
			if err := store.Put(ctx, m); err != nil {
				t.Fatal(err)
			}
			return m
		}
		wanted := row(chat, "1", database.IncomingMediaWanted, 30)
		early := row(chat, "2", database.IncomingMediaWanted, 20)
		missing := row(chat, "3", database.IncomingMediaMissing, 10)
		row(chat, "4", database.IncomingMediaShown, 10)
		row(other, "1", database.IncomingMediaWanted, 10)
		row(other, "3", database.IncomingMediaMissing, 10)
		list, next, err := store.Wanted(ctx, "a", nil, 3)
		if err != nil || next != nil || !reflect.DeepEqual(list, []*database.IncomingMedia{early, wanted}) {
			t.Errorf("wanted: %+v, %v, %v", list, next, err)
		}
		for _, want := range []*database.IncomingMedia{early, wanted} { // a row at a time
			list, next, err = store.Wanted(ctx, "a", next, 1)
			if err != nil || next == nil || !reflect.DeepEqual(list, []*database.IncomingMedia{want}) {
				t.Fatalf("wanted: %+v, %v, %v", list, next, err)
			}
		}
		if list, next, err = store.Wanted(ctx, "a", next, 1); err != nil || next != nil || len(list) != 0 {
			t.Errorf("behind the last: %+v, %v, %v", list, next, err)
		}
		again := row(chat, "5", database.IncomingMediaMissing, 5)
		if n, err := store.Want(ctx, chat.ID, 1006); err != nil || n != 1 {
			t.Errorf("%d are wanted again, %v", n, err) // one is too old
		}
		missing.State = database.IncomingMediaWanted
		if got, err := store.Get(ctx, chat.ID, "3"); err != nil || !reflect.DeepEqual(got, missing) {
			t.Errorf("wanted again: %+v, %v", got, err)
		}
		if err = store.Delete(ctx, chat.ID, again.MessageID); err != nil {
			t.Fatal(err)
		}
		missing.State, missing.Payload, missing.Tries = database.IncomingMediaShown, []byte("an event"), 3
		if err = store.Put(ctx, missing); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Get(ctx, chat.ID, "3"); err != nil || !reflect.DeepEqual(got, missing) {
			t.Errorf("after a change: %+v, %v", got, err)
		}
		if err = store.Delete(ctx, chat.ID, "3"); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Get(ctx, chat.ID, "3"); err != nil || got != nil {
			t.Errorf("after its deletion: %+v, %v", got, err)
		}
		if err = store.Delete(ctx, chat.ID, "3"); err != nil {
			t.Errorf("deleting what is gone: %v", err)
		}
		if n, err := store.Prune(ctx, 1025, 2); err != nil || n != 2 {
			t.Errorf("pruned %d, %v", n, err)
		}
		if n, err := store.Prune(ctx, 1025, 10); err != nil || n != 2 {
			t.Errorf("pruned %d more, %v", n, err)
		}
		if list, _, err = store.Wanted(ctx, "a", nil, 10); err != nil || len(list) != 1 || list[0].MessageID != "1" {
			t.Errorf("left: %+v, %v", list, err)
		}
		if err = db.Accounts().Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if list, _, err = store.Wanted(ctx, "a", nil, 10); err != nil || len(list) != 0 {
			t.Errorf("of a deleted account: %+v, %v", list, err)
		}
	})
}

func TestTheKeyOfIncomingMediaIsSealed(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		chat := mediaChat(t, db, "a")
		m := &database.IncomingMedia{ChatID: chat.ID, MessageID: "1", AccountID: "a", Payload: []byte("a very secret key")}
		if err := db.IncomingMedia().Put(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		var raw []byte
		if err := db.Raw().QueryRow(t.Context(), "SELECT payload FROM postern_incoming_media").Scan(&raw); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte("secret")) {
			t.Error("the payload is readable on disk")
		}
		if _, err := db.Raw().Exec(t.Context(), "UPDATE postern_incoming_media SET message_id='2'"); err != nil {
			t.Fatal(err)
		}
		if _, err := db.IncomingMedia().Get(t.Context(), chat.ID, "2"); err == nil {
			t.Error("the payload of one message opens as another's")
		}
	})
}
