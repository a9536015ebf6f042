package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// ReachState is how it stands with asking somebody at the gatekeeper whether they may be written to.
type ReachState int

// The states.
const (
	ReachNone     ReachState = 0 // never asked, and nothing was said
	ReachToAsk    ReachState = 1 // to be asked, or it is not known whether the question has arrived
	ReachAsked    ReachState = 2 // the gatekeeper has taken the question
	ReachAccepted ReachState = 3
	ReachDeclined ReachState = 4
	ReachOff      ReachState = 5 // they cannot be written to: third-party chats switched off, or the user blocked
)

// Reach is a row of a chat.
type Reach struct {
	ChatID, AccountID string
	State             ReachState
	// Since is when it got into the state, in Unix milliseconds.
	Since int64
}

// ReachStore keeps them.
type ReachStore struct{ db *DB }

// Reaches is the store of what people have said to being written to.
func (db *DB) Reaches() ReachStore { return ReachStore{db} }

const reachColumns = "chat_id, account_id, state, since"

func scanReach(row dbutil.Scannable) (*Reach, error) {
	var r Reach
	var state int
	if err := row.Scan(&r.ChatID, &r.AccountID, &state, &r.Since); err != nil {
		return nil, err
	}
	r.State = ReachState(state)
	return &r, nil
}

// Get returns the row of a chat, one of the state ReachNone if there is none.
func (s ReachStore) Get(ctx context.Context, accountID, chatID string) (*Reach, error) {
	r, err := scanReach(s.db.raw.QueryRow(ctx, "SELECT "+reachColumns+" FROM postern_reach WHERE chat_id=$1 AND account_id=$2", chatID, accountID))
	if errors.Is(err, sql.ErrNoRows) {
		return &Reach{ChatID: chatID, AccountID: accountID}, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get reach: %w", err)
	}
	return r, nil
}

// Put stores the state of a chat, as of now; ReachNone deletes the row.
func (s ReachStore) Put(ctx context.Context, r *Reach) error {
	r.Since = time.Now().UnixMilli()
	return s.db.Do(ctx, func(ctx context.Context) error {
		var err error
		if r.State == ReachNone {
			_, err = s.db.raw.Exec(ctx, "DELETE FROM postern_reach WHERE chat_id=$1 AND account_id=$2", r.ChatID, r.AccountID)
		} else {
			_, err = s.db.raw.Exec(ctx, `
				INSERT INTO postern_reach (`+reachColumns+`) VALUES ($1, $2, $3, $4)
				ON CONFLICT (chat_id) DO UPDATE SET state=excluded.state, since=excluded.since`, r.ChatID, r.AccountID, int(r.State), r.Since)
		}
		if err != nil {
			return fmt.Errorf("database: put reach: %w", err)
		}
		return nil
	})
}

// ToAsk returns the account's rows in the state ReachToAsk, the oldest first.
func (s ReachStore) ToAsk(ctx context.Context, accountID string) ([]*Reach, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT "+reachColumns+" FROM postern_reach WHERE account_id=$1 AND state=1 ORDER BY since, chat_id", accountID)
	list, err := dbutil.NewRowIterWithError(rows, scanReach, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list reach: %w", err)
	}
	return list, nil
}
