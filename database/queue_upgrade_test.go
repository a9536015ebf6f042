package database_test

import (
	"fmt"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func TestTheQueuesOfTheThirdVersionAreTakenOver(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		ctx := t.Context()
		old, err := database.OpenVersion(ctx, cfg, 3)
		if err != nil {
			t.Fatal(err)
		}
		putAccount(t, old, "a")
		contact, err := old.Contacts().Ensure(ctx, "whatsapp", "1@lid")
		if err != nil {
			t.Fatal(err)
		}
		chat, err := old.Chats().Ensure(ctx, "a", contact.ID)
		if err != nil {
			t.Fatal(err)
		}
		for state := range 4 {
			_, err = old.Raw().Exec(ctx, `INSERT INTO postern_in (chat_id, class, item_id, account_id, seq, version, kind, state, timestamp,
				received, sts, receipt, nack, retries, since, late) VALUES ($1, 0, $2, 'a', $3, 1, 'message', $4, 5, 6, '', 0, 0, 0, 0, false)`,
				chat.ID, fmt.Sprint("ID", state), state+1, state)
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err = old.Raw().Exec(ctx, `INSERT INTO postern_out (account_id, stanza_id, seq, chat_id, event_id, room_id, part, parts, type, media_type,
			state, work, due, reported, created, changed, reason, code, retry_last, answers)
			VALUES ('a', '3EB0', 9, $1, '$e', '!r', 0, 1, 'text', '', 0, 1, false, 0, 7, 8, '', 0, '', 0)`, chat.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err = old.Close(); err != nil {
			t.Fatal(err)
		}
		db := databasetest.Open(t, cfg)
		q := db.Queue("a")
		for state, read := range []int{0, 3, 3, 0} { // what was finished needs no read receipt any more
			row, err := q.In(ctx, chat.ID, 0, fmt.Sprint("ID", state))
			if err != nil || row == nil || row.State != state || row.Read != read {
				t.Errorf("a row in state %d has become %+v (%v)", state, row, err)
			}
		}
		row, err := q.Out(ctx, "3EB0")
		if err != nil || row == nil || row.Recipe != nil || row.Fallback != nil || row.Seq != 9 {
			t.Errorf("a part has become %+v (%v)", row, err)
		}
		if n, err := q.MarkReadIn(ctx, chat.ID, "ID0", 1, 10); err != nil || n != 1 {
			t.Errorf("%d rows marked as read (%v), want the one that was pending", n, err)
		}
		if last, err := q.LastSeq(ctx); err != nil || last != 9 {
			t.Errorf("the last place is %d (%v), want 9", last, err)
		}
	})
}
