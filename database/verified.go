package database

import (
	"context"
	"errors"
	"fmt"
)

// Verified says for which identity keys of a chat's other side a person has looked at the safety number, and confirmed it.
type Verified struct {
	// ChatID is the chat's local id.
	ChatID string
	// Confirmed says that the person has confirmed a number, Key for which identity key.
	Confirmed bool
	Key       [32]byte
	// Shown is the identity key whose number they have looked at last, all zero for none.
	Shown [32]byte
	// At is when that changed, in Unix milliseconds.
	At int64
}

// VerifiedStore keeps them for one account.
type VerifiedStore struct {
	db      *DB
	account string
}

// Verified is the store of an account's verified people; accountID is a local id.
func (db *DB) Verified(accountID string) VerifiedStore { return VerifiedStore{db, accountID} }

const verifiedKeys = "postern_verified.keys"

// verifiedSize is the length of what is sealed: whether a number is confirmed, for which key, and which key's was shown.
const verifiedSize = 1 + 32 + 32

// All returns them, in the order of At. A row that does not open is one that was confirmed for a key that nobody has; ErrSealBroken comes
// with the others then.
func (s VerifiedStore) All(ctx context.Context) ([]*Verified, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT chat_id, version, keys, at FROM postern_verified WHERE account_id=$1 ORDER BY at, chat_id", s.account)
	if err != nil {
		return nil, fmt.Errorf("database: list verified people: %w", err)
	}
	defer rows.Close()
	var list []*Verified
	var broken error
	for rows.Next() {
		var v Verified
		var version int
		var sealed []byte
		if err := rows.Scan(&v.ChatID, &version, &sealed, &v.At); err != nil {
			return nil, fmt.Errorf("database: list verified people: %w", err)
		}
		plain, err := s.db.Unseal(verifiedKeys, RowKey(s.account, v.ChatID), version, sealed)
		if err == nil && len(plain) != verifiedSize {
			err = ErrSealBroken
		}
		if err != nil {
			v.Confirmed, broken = true, errors.Join(broken, err)
		} else {
			v.Confirmed, v.Key, v.Shown = plain[0] == 1, [32]byte(plain[1:33]), [32]byte(plain[33:])
		}
		list = append(list, &v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("database: list verified people: %w", err)
	}
	return list, broken
}

// Put stores one, in place of an earlier one of the chat.
func (s VerifiedStore) Put(ctx context.Context, v *Verified) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_verified WHERE chat_id=$1 AND account_id=$2", v.ChatID, s.account)
		if err != nil {
			return fmt.Errorf("database: put verified person: %w", err)
		}
		plain := make([]byte, 1, verifiedSize)
		if v.Confirmed {
			plain[0] = 1
		}
		plain = append(append(plain, v.Key[:]...), v.Shown[:]...)
		_, err = s.db.raw.Exec(ctx, `
			INSERT INTO postern_verified (chat_id, account_id, version, keys, at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (chat_id) DO UPDATE SET version=excluded.version, keys=excluded.keys, at=excluded.at`,
			v.ChatID, s.account, version, s.db.Seal(verifiedKeys, RowKey(s.account, v.ChatID), version, plain), v.At)
		if err != nil {
			return fmt.Errorf("database: put verified person: %w", err)
		}
		return nil
	})
}
