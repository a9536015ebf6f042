package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.mau.fi/util/dbutil"
)

// QueueOut is one part of an outgoing event: the stanza id is its key in the account.
type QueueOut struct {
	StanzaID string
	// Seq orders the parts of a chat.
	Seq                     int64
	ChatID, EventID, RoomID string
	Part, Parts             int
	Type, MediaType         string
	// Recipe, Plaintext, Fallback and Stanza are sealed; nil for none, or where a call
	// says that a row is not complete.
	Recipe, Plaintext, Fallback, Stanza []byte
	State                               int
	// Created and Changed are in Unix milliseconds.
	Created, Changed int64
	Reason           string
	Code             int
	// Reported is the event's state that was told.
	Reported int
	// Retry is an encoded request to send the part again, nil for none.
	Retry     []byte
	RetryLast string
	Answers   int
	// Broken names what is sealed and does not open (recipe, plaintext, fallback, stanza), and is nil here.
	Broken []string
}

// The numbers in the columns state and work that queries name. States from queueSent on only grow, and
// queueFailed is final.
const (
	queueEncrypted = 1
	queueSent      = 2
	queueRead      = 4
	queueReplaced  = 8
	queueFailed    = 9

	queueWorkSend   = 1
	queueWorkResend = 2
)

const (
	queueOutColumns = `stanza_id, seq, chat_id, event_id, room_id, part, parts, type, media_type, state, created, changed,
		reason, code, reported, retry, retry_last, answers`
	queueOutPlaintext = "postern_out.plaintext"
	queueOutStanza    = "postern_out.stanza"
	queueOutRecipe    = "postern_out.recipe"
	queueOutFallback  = "postern_out.fallback"
)

func (s QueueStore) outRow(stanzaID string) string { return RowKey(s.account, stanzaID) }

// sealStanza seals a stanza under the number of answers so far, so that an earlier one cannot be put back.
func (s QueueStore) sealStanza(stanzaID string, answers int, stanza []byte) []byte {
	if stanza == nil {
		return nil
	}
	return s.db.Seal(queueOutStanza, s.outRow(stanzaID), answers+1, stanza)
}

// sealOut seals a column that is set once, nil if there is nothing to seal.
func (s QueueStore) sealOut(column, stanzaID string, plain []byte) []byte {
	if plain == nil {
		return nil
	}
	return s.db.Seal(column, s.outRow(stanzaID), 1, plain)
}

// InsertOut adds the parts of an event; ErrQueueExists if the key of one is taken, and then none is added.
func (s QueueStore) InsertOut(ctx context.Context, rows []*QueueOut) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, r := range rows {
			res, err := s.db.raw.Exec(ctx, `
				INSERT INTO postern_out (`+queueOutColumns+`, account_id, plaintext, recipe, fallback, work, due)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, false)
				ON CONFLICT (account_id, stanza_id) DO NOTHING`,
				r.StanzaID, r.Seq, r.ChatID, r.EventID, r.RoomID, r.Part, r.Parts, r.Type, r.MediaType, r.State, r.Created,
				r.Changed, r.Reason, r.Code, r.Reported, r.Retry, r.RetryLast, r.Answers, s.account,
				s.sealOut(queueOutPlaintext, r.StanzaID, r.Plaintext), s.sealOut(queueOutRecipe, r.StanzaID, r.Recipe),
				s.sealOut(queueOutFallback, r.StanzaID, r.Fallback), queueWorkSend)
			if err = inserted(res, err, "out-queue"); err != nil {
				return err
			}
		}
		return nil
	})
}

