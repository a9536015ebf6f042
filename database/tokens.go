package database

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"go.mau.fi/util/dbutil"
)

// Token lets whoever has it use the provisioning interface for one Matrix user. The token itself is not kept.
type Token struct {
	// ID names it, and is a part of it.
	ID, MXID string
	// Scopes are what it may be used for.
	Scopes []string
	// Hash is the SHA-256 of its secret part.
	Hash [32]byte
	// At, Expires and Revoked are in Unix milliseconds; Revoked is 0 if it was not.
	At, Expires, Revoked int64
}

// TokenStore keeps tokens. Those of a user go with their last account.
type TokenStore struct{ db *DB }

// Tokens is the store of tokens for the provisioning interface.
func (db *DB) Tokens() TokenStore { return TokenStore{db} }

// ErrTooManyTokens says that there are as many tokens as there may be.
var ErrTooManyTokens = errors.New("database: there are too many tokens")

// Add stores a new token, unless there are most or more already (ErrTooManyTokens).
func (s TokenStore) Add(ctx context.Context, t *Token, most int) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		var n int
		if err := s.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_token").Scan(&n); err != nil {
			return fmt.Errorf("database: add token: %w", err)
		} else if n >= most {
			return ErrTooManyTokens
		}
		_, err := s.db.raw.Exec(ctx, "INSERT INTO postern_token (id, mxid, scopes, hash, at, expires) VALUES ($1, $2, $3, $4, $5, $6)",
			t.ID, t.MXID, strings.Join(t.Scopes, " "), hex.EncodeToString(t.Hash[:]), t.At, t.Expires)
		if err != nil {
			return fmt.Errorf("database: add token: %w", err)
		}
		return nil
	})
}

const tokenColumns = "SELECT id, mxid, scopes, hash, at, expires, revoked FROM postern_token"

var errTokenHash = errors.New("database: a token's hash is not one")

func scanToken(row dbutil.Scannable) (*Token, error) {
	t := &Token{}
	var scopes, hash string
	if err := row.Scan(&t.ID, &t.MXID, &scopes, &hash, &t.At, &t.Expires, &t.Revoked); err != nil {
		return nil, err
	}
	t.Scopes = strings.Fields(scopes)
	if n, err := hex.Decode(t.Hash[:], []byte(hash[:min(len(hash), 2*len(t.Hash))])); err != nil || n != len(t.Hash) {
		return nil, errTokenHash
	}
	return t, nil
}

// Get reads the token with an id, nil for none.
func (s TokenStore) Get(ctx context.Context, id string) (*Token, error) {
	t, err := scanToken(s.db.raw.QueryRow(ctx, tokenColumns+" WHERE id=$1", id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get token: %w", err)
	}
	return t, nil
}

// List returns tokens, also revoked ones, in the order in which they were made; after the first offset, at most limit.
func (s TokenStore) List(ctx context.Context, offset, limit int) ([]*Token, error) {
	rows, err := s.db.raw.Query(ctx, tokenColumns+" ORDER BY at, id LIMIT $1 OFFSET $2", limit, offset)
	list, err := dbutil.NewRowIterWithError(rows, scanToken, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list tokens: %w", err)
	}
	return list, nil
}

// Revoke ends a token for good. there says whether there is such a token, revoked that this has ended it.
func (s TokenStore) Revoke(ctx context.Context, id string, now int64) (revoked, there bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context) error {
		res, err := s.db.raw.Exec(ctx, "UPDATE postern_token SET revoked=$2 WHERE id=$1 AND revoked=0", id, now)
		if err != nil {
			return fmt.Errorf("database: revoke token: %w", err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return fmt.Errorf("database: revoke token: %w", err)
		}
		revoked = n > 0
		if err = s.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_token WHERE id=$1", id).Scan(&n); err != nil {
			return fmt.Errorf("database: revoke token: %w", err)
		}
		there = n > 0
		return nil
	})
	return revoked, there, err
}

// Prune deletes tokens that were revoked or ran out before a time in Unix milliseconds.
func (s TokenStore) Prune(ctx context.Context, before int64) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_token WHERE expires<$1 OR (revoked<>0 AND revoked<$1)", before); err != nil {
			return fmt.Errorf("database: prune tokens: %w", err)
		}
		return nil
	})
}
