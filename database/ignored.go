package database

import (
	"context"
	"fmt"
)

// IgnoredStore keeps the chats of an account whose other side was on the person's list of ignored users when the bridge looked last.
type IgnoredStore struct {
	db      *DB
	account string
}

// Ignored is the store of whom an account's person ignores in their Matrix clients.
func (db *DB) Ignored(accountID string) IgnoredStore { return IgnoredStore{db, accountID} }

// All returns the chats, each with whether the bridge is changing the list for it, so that what the list says of it is not known.
func (s IgnoredStore) All(ctx context.Context) (map[string]bool, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT chat_id, pending FROM postern_ignored WHERE account_id=$1", s.account)
	if err != nil {
		return nil, fmt.Errorf("database: list ignored: %w", err)
	}
	defer rows.Close()
	all := map[string]bool{}
	for rows.Next() {
		var chat string
		var pending bool
		if err := rows.Scan(&chat, &pending); err != nil {
			return nil, fmt.Errorf("database: list ignored: %w", err)
		}
		all[chat] = pending
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list ignored: %w", err)
	}
	return all, nil
}

// Put stores that a chat's other side is on the list, or with pending that the bridge is changing that.
func (s IgnoredStore) Put(ctx context.Context, chat string, pending bool) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, `INSERT INTO postern_ignored (chat_id, account_id, pending) VALUES ($1, $2, $3)
			ON CONFLICT (chat_id) DO UPDATE SET pending=excluded.pending`, chat, s.account, pending)
		if err != nil {
			return fmt.Errorf("database: put ignored: %w", err)
		}
		return nil
	})
}

// Delete stores that a chat's other side is not on the list.
func (s IgnoredStore) Delete(ctx context.Context, chat string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_ignored WHERE chat_id=$1 AND account_id=$2", chat, s.account); err != nil {
			return fmt.Errorf("database: delete ignored: %w", err)
		}
		return nil
	})
}