// OutParts returns the rows with these stanza ids, in that order, not complete.
func (s QueueStore) OutParts(ctx context.Context, stanzaIDs []string) ([]*QueueOut, error) {
	if len(stanzaIDs) == 0 {
		return nil, nil
	}
	args := make([]any, 1, len(stanzaIDs)+1)
	args[0] = s.account
	var marks strings.Builder
	for i, stanzaID := range stanzaIDs {
		args = append(args, stanzaID)
		if i > 0 {
			marks.WriteByte(',')
		}
		marks.WriteByte('$')
		marks.WriteString(strconv.Itoa(i + 2))
	}
	found, err := s.listOut(ctx, false, "account_id=$1 AND stanza_id IN ("+marks.String()+")", args...)
	if err != nil || len(found) < 2 {
		return found, err
	}
	byID := make(map[string]*QueueOut, len(found))
	for _, r := range found {
		byID[r.StanzaID] = r
	}
	list := found[:0]
	for _, stanzaID := range stanzaIDs {
		if r := byID[stanzaID]; r != nil {
			list = append(list, r)
			delete(byID, stanzaID)
		}
	}
	return list, nil
}

// Out returns the row with this stanza id, complete; nil if there is none.
func (s QueueStore) Out(ctx context.Context, stanzaID string) (*QueueOut, error) {
	list, err := s.listOut(ctx, true, "account_id=$1 AND stanza_id=$2", s.account, stanzaID)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// SetStanzaOut stores the finished stanza of a part that is queued, which then is encrypted. False if it
// is in another state.
func (s QueueStore) SetStanzaOut(ctx context.Context, stanzaID string, stanza []byte, now int64) (bool, error) {
	return s.changeOut(ctx, "store stanza", "UPDATE postern_out SET stanza=$3, state="+strconv.Itoa(queueEncrypted)+`, changed=$4
		WHERE account_id=$1 AND stanza_id=$2 AND state=0`,
		s.account, stanzaID, s.sealStanza(stanzaID, 0, stanza), now)
}

// AdvanceOut moves a part forward to a state from queueSent to queueRead and erases its stanza. One that is
// as far, or failed, only loses its stanza. It says whether the state changed.
func (s QueueStore) AdvanceOut(ctx context.Context, stanzaID string, state int, now int64) (changed bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		changed, err = s.changeOut(ctx, "advance part", `UPDATE postern_out SET state=$3, changed=$4, due=true, stanza=NULL,
			work=CASE WHEN retry IS NULL THEN 0 ELSE 2 END WHERE account_id=$1 AND stanza_id=$2 AND state<$3`,
			s.account, stanzaID, state, now)
		if err != nil || changed {
			return err
		}
		_, err = s.changeOut(ctx, "drop stanza", `UPDATE postern_out SET stanza=NULL, work=CASE WHEN retry IS NULL THEN 0 ELSE 2 END
			WHERE account_id=$1 AND stanza_id=$2 AND stanza IS NOT NULL`, s.account, stanzaID)
		return err
	})
	return changed, err
}

// FailOut makes a part failed and erases recipe, fall-back, stanza and retry request, unless it is read, replaced or
// failed. It becomes a dead letter, one for all parts of its event. It says whether the state changed.
func (s QueueStore) FailOut(ctx context.Context, stanzaID, reason string, code int, now int64) (changed bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		changed = false
		var event string
		err := s.db.raw.QueryRow(ctx, "SELECT event_id FROM postern_out WHERE account_id=$1 AND stanza_id=$2", s.account, stanzaID).Scan(&event)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return fmt.Errorf("database: fail part: %w", err)
		}
		changed, err = s.changeOut(ctx, "fail part", "UPDATE postern_out SET state="+strconv.Itoa(queueFailed)+`, reason=$3, code=$4, changed=$5,
			letter=$6, due=true, recipe=NULL, fallback=NULL, stanza=NULL, retry=NULL, work=0
			WHERE account_id=$1 AND stanza_id=$2 AND state<`+strconv.Itoa(queueRead),
			s.account, stanzaID, reason, code, now, s.letterOut(event))
		return err
	})
	return changed, err
}

// SetRetryOut stores an encoded retry request and its fingerprint, unless the part is replaced or failed.
func (s QueueStore) SetRetryOut(ctx context.Context, stanzaID string, retry []byte, last string) error {
	_, err := s.changeOut(ctx, "store retry request", `UPDATE postern_out SET retry=$3, retry_last=$4, work=2
		WHERE account_id=$1 AND stanza_id=$2 AND state<`+strconv.Itoa(queueReplaced), s.account, stanzaID, retry, last)
	return err
}

