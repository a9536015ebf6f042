package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Report is what somebody has reported to whoever runs the bridge.
type Report struct {
	// ID is an opaque local id.
	ID string
	// AccountID and ChatID are the reporter's, MXID their Matrix ID; "" when they have left.
	AccountID, ChatID, MXID string
	Gatekeeper              string
	// About is the reported person's address; what is stored of it here is a keyed hash. It is not read.
	About string
	// At is when they said it, Closed when it was seen to, in Unix milliseconds; 0 for not yet.
	At, Closed int64
	// Subject says who is reported, Reason is what the reporter has said of it, nil for nothing, Quoted a message that they
	// have pointed at, nil for none. Sealed.
	Subject, Reason, Quoted []byte
	// HasReason and HasQuoted say whether there is one, also in lists, which leave out what is sealed.
	HasReason, HasQuoted bool
	// Same is how many reports about the same person there are, with this one.
	Same int
}

// ErrTooManyReports says that the person has reported as much as they may for now.
var ErrTooManyReports = errors.New("database: too many reports")

// ReportStore keeps them.
type ReportStore struct{ db *DB }

// Reports is the store of what people have reported.
func (db *DB) Reports() ReportStore { return ReportStore{db} }

const (
	reportID      = "postern_report.id"
	reportAbout   = "postern_report.about"
	reportSubject = "postern_report.subject"
	reportReason  = "postern_report.reason"
	reportQuoted  = "postern_report.quoted"
	reportColumns = `r.id, r.account_id, r.chat_id, COALESCE(a.mxid, ''), r.gatekeeper, r.at, r.closed, r.reason IS NOT NULL, r.quoted IS NOT NULL,
		(SELECT COUNT(*) FROM postern_report other WHERE other.about=r.about)`
	reportTables = " FROM postern_report r LEFT JOIN postern_account a ON a.id=r.account_id"
)

// ID is the id of what an account has reported in a Matrix event. It is keyed, so it says nothing about either.
func (s ReportStore) ID(account, event string) string {
	return s.db.letterID(reportID, RowKey(account, event))
}

// Add stores a report unless it is there already. ErrTooManyReports if the account's person has made max reports after since (Unix
// milliseconds) and up to At.
func (s ReportStore) Add(ctx context.Context, r *Report, since int64, limit int) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		var there, made int
		err := s.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_report WHERE id=$1", r.ID).Scan(&there)
		if err == nil && there == 0 {
			err = s.db.raw.QueryRow(ctx, `SELECT COUNT(*) FROM postern_report r JOIN postern_account a ON a.id=r.account_id
				WHERE a.mxid=(SELECT mxid FROM postern_account WHERE id=$1) AND r.at>$2 AND r.at<=$3`, r.AccountID, since, r.At).Scan(&made)
		}
		switch {
		case err != nil:
			return fmt.Errorf("database: add report: %w", err)
		case there > 0:
			return nil
		case made >= limit:
			return ErrTooManyReports
		}
		_, err = s.db.raw.Exec(ctx, `
			INSERT INTO postern_report (id, account_id, chat_id, gatekeeper, about, at, closed, subject, reason, quoted)
			VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9)`,
			r.ID, r.AccountID, r.ChatID, r.Gatekeeper, s.db.BlindIndex(reportAbout, RowKey(r.Gatekeeper, r.About)), r.At,
			s.db.Seal(reportSubject, r.ID, 1, r.Subject), s.sealed(reportReason, r.ID, r.Reason), s.sealed(reportQuoted, r.ID, r.Quoted))
		if err != nil {
			return fmt.Errorf("database: add report: %w", err)
		}
		return nil
	})
}

// sealed seals what there is, and is NULL for what is not.
func (s ReportStore) sealed(column, id string, plain []byte) any {
	if plain == nil {
		return nil
	}
	return s.db.Seal(column, id, 1, plain)
}

