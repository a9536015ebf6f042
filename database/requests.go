package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// RequestState is what a person has decided about whoever is on the other side of a chat.
type RequestState int

// The states. A chat without a row is one that nobody has written in yet.
const (
	RequestNone     RequestState = 0
	RequestAsked    RequestState = 1 // shown, and the person has not answered yet
	RequestAccepted RequestState = 2
	RequestDeclined RequestState = 3
	RequestHeld     RequestState = 4 // held back, because too many others were asked for
	RequestRefused  RequestState = 5 // the person wants none
)

// Request is a row of a chat.
type Request struct {
	ChatID, AccountID string
	State             RequestState
	// Since is when it got into the state, in Unix milliseconds.
	Since int64
	// Asked is when the person was asked, in Unix milliseconds, 0 for never.
	Asked int64
	// Dropped is how many messages were not kept.
	Dropped int64
	// Closing: declined, and its room is still to be closed.
	Closing bool
}

// RequestStore keeps them.
type RequestStore struct{ db *DB }

// Requests is the store of what people have decided about first contacts.
func (db *DB) Requests() RequestStore { return RequestStore{db} }

const requestColumns = "chat_id, account_id, state, since, asked, dropped, closing"

// Get returns the row of a chat, one of the state RequestNone if there is none.
func (s RequestStore) Get(ctx context.Context, accountID, chatID string) (*Request, error) {
	r, err := scanRequest(s.db.raw.QueryRow(ctx, "SELECT "+requestColumns+" FROM postern_request WHERE chat_id=$1 AND account_id=$2", chatID, accountID))
	if errors.Is(err, sql.ErrNoRows) {
		return &Request{ChatID: chatID, AccountID: accountID}, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get request: %w", err)
	}
	return r, nil
}

func scanRequest(row dbutil.Scannable) (*Request, error) {
	var r Request
	var state int
	if err := row.Scan(&r.ChatID, &r.AccountID, &state, &r.Since, &r.Asked, &r.Dropped, &r.Closing); err != nil {
		return nil, err
	}
	r.State = RequestState(state)
	return &r, nil
}

// Put inserts or replaces a row; Since is the time of the call if it is zero.
func (s RequestStore) Put(ctx context.Context, r *Request) error {
	if r.Since == 0 {
		r.Since = time.Now().UnixMilli()
	}
	return s.exec(ctx, "put request", `
		INSERT INTO postern_request (`+requestColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (chat_id) DO UPDATE SET state=excluded.state, since=excluded.since, asked=excluded.asked, dropped=excluded.dropped, closing=excluded.closing`,
		r.ChatID, r.AccountID, int(r.State), r.Since, r.Asked, r.Dropped, r.Closing)
}

// Drop counts one more message that was not kept.
func (s RequestStore) Drop(ctx context.Context, chatID string) error {
	return s.exec(ctx, "count dropped message", "UPDATE postern_request SET dropped=dropped+1 WHERE chat_id=$1", chatID)
}

// Closed notes that the room of a declined chat is closed.
func (s RequestStore) Closed(ctx context.Context, chatID string) error {
	return s.exec(ctx, "note closed room", "UPDATE postern_request SET closing=false WHERE chat_id=$1 AND state=3", chatID)
}

func (s RequestStore) exec(ctx context.Context, what, query string, args ...any) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, query, args...); err != nil {
			return fmt.Errorf("database: %s: %w", what, err)
		}
		return nil
	})
}

// Open returns the account's rows that are not accepted, the oldest first.
func (s RequestStore) Open(ctx context.Context, accountID string) ([]*Request, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT "+requestColumns+" FROM postern_request WHERE account_id=$1 AND state<>2 ORDER BY since, chat_id", accountID)
	list, err := dbutil.NewRowIterWithError(rows, scanRequest, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list requests: %w", err)
	}
	return list, nil
}

// AskedSince counts the account's chats about which the person was asked after a time (Unix milliseconds).
func (s RequestStore) AskedSince(ctx context.Context, accountID string, since int64) (n int, err error) {
	err = s.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_request WHERE account_id=$1 AND asked>$2 AND asked>0", accountID, since).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("database: count requests: %w", err)
	}
	return n, nil
}
