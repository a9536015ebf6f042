package database_test

import (
	"maps"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func TestWhoIsIgnoredIsKeptForEachAccountAndGoesWithTheChat(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		chats := map[string]string{}
		for _, account := range []string{"a", "b"} {
			putAccount(t, db, account)
			contact, err := db.Contacts().Ensure(ctx, "whatsapp", "1@lid")
			ok(err)
			chat, err := db.Chats().Ensure(ctx, account, contact.ID)
			ok(err)
			chats[account] = chat.ID
			ok(db.Ignored(account).Put(ctx, chat.ID, true))
		}
		want := func(account string, want map[string]bool) {
			t.Helper()
			if got, err := db.Ignored(account).All(ctx); err != nil || !maps.Equal(got, want) {
				t.Errorf("%s ignores %v (%v), want %v", account, got, err, want)
			}
		}
		want("a", map[string]bool{chats["a"]: true})
		ok(db.Ignored("a").Put(ctx, chats["a"], false))
		want("a", map[string]bool{chats["a"]: false})
		ok(db.Ignored("a").Delete(ctx, chats["b"]))
		want("b", map[string]bool{chats["b"]: true})
		ok(db.Ignored("a").Delete(ctx, chats["a"]))
		want("a", map[string]bool{})
		ok(db.Leavings().Begin(ctx, "b", "!r", ""))
		_, err := db.Leavings().Empty(ctx, "b")
		ok(err)
		want("b", map[string]bool{})
	})
}