// List returns reports without what is sealed, the oldest first: those that are open, or all; at most limit, after the first offset.
func (s ReportStore) List(ctx context.Context, all bool, offset, limit int) ([]*Report, error) {
	return s.heads(ctx, " WHERE (r.closed=0 OR $1) ORDER BY r.at, r.id LIMIT $2 OFFSET $3", all, limit, offset)
}

// heads reads reports without what is sealed.
func (s ReportStore) heads(ctx context.Context, which string, args ...any) ([]*Report, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT "+reportColumns+reportTables+which, args...)
	if err != nil {
		return nil, fmt.Errorf("database: list reports: %w", err)
	}
	defer rows.Close()
	var list []*Report
	for rows.Next() {
		r := &Report{}
		if err := rows.Scan(r.fields()...); err != nil {
			return nil, fmt.Errorf("database: list reports: %w", err)
		}
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list reports: %w", err)
	}
	return list, nil
}

// fields are where reportColumns go.
func (r *Report) fields() []any {
	return []any{&r.ID, &r.AccountID, &r.ChatID, &r.MXID, &r.Gatekeeper, &r.At, &r.Closed, &r.HasReason, &r.HasQuoted, &r.Same}
}

// Get returns a report with all that it says, nil if there is none. What does not open is ErrSealBroken, beside the report with the rest.
func (s ReportStore) Get(ctx context.Context, id string) (*Report, error) {
	r := &Report{}
	var subject, reason, quoted []byte
	err := s.db.raw.QueryRow(ctx, "SELECT "+reportColumns+", r.subject, r.reason, r.quoted"+reportTables+" WHERE r.id=$1", id).
		Scan(append(r.fields(), &subject, &reason, &quoted)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get report: %w", err)
	}
	for _, one := range []struct {
		column string
		sealed []byte
		into   *[]byte
	}{{reportSubject, subject, &r.Subject}, {reportReason, reason, &r.Reason}, {reportQuoted, quoted, &r.Quoted}} {
		if one.sealed == nil {
			continue
		}
		plain, broken := s.db.Unseal(one.column, r.ID, 1, one.sealed)
		*one.into, err = plain, errors.Join(err, broken)
	}
	return r, err
}

// Close notes that a report was seen to, if it is open; its reporter is still to be told. There says whether it is there at all.
func (s ReportStore) Close(ctx context.Context, id string, at int64) (closed, there bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		var n int
		if err := s.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_report WHERE id=$1", id).Scan(&n); err != nil {
			return fmt.Errorf("database: close report: %w", err)
		}
		res, err := s.db.raw.Exec(ctx, "UPDATE postern_report SET closed=$2, told=false WHERE id=$1 AND closed=0", id, at)
		if err != nil {
			return fmt.Errorf("database: close report: %w", err)
		}
		changed, err := res.RowsAffected()
		closed, there = changed > 0, n > 0
		return err
	})
	return closed, there, err
}

// Untold are closed reports whose reporters, who have an account, are still to be told; the oldest first, at most limit, without what is sealed.
func (s ReportStore) Untold(ctx context.Context, limit int) ([]*Report, error) {
	return s.heads(ctx, " WHERE r.closed<>0 AND NOT r.told AND a.mxid IS NOT NULL ORDER BY r.closed, r.id LIMIT $1", limit)
}

// SetTold notes that the reporter knows that a report was closed.
func (s ReportStore) SetTold(ctx context.Context, id string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "UPDATE postern_report SET told=true WHERE id=$1", id); err != nil {
			return fmt.Errorf("database: set report told: %w", err)
		}
		return nil
	})
}

// Prune deletes reports that were closed before one time, or are open and were made before the other (Unix milliseconds), and says how
// many.
func (s ReportStore) Prune(ctx context.Context, closedBefore, madeBefore int64) (n int64, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, "DELETE FROM postern_report WHERE (closed<>0 AND closed<$1) OR (closed=0 AND at<$2)", closedBefore, madeBefore)
		if err != nil {
			return fmt.Errorf("database: prune reports: %w", err)
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}
