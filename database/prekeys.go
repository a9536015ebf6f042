package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/util/dbutil"
)

// MaxKeyID is the greatest id of a prekey: ids are 3 bytes on the wire (PROTOCOL.md 6.0), and
// start at 1.
const MaxKeyID = 1<<24 - 1

// PreKey is one of our prekeys, one-time or signed.
type PreKey struct {
	// ID is 1 to MaxKeyID.
	ID uint32
	// Record is the key pair (and signature) as package e2ee serialises it; nil in a list if the row's
	// sealed value does not open.
	Record []byte
	// CreatedAt is in Unix milliseconds; kept for signed prekeys only.
	CreatedAt int64
}

// LoadPreKey returns the record of a one-time prekey.
func (s *SignalStore) LoadPreKey(ctx context.Context, id uint32) ([]byte, error) {
	return s.loadKey(ctx, oneTimeKeys, id, "SELECT record FROM postern_signal_prekey WHERE account_id=$1 AND key_id=$2")
}

// LoadSignedPreKey returns the record of a signed prekey.
func (s *SignalStore) LoadSignedPreKey(ctx context.Context, id uint32) ([]byte, error) {
	return s.loadKey(ctx, signedKeys, id, "SELECT record FROM postern_signal_signed_prekey WHERE account_id=$1 AND key_id=$2")
}

// keyTable is a table of prekeys; column is that of its sealed records, as "table.column".
type keyTable struct {
	kind          rowKind
	table, column string
}

var (
	oneTimeKeys = &keyTable{rowPreKey, "postern_signal_prekey", signalPreKey}
	signedKeys  = &keyTable{rowSignedPreKey, "postern_signal_signed_prekey", signalSignedPreKey}
)

func (s *SignalStore) loadKey(ctx context.Context, t *keyTable, id uint32, query string) ([]byte, error) {
	var sealed []byte
	for again := true; ; again = false {
		expected := s.expected(ctx, t.kind, keyName(id)) > 0
		err := s.db.raw.QueryRow(ctx, query, s.account, int64(id)).Scan(&sealed)
		gone := errors.Is(err, sql.ErrNoRows)
		if err != nil && !gone {
			return nil, fmt.Errorf("database: load %s: %w", t.column, err)
		}
		switch {
		case gone == expected && again: // or a commit is under way
			if err = s.mendKey(ctx, t.kind, t.table, id); err != nil {
				return nil, err
			}
			continue
		case gone || !expected:
			return nil, nil
		}
		return s.db.Unseal(t.column, s.keyRow(id), 1, sealed)
	}
}

// ReservePreKeyIDs gives out n (1 to 10,000) consecutive ids for new one-time prekeys, durably, and returns
// the first. Ids start at 1 and begin again at 1 past MaxKeyID, about 16 million keys later.
func (s *SignalStore) ReservePreKeyIDs(ctx context.Context, n int) (first uint32, err error) {
	return s.reserve(ctx, "next_prekey", n)
}

// ReserveSignedPreKeyID does the same for one signed prekey.
func (s *SignalStore) ReserveSignedPreKeyID(ctx context.Context) (uint32, error) {
	return s.reserve(ctx, "next_signed_prekey", 1)
}

func (s *SignalStore) reserve(ctx context.Context, column string, n int) (first uint32, err error) {
	if n < 1 || n > 10_000 {
		return 0, fmt.Errorf("database: reserve key ids: %d at once", n)
	}
	err = s.db.Do(ctx, func(ctx context.Context) error {
		if err := s.db.advance(ctx); err != nil {
			return err
		}
		_, err := s.db.raw.Exec(ctx, `INSERT INTO postern_signal_counter (account_id, next_prekey, next_signed_prekey)
			VALUES ($1, 1, 1) ON CONFLICT (account_id) DO NOTHING`, s.account)
		if err != nil {
			return fmt.Errorf("database: reserve key ids: %w", err)
		}
		var next int64
		err = s.db.raw.QueryRow(ctx, "SELECT "+column+" FROM postern_signal_counter WHERE account_id=$1", s.account).Scan(&next)
		if err != nil {
			return fmt.Errorf("database: reserve key ids: %w", err)
		}
		if next < 1 || next+int64(n)-1 > MaxKeyID {
			next = 1
		}
		first = uint32(next)
		return execOne(ctx, s.db.raw, "reserve key ids",
			"UPDATE postern_signal_counter SET "+column+"=$2 WHERE account_id=$1", s.account, next+int64(n))
	})
	return first, err
}