// SetAnswerOut stores the finished stanza of the answer to the retry request, removes the request and
// counts; a nil stanza only removes the request. False if the part is replaced or failed.
func (s QueueStore) SetAnswerOut(ctx context.Context, stanzaID string, stanza []byte) (changed bool, err error) {
	if stanza == nil {
		return s.changeOut(ctx, "drop retry request", `UPDATE postern_out SET retry=NULL,
			work=CASE WHEN stanza IS NULL THEN 0 ELSE 2 END WHERE account_id=$1 AND stanza_id=$2 AND state<8`, s.account, stanzaID)
	}
	err = s.db.Do(ctx, func(ctx context.Context) error {
		var answers int
		err := s.db.raw.QueryRow(ctx, "SELECT answers FROM postern_out WHERE account_id=$1 AND stanza_id=$2", s.account, stanzaID).Scan(&answers)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return fmt.Errorf("database: store answer: %w", err)
		}
		changed, err = s.changeOut(ctx, "store answer", `UPDATE postern_out SET retry=NULL, stanza=$3, answers=$4, work=2
			WHERE account_id=$1 AND stanza_id=$2 AND state<8`,
			s.account, stanzaID, s.sealStanza(stanzaID, answers+1, stanza), answers+1)
		return err
	})
	return changed, err
}

// SetReportedOut stores the state of their event that was told, in these parts as they were read: one
// whose state has changed since stays due.
func (s QueueStore) SetReportedOut(ctx context.Context, parts []*QueueOut, reported int) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, r := range parts {
			_, err := s.changeOut(ctx, "note told state", `UPDATE postern_out SET reported=$3, due=(due AND state<>$4)
				WHERE account_id=$1 AND stanza_id=$2`, s.account, r.StanzaID, reported, r.State)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// changeOut runs an update of one row and says whether it hit one.
func (s QueueStore) changeOut(ctx context.Context, what, query string, args ...any) (changed bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, query, args...)
		if err != nil {
			return fmt.Errorf("database: %s: %w", what, err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return fmt.Errorf("database: %s: %w", what, err)
		}
		changed = n > 0
		return nil
	})
	return changed, err
}

// PendingOut returns the parts of a chat that are to be sent, above a sequence number, complete and in
// order, at most limit.
func (s QueueStore) PendingOut(ctx context.Context, chat string, after int64, limit int) ([]*QueueOut, error) {
	return s.listOut(ctx, true, "account_id=$1 AND work="+strconv.Itoa(queueWorkSend)+` AND chat_id=$2 AND seq>$3
		ORDER BY seq LIMIT $4`, s.account, chat, after, limit)
}

// ResendsOut returns the parts of a chat that are to be sent again, complete and in order, at most limit.
func (s QueueStore) ResendsOut(ctx context.Context, chat string, limit int) ([]*QueueOut, error) {
	return s.listOut(ctx, true, "account_id=$1 AND work="+strconv.Itoa(queueWorkResend)+` AND chat_id=$2
		ORDER BY seq LIMIT $3`, s.account, chat, limit)
}

// DueOut returns the parts whose state was not told yet, above a sequence number in order, not complete,
// at most limit.
func (s QueueStore) DueOut(ctx context.Context, after int64, limit int) ([]*QueueOut, error) {
	return s.listOut(ctx, false, "account_id=$1 AND due AND seq>$2 ORDER BY seq LIMIT $3", s.account, after, limit)
}

// ChatsOut returns the chats that have parts to be sent, or sent again.
func (s QueueStore) ChatsOut(ctx context.Context) ([]string, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT DISTINCT chat_id FROM postern_out WHERE account_id=$1 AND work<>0", s.account)
	list, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list chats of the out-queue: %w", err)
	}
	return list, nil
}

