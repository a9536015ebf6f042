package database_test

import (
	"errors"
	"fmt"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// TestWhoLeavesLeavesNoRowAndTakesNobodyElses: two accounts share a contact, and one of them leaves.
func TestWhoLeavesLeavesNoRowAndTakesNobodyElses(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		putAccount(t, db, "a")
		putAccount(t, db, "b")
		for _, who := range []struct{ account, jid string }{{"a", "1@lid"}, {"a", "2@lid"}, {"b", "2@lid"}} {
			contact, err := db.Contacts().Ensure(ctx, "whatsapp", who.jid)
			ok(err)
			_, err = db.Chats().Ensure(ctx, who.account, contact.ID)
			ok(err)
		}
		leavings := db.Leavings()
		if err := leavings.Begin(ctx, "nobody", "!r", ""); !errors.Is(err, database.ErrNotFound) {
			t.Errorf("nobody leaves: %v", err)
		}
		ok(leavings.Begin(ctx, "a", "!r", "first"))
		ok(leavings.Begin(ctx, "a", "!other", "second"))
		l, err := leavings.Get(ctx, "a")
		ok(err)
		if l.RoomID != "!r" || l.Reason != "first" || l.Emptied || l.Outcome != "" || l.MXID == "" {
			t.Errorf("the wish is %+v", l)
		}
		contacts, err := leavings.Empty(ctx, "a")
		ok(err)
		if len(contacts) != 1 {
			t.Errorf("%d contacts are gone, want the one that only they had", len(contacts))
		}
		// Counted once, and emptied again: what was there stays said.
		_, err = leavings.Empty(ctx, "a")
		ok(err)
		ok(leavings.SetOutcome(ctx, "a", "deleted"))
		l, err = leavings.Get(ctx, "a")
		ok(err)
		if !l.Emptied || l.Counts.Chats != 2 || l.Outcome != "deleted" {
			t.Errorf("after emptying it is %+v", l)
		}
		count := func(query string) (n int) {
			t.Helper()
			ok(db.Raw().QueryRow(ctx, query).Scan(&n))
			return n
		}
		for table, want := range map[string]int{"postern_chat": 1, "postern_contact": 1, "postern_account": 2} {
			if got := count("SELECT COUNT(*) FROM " + table); got != want {
				t.Errorf("%s has %d rows, want %d", table, got, want)
			}
		}
		ok(leavings.End(ctx, l))
		if got := count("SELECT COUNT(*) FROM postern_leaving") + count("SELECT COUNT(*) FROM postern_account WHERE id='a'"); got != 0 {
			t.Errorf("%d rows are left", got)
		}
		if l, err = leavings.Get(ctx, "a"); l != nil || err != nil {
			t.Errorf("somebody who is gone: %v %v", l, err)
		}
		if err = leavings.End(ctx, &database.Leaving{AccountID: "a"}); !errors.Is(err, database.ErrNotFound) {
			t.Error(fmt.Errorf("gone twice: %w", err))
		}
	})
}
