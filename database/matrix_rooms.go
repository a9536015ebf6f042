package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ChatRoom is what the Matrix side remembers of a chat.
type ChatRoom struct {
	// ChatID is the chat's local id.
	ChatID string
	// RoomID is the room that begins with the notice on encryption, "" if none does yet.
	RoomID string
	// Title is the name that the person has given the chat, "" for none. Sealed.
	Title string
}

// ChatRoomStore keeps them.
type ChatRoomStore struct{ db *DB }

// ChatRooms is the store of what the Matrix side remembers of chats.
func (db *DB) ChatRooms() ChatRoomStore { return ChatRoomStore{db} }

const chatRoomTitle = "postern_chat_room.title"

// Get returns the row of a chat; one with ChatID alone if there is none.
func (s ChatRoomStore) Get(ctx context.Context, chatID string) (*ChatRoom, error) {
	r := &ChatRoom{ChatID: chatID}
	var version int
	var title []byte
	err := s.db.raw.QueryRow(ctx, "SELECT version, room_id, title FROM postern_chat_room WHERE chat_id=$1", chatID).
		Scan(&version, &r.RoomID, &title)
	if errors.Is(err, sql.ErrNoRows) {
		return r, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get chat room: %w", err)
	}
	if title != nil {
		plain, err := s.db.Unseal(chatRoomTitle, chatID, version, title)
		if err != nil {
			return nil, err
		}
		r.Title = string(plain)
	}
	return r, nil
}

// Put inserts or replaces the row of a chat.
func (s ChatRoomStore) Put(ctx context.Context, r *ChatRoom) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_chat_room WHERE chat_id=$1", r.ChatID)
		if err != nil {
			return fmt.Errorf("database: put chat room: %w", err)
		}
		var title []byte
		if r.Title != "" {
			title = s.db.Seal(chatRoomTitle, r.ChatID, version, []byte(r.Title))
		}
		_, err = s.db.raw.Exec(ctx, `
			INSERT INTO postern_chat_room (chat_id, version, room_id, title) VALUES ($1, $2, $3, $4)
			ON CONFLICT (chat_id) DO UPDATE SET version=excluded.version, room_id=excluded.room_id, title=excluded.title`,
			r.ChatID, version, r.RoomID, title)
		if err != nil {
			return fmt.Errorf("database: put chat room: %w", err)
		}
		return nil
	})
}