func (s QueueStore) listOut(ctx context.Context, complete bool, where string, args ...any) ([]*QueueOut, error) {
	columns := queueOutColumns
	if complete {
		columns += ", recipe, plaintext, fallback, stanza"
	}
	rows, err := s.db.raw.Query(ctx, "SELECT "+columns+" FROM postern_out WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("database: list the out-queue: %w", err)
	}
	defer rows.Close()
	var list []*QueueOut
	for rows.Next() {
		r, err := s.scanOut(rows, complete)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if err = rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list the out-queue: %w", err)
	}
	return list, nil
}

func (s QueueStore) scanOut(row dbutil.Scannable, complete bool) (*QueueOut, error) {
	var r QueueOut
	var recipe, plaintext, fallback, stanza []byte
	to := []any{&r.StanzaID, &r.Seq, &r.ChatID, &r.EventID, &r.RoomID, &r.Part, &r.Parts, &r.Type, &r.MediaType, &r.State,
		&r.Created, &r.Changed, &r.Reason, &r.Code, &r.Reported, &r.Retry, &r.RetryLast, &r.Answers}
	if complete {
		to = append(to, &recipe, &plaintext, &fallback, &stanza)
	}
	err := row.Scan(to...)
	if err != nil {
		return nil, fmt.Errorf("database: list the out-queue: %w", err)
	}
	for _, c := range []struct {
		name    string
		version int
		sealed  []byte
		to      *[]byte
	}{
		{queueOutRecipe, 1, recipe, &r.Recipe}, {queueOutPlaintext, 1, plaintext, &r.Plaintext}, {queueOutFallback, 1, fallback, &r.Fallback},
		{queueOutStanza, r.Answers + 1, stanza, &r.Stanza},
	} {
		if c.sealed == nil {
			continue
		}
		*c.to, err = s.db.Unseal(c.name, s.outRow(r.StanzaID), c.version, c.sealed)
		if errors.Is(err, ErrSealBroken) {
			r.Broken = append(r.Broken, strings.TrimPrefix(c.name, "postern_out."))
		} else if err != nil {
			return nil, err
		}
	}
	return &r, nil
}

// PruneOut erases plaintext and fall-back of parts that want no work and were created before window, or are not
// among the newest keep; and deletes parts that want no work, are told, and were created before cut
// (both Unix milliseconds). At most limit of each; it says how many in all.
func (s QueueStore) PruneOut(ctx context.Context, window int64, keep int, cut int64, limit int) (n int, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		n = 0
		// Sequence numbers grow, so the oldest of the newest keep marks the border.
		var border sql.NullInt64
		err := s.db.raw.QueryRow(ctx, `SELECT seq FROM postern_out WHERE account_id=$1 AND plaintext IS NOT NULL
			ORDER BY seq DESC LIMIT 1 OFFSET $2`, s.account, keep).Scan(&border)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("database: prune the out-queue: %w", err)
		}
		for _, q := range []struct {
			text string
			args []any
		}{
			{`UPDATE postern_out SET plaintext=NULL, fallback=NULL WHERE account_id=$1 AND stanza_id IN (SELECT stanza_id FROM postern_out
				WHERE account_id=$1 AND work=0 AND plaintext IS NOT NULL AND (created<$2 OR seq<=$3) LIMIT $4)`,
				[]any{s.account, window, border.Int64, limit}},
			{`DELETE FROM postern_out WHERE account_id=$1 AND stanza_id IN (SELECT stanza_id FROM postern_out
				WHERE account_id=$1 AND work=0 AND NOT due AND created<$2 LIMIT $3)`,
				[]any{s.account, cut, limit}},
		} {
			res, err := s.db.raw.Exec(ctx, q.text, q.args...)
			if err != nil {
				return fmt.Errorf("database: prune the out-queue: %w", err)
			}
			count, err := res.RowsAffected()
			if err != nil {
				return fmt.Errorf("database: prune the out-queue: %w", err)
			}
			n += int(count)
		}
		return nil
	})
	return n, err
}
