package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/util/dbutil"
)

// MediaObject is the row of one encrypted attachment in the media store.
type MediaObject struct {
	// RefHash is the SHA-256 of the reference by which the attachment is fetched.
	RefHash [sha256.Size]byte
	// Owner is the account's local id.
	Owner string
	// Size is the length of the ciphertext in bytes.
	Size int64
	// SHA256 is the ciphertext's hash.
	SHA256 [sha256.Size]byte
	// Created and Expires are Unix milliseconds; so is Fetched, when it was fetched whole for the first time, 0 for never. Add does not set that.
	Created, Expires, Fetched int64
}

// MediaStore keeps the index of the media store.
type MediaStore struct{ db *DB }

// Media is the index of the media store.
func (db *DB) Media() MediaStore { return MediaStore{db} }

const mediaColumns = "ref_hash, owner, size, sha256, created, expires, fetched"

// Add inserts a row; one that is there already is left as it is.
func (s MediaStore) Add(ctx context.Context, m *MediaObject) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_media (ref_hash, owner, size, sha256, created, expires) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (ref_hash) DO NOTHING`,
			m.RefHash[:], m.Owner, m.Size, m.SHA256[:], m.Created, m.Expires)
		if err != nil {
			return fmt.Errorf("database: add media: %w", err)
		}
		return nil
	})
}

// Get returns the row of a reference's hash, also an expired one; nil if there is none.
func (s MediaStore) Get(ctx context.Context, refHash [sha256.Size]byte) (*MediaObject, error) {
	m, err := scanMedia(s.db.raw.QueryRow(ctx, "SELECT "+mediaColumns+" FROM postern_media WHERE ref_hash=$1", refHash[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get media: %w", err)
	}
	return m, nil
}

// Used is how many bytes an account has in the store, expired ones among them until they are deleted.
func (s MediaStore) Used(ctx context.Context, owner string) (int64, error) {
	var sum int64
	err := s.db.raw.QueryRow(ctx, "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM postern_media WHERE owner=$1", owner).Scan(&sum)
	if err != nil {
		return 0, fmt.Errorf("database: sum media: %w", err)
	}
	return sum, nil
}

// After returns the rows whose hash is above that one, in order, at most limit; nil begins.
func (s MediaStore) After(ctx context.Context, refHash []byte, limit int) ([]*MediaObject, error) {
	return s.list(ctx, "ref_hash > $1 ORDER BY ref_hash LIMIT $2", notNil(refHash), limit)
}

// Expired returns rows that had expired at that time (Unix milliseconds), by their hash from above that one on, at
// most limit; nil begins.
func (s MediaStore) Expired(ctx context.Context, at int64, refHash []byte, limit int) ([]*MediaObject, error) {
	return s.list(ctx, "expires <= $1 AND ref_hash > $2 ORDER BY ref_hash LIMIT $3", at, notNil(refHash), limit)
}

// ExpireOwner makes all rows of an account expired from now on.
func (s MediaStore) ExpireOwner(ctx context.Context, owner string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "UPDATE postern_media SET expires=0 WHERE owner=$1", owner); err != nil {
			return fmt.Errorf("database: expire media: %w", err)
		}
		return nil
	})
}

// OfOwner returns the rows of an account by their hash from above that one on, at most limit; nil begins.
func (s MediaStore) OfOwner(ctx context.Context, owner string, refHash []byte, limit int) ([]*MediaObject, error) {
	return s.list(ctx, "owner=$1 AND ref_hash > $2 ORDER BY ref_hash LIMIT $3", owner, notNil(refHash), limit)
}

// Delete removes a row; one that is not there is no error.
func (s MediaStore) Delete(ctx context.Context, refHash [sha256.Size]byte) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_media WHERE ref_hash=$1", refHash[:]); err != nil {
			return fmt.Errorf("database: delete media: %w", err)
		}
		return nil
	})
}

// notNil makes an empty value of none, since nothing is above NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (s MediaStore) list(ctx context.Context, where string, args ...any) ([]*MediaObject, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT "+mediaColumns+" FROM postern_media WHERE "+where, args...)
	list, err := dbutil.NewRowIterWithError(rows, scanMedia, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("database: list media: %w", err)
	}
	return list, nil
}

func scanMedia(row dbutil.Scannable) (*MediaObject, error) {
	var m MediaObject
	var refHash, hash []byte
	if err := row.Scan(&refHash, &m.Owner, &m.Size, &hash, &m.Created, &m.Expires, &m.Fetched); err != nil {
		return nil, err
	}
	if len(refHash) != sha256.Size || len(hash) != sha256.Size || m.Size < 0 {
		return nil, errors.New("damaged row")
	}
	m.RefHash, m.SHA256 = [sha256.Size]byte(refHash), [sha256.Size]byte(hash)
	return &m, nil
}
