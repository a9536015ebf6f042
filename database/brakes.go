package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// BrakeKind is what is counted.
type BrakeKind int

// The kinds.
const (
	BrakeChat   BrakeKind = 1 // a chat that a user has begun
	BrakeLookup BrakeKind = 2 // a phone number that was looked up
	BrakeLetter BrakeKind = 3 // an e-mail with a code
)

// BrakeMost is how many of a kind there may be within Window: of one user, on one subject, and of all users together; 0 for any number.
type BrakeMost struct {
	Window             time.Duration
	User, Subject, All int
}

// BrakedError says that there were too many.
type BrakedError struct {
	// All: of all users together, and not of this one or on this subject.
	All bool
	// Until is when one more may be counted.
	Until time.Time
}

// Error says whose they were.
func (e *BrakedError) Error() string {
	if e.All {
		return "database: brake: too many of all users together"
	}
	return "database: brake: too many of one user"
}

// BrakeStore counts what users may do only so often.
type BrakeStore struct{ db *DB }

// Brakes is the store of what is counted.
func (db *DB) Brakes() BrakeStore { return BrakeStore{db} }

const brakeSubject = "postern_brake.subject"

// Take counts one more of a kind for a user at the given time, and on a subject unless that is "", and returns its id; a *BrakedError if there are too many already, and nothing
// is counted then. What was counted at a later time than now, by a clock that was wrong, counts as now: it can keep nobody out for longer than one window.
func (s BrakeStore) Take(ctx context.Context, kind BrakeKind, mxid, subject string, most BrakeMost, now time.Time) (id string, err error) {
	id = NewLocalID()
	index := []byte{}
	if subject != "" {
		index = s.db.BlindIndex(brakeSubject, subject)
	}
	var braked *BrakedError // commits all the same, so that what was in the future stays brought back
	err = s.db.Do(ctx, func(ctx context.Context) error {
		braked = nil
		if err := s.tidy(ctx, kind, most.Window, now); err != nil {
			return err
		}
		for _, rule := range []struct {
			most  int
			all   bool
			where string
			args  []any
		}{
			{most.User, false, "kind=$1 AND mxid=$2", []any{int(kind), mxid}},
			{most.Subject, false, "kind=$1 AND subject=$2", []any{int(kind), index}},
			{most.All, true, "kind=$1", []any{int(kind)}},
		} {
			if rule.most == 0 {
				continue
			}
			var at int64
			err := s.db.raw.QueryRow(ctx, fmt.Sprintf("SELECT at FROM postern_brake WHERE %s ORDER BY at DESC LIMIT 1 OFFSET %d", rule.where, rule.most-1), rule.args...).Scan(&at)
			if err == nil {
				braked = &BrakedError{All: rule.all, Until: time.UnixMilli(at).Add(most.Window)}
				return nil
			} else if !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("database: brake: %w", err)
			}
		}
		_, err := s.db.raw.Exec(ctx, "INSERT INTO postern_brake (id, kind, mxid, subject, at) VALUES ($1, $2, $3, $4, $5)", id, int(kind), mxid, index, now.UnixMilli())
		if err != nil {
			return fmt.Errorf("database: brake: %w", err)
		}
		return nil
	})
	if err == nil && braked != nil {
		return "", braked
	}
	return id, err
}

// tidy forgets what does not count any more, and brings back what is in the future.
func (s BrakeStore) tidy(ctx context.Context, kind BrakeKind, window time.Duration, now time.Time) error {
	if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_brake WHERE kind=$1 AND at<=$2", int(kind), now.Add(-window).UnixMilli()); err != nil {
		return fmt.Errorf("database: brake: %w", err)
	}
	if _, err := s.db.raw.Exec(ctx, "UPDATE postern_brake SET at=$2 WHERE kind=$1 AND at>$2", int(kind), now.UnixMilli()); err != nil {
		return fmt.Errorf("database: brake: %w", err)
	}
	return nil
}

// Return takes back what Take has counted, for what did not happen after all.
func (s BrakeStore) Return(ctx context.Context, id string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_brake WHERE id=$1", id); err != nil {
			return fmt.Errorf("database: brake: %w", err)
		}
		return nil
	})
}

// Count says how many of a kind a user has in the window before now.
func (s BrakeStore) Count(ctx context.Context, kind BrakeKind, mxid string, window time.Duration, now time.Time) (n int, err error) {
	err = s.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_brake WHERE kind=$1 AND mxid=$2 AND at>$3", int(kind), mxid, now.Add(-window).UnixMilli()).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("database: brake: %w", err)
	}
	return n, nil
}

// Forget deletes what does not count any more of a kind.
func (s BrakeStore) Forget(ctx context.Context, kind BrakeKind, window time.Duration, now time.Time) error {
	return s.db.Do(ctx, func(ctx context.Context) error { return s.tidy(ctx, kind, window, now) })
}
