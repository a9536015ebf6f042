package database

import (
	"context"
	"fmt"
	"time"
)

// Newest is the newest time that is stored of what ages by the clock (what brakes count, reports) and of streams that were let in, to the
// millisecond; zero for none.
func (db *DB) Newest(ctx context.Context) (time.Time, error) {
	var newest int64
	for _, query := range []string{
		"SELECT COALESCE(MAX(at), 0) FROM postern_brake", "SELECT COALESCE(MAX(at), 0) FROM postern_report",
		"SELECT COALESCE(MAX(last_connected), 0) FROM postern_account",
	} {
		var at int64
		if err := db.raw.QueryRow(ctx, query).Scan(&at); err != nil {
			return time.Time{}, fmt.Errorf("database: newest time: %w", err)
		}
		newest = max(newest, at)
	}
	if newest == 0 {
		return time.Time{}, nil
	}
	return time.UnixMilli(newest), nil
}
