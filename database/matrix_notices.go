package database

import (
	"context"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// Notice is a message of the bridge's own that has to reach a room.
type Notice struct {
	// ID is its identity.
	ID string
	// RoomID is where it goes.
	RoomID string
	// Content is the Matrix content, JSON. Sealed, and erased when it is sent.
	Content []byte
	// Status says that it is no message of the room's, but how far an event has come.
	Status bool
	// Tried says that it may have been sent already.
	Tried bool
}

// NoticeStore keeps notices.
type NoticeStore struct{ db *DB }

// Notices is the store of notices.
func (db *DB) Notices() NoticeStore { return NoticeStore{db} }

const noticeContent = "postern_notice.content"

// Add stores a notice; one whose id is known is left as it is, also when it has been sent.
func (s NoticeStore) Add(ctx context.Context, n *Notice) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_notice (id, room_id, content, status, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING`,
			n.ID, n.RoomID, s.db.Seal(noticeContent, n.ID, 1, n.Content), n.Status, time.Now().UnixMilli())
		if err != nil {
			return fmt.Errorf("database: add notice: %w", err)
		}
		return nil
	})
}

// Waiting returns notices that are not sent, at most limit: untried ones first, then the oldest, so that those
// which do not get through keep no others back. One that does not open is left out, and ErrSealBroken
// comes with the others.
func (s NoticeStore) Waiting(ctx context.Context, limit int) ([]Notice, error) {
	rows, err := s.db.raw.Query(ctx, `
		SELECT id, room_id, content, status, tried FROM postern_notice WHERE sent_at IS NULL ORDER BY tried, created_at, id LIMIT $1`, limit)
	list, err := unbroken(rows, err, func(row dbutil.Scannable) (n Notice, err error) {
		if err = row.Scan(&n.ID, &n.RoomID, &n.Content, &n.Status, &n.Tried); err == nil {
			n.Content, err = s.db.Unseal(noticeContent, n.ID, 1, n.Content)
		}
		return n, err
	})
	if err != nil {
		return list, fmt.Errorf("database: list notices: %w", err)
	}
	return list, nil
}

// SetTried notes that a notice is about to be sent. ErrNotFound if there is none.
func (s NoticeStore) SetTried(ctx context.Context, id string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		return execOne(ctx, s.db.raw, "mark notice", "UPDATE postern_notice SET tried=true WHERE id=$1", id)
	})
}

// SetSent erases a notice that Matrix has; its id is remembered. ErrNotFound if there is none.
func (s NoticeStore) SetSent(ctx context.Context, id string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		return execOne(ctx, s.db.raw, "mark notice",
			"UPDATE postern_notice SET sent_at=$2, content=NULL WHERE id=$1", id, time.Now().UnixMilli())
	})
}

// Purge forgets notices that were sent before that time.
func (s NoticeStore) Purge(ctx context.Context, before time.Time) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_notice WHERE sent_at < $1", before.UnixMilli()); err != nil {
			return fmt.Errorf("database: purge notices: %w", err)
		}
		return nil
	})
}
