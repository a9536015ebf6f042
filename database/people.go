package database

import (
	"context"
	"fmt"
)

// PersonStore keeps what Matrix users have chosen for themselves, before and apart from any login.
type PersonStore struct{ db *DB }

// People is the store of what Matrix users have chosen.
func (db *DB) People() PersonStore { return PersonStore{db} }

// Languages returns the languages that people have chosen, by Matrix ID.
func (s PersonStore) Languages(ctx context.Context) (map[string]string, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT mxid, language FROM postern_person")
	if err != nil {
		return nil, fmt.Errorf("database: list languages: %w", err)
	}
	defer rows.Close()
	languages := map[string]string{}
	for rows.Next() {
		var mxid, language string
		if err := rows.Scan(&mxid, &language); err != nil {
			return nil, fmt.Errorf("database: list languages: %w", err)
		}
		languages[mxid] = language
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list languages: %w", err)
	}
	return languages, nil
}

// PutLanguage stores the language that a Matrix user has chosen.
func (s PersonStore) PutLanguage(ctx context.Context, mxid, language string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_person (mxid, language) VALUES ($1, $2)
			ON CONFLICT (mxid) DO UPDATE SET language=excluded.language`, mxid, language)
		if err != nil {
			return fmt.Errorf("database: put language: %w", err)
		}
		return nil
	})
}
