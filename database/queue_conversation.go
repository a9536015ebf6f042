package database

import (
	"context"
	"fmt"
	"strconv"
)

// This file has what the queues do for items that wait for others, read receipts, parts that are made of recipes, and
// fall-backs.

// HoldIn sets a pending row aside, if it still has the sequence number; else it does nothing.
func (s QueueStore) HoldIn(ctx context.Context, r *QueueIn) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, "UPDATE postern_in SET state="+strconv.Itoa(queueHeld)+" WHERE "+queueInKey+" AND seq=$4 AND state=0",
			r.ChatID, r.Class, r.ItemID, r.Seq)
		if err != nil {
			return fmt.Errorf("database: set item of the in-queue aside: %w", err)
		}
		return nil
	})
}

// HeldIn returns the rows of a chat that were set aside, above a sequence number, complete (or Broken) and in order,
// at most limit.
func (s QueueStore) HeldIn(ctx context.Context, chat string, after int64, limit int) ([]*QueueIn, error) {
	return s.listIn(ctx, true, "account_id=$1 AND state="+strconv.Itoa(queueHeld)+` AND chat_id=$2 AND seq>$3
		ORDER BY seq LIMIT $4`, s.account, chat, after, limit)
}

// AllHeldIn returns all rows that were set aside in order, without payload and notify.
func (s QueueStore) AllHeldIn(ctx context.Context) ([]*QueueIn, error) {
	return s.listIn(ctx, false, "account_id=$1 AND state="+strconv.Itoa(queueHeld)+" ORDER BY seq", s.account)
}

// MarkReadIn sets the state of the read receipt, where there is none, for the messages of a chat that are done, up to the one with
// this id, and for that one also while it is pending; at most limit of them. It says how many.
func (s QueueStore) MarkReadIn(ctx context.Context, chat, item string, state, limit int) (n int, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		n = 0
		for _, query := range []string{
			`UPDATE postern_in SET read_receipt=$3 WHERE chat_id=$1 AND class=0 AND item_id=$2 AND read_receipt=0 AND kind='message' AND state=0
				AND $4>0`,
			`UPDATE postern_in SET read_receipt=$3 WHERE chat_id=$1 AND class=0 AND item_id IN (
				SELECT item_id FROM postern_in WHERE chat_id=$1 AND class=0 AND read_receipt=0 AND state=1 AND kind='message'
					AND seq<=(SELECT seq FROM postern_in WHERE chat_id=$1 AND class=0 AND item_id=$2)
				ORDER BY seq LIMIT $4)`,
		} {
			res, err := s.db.raw.Exec(ctx, query, chat, item, state, limit-n)
			if err != nil {
				return fmt.Errorf("database: mark messages as read: %w", err)
			}
			count, err := res.RowsAffected()
			if err != nil {
				return fmt.Errorf("database: mark messages as read: %w", err)
			}
			n += int(count)
		}
		return nil
	})
	return n, err
}

// DueReadsIn returns rows that are done and have a due read receipt, and a delivery receipt that is not held back, above a sequence number in order, without payload and notify,
// at most limit; of one chat, or of all for "".
func (s QueueStore) DueReadsIn(ctx context.Context, chat string, after int64, limit int) ([]*QueueIn, error) {
	const due = "account_id=$1 AND read_receipt=1 AND state=1 AND receipt<>4 AND seq>$2 "
	if chat == "" {
		return s.listIn(ctx, false, due+"ORDER BY seq LIMIT $3", s.account, after, limit)
	}
	return s.listIn(ctx, false, due+"AND chat_id=$4 ORDER BY seq LIMIT $3", s.account, after, limit, chat)
}

// SetReadsIn sets the state of the read receipt of these messages of a chat, where it is due.
func (s QueueStore) SetReadsIn(ctx context.Context, chat string, items []string, state int) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, item := range items {
			_, err := s.db.raw.Exec(ctx, "UPDATE postern_in SET read_receipt=$4 WHERE "+queueInKey+" AND read_receipt=1", chat, 0, item, state)
			if err != nil {
				return fmt.Errorf("database: note read receipts: %w", err)
			}
		}
		return nil
	})
}

// SetPreparedOut stores what was made of the recipe of a queued part: plaintext, fall-back (nil for none) and types of r; the recipe
// is erased. False if the part is in another state or has no recipe.
func (s QueueStore) SetPreparedOut(ctx context.Context, r *QueueOut, now int64) (bool, error) {
	return s.changeOut(ctx, "store prepared part", `UPDATE postern_out SET recipe=NULL, plaintext=$3, fallback=$4, type=$5, media_type=$6,
		changed=$7 WHERE account_id=$1 AND stanza_id=$2 AND state=0 AND recipe IS NOT NULL`,
		s.account, r.StanzaID, s.sealOut(queueOutPlaintext, r.StanzaID, r.Plaintext), s.sealOut(queueOutFallback, r.StanzaID, r.Fallback),
		r.Type, r.MediaType, now)
}

// ReplaceOut makes a part that was encrypted and is not read replaced, and erases what it had. It says whether the state changed.
func (s QueueStore) ReplaceOut(ctx context.Context, stanzaID string, now int64) (bool, error) {
	return s.changeOut(ctx, "replace part", "UPDATE postern_out SET state="+strconv.Itoa(queueReplaced)+`, changed=$3, recipe=NULL,
		plaintext=NULL, fallback=NULL, stanza=NULL, retry=NULL, work=0 WHERE account_id=$1 AND stanza_id=$2 AND state>0
		AND state<`+strconv.Itoa(queueRead), s.account, stanzaID, now)
}

// AnyReplacedOut says whether a part was replaced.
func (s QueueStore) AnyReplacedOut(ctx context.Context) (any bool, err error) {
	err = s.db.raw.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM postern_out WHERE account_id=$1 AND state=8)", s.account).Scan(&any)
	if err != nil {
		return false, fmt.Errorf("database: look for replaced parts: %w", err)
	}
	return any, nil
}
