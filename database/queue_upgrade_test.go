package database_test

import (
	"fmt"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func TestTheQueuesOfTheThirdVersionAreTakenOver(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		ctx, chat := t.Context(), "c"
		statements := []string{
			`INSERT INTO postern_account (id, version, gatekeeper, mxid, identifier, identifier_index, login, integrator, noise_key, device, hmac_key,
				consent_version, consent_at, created_at, enlisted_at) VALUES ('a', 1, 'whatsapp', '@a:b', '', '', '1-2@interop', 1, '', '', '', 1, 2, 3, 4)`,
			`INSERT INTO postern_contact (id, version, gatekeeper, jid, name, created_at) VALUES ('p', 1, 'whatsapp', '1@lid', '', 5)`,
			`INSERT INTO postern_chat (id, account_id, contact_id, created_at) VALUES ('c', 'a', 'p', 6)`,
			`INSERT INTO postern_out (account_id, stanza_id, seq, chat_id, event_id, room_id, part, parts, type, media_type,
				state, work, due, reported, created, changed, reason, code, retry_last, answers)
				VALUES ('a', '3EB0', 9, 'c', '$e', '!r', 0, 1, 'text', '', 0, 1, false, 0, 7, 8, '', 0, '', 0)`,
		}
		for state := range 4 {
			statements = append(statements, fmt.Sprintf(`INSERT INTO postern_in (chat_id, class, item_id, account_id, seq, version, kind, state, timestamp,
				received, sts, receipt, nack, retries, since, late) VALUES ('c', 0, 'ID%d', 'a', %d, 1, 'message', %d, 5, 6, '', 0, 0, 0, 0, false)`,
				state, state+1, state))
		}
		if err := database.MakeVersion(ctx, cfg, 3, statements...); err != nil {
			t.Fatal(err)
		}
		db := databasetest.Open(t, cfg)
		q := db.Queue("a")
		for state, read := range []int{0, 3, 3, 0} { // what was finished needs no read receipt any more
			row, err := q.In(ctx, chat, 0, fmt.Sprint("ID", state))
			if err != nil || row == nil || row.State != state || row.Read != read {
				t.Errorf("a row in state %d has become %+v (%v)", state, row, err)
			}
		}
		row, err := q.Out(ctx, "3EB0")
		if err != nil || row == nil || row.Recipe != nil || row.Fallback != nil || row.Seq != 9 {
			t.Errorf("a part has become %+v (%v)", row, err)
		}
		if n, err := q.MarkReadIn(ctx, chat, "ID0", 1, 10); err != nil || n != 1 {
			t.Errorf("%d rows marked as read (%v), want the one that was pending", n, err)
		}
		if last, err := q.LastSeq(ctx); err != nil || last != 9 {
			t.Errorf("the last place is %d (%v), want 9", last, err)
		}
	})
}
