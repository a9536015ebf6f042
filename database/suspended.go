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
	// At is when, in Unix milliseconds. Version is 1 at first, and grows with each other reason.
	At      int64
	Version int
}

// SuspensionStore keeps them. They do not go with the user's accounts, or a new login would end them.
type SuspensionStore struct{ db *DB }

// Suspensions is the store of whom the operator has suspended.
func (db *DB) Suspensions() SuspensionStore { return SuspensionStore{db} }

const suspendedReason = "postern_suspended.reason"

// Put suspends a user, as of now. fresh is false if they are suspended already: then the reason is replaced, and the time stays.
func (s SuspensionStore) Put(ctx context.Context, mxid, reason string) (fresh bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_suspended WHERE mxid=$1", mxid)
		if err != nil {
			return fmt.Errorf("database: suspend: %w", err)
		}
		var standing int
		if err = s.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_suspended WHERE mxid=$1 AND NOT ended", mxid).Scan(&standing); err != nil {
			return fmt.Errorf("database: suspend: %w", err)
		}
		fresh = standing == 0
		_, err = s.db.raw.Exec(ctx, `
			INSERT INTO postern_suspended (mxid, version, reason, at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (mxid) DO UPDATE SET version=excluded.version, reason=excluded.reason, ended=false,
				at=CASE WHEN postern_suspended.ended THEN excluded.at ELSE postern_suspended.at END`,
			mxid, version, s.db.Seal(suspendedReason, mxid, version, []byte(reason)), time.Now().UnixMilli())
		if err != nil {
			return fmt.Errorf("database: suspend: %w", err)
		}
		return nil
	})
	return fresh, err
}

// End ends a suspension; it is listed by Ended until Forget, if the user has an account. False if there was none.
func (s SuspensionStore) End(ctx context.Context, mxid string) (was bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, "UPDATE postern_suspended SET ended=true WHERE mxid=$1 AND NOT ended", mxid)
		if err != nil {
			return fmt.Errorf("database: end suspension: %w", err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return fmt.Errorf("database: end suspension: %w", err)
		}
		was = n > 0
		return s.forget(ctx, mxid)
	})
	return was, err
}

// forget deletes an ended suspension that there is nobody to be told of.
func (s SuspensionStore) forget(ctx context.Context, mxid string) error {
	_, err := s.db.raw.Exec(ctx, `
		DELETE FROM postern_suspended WHERE mxid=$1 AND ended AND NOT EXISTS (SELECT 1 FROM postern_account WHERE mxid=$1)`, mxid)
	if err != nil {
		return fmt.Errorf("database: forget suspension: %w", err)
	}
	return nil
}

// Forget deletes an ended suspension whose user has been told. A new one stays.
func (s SuspensionStore) Forget(ctx context.Context, mxid string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_suspended WHERE mxid=$1 AND ended", mxid); err != nil {
			return fmt.Errorf("database: forget suspension: %w", err)
		}
		return nil
	})
}

// Concerns says whether somebody with that Matrix ID has an account.
func (s SuspensionStore) Concerns(ctx context.Context, mxid string) (bool, error) {
	var n int
	if err := s.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_account WHERE mxid=$1", mxid).Scan(&n); err != nil {
		return false, fmt.Errorf("database: look for a user: %w", err)
	}
	return n > 0, nil
}

// All returns all that have not ended, the oldest first. A reason that cannot be read ends nobody's suspension.
func (s SuspensionStore) All(ctx context.Context) ([]*Suspension, error) { return s.list(ctx, false) }

// Ended returns those that have ended and whose users are still to be told.
func (s SuspensionStore) Ended(ctx context.Context) ([]*Suspension, error) { return s.list(ctx, true) }

func (s SuspensionStore) list(ctx context.Context, ended bool) ([]*Suspension, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT mxid, version, reason, at FROM postern_suspended WHERE ended=$1 ORDER BY at, mxid", ended)
	if err != nil {
		return nil, fmt.Errorf("database: list suspensions: %w", err)
	}
	defer rows.Close()
	var list []*Suspension
	for rows.Next() {
		one := &Suspension{}
		var sealed []byte
		if err := rows.Scan(&one.MXID, &one.Version, &sealed, &one.At); err != nil {
			return nil, fmt.Errorf("database: list suspensions: %w", err)
		}
		plain, err := s.db.Unseal(suspendedReason, one.MXID, one.Version, sealed)
		one.Reason, one.Damaged = string(plain), err != nil
		list = append(list, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list suspensions: %w", err)
	}
	return list, nil
}
