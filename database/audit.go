package database

import (
	"context"
	"fmt"

	"go.mau.fi/util/dbutil"
)

// AuditEntry is one thing that somebody had done.
type AuditEntry struct {
	// Seq grows. Began is the Seq of the entry that says that this began, 0 for one that says so itself.
	Seq, Began int64
	// At is in Unix milliseconds.
	At int64
	// Actor is who, Action what, Subject a local id of what it is about or "", Outcome one word. None has an address or a body.
	Actor, Action, Subject, Outcome string
}

// AuditAsked is the outcome of an entry that says that something began.
const AuditAsked = "asked"

// AuditStore is the log of what was done. It has no way to change an entry.
type AuditStore struct{ db *DB }

// Audit is the log of what the operator and the provisioning interface have done.
func (db *DB) Audit() AuditStore { return AuditStore{db} }

// Append adds entries and fills in their Seq.
func (s AuditStore) Append(ctx context.Context, entries ...*AuditEntry) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		var last int64
		if err := s.db.raw.QueryRow(ctx, "SELECT COALESCE(MAX(seq), 0) FROM postern_audit").Scan(&last); err != nil {
			return fmt.Errorf("database: add to the audit log: %w", err)
		}
		for i, e := range entries {
			e.Seq = last + 1 + int64(i)
			_, err := s.db.raw.Exec(ctx, "INSERT INTO postern_audit (seq, began, at, actor, action, subject, outcome) VALUES ($1, $2, $3, $4, $5, $6, $7)",
				e.Seq, e.Began, e.At, e.Actor, e.Action, e.Subject, e.Outcome)
			if err != nil {
				return fmt.Errorf("database: add to the audit log: %w", err)
			}
		}
		return nil
	})
}

// List returns entries since a time in Unix milliseconds and with a greater Seq than after, the oldest first, at most limit. What has
// ended is there with its end alone; what is there with its beginning was cut off, or goes on.
func (s AuditStore) List(ctx context.Context, since, after int64, limit int) ([]*AuditEntry, error) {
	rows, err := s.db.raw.Query(ctx, `
		SELECT seq, began, at, actor, action, subject, outcome FROM postern_audit a
		WHERE at>=$1 AND seq>$2 AND NOT (began=0 AND EXISTS (SELECT 1 FROM postern_audit WHERE began=a.seq))
		ORDER BY seq LIMIT $3`, since, after, limit)
	list, err := dbutil.NewRowIterWithError(rows, func(row dbutil.Scannable) (*AuditEntry, error) {
		e := &AuditEntry{}
		return e, row.Scan(&e.Seq, &e.Began, &e.At, &e.Actor, &e.Action, &e.Subject, &e.Outcome)
	}, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: read the audit log: %w", err)
	}
	return list, nil
}

// ofPrograms are the actors of the provisioning interface: they write as much as they like, and must not push out what operators did.
const ofPrograms = "(actor LIKE 'token %' OR actor IN ('shared-secret', 'matrix-token'))"

// Prune deletes entries from before a time in Unix milliseconds, and the oldest if there are more than most, of the provisioning interface's and of all
// others. The last one stays, so that no Seq comes twice.
func (s AuditStore) Prune(ctx context.Context, before, most int64) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		const stays = "DELETE FROM postern_audit WHERE seq<(SELECT MAX(seq) FROM postern_audit) AND "
		if _, err := s.db.raw.Exec(ctx, stays+"at<$1", before); err != nil {
			return fmt.Errorf("database: prune the audit log: %w", err)
		}
		for _, whose := range []string{ofPrograms, "NOT " + ofPrograms} {
			_, err := s.db.raw.Exec(ctx, stays+whose+" AND seq<=(SELECT seq FROM postern_audit WHERE "+whose+" ORDER BY seq DESC LIMIT 1 OFFSET $1)", most)
			if err != nil {
				return fmt.Errorf("database: prune the audit log: %w", err)
			}
		}
		return nil
	})
}
