package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// Leaving is the wish that an account be deleted, which stands until it is.
type Leaving struct {
	// AccountID, MXID and Gatekeeper are the account's.
	AccountID, MXID, Gatekeeper string
	// RoomID is where the person is told at the end, "" for not known.
	RoomID string
	// Reason is why, "" for the person's own wish.
	Reason string
	// Asked is in Unix milliseconds.
	Asked int64
	// Outcome is what the gatekeeper has said to it, "" for nothing yet.
	Outcome string
	// Emptied: Empty has been done, and Counts says how much there was.
	Emptied bool
	Counts  LeavingCounts
}

// LeavingCounts says how much was deleted.
type LeavingCounts struct {
	Chats    int   `json:"chats"`
	Messages int   `json:"messages"` // of which there were records
	Waiting  int   `json:"waiting"`  // of these, written here and not sent
	Unseen   int   `json:"unseen"`   // of these, come in and not shown
	Sessions int   `json:"sessions"`
	Files    int   `json:"files"`
	Bytes    int64 `json:"bytes"`
}

// LeavingStore keeps them.
type LeavingStore struct{ db *DB }

// Leavings is the store of accounts that are being deleted.
func (db *DB) Leavings() LeavingStore { return LeavingStore{db} }

// Begin notes that an account is to be deleted; one that is already is left as it is. ErrNotFound if there is no such account.
func (s LeavingStore) Begin(ctx context.Context, account, room, reason string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_leaving (account_id, room_id, reason, asked, outcome, emptied, counts)
			SELECT id, $2, $3, $4, '', false, '{}' FROM postern_account WHERE id=$1
			ON CONFLICT (account_id) DO UPDATE SET reason=postern_leaving.reason`,
			account, room, reason, time.Now().UnixMilli())
		if err != nil {
			return fmt.Errorf("database: begin leaving: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil {
			return fmt.Errorf("database: begin leaving: %w", err)
		} else if n == 0 {
			return fmt.Errorf("database: begin leaving: %w", ErrNotFound)
		}
		return nil
	})
}

const leavingQuery = `SELECT l.account_id, a.mxid, a.gatekeeper, l.room_id, l.reason, l.asked, l.outcome, l.emptied, l.counts
	FROM postern_leaving l JOIN postern_account a ON a.id=l.account_id`

// All returns all of them, the oldest wish first.
func (s LeavingStore) All(ctx context.Context) ([]*Leaving, error) {
	rows, err := s.db.raw.Query(ctx, leavingQuery+" ORDER BY l.asked, l.account_id")
	list, err := dbutil.NewRowIterWithError(rows, scanLeaving, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list leaving: %w", err)
	}
	return list, nil
}

// Get returns that of an account, nil if it is not being deleted.
func (s LeavingStore) Get(ctx context.Context, account string) (*Leaving, error) {
	l, err := scanLeaving(s.db.raw.QueryRow(ctx, leavingQuery+" WHERE l.account_id=$1", account))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get leaving: %w", err)
	}
	return l, nil
}

func scanLeaving(row dbutil.Scannable) (*Leaving, error) {
	var l Leaving
	var counts string
	if err := row.Scan(&l.AccountID, &l.MXID, &l.Gatekeeper, &l.RoomID, &l.Reason, &l.Asked, &l.Outcome, &l.Emptied, &counts); err != nil {
		return nil, err
	}
	return &l, json.Unmarshal([]byte(counts), &l.Counts)
}

// SetOutcome notes what the gatekeeper has said. ErrNotFound if the account is not being deleted.
func (s LeavingStore) SetOutcome(ctx context.Context, account, outcome string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		return execOne(ctx, s.db.raw, "note what a gatekeeper said", "UPDATE postern_leaving SET outcome=$2 WHERE account_id=$1", account, outcome)
	})
}

// emptying deletes what belongs to an account and is not needed to ask the gatekeeper. A contact goes with the last chat that somebody has
// with them, and chats take their queues, rooms and attachments on their way with them.
var emptying = []string{
	`DELETE FROM postern_contact WHERE id IN (SELECT contact_id FROM postern_chat WHERE account_id=$1)
		AND NOT EXISTS (SELECT 1 FROM postern_chat other WHERE other.contact_id=postern_contact.id AND other.account_id<>$1)`,
	"DELETE FROM postern_chat WHERE account_id=$1",
	"DELETE FROM postern_signal_session WHERE account_id=$1",
	"DELETE FROM postern_signal_identity WHERE account_id=$1",
	"DELETE FROM postern_signal_prekey WHERE account_id=$1",
	"DELETE FROM postern_signal_signed_prekey WHERE account_id=$1",
	// What they have reported and nobody has seen to stays, without them and without the messages that they have pointed at.
	"DELETE FROM postern_report WHERE account_id=$1 AND closed<>0",
	"UPDATE postern_report SET account_id='', chat_id='', quoted=NULL WHERE account_id=$1",
	// What the operator is told or was told stays, and is about nobody.
	"UPDATE postern_operator_news SET account_id='' WHERE account_id=$1",
}

// Empty deletes what an account has but for the account's own row and its files in the media store, and counts it the first time. It
// returns the local ids of the contacts that are gone with it.
func (s LeavingStore) Empty(ctx context.Context, account string) (contacts []string, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		contacts = nil
		if err := s.count(ctx, account); err != nil {
			return err
		}
		rows, err := s.db.raw.Query(ctx, `
			SELECT contact_id FROM postern_chat c WHERE account_id=$1
			AND NOT EXISTS (SELECT 1 FROM postern_chat other WHERE other.contact_id=c.contact_id AND other.account_id<>$1)`, account)
		if contacts, err = dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList(); err != nil {
			return fmt.Errorf("database: empty account: %w", err)
		}
		for _, statement := range emptying {
			if _, err := s.db.raw.Exec(ctx, statement, account); err != nil {
				return fmt.Errorf("database: empty account: %w", err)
			}
		}
		return s.db.noteRow(ctx, rowChange{account: account, wipe: true})
	})
	return contacts, err
}

// Unsettled is an event of which a person was not told how it ends.
type Unsettled struct {
	EventID, RoomID string
	// Reason is why it has failed, "" if it was not acknowledged.
	Reason string
}

// Unsettled returns the events of an account that the gatekeeper has not acknowledged, and those whose failure was not told, in order. Those
// of which Empty has deleted the rows are not among them.
func (s LeavingStore) Unsettled(ctx context.Context, account string) ([]Unsettled, error) {
	rows, err := s.db.raw.Query(ctx, `
		SELECT event_id, room_id, MAX(reason) FROM postern_out WHERE account_id=$1 AND (state<=1 OR (state=9 AND due))
		GROUP BY event_id, room_id ORDER BY MIN(seq)`, account)
	list, err := dbutil.NewRowIterWithError(rows, func(row dbutil.Scannable) (u Unsettled, err error) {
		return u, row.Scan(&u.EventID, &u.RoomID, &u.Reason)
	}, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list what is not settled: %w", err)
	}
	return list, nil
}

// count notes how much there is, unless that was done.
func (s LeavingStore) count(ctx context.Context, account string) error {
	l, err := s.Get(ctx, account)
	if err != nil || l == nil || l.Emptied {
		return err
	}
	for _, q := range []struct {
		query string
		into  any
	}{
		{"SELECT COUNT(*) FROM postern_chat WHERE account_id=$1", &l.Counts.Chats},
		{`SELECT (SELECT COUNT(*) FROM postern_in WHERE account_id=$1 AND class=0 AND kind='message')
			+ (SELECT COUNT(DISTINCT event_id) FROM postern_out WHERE account_id=$1)`, &l.Counts.Messages},
		{"SELECT COUNT(DISTINCT event_id) FROM postern_out WHERE account_id=$1 AND state<=1", &l.Counts.Waiting},
		{"SELECT COUNT(*) FROM postern_in WHERE account_id=$1 AND class=0 AND kind='message' AND state=0", &l.Counts.Unseen},
		{"SELECT COUNT(*) FROM postern_signal_session WHERE account_id=$1", &l.Counts.Sessions},
		{"SELECT COUNT(*) FROM postern_media WHERE owner=$1", &l.Counts.Files},
		{"SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM postern_media WHERE owner=$1", &l.Counts.Bytes},
	} {
		if err := s.db.raw.QueryRow(ctx, q.query, account).Scan(q.into); err != nil {
			return fmt.Errorf("database: count what is deleted: %w", err)
		}
	}
	counts, err := json.Marshal(l.Counts)
	if err != nil {
		return fmt.Errorf("database: count what is deleted: %w", err)
	}
	return execOne(ctx, s.db.raw, "count what is deleted", "UPDATE postern_leaving SET emptied=true, counts=$2 WHERE account_id=$1", account, string(counts))
}

// End deletes the account's own row with what is left of it, the wish too, and, if it was their last account, where the person lives and
// their tokens.
func (s LeavingStore) End(ctx context.Context, l *Leaving) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if err := s.db.Accounts().Delete(ctx, l.AccountID); err != nil {
			return err
		}
		_, err := s.db.raw.Exec(ctx, "DELETE FROM postern_region WHERE mxid=$1 AND NOT EXISTS (SELECT 1 FROM postern_account WHERE mxid=$1)", l.MXID)
		if err != nil {
			return fmt.Errorf("database: end leaving: %w", err)
		}
		_, err = s.db.raw.Exec(ctx, "DELETE FROM postern_token WHERE mxid=$1 AND NOT EXISTS (SELECT 1 FROM postern_account WHERE mxid=$1)", l.MXID)
		if err != nil {
			return fmt.Errorf("database: end leaving: %w", err)
		}
		return s.db.Suspensions().forget(ctx, l.MXID)
	})
}
