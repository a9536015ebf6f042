package database

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"go.mau.fi/util/dbutil"
)

// QueueStore keeps the in-queue and the out-queue of one account. The in-queue is in this file, the
// out-queue in queue_out.go.
type QueueStore struct {
	db      *DB
	account string
}

// Queue is the store of one account's queues; accountID is a local id.
func (db *DB) Queue(accountID string) QueueStore { return QueueStore{db, accountID} }

// ErrQueueExists is returned by inserts into a queue for a row whose key is there already. The
// transaction goes on without the row.
var ErrQueueExists = errors.New("database: queue: row exists")

// QueueIn is one item of the in-queue: chat, class and item id are its key.
type QueueIn struct {
	ChatID string
	Class  int
	ItemID string
	// Seq orders the items of a chat.
	Seq int64
	// Hash is of the ciphertext handled last, nil for none.
	Hash  []byte
	Kind  string
	State int
	// Timestamp is in Unix seconds, Received and Since in Unix milliseconds.
	Timestamp, Received, Since int64
	// Payload and Notify are sealed together, and erased by Finish.
	Payload []byte
	Notify  string
	STS     string
	Receipt int
	// Read is the state of the read receipt.
	Read    int
	Nack    int
	Retries int
	Late    bool
	// Broken: what is sealed does not open, so Payload and Notify are empty.
	Broken bool
}

// The numbers in the columns state and receipt that queries name.
const (
	queuePending    = 0
	queueWaiting    = 3
	queueHeld       = 4
	queueReceiptDue = 1
)

const (
	queueInColumns = `chat_id, class, item_id, seq, version, hash, kind, state, timestamp, received, sts, receipt, nack,
		retries, since, late, read_receipt`
	queueInPayload = "postern_in.payload"
	queueInKey     = "chat_id=$1 AND class=$2 AND item_id=$3"
)

func queueInRow(r *QueueIn) string { return RowKey(r.ChatID, strconv.Itoa(r.Class), r.ItemID) }

// sealIn seals payload and notify, nil if there is nothing to seal.
func (s QueueStore) sealIn(r *QueueIn, version int) []byte {
	if r.Payload == nil && r.Notify == "" {
		return nil
	}
	plain := binary.AppendUvarint(make([]byte, 0, len(r.Notify)+len(r.Payload)+3), uint64(len(r.Notify)))
	plain = append(plain, r.Notify...)
	return s.db.Seal(queueInPayload, queueInRow(r), version, append(plain, r.Payload...))
}

func (s QueueStore) unsealIn(r *QueueIn, version int, sealed []byte) error {
	if sealed == nil {
		return nil
	}
	plain, err := s.db.Unseal(queueInPayload, queueInRow(r), version, sealed)
	if err != nil {
		return err
	}
	n, size := binary.Uvarint(plain)
	if size <= 0 || n > uint64(len(plain)-size) {
		return fmt.Errorf("%w: %s", ErrSealBroken, queueInPayload)
	}
	r.Notify, r.Payload = string(plain[size:size+int(n)]), plain[size+int(n):]
	return nil
}

// LastSeq returns the highest sequence number of all rows of both queues that are not finished, 0
// for none.
func (s QueueStore) LastSeq(ctx context.Context) (int64, error) {
	var last int64
	for _, query := range []string{
		"SELECT MAX(seq) FROM postern_in WHERE account_id=$1 AND (state=0 OR state=3 OR state=4)",
		"SELECT MAX(seq) FROM postern_in WHERE account_id=$1 AND state=5",
		"SELECT MAX(seq) FROM postern_in WHERE account_id=$1 AND receipt=1",
		"SELECT MAX(seq) FROM postern_in WHERE account_id=$1 AND read_receipt=1 AND state=1",
		"SELECT MAX(seq) FROM postern_out WHERE account_id=$1 AND work<>0",
		"SELECT MAX(seq) FROM postern_out WHERE account_id=$1 AND due",
	} {
		var one sql.NullInt64
		if err := s.db.raw.QueryRow(ctx, query, s.account).Scan(&one); err != nil {
			return 0, fmt.Errorf("database: last place in the queues: %w", err)
		}
		last = max(last, one.Int64)
	}
	return last, nil
}