// PutPreKeys stores new one-time prekeys, not uploaded yet.
func (s *SignalStore) PutPreKeys(ctx context.Context, keys []PreKey) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, k := range keys {
			_, err := s.db.raw.Exec(ctx, `INSERT INTO postern_signal_prekey (account_id, key_id, uploaded, record)
				VALUES ($1, $2, false, $3) ON CONFLICT (account_id, key_id) DO UPDATE SET uploaded=false, record=excluded.record`,
				s.account, int64(k.ID), s.db.Seal(signalPreKey, s.keyRow(k.ID), 1, k.Record))
			if err == nil {
				err = s.note(ctx, rowPreKey, keyName(k.ID), 1)
			}
			if err != nil {
				return fmt.Errorf("database: put prekeys: %w", err)
			}
		}
		return nil
	})
}

// PreKeysToUpload returns the one-time prekeys that are not known to have reached the server,
// lowest id first, at most limit.
func (s *SignalStore) PreKeysToUpload(ctx context.Context, limit int) ([]PreKey, error) {
	return s.listKeys(ctx, oneTimeKeys, `SELECT key_id, record, 0 FROM postern_signal_prekey
		WHERE account_id=$1 AND NOT uploaded ORDER BY key_id LIMIT $2`, s.account, limit)
}

// MarkPreKeysUploaded notes that these one-time prekeys are on the server. Ids that are gone
// already (used in the meantime) are passed over.
func (s *SignalStore) MarkPreKeysUploaded(ctx context.Context, ids []uint32) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, id := range ids {
			_, err := s.db.raw.Exec(ctx, "UPDATE postern_signal_prekey SET uploaded=true WHERE account_id=$1 AND key_id=$2", s.account, int64(id))
			if err != nil {
				return fmt.Errorf("database: mark prekeys uploaded: %w", err)
			}
		}
		return nil
	})
}

// DeletePreKeys removes one-time prekeys that are not known to have reached the server; others, and ids
// that are gone, are passed over.
func (s *SignalStore) DeletePreKeys(ctx context.Context, ids []uint32) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, id := range ids {
			err := execOne(ctx, s.db.raw, "delete prekeys",
				"DELETE FROM postern_signal_prekey WHERE account_id=$1 AND key_id=$2 AND NOT uploaded", s.account, int64(id))
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err == nil {
				err = s.note(ctx, rowPreKey, keyName(id), 0)
			}
			if err != nil {
				return fmt.Errorf("database: delete prekeys: %w", err)
			}
		}
		return nil
	})
}

