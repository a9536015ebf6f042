package database

import (
	"context"
	"fmt"
)

// Block is what holds for the other side of a chat.
type Block struct {
	// ChatID is the chat's local id.
	ChatID string
	// Blocked says that the person is blocked, Pending that the gatekeeper has not been told of that, or of the contrary.
	Blocked, Pending bool
	// At is when that was decided, in Unix milliseconds.
	At int64
}

// BlockStore keeps whom an account has blocked.
type BlockStore struct {
	db      *DB
	account string
}

// Blocks is the store of whom an account has blocked.
func (db *DB) Blocks(accountID string) BlockStore { return BlockStore{db, accountID} }

// All returns everything that holds, in the order in which it was decided.
func (s BlockStore) All(ctx context.Context) ([]*Block, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT chat_id, blocked, pending, at FROM postern_block WHERE account_id=$1 ORDER BY at, chat_id", s.account)
	if err != nil {
		return nil, fmt.Errorf("database: list blocks: %w", err)
	}
	defer rows.Close()
	var list []*Block
	for rows.Next() {
		var b Block
		if err := rows.Scan(&b.ChatID, &b.Blocked, &b.Pending, &b.At); err != nil {
			return nil, fmt.Errorf("database: list blocks: %w", err)
		}
		list = append(list, &b)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list blocks: %w", err)
	}
	return list, nil
}

// Put stores what holds for a chat, in place of what held before. What is neither blocked nor pending is forgotten.
func (s BlockStore) Put(ctx context.Context, b *Block) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		var err error
		if !b.Blocked && !b.Pending {
			_, err = s.db.raw.Exec(ctx, "DELETE FROM postern_block WHERE chat_id=$1 AND account_id=$2", b.ChatID, s.account)
		} else {
			_, err = s.db.raw.Exec(ctx, `
				INSERT INTO postern_block (chat_id, account_id, blocked, pending, at) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (chat_id) DO UPDATE SET blocked=excluded.blocked, pending=excluded.pending, at=excluded.at`,
				b.ChatID, s.account, b.Blocked, b.Pending, b.At)
		}
		if err != nil {
			return fmt.Errorf("database: put block: %w", err)
		}
		return nil
	})
}
