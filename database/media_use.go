package database

import (
	"context"
	"crypto/sha256"
	"fmt"

	"go.mau.fi/util/dbutil"
)

// MediaCount is how much there is of something in the media store.
type MediaCount struct{ Files, Bytes int64 }

// MediaUse is what one account has in the media store.
type MediaUse struct {
	// Owner is the account's local id, MXID its Matrix user; "" if the account is gone.
	Owner, MXID string
	// Waiting were never fetched whole, Fetched were, Expired can be fetched no more.
	Waiting, Fetched, Expired MediaCount
}

// Use sums up what each account has, by local id: one account's or a Matrix user's, or for "" everybody's. now is in Unix milliseconds.
func (s MediaStore) Use(ctx context.Context, who string, now int64) ([]MediaUse, error) {
	const sum = "COUNT(CASE WHEN %[1]s THEN 1 END), CAST(COALESCE(SUM(CASE WHEN %[1]s THEN m.size END), 0) AS BIGINT)"
	query := "SELECT m.owner, COALESCE(a.mxid, ''), " + fmt.Sprintf(sum, "m.expires>$1 AND m.fetched=0") + ", " +
		fmt.Sprintf(sum, "m.expires>$1 AND m.fetched<>0") + ", " + fmt.Sprintf(sum, "m.expires<=$1") +
		" FROM postern_media m LEFT JOIN postern_account a ON a.id=m.owner"
	args := []any{now}
	if who != "" {
		query, args = query+" WHERE m.owner=$2 OR a.mxid=$2", append(args, who)
	}
	rows, err := s.db.raw.Query(ctx, query+" GROUP BY m.owner, a.mxid ORDER BY m.owner", args...)
	list, err := dbutil.NewRowIterWithError(rows, func(row dbutil.Scannable) (u MediaUse, err error) {
		return u, row.Scan(&u.Owner, &u.MXID, &u.Waiting.Files, &u.Waiting.Bytes, &u.Fetched.Files, &u.Fetched.Bytes, &u.Expired.Files, &u.Expired.Bytes)
	}, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: sum media: %w", err)
	}
	return list, nil
}

// SetFetched notes that an attachment was fetched whole at a time (Unix milliseconds); a later one changes nothing.
func (s MediaStore) SetFetched(ctx context.Context, refHash [sha256.Size]byte, at int64) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "UPDATE postern_media SET fetched=$2 WHERE ref_hash=$1 AND fetched=0", refHash[:], at); err != nil {
			return fmt.Errorf("database: note a fetch: %w", err)
		}
		return nil
	})
}
