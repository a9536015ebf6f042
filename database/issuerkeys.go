package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

const (
	issuerKeysColumn = "postern_issuer_keys.sealed"
	issuerKeysRow    = "1"
)

// IssuerKeyStore keeps the token issuer's signing keys as one sealed document, which the
// issuer writes and reads whole.
type IssuerKeyStore struct{ db *DB }

// IssuerKeys is the store of the token issuer's keys.
func (db *DB) IssuerKeys() IssuerKeyStore { return IssuerKeyStore{db} }

// Load returns the document and its version, or nil and 0 before the first Save.
func (s IssuerKeyStore) Load(ctx context.Context) (document []byte, version int, err error) {
	var sealed []byte
	err = s.db.raw.QueryRow(ctx, "SELECT version, sealed FROM postern_issuer_keys WHERE id=1").Scan(&version, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, fmt.Errorf("database: load issuer keys: %w", err)
	}
	document, err = s.db.Unseal(issuerKeysColumn, issuerKeysRow, version, sealed)
	return document, version, err
}

// Save replaces the document if its version is still oldVersion (0: none stored), giving it
// version oldVersion+1. saved is false, and nothing has changed, if someone else was faster.
func (s IssuerKeyStore) Save(ctx context.Context, document []byte, oldVersion int) (saved bool, err error) {
	sealed := s.db.Seal(issuerKeysColumn, issuerKeysRow, oldVersion+1, document)
	err = s.db.Do(ctx, func(ctx context.Context) error {
		query := "UPDATE postern_issuer_keys SET version=$1, sealed=$2 WHERE id=1 AND version=$3"
		if oldVersion == 0 {
			query = "INSERT INTO postern_issuer_keys (id, version, sealed) SELECT 1, $1, $2 WHERE CAST($3 AS BIGINT)=0 ON CONFLICT (id) DO NOTHING"
		}
		res, err := s.db.raw.Exec(ctx, query, oldVersion+1, sealed, oldVersion)
		if err != nil {
			return fmt.Errorf("database: save issuer keys: %w", err)
		}
		n, err := res.RowsAffected()
		saved = n == 1
		return err
	})
	return saved && err == nil, err
}
