package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// Chat is a conversation of one account. Its ID is the portal's id.
type Chat struct {
	// ID is the opaque local id.
	ID string
	// AccountID and ContactID are local ids.
	AccountID, ContactID string
	// CreatedAt is in Unix milliseconds.
	CreatedAt int64
}

// ChatStore keeps chats.
type ChatStore struct{ db *DB }

// Chats is the store of chats.
func (db *DB) Chats() ChatStore { return ChatStore{db} }

const chatColumns = "id, account_id, contact_id, created_at"

// Ensure returns the account's chat with the contact, minting it with a new local id if there
// is none.
func (s ChatStore) Ensure(ctx context.Context, accountID, contactID string) (*Chat, error) {
	if c, err := s.ByContact(ctx, accountID, contactID); c != nil || err != nil {
		return c, err
	}
	var c *Chat
	err := s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_chat (id, account_id, contact_id, created_at)
			VALUES ($1, $2, $3, $4) ON CONFLICT (account_id, contact_id) DO NOTHING`,
			NewLocalID(), accountID, contactID, time.Now().UnixMilli())
		if err != nil {
			return fmt.Errorf("database: ensure chat: %w", err)
		}
		c, err = s.ByContact(ctx, accountID, contactID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Get returns the chat with that local id, nil if there is none.
func (s ChatStore) Get(ctx context.Context, id string) (*Chat, error) {
	return s.one(ctx, "id=$1", id)
}

// ByContact returns the account's chat with the contact, nil if there is none.
func (s ChatStore) ByContact(ctx context.Context, accountID, contactID string) (*Chat, error) {
	return s.one(ctx, "account_id=$1 AND contact_id=$2", accountID, contactID)
}

// ByAccount returns all chats of the account, oldest first.
func (s ChatStore) ByAccount(ctx context.Context, accountID string) ([]*Chat, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT "+chatColumns+" FROM postern_chat WHERE account_id=$1 ORDER BY created_at, id", accountID)
	list, err := dbutil.NewRowIterWithError(rows, scanChat, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list chats: %w", err)
	}
	return list, nil
}

func (s ChatStore) one(ctx context.Context, where string, args ...any) (*Chat, error) {
	c, err := scanChat(s.db.raw.QueryRow(ctx, "SELECT "+chatColumns+" FROM postern_chat WHERE "+where, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get chat: %w", err)
	}
	return c, nil
}

func scanChat(row dbutil.Scannable) (*Chat, error) {
	var c Chat
	if err := row.Scan(&c.ID, &c.AccountID, &c.ContactID, &c.CreatedAt); err != nil {
		return nil, err
	}
	return &c, nil
}
