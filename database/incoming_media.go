package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/util/dbutil"
)

// IncomingMediaState is how far an attachment of somebody else has come.
type IncomingMediaState int

// The states of an incoming attachment.
const (
	// IncomingMediaWanted is to be fetched, also after a restart.
	IncomingMediaWanted IncomingMediaState = 0
	// IncomingMediaMissing could not be fetched; a person may ask for it again.
	IncomingMediaMissing IncomingMediaState = 1
	// IncomingMediaShown is in Matrix.
	IncomingMediaShown IncomingMediaState = 2
)

// IncomingMedia is an attachment that somebody else has sent, while there may be something to do with it.
type IncomingMedia struct {
	// ChatID is the chat's local id, MessageID the gatekeeper's of the message.
	ChatID, MessageID string
	// AccountID is the local id of the account that the chat belongs to.
	AccountID string
	State     IncomingMediaState
	// Reason says why it is missing, in a word of the caller's.
	Reason string
	// Tries counts how often it was found missing.
	Tries int
	// Payload is what the caller needs to fetch it again or to change its event: keys are in it. Sealed.
	Payload []byte
	// Timestamp is the gatekeeper's time of the message, Expires when the row is of no use any more; both in Unix milliseconds.
	Timestamp, Expires int64
}

// IncomingMediaStore keeps them.
type IncomingMediaStore struct{ db *DB }

// IncomingMedia is the store of attachments that others have sent.
func (db *DB) IncomingMedia() IncomingMediaStore { return IncomingMediaStore{db} }

const (
	incomingMediaColumns = "chat_id, message_id, account_id, version, state, reason, tries, payload, timestamp, expires"
	incomingMediaPayload = "postern_incoming_media.payload"
)

