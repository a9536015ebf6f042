package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// JournalEvent is an event that the homeserver has handed over.
type JournalEvent struct {
	// Seq is its place in the order of handling, unique.
	Seq int64
	// Kind is "room" or "ephemeral".
	Kind string
	// EventID is set for kind "room" and unique.
	EventID string
	// RoomID is the room it belongs to.
	RoomID string
	// Body is the event's JSON. Sealed, and erased when the event is finished.
	Body []byte
	// Handed says that it is a command which was given to its handler.
	Handed bool
}

// JournalStore keeps what the homeserver has handed over.
type JournalStore struct{ db *DB }

// Journal is the store of the homeserver's transactions and their events.
func (db *DB) Journal() JournalStore { return JournalStore{db} }

const journalBody = "postern_as_event.body"

// sealedAs is what an event's body is bound to. The place of a room event can change, its id cannot.
func (e *JournalEvent) sealedAs() string {
	if e.EventID != "" {
		return RowKey("event", e.EventID)
	}
	return RowKey("seq", fmt.Sprint(e.Seq))
}

// Accept stores a transaction's id and those of its events whose ids are not there yet, and returns
// these with Seq set. known says that the transaction was there already, and that nothing was stored.
func (s JournalStore) Accept(ctx context.Context, txnID string, events []JournalEvent) (stored []JournalEvent, known bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		stored, known = nil, false
		res, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_as_transaction (txn_id, received_at) VALUES ($1, $2) ON CONFLICT (txn_id) DO NOTHING`,
			txnID, time.Now().UnixMilli())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			known = true
			return nil
		}
		next, err := s.nextSeq(ctx)
		if err != nil {
			return err
		}
		for _, e := range events {
			e.Seq = next
			inserted, err := s.insert(ctx, &e)
			if err != nil {
				return err
			} else if inserted {
				stored = append(stored, e)
				next++
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("database: accept transaction: %w", err)
	}
	return stored, known, nil
}

// Merge stores unknown events and a sync token, unless that is "", in one commit. Known events that are unfinished and that
// waiting accepts get a new place, so that the order of all these is that of events. It returns the stored and the moved ones,
// with Seq and Body set.
func (s JournalStore) Merge(ctx context.Context, name, token string, events []JournalEvent, waiting func(eventID string) bool) ([]JournalEvent, error) {
	var out []JournalEvent
	err := s.db.Do(ctx, func(ctx context.Context) error {
		out = nil
		needed, err := s.needPlaces(ctx, events, waiting)
		if err != nil {
			return err
		}
		if needed {
			if out, err = s.place(ctx, events, waiting); err != nil {
				return err
			}
		}
		if token == "" {
			return nil
		}
		return s.setToken(ctx, name, token)
	})
	if err != nil {
		return nil, fmt.Errorf("database: merge events: %w", err)
	}
	return out, nil
}

// needPlaces says whether one of the events is not known, or those that wait stand in another order than events has. In most
// looks neither is so.
func (s JournalStore) needPlaces(ctx context.Context, events []JournalEvent, waiting func(eventID string) bool) (bool, error) {
	last := map[string]int64{}
	for i := range events {
		e := &events[i]
		var seq int64
		err := s.db.raw.QueryRow(ctx, "SELECT seq FROM postern_as_event WHERE event_id=$1", e.EventID).Scan(&seq)
		if errors.Is(err, sql.ErrNoRows) {
			return true, nil
		} else if err != nil {
			return false, err
		}
		if !waiting(e.EventID) {
			continue
		}
		if seq < last[e.RoomID] {
			return true, nil
		}
		last[e.RoomID] = seq
	}
	return false, nil
}

// place gives unknown and waiting events places at the end, in the given order.
func (s JournalStore) place(ctx context.Context, events []JournalEvent, waiting func(eventID string) bool) ([]JournalEvent, error) {
	next, err := s.nextSeq(ctx)
	if err != nil {
		return nil, err
	}
	var out []JournalEvent
	for _, e := range events {
		e.Seq = next
		placed, err := s.insert(ctx, &e)
		if err != nil {
			return nil, err
		}
		if !placed && waiting(e.EventID) {
			res, err := s.db.raw.Exec(ctx, `
				UPDATE postern_as_event SET seq=$2 WHERE event_id=$1 AND finished_at IS NULL AND NOT handed`, e.EventID, next)
			if err != nil {
				return nil, err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return nil, err
			}
			placed = n == 1
		}
		if placed {
			out = append(out, e)
			next++
		}
	}
	return out, nil
}

func (s JournalStore) nextSeq(ctx context.Context) (next int64, err error) {
	err = s.db.raw.QueryRow(ctx, "SELECT COALESCE(MAX(seq), 0) + 1 FROM postern_as_event").Scan(&next)
	return next, err
}

func (s JournalStore) insert(ctx context.Context, e *JournalEvent) (bool, error) {
	var eventID *string
	if e.EventID != "" {
		eventID = &e.EventID
	}
	res, err := s.db.raw.Exec(ctx, `
		INSERT INTO postern_as_event (seq, kind, event_id, room_id, body) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (event_id) DO NOTHING`,
		e.Seq, e.Kind, eventID, e.RoomID, s.db.Seal(journalBody, e.sealedAs(), 1, e.Body))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// Hand marks an event as a command that is given to its handler.
func (s JournalStore) Hand(ctx context.Context, seq int64) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		return execOne(ctx, s.db.raw, "hand over event", "UPDATE postern_as_event SET handed=true WHERE seq=$1", seq)
	})
}

// Finish marks events as dealt with and erases their bodies. Unknown ones are passed over.
func (s JournalStore) Finish(ctx context.Context, seqs []int64) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		now := time.Now().UnixMilli()
		for _, seq := range seqs {
			_, err := s.db.raw.Exec(ctx, "UPDATE postern_as_event SET finished_at=$2, body=NULL WHERE seq=$1", seq, now)
			if err != nil {
				return fmt.Errorf("database: finish event: %w", err)
			}
		}
		return nil
	})
}

// Load returns the event's body. ErrNotFound if there is none, or if it is finished.
func (s JournalStore) Load(ctx context.Context, seq int64) ([]byte, error) {
	e := JournalEvent{Seq: seq}
	var eventID *string
	err := s.db.raw.QueryRow(ctx, "SELECT event_id, body FROM postern_as_event WHERE seq=$1", seq).Scan(&eventID, &e.Body)
	if errors.Is(err, sql.ErrNoRows) || (err == nil && e.Body == nil) {
		return nil, fmt.Errorf("database: load event: %w", ErrNotFound)
	} else if err != nil {
		return nil, fmt.Errorf("database: load event: %w", err)
	}
	if eventID != nil {
		e.EventID = *eventID
	}
	return s.db.Unseal(journalBody, e.sealedAs(), 1, e.Body)
}

// Unfinished returns all events that are not dealt with, in order, without bodies.
func (s JournalStore) Unfinished(ctx context.Context) ([]JournalEvent, error) {
	rows, err := s.db.raw.Query(ctx, `
		SELECT seq, kind, event_id, room_id, handed FROM postern_as_event WHERE finished_at IS NULL ORDER BY seq`)
	list, err := dbutil.NewRowIterWithError(rows, func(row dbutil.Scannable) (e JournalEvent, err error) {
		var eventID *string
		if err = row.Scan(&e.Seq, &e.Kind, &eventID, &e.RoomID, &e.Handed); err == nil && eventID != nil {
			e.EventID = *eventID
		}
		return e, err
	}, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list unfinished events: %w", err)
	}
	return list, nil
}

// Purge forgets transactions and finished events that are older than before.
func (s JournalStore) Purge(ctx context.Context, before time.Time) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, query := range []string{
			"DELETE FROM postern_as_transaction WHERE received_at < $1",
			"DELETE FROM postern_as_event WHERE finished_at < $1",
		} {
			if _, err := s.db.raw.Exec(ctx, query, before.UnixMilli()); err != nil {
				return fmt.Errorf("database: purge journal: %w", err)
			}
		}
		return nil
	})
}

// Token returns the sync token stored under name, "" if there is none.
func (s JournalStore) Token(ctx context.Context, name string) (string, error) {
	var token string
	err := s.db.raw.QueryRow(ctx, "SELECT token FROM postern_sync_token WHERE name=$1", name).Scan(&token)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("database: get sync token: %w", err)
	}
	return token, nil
}

// SetToken stores a sync token under name.
func (s JournalStore) SetToken(ctx context.Context, name, token string) error {
	return s.db.Do(ctx, func(ctx context.Context) error { return s.setToken(ctx, name, token) })
}

func (s JournalStore) setToken(ctx context.Context, name, token string) error {
	_, err := s.db.raw.Exec(ctx, `
		INSERT INTO postern_sync_token (name, token) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET token=excluded.token`, name, token)
	if err != nil {
		return fmt.Errorf("database: set sync token: %w", err)
	}
	return nil
}
