package database

import (
	"context"
	"fmt"
	"time"
)

// Summary is what the tables say of how an account is doing. Times are Unix milliseconds, 0 for never.
type Summary struct {
	// LastConnected is when SetConnected was told last.
	LastConnected int64
	// LastIn is when the last message came, LastOut when the last one was written that has been sent; as far as rows are kept.
	LastIn, LastOut int64
	// WaitingIn are messages that Matrix does not have yet, WaitingOut parts of messages that the gatekeeper does not have yet.
	WaitingIn, WaitingOut int
}

// Summary sums an account up.
func (s AccountStore) Summary(ctx context.Context, id string) (Summary, error) {
	var sum Summary
	for _, q := range []struct {
		query string
		into  any
	}{
		{"SELECT COALESCE(MAX(last_connected), 0) FROM postern_account WHERE id=$1", &sum.LastConnected},
		{`SELECT COALESCE(MAX(received), 0) FROM postern_in
			WHERE chat_id IN (SELECT id FROM postern_chat WHERE account_id=$1) AND class=0 AND kind='message'`, &sum.LastIn},
		{`SELECT COALESCE(MAX(created), 0) FROM postern_out
			WHERE chat_id IN (SELECT id FROM postern_chat WHERE account_id=$1) AND state>=2 AND state<=4`, &sum.LastOut},
		{"SELECT COUNT(*) FROM postern_in WHERE account_id=$1 AND state=0 AND class=0", &sum.WaitingIn},
		{"SELECT COUNT(*) FROM postern_out WHERE account_id=$1 AND work=1", &sum.WaitingOut},
	} {
		if err := s.db.raw.QueryRow(ctx, q.query, id).Scan(q.into); err != nil {
			return Summary{}, fmt.Errorf("database: sum account up: %w", err)
		}
	}
	return sum, nil
}

// SetConnected notes that an account has been connected at a time; an earlier one than is noted changes nothing.
func (s AccountStore) SetConnected(ctx context.Context, id string, at time.Time) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, "UPDATE postern_account SET last_connected=$2 WHERE id=$1 AND last_connected<$2", id, at.UnixMilli())
		if err != nil {
			return fmt.Errorf("database: note a connection: %w", err)
		}
		return nil
	})
}

// NotConnectedSince returns the ids of the enlisted accounts that have not been connected since a time, oldest first: nor enlisted since.
func (s AccountStore) NotConnectedSince(ctx context.Context, since time.Time) ([]string, error) {
	rows, err := s.db.raw.Query(ctx, `
		SELECT id FROM postern_account WHERE enlisted_at<>0 AND enlisted_at<$1 AND reenlisted_at<$1 AND last_connected<$1
		ORDER BY last_connected, id`, since.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("database: list connections: %w", err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("database: list connections: %w", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list connections: %w", err)
	}
	return ids, nil
}
