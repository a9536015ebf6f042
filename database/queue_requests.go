package database

import (
	"context"
	"fmt"
)

// This file has what the in-queue keeps while a person has not decided about somebody who writes for the first time: rows in state 5, and
// delivery receipts in state 4.

// WithholdIn keeps a pending row until its chat is decided about, if it still has the sequence number; else it does nothing.
func (s QueueStore) WithholdIn(ctx context.Context, r *QueueIn) error {
	return s.execIn(ctx, "withhold item of the in-queue", "UPDATE postern_in SET state=5 WHERE "+queueInKey+" AND seq=$4 AND state=0",
		r.ChatID, r.Class, r.ItemID, r.Seq)
}

// WithheldIn returns the rows of a chat that are kept so, complete (or Broken) and in order, at most limit.
func (s QueueStore) WithheldIn(ctx context.Context, chat string, limit int) ([]*QueueIn, error) {
	return s.listIn(ctx, true, "account_id=$1 AND state=5 AND chat_id=$2 ORDER BY seq LIMIT $3", s.account, chat, limit)
}

// CountWithheldIn counts the rows that are kept so, for each chat that has any.
func (s QueueStore) CountWithheldIn(ctx context.Context) (map[string]int, error) {
	return s.countIn(ctx, 5)
}

// ResumeIn makes a row that is kept so pending again, at the given place of its chat.
func (s QueueStore) ResumeIn(ctx context.Context, r *QueueIn, seq int64) error {
	return s.execIn(ctx, "resume item of the in-queue", "UPDATE postern_in SET state=0, seq=$4 WHERE "+queueInKey+" AND state=5",
		r.ChatID, r.Class, r.ItemID, seq)
}

// ReleaseReceiptsIn makes the delivery receipts of a chat that were held back due, and returns their rows in order, without payload
// and notify.
func (s QueueStore) ReleaseReceiptsIn(ctx context.Context, chat string) (list []*QueueIn, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		if list, err = s.listIn(ctx, false, "account_id=$1 AND chat_id=$2 AND receipt=4 ORDER BY seq", s.account, chat); err != nil {
			return err
		}
		for _, r := range list {
			r.Receipt = queueReceiptDue
		}
		return s.execIn(ctx, "release receipts", "UPDATE postern_in SET receipt=1 WHERE chat_id=$1 AND receipt=4", chat)
	})
	return list, err
}

// DiscardIn forgets what is kept of a chat until it is decided about: payloads and held receipts, and read receipts with those. The rows
// stay, so that what comes again is known. It says how many messages were forgotten.
func (s QueueStore) DiscardIn(ctx context.Context, chat string) (n int, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, "UPDATE postern_in SET state=1, payload=NULL, receipt=0, read_receipt=3 WHERE chat_id=$1 AND state=5", chat)
		if err != nil {
			return fmt.Errorf("database: discard withheld items: %w", err)
		}
		count, err := res.RowsAffected()
		if err != nil {
			return fmt.Errorf("database: discard withheld items: %w", err)
		}
		n = int(count)
		return s.execIn(ctx, "discard held receipts", "UPDATE postern_in SET receipt=0, read_receipt=3 WHERE chat_id=$1 AND receipt=4", chat)
	})
	return n, err
}

// execIn runs one statement in a transaction.
func (s QueueStore) execIn(ctx context.Context, what, query string, args ...any) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, query, args...); err != nil {
			return fmt.Errorf("database: %s: %w", what, err)
		}
		return nil
	})
}