// In returns the row of an item without payload and notify, nil if there is none.
func (s QueueStore) In(ctx context.Context, chat string, class int, item string) (*QueueIn, error) {
	r, _, err := scanIn(s.db.raw.QueryRow(ctx, "SELECT "+queueInColumns+" FROM postern_in WHERE "+queueInKey, chat, class, item))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get item of the in-queue: %w", err)
	}
	return r, nil
}

func scanIn(row dbutil.Scannable, more ...any) (*QueueIn, int, error) {
	var r QueueIn
	var version int
	err := row.Scan(append([]any{&r.ChatID, &r.Class, &r.ItemID, &r.Seq, &version, &r.Hash, &r.Kind, &r.State, &r.Timestamp,
		&r.Received, &r.STS, &r.Receipt, &r.Nack, &r.Retries, &r.Since, &r.Late, &r.Read}, more...)...)
	if err != nil {
		return nil, 0, err
	}
	return &r, version, nil
}

// InsertIn adds a row; ErrQueueExists if its key is taken.
func (s QueueStore) InsertIn(ctx context.Context, r *QueueIn) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_in (`+queueInColumns+`, account_id, payload)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
			ON CONFLICT (chat_id, class, item_id) DO NOTHING`,
			r.ChatID, r.Class, r.ItemID, r.Seq, 1, r.Hash, r.Kind, r.State, r.Timestamp, r.Received, r.STS, r.Receipt,
			r.Nack, r.Retries, r.Since, r.Late, r.Read, s.account, s.sealIn(r, 1))
		return inserted(res, err, "in-queue")
	})
}

// inserted turns an insert that met a conflict into ErrQueueExists.
func inserted(res sql.Result, err error, queue string) error {
	if err != nil {
		return fmt.Errorf("database: insert into the %s: %w", queue, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("database: insert into the %s: %w", queue, err)
	} else if n == 0 {
		return ErrQueueExists
	}
	return nil
}

// UpdateIn replaces all of a row but its key; a dead letter is none any more. ErrNotFound if there is no such row.
func (s QueueStore) UpdateIn(ctx context.Context, r *QueueIn) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_in WHERE "+queueInKey, r.ChatID, r.Class, r.ItemID)
		if err != nil {
			return fmt.Errorf("database: update item of the in-queue: %w", err)
		}
		return execOne(ctx, s.db.raw, "update item of the in-queue", `
			UPDATE postern_in SET seq=$4, version=$5, hash=$6, kind=$7, state=$8, timestamp=$9, received=$10, sts=$11, receipt=$12,
				nack=$13, retries=$14, since=$15, late=$16, payload=$17, read_receipt=$18, letter='', dead_reason='', dead_at=0, deaths=0
				WHERE `+queueInKey,
			r.ChatID, r.Class, r.ItemID, r.Seq, version, r.Hash, r.Kind, r.State, r.Timestamp, r.Received, r.STS, r.Receipt,
			r.Nack, r.Retries, r.Since, r.Late, s.sealIn(r, version), r.Read)
	})
}

// FinishIn sets state and receipt of the row and erases what is sealed, if the row still has the
// sequence number; else it does nothing.
func (s QueueStore) FinishIn(ctx context.Context, r *QueueIn, state, receipt int) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, "UPDATE postern_in SET state=$5, receipt=$6, payload=NULL, letter='' WHERE "+queueInKey+" AND seq=$4",
			r.ChatID, r.Class, r.ItemID, r.Seq, state, receipt)
		if err != nil {
			return fmt.Errorf("database: finish item of the in-queue: %w", err)
		}
		return nil
	})
}

// PendingIn returns the pending rows of a chat above a sequence number, complete (or Broken) and in
// order, at most limit.
func (s QueueStore) PendingIn(ctx context.Context, chat string, after int64, limit int) ([]*QueueIn, error) {
	return s.listIn(ctx, true, `account_id=$1 AND state=`+strconv.Itoa(queuePending)+` AND chat_id=$2 AND seq>$3
		ORDER BY seq LIMIT $4`, s.account, chat, after, limit)
}

// WaitingIn returns all rows that wait for a repetition, without payload and notify.
func (s QueueStore) WaitingIn(ctx context.Context) ([]*QueueIn, error) {
	return s.listIn(ctx, false, "account_id=$1 AND state="+strconv.Itoa(queueWaiting)+" ORDER BY seq", s.account)
}

// DueReceiptsIn returns rows with a due receipt above a sequence number in order, without payload
// and notify, at most limit.
func (s QueueStore) DueReceiptsIn(ctx context.Context, after int64, limit int) ([]*QueueIn, error) {
	return s.listIn(ctx, false, `account_id=$1 AND receipt=`+strconv.Itoa(queueReceiptDue)+` AND seq>$2
		ORDER BY seq LIMIT $3`, s.account, after, limit)
}

func (s QueueStore) listIn(ctx context.Context, complete bool, where string, args ...any) ([]*QueueIn, error) {
	columns := queueInColumns
	if complete {
		columns += ", payload"
	}
	rows, err := s.db.raw.Query(ctx, "SELECT "+columns+" FROM postern_in WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("database: list the in-queue: %w", err)
	}
	defer rows.Close()
	var list []*QueueIn
	for rows.Next() {
		var sealed []byte
		var more []any
		if complete {
			more = append(more, &sealed)
		}
		r, version, err := scanIn(rows, more...)
		if err != nil {
			return nil, fmt.Errorf("database: list the in-queue: %w", err)
		}
		if err = s.unsealIn(r, version, sealed); errors.Is(err, ErrSealBroken) {
			r.Broken = true // it must not keep others back
		} else if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if err = rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list the in-queue: %w", err)
	}
	return list, nil
}

// CountPendingIn counts the pending rows of each chat that has any.
func (s QueueStore) CountPendingIn(ctx context.Context) (map[string]int, error) {
	return s.countIn(ctx, queuePending)
}

// countIn counts the rows in a state for each chat that has any. The number is in the query, for the partial indexes.
func (s QueueStore) countIn(ctx context.Context, state int) (map[string]int, error) {
	rows, err := s.db.raw.Query(ctx, `SELECT chat_id, COUNT(*) FROM postern_in
		WHERE account_id=$1 AND state=`+strconv.Itoa(state)+` GROUP BY chat_id`, s.account)
	if err != nil {
		return nil, fmt.Errorf("database: count the in-queue: %w", err)
	}
	defer rows.Close()
	counts := make(map[string]int)
	for rows.Next() {
		var chat string
		var n int
		if err = rows.Scan(&chat, &n); err != nil {
			return nil, fmt.Errorf("database: count the in-queue: %w", err)
		}
		counts[chat] = n
	}
	if err = rows.Err(); err != nil {
		return nil, fmt.Errorf("database: count the in-queue: %w", err)
	}
	return counts, nil
}

// ReceiptsDoneIn notes that the receipts of these messages of a chat were acked.
func (s QueueStore) ReceiptsDoneIn(ctx context.Context, chat string, items []string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, item := range items {
			_, err := s.db.raw.Exec(ctx, "UPDATE postern_in SET receipt=2 WHERE "+queueInKey+" AND receipt=1", chat, 0, item)
			if err != nil {
				return fmt.Errorf("database: note acked receipts: %w", err)
			}
		}
		return nil
	})
}

// PruneIn deletes rows that want no work, are no dead letters and were received before a time (Unix
// milliseconds), at most limit, and says how many.
func (s QueueStore) PruneIn(ctx context.Context, before int64, limit int) (n int, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, `
			DELETE FROM postern_in WHERE (chat_id, class, item_id) IN (
				SELECT q.chat_id, q.class, q.item_id FROM postern_chat c JOIN postern_in q ON q.chat_id=c.id
				WHERE c.account_id=$1 AND q.received<$2 AND (q.state=1 OR q.state=2 AND q.letter='') AND q.receipt<>1
					AND NOT (q.read_receipt=1 AND q.state=1 AND q.receipt<>4) LIMIT $3)`,
			s.account, before, limit)
		if err != nil {
			return fmt.Errorf("database: prune the in-queue: %w", err)
		}
		count, err := res.RowsAffected()
		n = int(count)
		return err
	})
	return n, err
}
