package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/util/dbutil"
)

// OperatorStore keeps what whoever runs the bridge has ordered, and what they are to be told.
type OperatorStore struct{ db *DB }

// Operator is that store.
func (db *DB) Operator() OperatorStore { return OperatorStore{db} }

const operatorValue = "postern_operator.value"

// Get returns what is kept under a name, nil for nothing.
func (s OperatorStore) Get(ctx context.Context, name string) ([]byte, error) {
	var version int
	var sealed []byte
	err := s.db.raw.QueryRow(ctx, "SELECT version, value FROM postern_operator WHERE name=$1", name).Scan(&version, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: operator: %w", err)
	}
	return s.db.Unseal(operatorValue, name, version, sealed)
}

// Put keeps something under a name.
func (s OperatorStore) Put(ctx context.Context, name string, value []byte) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_operator WHERE name=$1", name)
		if err == nil {
			_, err = s.db.raw.Exec(ctx, `
				INSERT INTO postern_operator (name, version, value) VALUES ($1, $2, $3)
				ON CONFLICT (name) DO UPDATE SET version=excluded.version, value=excluded.value`,
				name, version, s.db.Seal(operatorValue, name, version, value))
		}
		if err != nil {
			return fmt.Errorf("database: operator: %w", err)
		}
		return nil
	})
}

// Delete forgets what is kept under a name, and says whether there was something.
func (s OperatorStore) Delete(ctx context.Context, name string) (was bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, "DELETE FROM postern_operator WHERE name=$1", name)
		if err != nil {
			return fmt.Errorf("database: operator: %w", err)
		}
		n, err := res.RowsAffected()
		was = n > 0
		return err
	})
	return was, err
}

// News is something that the operator is told.
type News struct {
	// Identity names it; the same is told once.
	Identity string
	// Kind says what it is, AccountID about whom, "" for nobody, Detail a word or number of the bridge's own.
	Kind, AccountID, Detail string
	// At is in Unix milliseconds.
	At int64
}

// AddNews stores news; what is known already is left as it is.
func (s OperatorStore) AddNews(ctx context.Context, n *News) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_operator_news (identity, kind, account_id, detail, at, told) VALUES ($1, $2, $3, $4, $5, false)
			ON CONFLICT (identity) DO NOTHING`, n.Identity, n.Kind, n.AccountID, n.Detail, n.At)
		if err != nil {
			return fmt.Errorf("database: add news: %w", err)
		}
		return nil
	})
}

// NoteTold stores news that is not for the operator, since whoever it is about was told it, and says whether that is new.
func (s OperatorStore) NoteTold(ctx context.Context, n *News) (isNew bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_operator_news (identity, kind, account_id, detail, at, told) VALUES ($1, $2, $3, $4, $5, true)
			ON CONFLICT (identity) DO NOTHING`, n.Identity, n.Kind, n.AccountID, n.Detail, n.At)
		if err != nil {
			return fmt.Errorf("database: note news: %w", err)
		}
		added, err := res.RowsAffected()
		isNew = added > 0
		return err
	})
	return isNew, err
}

// Untold returns news that was not told yet, the oldest first, at most limit.
func (s OperatorStore) Untold(ctx context.Context, limit int) ([]News, error) {
	rows, err := s.db.raw.Query(ctx,
		"SELECT identity, kind, account_id, detail, at FROM postern_operator_news WHERE NOT told ORDER BY at, identity LIMIT $1", limit)
	list, err := dbutil.NewRowIterWithError(rows, func(row dbutil.Scannable) (n News, err error) {
		return n, row.Scan(&n.Identity, &n.Kind, &n.AccountID, &n.Detail, &n.At)
	}, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list news: %w", err)
	}
	return list, nil
}

// Told notes that news was told.
func (s OperatorStore) Told(ctx context.Context, list []News) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, n := range list {
			if _, err := s.db.raw.Exec(ctx, "UPDATE postern_operator_news SET told=true WHERE identity=$1", n.Identity); err != nil {
				return fmt.Errorf("database: note news: %w", err)
			}
		}
		return nil
	})
}

// ForgetNews forgets told news of some kinds about an account, so that the same is news again.
func (s OperatorStore) ForgetNews(ctx context.Context, account string, kinds ...string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, kind := range kinds {
			if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_operator_news WHERE account_id=$1 AND kind=$2 AND told", account, kind); err != nil {
				return fmt.Errorf("database: forget news: %w", err)
			}
		}
		return nil
	})
}

// AddSpell stores news of something that goes on: while it is told of again within quiet milliseconds of the last time, it is the same news.
func (s OperatorStore) AddSpell(ctx context.Context, n *News, quiet int64) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, "UPDATE postern_operator_news SET at=$2 WHERE identity=$1 AND at>$3", n.Identity, n.At, n.At-quiet)
		if err != nil {
			return fmt.Errorf("database: add news: %w", err)
		}
		if known, err := res.RowsAffected(); err != nil || known > 0 {
			return err
		}
		if _, err = s.db.raw.Exec(ctx, "DELETE FROM postern_operator_news WHERE identity=$1", n.Identity); err != nil {
			return fmt.Errorf("database: add news: %w", err)
		}
		return s.AddNews(ctx, n)
	})
}

// NewsAccounts are the local ids of the accounts about which there is news of some kind.
func (s OperatorStore) NewsAccounts(ctx context.Context) ([]string, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT DISTINCT account_id FROM postern_operator_news WHERE account_id<>''")
	list, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list news: %w", err)
	}
	return list, nil
}

// PruneNews forgets told news that is older than a time, in Unix milliseconds.
func (s OperatorStore) PruneNews(ctx context.Context, before int64) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_operator_news WHERE told AND at<$1", before); err != nil {
			return fmt.Errorf("database: forget news: %w", err)
		}
		return nil
	})
}

// LettersSince returns the incoming dead letters that became such after a time (Unix milliseconds), the oldest first, at most limit: with ID,
// account, reason and time alone.
func (db *DB) LettersSince(ctx context.Context, since int64, limit int) ([]Letter, error) {
	rows, err := db.raw.Query(ctx, "SELECT letter, account_id, dead_reason, dead_at FROM postern_in WHERE "+isDeadIn+
		" AND dead_at>$1 ORDER BY dead_at, letter LIMIT $2", since, limit)
	list, err := dbutil.NewRowIterWithError(rows, func(row dbutil.Scannable) (l Letter, err error) {
		return l, row.Scan(&l.ID, &l.AccountID, &l.Reason, &l.At)
	}, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list dead letters: %w", err)
	}
	return list, nil
}