// CountPreKeys counts the one-time prekeys here: all, and those known to be on the server or
// used by someone whose message has not come yet.
func (s *SignalStore) CountPreKeys(ctx context.Context) (all, uploaded int, err error) {
	err = s.db.raw.QueryRow(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN uploaded THEN 1 ELSE 0 END), 0)
		FROM postern_signal_prekey WHERE account_id=$1`, s.account).Scan(&all, &uploaded)
	if err != nil {
		return 0, 0, fmt.Errorf("database: count prekeys: %w", err)
	}
	return all, uploaded, nil
}

// PutSignedPreKey stores a signed prekey.
func (s *SignalStore) PutSignedPreKey(ctx context.Context, k PreKey) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, `INSERT INTO postern_signal_signed_prekey (account_id, key_id, created_at, record)
			VALUES ($1, $2, $3, $4) ON CONFLICT (account_id, key_id) DO UPDATE SET created_at=excluded.created_at, record=excluded.record`,
			s.account, int64(k.ID), k.CreatedAt, s.db.Seal(signalSignedPreKey, s.keyRow(k.ID), 1, k.Record))
		if err == nil {
			err = s.note(ctx, rowSignedPreKey, keyName(k.ID), 1)
		}
		if err != nil {
			return fmt.Errorf("database: put signed prekey: %w", err)
		}
		return nil
	})
}

// SignedPreKeys returns all signed prekeys, newest first.
func (s *SignalStore) SignedPreKeys(ctx context.Context) ([]PreKey, error) {
	return s.listKeys(ctx, signedKeys, `SELECT key_id, record, created_at FROM postern_signal_signed_prekey
		WHERE account_id=$1 ORDER BY created_at DESC, key_id DESC`, s.account)
}

// DeleteSignedPreKeys removes the signed prekeys made before a time (Unix milliseconds), but
// never the newest one.
func (s *SignalStore) DeleteSignedPreKeys(ctx context.Context, before int64) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		rows, err := s.db.raw.Query(ctx, `SELECT key_id FROM postern_signal_signed_prekey WHERE account_id=$1 AND created_at<$2
			AND key_id<>(SELECT key_id FROM postern_signal_signed_prekey WHERE account_id=$1 ORDER BY created_at DESC, key_id DESC LIMIT 1)`,
			s.account, before)
		ids, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[int64], err).AsList()
		for _, id := range ids {
			if _, err = s.db.raw.Exec(ctx, "DELETE FROM postern_signal_signed_prekey WHERE account_id=$1 AND key_id=$2", s.account, id); err != nil {
				break
			}
			if err = s.note(ctx, rowSignedPreKey, keyName(uint32(id)), 0); err != nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("database: delete signed prekeys: %w", err)
		}
		return nil
	})
}

// Reset removes sessions, identities and prekeys of the account, as after enlisting with a new Signal
// identity. Key ids go on counting.
func (s *SignalStore) Reset(ctx context.Context) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		for _, table := range []string{"session", "identity", "prekey", "signed_prekey"} {
			if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_signal_"+table+" WHERE account_id=$1", s.account); err != nil {
				return fmt.Errorf("database: reset signal state: %w", err)
			}
		}
		return s.db.noteRow(ctx, rowChange{account: s.account, wipe: true})
	})
}

// listKeys lists the prekeys that a query selects, without such as were put back.
func (s *SignalStore) listKeys(ctx context.Context, t *keyTable, query string, args ...any) ([]PreKey, error) {
	for again := true; ; again = false {
		list, wrong, err := s.readKeys(ctx, t, query, args...)
		if err != nil || len(wrong) == 0 || !again {
			return list, err
		}
		for _, id := range wrong {
			if err = s.mendKey(ctx, t.kind, t.table, id); err != nil {
				return nil, err
			}
		}
	}
}

func (s *SignalStore) readKeys(ctx context.Context, t *keyTable, query string, args ...any) (list []PreKey, wrong []uint32, err error) {
	rows, err := s.db.raw.Query(ctx, query, args...)
	if err != nil {
		return nil, nil, fmt.Errorf("database: list %s: %w", t.column, err)
	}
	defer rows.Close()
	for rows.Next() {
		var k PreKey
		var id int64
		var sealed []byte
		if err = rows.Scan(&id, &sealed, &k.CreatedAt); err != nil {
			return nil, nil, fmt.Errorf("database: list %s: %w", t.column, err)
		}
		k.ID = uint32(id)
		if s.expected(ctx, t.kind, keyName(k.ID)) == 0 {
			wrong = append(wrong, k.ID)
			continue
		}
		// A damaged row keeps no others back: its key comes without a record.
		if k.Record, err = s.db.Unseal(t.column, s.keyRow(k.ID), 1, sealed); err != nil && !errors.Is(err, ErrSealBroken) {
			return nil, nil, err
		}
		list = append(list, k)
	}
	if err = rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("database: list %s: %w", t.column, err)
	}
	return list, wrong, nil
}