// Put inserts or replaces a row.
func (s IncomingMediaStore) Put(ctx context.Context, m *IncomingMedia) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_incoming_media WHERE chat_id=$1 AND message_id=$2", m.ChatID, m.MessageID)
		if err != nil {
			return fmt.Errorf("database: put incoming media: %w", err)
		}
		_, err = s.db.raw.Exec(ctx, `
			INSERT INTO postern_incoming_media (`+incomingMediaColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT (chat_id, message_id) DO UPDATE SET account_id=excluded.account_id, version=excluded.version, state=excluded.state,
				reason=excluded.reason, tries=excluded.tries, payload=excluded.payload, timestamp=excluded.timestamp, expires=excluded.expires`,
			m.ChatID, m.MessageID, m.AccountID, version, int(m.State), m.Reason, m.Tries,
			s.db.Seal(incomingMediaPayload, RowKey(m.ChatID, m.MessageID), version, m.Payload), m.Timestamp, m.Expires)
		if err != nil {
			return fmt.Errorf("database: put incoming media: %w", err)
		}
		return nil
	})
}

// WantAgain makes what is missing wanted, and says whether it was missing.
func (s IncomingMediaStore) WantAgain(ctx context.Context, chatID, messageID string) (bool, error) {
	var n int64
	err := s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, "UPDATE postern_incoming_media SET state=0 WHERE chat_id=$1 AND message_id=$2 AND state=1", chatID, messageID)
		if err == nil {
			n, err = res.RowsAffected()
		}
		if err != nil {
			return fmt.Errorf("database: want incoming media: %w", err)
		}
		return nil
	})
	return n > 0, err
}

// Delete removes a row, if it is there.
func (s IncomingMediaStore) Delete(ctx context.Context, chatID, messageID string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, "DELETE FROM postern_incoming_media WHERE chat_id=$1 AND message_id=$2", chatID, messageID)
		if err != nil {
			return fmt.Errorf("database: delete incoming media: %w", err)
		}
		return nil
	})
}

// DeleteMissing removes what is missing of a chat.
func (s IncomingMediaStore) DeleteMissing(ctx context.Context, chatID string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_incoming_media WHERE chat_id=$1 AND state=1", chatID); err != nil {
			return fmt.Errorf("database: delete missing media: %w", err)
		}
		return nil
	})
}

// Get returns the row of a message, nil if there is none.
func (s IncomingMediaStore) Get(ctx context.Context, chatID, messageID string) (*IncomingMedia, error) {
	m, err := s.scan(s.db.raw.QueryRow(ctx, "SELECT "+incomingMediaColumns+" FROM postern_incoming_media WHERE chat_id=$1 AND message_id=$2", chatID, messageID))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get incoming media: %w", err)
	}
	return m, nil
}

// IncomingMediaPlace is where a row stands in the order of Wanted.
type IncomingMediaPlace struct {
	Timestamp         int64
	ChatID, MessageID string
}

// Wanted returns what an account has still to fetch, oldest first: at most limit rows behind a place, from the beginning if that is nil.
// next is where to go on, nil if there is no more. What does not open is left out, and ErrSealBroken comes with the rest.
func (s IncomingMediaStore) Wanted(ctx context.Context, accountID string, after *IncomingMediaPlace, limit int) (list []*IncomingMedia, next *IncomingMediaPlace, err error) {
	query, args := "", []any{accountID, limit}
	if after != nil {
		query, args = " AND (timestamp, chat_id, message_id) > ($3, $4, $5)", append(args, after.Timestamp, after.ChatID, after.MessageID)
	}
	rows, err := s.db.raw.Query(ctx, "SELECT "+incomingMediaColumns+" FROM postern_incoming_media WHERE account_id=$1 AND state=0"+
		query+" ORDER BY timestamp, chat_id, message_id LIMIT $2", args...)
	read := 0
	list, err = unbroken(rows, err, func(row dbutil.Scannable) (*IncomingMedia, error) {
		m, err := s.scan(row)
		if read++; read == limit && m != nil {
			next = &IncomingMediaPlace{m.Timestamp, m.ChatID, m.MessageID}
		}
		return m, err
	})
	if err != nil {
		return list, next, fmt.Errorf("database: list incoming media: %w", err)
	}
	return list, next, nil
}

// Want has what could not be fetched in a chat, and is not older than now (Unix milliseconds), fetched again, and says how much that is.
func (s IncomingMediaStore) Want(ctx context.Context, chatID string, now int64) (int, error) {
	var n int64
	err := s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, "UPDATE postern_incoming_media SET state=0 WHERE chat_id=$1 AND state=1 AND expires>=$2", chatID, now)
		if err == nil {
			n, err = res.RowsAffected()
		}
		if err != nil {
			return fmt.Errorf("database: want incoming media: %w", err)
		}
		return nil
	})
	return int(n), err
}

// Prune deletes rows that expired before now, in Unix milliseconds, at most limit of them, and says how many.
func (s IncomingMediaStore) Prune(ctx context.Context, now int64, limit int) (int, error) {
	var n int64
	err := s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, `
			DELETE FROM postern_incoming_media WHERE (chat_id, message_id) IN
				(SELECT chat_id, message_id FROM postern_incoming_media WHERE expires<$1 ORDER BY expires LIMIT $2)`, now, limit)
		if err == nil {
			n, err = res.RowsAffected()
		}
		if err != nil {
			return fmt.Errorf("database: prune incoming media: %w", err)
		}
		return nil
	})
	return int(n), err
}

func (s IncomingMediaStore) scan(row dbutil.Scannable) (*IncomingMedia, error) {
	var m IncomingMedia
	var version, state int
	var payload []byte
	err := row.Scan(&m.ChatID, &m.MessageID, &m.AccountID, &version, &state, &m.Reason, &m.Tries, &payload, &m.Timestamp, &m.Expires)
	if err != nil {
		return nil, err
	}
	m.State = IncomingMediaState(state)
	m.Payload, err = s.db.Unseal(incomingMediaPayload, RowKey(m.ChatID, m.MessageID), version, payload)
	return &m, err
}
