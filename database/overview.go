package database

import (
	"context"
	"fmt"

	"go.mau.fi/util/dbutil"
)

// Overview is what the tables say of one account, for whoever runs the bridge. Times are Unix milliseconds, 0 for never. Nothing of it is sealed,
// so that a damaged row is in the list too.
type Overview struct {
	ID, Gatekeeper, MXID                string
	ConsentVersion                      int
	ConsentAt, EnlistedAt, ReenlistedAt int64
	Summary                             Summary
	Withheld, Letters                   int
	MediaBytes                          int64
	Leaving, Suspended                  bool
}

// overviewQuery sums accounts up as AccountStore.Summary does.
const overviewQuery = `
	SELECT a.id, a.gatekeeper, a.mxid, a.consent_version, a.consent_at, a.enlisted_at, a.reenlisted_at, a.last_connected,
		(SELECT COALESCE(MAX(received), 0) FROM postern_in
			WHERE chat_id IN (SELECT id FROM postern_chat WHERE account_id=a.id) AND class=0 AND kind='message'),
		(SELECT COALESCE(MAX(created), 0) FROM postern_out
			WHERE chat_id IN (SELECT id FROM postern_chat WHERE account_id=a.id) AND state>=2 AND state<=4),
		(SELECT COUNT(*) FROM postern_in WHERE account_id=a.id AND state=0 AND class=0),
		(SELECT COUNT(*) FROM postern_out WHERE account_id=a.id AND work=1),
		(SELECT COUNT(*) FROM postern_in WHERE account_id=a.id AND state=5),
		(SELECT COUNT(*) FROM postern_in WHERE account_id=a.id AND state=2 AND letter<>'')
			+ (SELECT COUNT(DISTINCT letter) FROM postern_out WHERE account_id=a.id AND state=9 AND letter<>''),
		(SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM postern_media WHERE owner=a.id),
		EXISTS (SELECT 1 FROM postern_leaving WHERE account_id=a.id),
		EXISTS (SELECT 1 FROM postern_suspended WHERE mxid=a.mxid AND NOT ended)
	FROM postern_account a`

// Overview lists accounts, in the order in which they were made: those of a Matrix user or with a local id, or for "" all; after the first
// offset, at most limit. An account that was never enlisted is among them.
func (s AccountStore) Overview(ctx context.Context, who string, offset, limit int) ([]Overview, error) {
	query, args := overviewQuery, []any{limit, offset}
	if who != "" {
		query, args = query+" WHERE a.id=$3 OR a.mxid=$3", append(args, who)
	}
	rows, err := s.db.raw.Query(ctx, query+" ORDER BY a.created_at, a.id LIMIT $1 OFFSET $2", args...)
	list, err := dbutil.NewRowIterWithError(rows, func(row dbutil.Scannable) (o Overview, err error) {
		return o, row.Scan(&o.ID, &o.Gatekeeper, &o.MXID, &o.ConsentVersion, &o.ConsentAt, &o.EnlistedAt, &o.ReenlistedAt, &o.Summary.LastConnected,
			&o.Summary.LastIn, &o.Summary.LastOut, &o.Summary.WaitingIn, &o.Summary.WaitingOut, &o.Withheld, &o.Letters, &o.MediaBytes, &o.Leaving, &o.Suspended)
	}, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list accounts: %w", err)
	}
	return list, nil
}
