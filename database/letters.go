package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
)

// This file has the dead letters of the queues: rows of the in-queue that Matrix has refused for good, which keep their payload for a
// while, and parts of the out-queue that have failed.

// Letter is one dead letter: an item of the in-queue, or the failed parts of one outgoing event.
type Letter struct {
	// ID is an opaque local id, the same for the same item for ever.
	ID                string
	AccountID, ChatID string
	Outgoing          bool
	// Kind is that of the item; of an outgoing event its type.
	Kind, Reason string
	// Code is the gatekeeper's, 0 for none.
	Code int
	// At is when it became one for the last time, in Unix milliseconds.
	At int64
	// Tries is how often it became one, Parts how many parts have failed.
	Tries, Parts int
	// Size is how many bytes are kept of it, sealed.
	Size int64
}

const (
	queueDead        = 2
	isDeadIn         = "state=2 AND letter<>''"
	isFailedOut      = "state=9 AND letter<>''"
	queueInLetter    = "postern_in.letter"
	queueOutLetter   = "postern_out.letter"
	selectLettersIn  = `SELECT letter, account_id, chat_id, 0, kind, dead_reason, 0, dead_at AS died, deaths, 1, COALESCE(LENGTH(payload), 0) FROM postern_in WHERE ` + isDeadIn
	selectLettersOut = `SELECT letter, account_id, MIN(chat_id), 1, MIN(type), MIN(reason), MAX(code), MAX(changed) AS died, 1, COUNT(*),
		SUM(COALESCE(LENGTH(plaintext), 0)) FROM postern_out WHERE ` + isFailedOut
)

// letterID is the id of the dead letter that a row may become. It is keyed, so it says nothing about the row.
func (db *DB) letterID(column, row string) string {
	return localIDAlphabet.EncodeToString(db.BlindIndex(column, row)[:10])
}

func (s QueueStore) letterOut(event string) string {
	return s.db.letterID(queueOutLetter, RowKey(s.account, event))
}

// BuryIn makes a row a dead letter, which keeps its payload, if the row is pending or set aside and still has the sequence number; else
// it does nothing. at is in Unix milliseconds.
func (s QueueStore) BuryIn(ctx context.Context, r *QueueIn, reason string, at int64) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, `UPDATE postern_in SET state=2, receipt=0, letter=$5, dead_reason=$6, dead_at=$7, deaths=deaths+1
			WHERE `+queueInKey+` AND seq=$4 AND (state=0 OR state=4)`,
			r.ChatID, r.Class, r.ItemID, r.Seq, s.db.letterID(queueInLetter, queueInRow(r)), reason, at)
		if err != nil {
			return fmt.Errorf("database: bury item of the in-queue: %w", err)
		}
		return nil
	})
}

// ReviveIn makes a dead letter pending again, as late, at the given place of its chat, and returns the row complete. Nil if the
// account has no such dead letter in its in-queue.
func (s QueueStore) ReviveIn(ctx context.Context, letter string, seq int64) (r *QueueIn, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		r = nil
		res, err := s.db.raw.Exec(ctx, "UPDATE postern_in SET state=0, late=true, seq=$3 WHERE account_id=$1 AND letter=$2 AND "+isDeadIn,
			s.account, letter, seq)
		if err != nil {
			return fmt.Errorf("database: revive item of the in-queue: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		list, err := s.listIn(ctx, true, "account_id=$1 AND letter=$2 AND letter<>''", s.account, letter)
		if err == nil && len(list) == 1 {
			r = list[0]
		}
		return err
	})
	return r, err
}

// LetterIn returns the row of the in-queue that is a dead letter, or was one and is waiting again, complete; nil for none.
func (s QueueStore) LetterIn(ctx context.Context, letter string) (*QueueIn, error) {
	list, err := s.listIn(ctx, true, "account_id=$1 AND letter=$2 AND letter<>''", s.account, letter)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// DropLetter erases what is kept of a dead letter and makes it one no more; its rows stay, so that what comes again is known. False if
// the account has no such dead letter.
func (s QueueStore) DropLetter(ctx context.Context, letter string) (dropped bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		dropped = false
		for _, query := range []string{
			"UPDATE postern_in SET letter='', payload=NULL WHERE account_id=$1 AND letter=$2 AND " + isDeadIn,
			"UPDATE postern_out SET letter='', plaintext=NULL WHERE account_id=$1 AND letter=$2 AND " + isFailedOut,
		} {
			changed, err := s.changeOut(ctx, "drop dead letter", query, s.account, letter)
			if err != nil {
				return err
			}
			dropped = dropped || changed
		}
		return nil
	})
	return dropped, err
}

// Letters returns dead letters of an account, or of all for "", the oldest first; at most limit, after the first offset.
func (db *DB) Letters(ctx context.Context, account string, offset, limit int) ([]*Letter, error) {
	mine, args := "", []any{limit, offset}
	if account != "" {
		mine, args = " AND account_id=$3", append(args, account)
	}
	return db.letters(ctx, selectLettersIn+mine+" UNION ALL "+selectLettersOut+mine+
		" GROUP BY account_id, letter ORDER BY died, letter LIMIT $1 OFFSET $2", args...)
}

func (db *DB) letters(ctx context.Context, query string, args ...any) ([]*Letter, error) {
	rows, err := db.raw.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("database: list dead letters: %w", err)
	}
	defer rows.Close()
	var list []*Letter
	for rows.Next() {
		var l Letter
		var outgoing int
		err = rows.Scan(&l.ID, &l.AccountID, &l.ChatID, &outgoing, &l.Kind, &l.Reason, &l.Code, &l.At, &l.Tries, &l.Parts, &l.Size)
		if err != nil {
			return nil, fmt.Errorf("database: list dead letters: %w", err)
		}
		l.Outgoing = outgoing == 1
		list = append(list, &l)
	}
	if err = rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list dead letters: %w", err)
	}
	return list, nil
}

// LetterOwner says whose a dead letter is: the account's id ("" if there is none of this id), whether it is an outgoing event, and
// whether it is one still, and not waiting again.
func (db *DB) LetterOwner(ctx context.Context, letter string) (account string, outgoing, dead bool, err error) {
	var state int
	err = db.raw.QueryRow(ctx, "SELECT account_id, state FROM postern_in WHERE letter=$1 AND letter<>''", letter).Scan(&account, &state)
	if err == nil {
		return account, false, state == queueDead, nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = db.raw.QueryRow(ctx, "SELECT account_id FROM postern_out WHERE letter=$1 AND letter<>'' AND state="+strconv.Itoa(queueFailed)+
			" LIMIT 1", letter).Scan(&account)
	}
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", false, false, nil
	case err != nil:
		return "", false, false, fmt.Errorf("database: look for a dead letter: %w", err)
	}
	return account, true, true, nil
}
