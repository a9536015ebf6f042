package database

import (
	"context"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// Waiting is how much of something waits, and since when the oldest does, in Unix milliseconds; 0 for none, or where that is not stored.
type Waiting struct {
	Items  int
	Oldest int64
}

// Figures are sums over all accounts, for whoever watches the bridge.
type Figures struct {
	// ToMatrix and ToGatekeeper are the two queues, in messages and parts of messages. SetAside are messages that wait for another one,
	// Withheld for the person's decision, Resend for the sender's repetition.
	ToMatrix, ToGatekeeper, SetAside, Withheld, Resend Waiting
	// Events are those of the homeserver that are not dealt with; FirstEvent is the place of the oldest, 0 for none.
	Events     Waiting
	FirstEvent int64
	// Notices are what people have to be told, IncomingMedia attachments to be fetched, Leavings accounts that are being deleted.
	Notices, IncomingMedia, Leavings Waiting
	// DeadIn and DeadOut are the dead letters of either direction.
	DeadIn, DeadOut int
	// Accounts are those of each gatekeeper.
	Accounts map[string]int
	// MediaFiles and MediaBytes are what the index of the media store has.
	MediaFiles, MediaBytes int64
	// Bytes is the size of the database: of SQLite's file, of Postgres's tables.
	Bytes int64
}

// Figures counts. It reads only, outside of any transaction, so it holds up no writer; what grows with messages it finds by the
// indices of what waits. Only the index of the media store is gone through as a whole.
func (db *DB) Figures(ctx context.Context) (Figures, error) {
	var f Figures
	const inQueue = "SELECT COUNT(*), COALESCE(MIN(seq), 0)/1000 FROM postern_in WHERE "
	for _, q := range []struct {
		query string
		into  []any
	}{
		{inQueue + "state=0", []any{&f.ToMatrix.Items, &f.ToMatrix.Oldest}},
		{inQueue + "state=4", []any{&f.SetAside.Items, &f.SetAside.Oldest}},
		{inQueue + "state=5", []any{&f.Withheld.Items, &f.Withheld.Oldest}},
		{inQueue + "state=3", []any{&f.Resend.Items, &f.Resend.Oldest}},
		{"SELECT COUNT(*), COALESCE(MIN(seq), 0)/1000 FROM postern_out WHERE work<>0", []any{&f.ToGatekeeper.Items, &f.ToGatekeeper.Oldest}},
		{"SELECT COUNT(*), COALESCE(MIN(seq), 0) FROM postern_as_event WHERE finished_at IS NULL", []any{&f.Events.Items, &f.FirstEvent}},
		{"SELECT COUNT(*), COALESCE(MIN(created_at), 0) FROM postern_notice WHERE sent_at IS NULL", []any{&f.Notices.Items, &f.Notices.Oldest}},
		{"SELECT COUNT(*), COALESCE(MIN(timestamp), 0) FROM postern_incoming_media WHERE state=0", []any{&f.IncomingMedia.Items, &f.IncomingMedia.Oldest}},
		{"SELECT COUNT(*), COALESCE(MIN(asked), 0) FROM postern_leaving", []any{&f.Leavings.Items, &f.Leavings.Oldest}},
		{"SELECT COUNT(*) FROM postern_in WHERE state=2 AND letter<>''", []any{&f.DeadIn}},
		{"SELECT COUNT(DISTINCT letter) FROM postern_out WHERE state=9 AND letter<>''", []any{&f.DeadOut}},
		{"SELECT COUNT(*), COALESCE(SUM(size), 0) FROM postern_media", []any{&f.MediaFiles, &f.MediaBytes}},
		{db.sizeQuery(), []any{&f.Bytes}},
	} {
		if err := db.raw.QueryRow(ctx, q.query).Scan(q.into...); err != nil {
			return Figures{}, fmt.Errorf("database: count: %w", err)
		}
	}
	rows, err := db.raw.Query(ctx, "SELECT gatekeeper, COUNT(*) FROM postern_account GROUP BY gatekeeper")
	if err != nil {
		return Figures{}, fmt.Errorf("database: count: %w", err)
	}
	defer rows.Close()
	f.Accounts = map[string]int{}
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			return Figures{}, fmt.Errorf("database: count: %w", err)
		}
		f.Accounts[name] = n
	}
	if err := rows.Err(); err != nil {
		return Figures{}, fmt.Errorf("database: count: %w", err)
	}
	return f, nil
}

func (db *DB) sizeQuery() string {
	if db.raw.Dialect == dbutil.Postgres {
		return `SELECT COALESCE(SUM(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid=c.relnamespace
			WHERE n.nspname=current_schema() AND c.relkind='r'`
	}
	return "SELECT page_count*page_size FROM pragma_page_count(), pragma_page_size()"
}

// CountPreKeys is how many one-time prekeys were uploaded and not used, of all accounts. It goes through all of them.
func (db *DB) CountPreKeys(ctx context.Context) (n int, err error) {
	if err = db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_signal_prekey WHERE uploaded").Scan(&n); err != nil {
		return 0, fmt.Errorf("database: count: %w", err)
	}
	return n, nil
}

// Meter is told how the database does. Its methods return at once and may be called from any goroutine.
type Meter interface {
	// Committed: a commit took that long, for so many calls of Do that shared it; err is what it has come to.
	Committed(took time.Duration, jobs int, err error)
	// Waited is how long one call of Do took.
	Waited(took time.Duration)
	// Query is how long a query of our own took.
	Query(own bool, took time.Duration)
}

// noMeter is a Meter for those who have none.
type noMeter struct{}

func (noMeter) Committed(time.Duration, int, error) {}
func (noMeter) Waited(time.Duration)                {}
func (noMeter) Query(bool, time.Duration)           {}

// meter is the configuration's.
func (cfg *Config) meter() Meter {
	if cfg.Meter != nil {
		return cfg.Meter
	}
	return noMeter{}
}
