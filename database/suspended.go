package database

import (
	"context"
	"fmt"
	"time"
)

// Suspension is what the operator has ordered about a Matrix user: nothing is sent for them and no stream is open until it ends.
type Suspension struct {
	MXID string
	// Reason is what the operator says to it, "" for nothing. Sealed. Damaged: it cannot be read.
	Reason  string
	Damaged bool
	// At is when, in Unix milliseconds.
	At int64
}

// SuspensionStore keeps them. They do not go with the user's accounts, or a new login would end them.
type SuspensionStore struct{ db *DB }

// Suspensions is the store of whom the operator has suspended.
func (db *DB) Suspensions() SuspensionStore { return SuspensionStore{db} }

const suspendedReason = "postern_suspended.reason"

// Put suspends a user, as of now. False if they are suspended already: then the reason is replaced, and the time stays.
func (s SuspensionStore) Put(ctx context.Context, mxid, reason string) (fresh bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_suspended WHERE mxid=$1", mxid)
		if err != nil {
			return fmt.Errorf("database: suspend: %w", err)
		}
		fresh = version == 1
		_, err = s.db.raw.Exec(ctx, `
			INSERT INTO postern_suspended (mxid, version, reason, at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (mxid) DO UPDATE SET version=excluded.version, reason=excluded.reason`,
			mxid, version, s.db.Seal(suspendedReason, mxid, version, []byte(reason)), time.Now().UnixMilli())
		if err != nil {
			return fmt.Errorf("database: suspend: %w", err)
		}
		return nil
	})
	return fresh, err
}

// Delete ends a suspension. False if there was none.
func (s SuspensionStore) Delete(ctx context.Context, mxid string) (was bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, "DELETE FROM postern_suspended WHERE mxid=$1", mxid)
		if err != nil {
			return fmt.Errorf("database: end suspension: %w", err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return fmt.Errorf("database: end suspension: %w", err)
		}
		was = n > 0
		return nil
	})
	return was, err
}

// All returns all of them, the oldest first. A reason that cannot be read ends nobody's suspension.
func (s SuspensionStore) All(ctx context.Context) ([]*Suspension, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT mxid, version, reason, at FROM postern_suspended ORDER BY at, mxid")
	if err != nil {
		return nil, fmt.Errorf("database: list suspensions: %w", err)
	}
	defer rows.Close()
	var list []*Suspension
	for rows.Next() {
		one := &Suspension{}
		var version int
		var sealed []byte
		if err := rows.Scan(&one.MXID, &version, &sealed, &one.At); err != nil {
			return nil, fmt.Errorf("database: list suspensions: %w", err)
		}
		plain, err := s.db.Unseal(suspendedReason, one.MXID, version, sealed)
		one.Reason, one.Damaged = string(plain), err != nil
		list = append(list, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list suspensions: %w", err)
	}
	return list, nil
}
