package database

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// SignalStore keeps the Signal state of one account: sessions and identities of others by their
// Signal address, one-time and signed prekeys of ours. Every value is sealed. Loads return
// fresh copies, nil and no error for what is not there.
type SignalStore struct {
	db      *DB
	account string
}

// Signal is the store of one account's Signal state; accountID is a local id.
func (db *DB) Signal(accountID string) *SignalStore { return &SignalStore{db, accountID} }

const (
	signalSession      = "postern_signal_session.session"
	signalIdentity     = "postern_signal_identity.identity"
	signalPreKey       = "postern_signal_prekey.record"
	signalSignedPreKey = "postern_signal_signed_prekey.record"
)

// SignalChange is one atomic change of an account's Signal state at one address.
type SignalChange struct {
	// Addr is the Signal address that Session and Identity belong to.
	Addr string
	// Session is the new serialised session record, nil if unchanged.
	Session []byte
	// DeleteSession removes the session instead.
	DeleteSession bool
	// Identity is the new identity key (32 bytes), nil if unchanged.
	Identity []byte
	// UsedPreKey is the id of a one-time prekey that the change has used up, nil for none.
	UsedPreKey *uint32
}

// LoadSession returns the serialised session record. old says that it is from an old copy of the database: nothing may be encrypted in
// any session of the record any more, since its counters may have been used.
func (s *SignalStore) LoadSession(ctx context.Context, addr string) (session []byte, old bool, err error) {
	session, generation, err := sessionRow.load(ctx, s, addr)
	return session, generation < s.db.epoch.generation, err
}

// LoadIdentity returns the identity key last stored for the address (32 bytes).
func (s *SignalStore) LoadIdentity(ctx context.Context, addr string) ([]byte, error) {
	identity, _, err := identityRow.load(ctx, s, addr)
	return identity, err
}

// Apply stores the change durably in one transaction, with what extra writes: extra (which may be nil)
// runs inside the same transaction after the change, with its context. An error of extra, or
// ErrPreKeyGone if the used prekey is not there any more, takes everything back. So does ErrEpochFile.
func (s *SignalStore) Apply(ctx context.Context, c SignalChange, extra func(ctx context.Context) error) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if c.Session != nil || c.DeleteSession || c.Identity != nil || c.UsedPreKey != nil {
			if err := s.db.advance(ctx); err != nil {
				return err
			}
		}
		if c.UsedPreKey != nil {
			if err := s.usePreKey(ctx, *c.UsedPreKey); err != nil {
				return err
			}
		}
		if c.Identity != nil {
			if err := identityRow.put(ctx, s, c.Addr, c.Identity); err != nil {
				return err
			}
		}
		if c.DeleteSession || c.Session != nil {
			session := c.Session
			if c.DeleteSession {
				session = nil
			}
			if err := s.putSession(ctx, c.Addr, session); err != nil {
				return err
			}
		}
		if extra == nil {
			return nil
		}
		return extra(ctx)
	})
}

func (s *SignalStore) usePreKey(ctx context.Context, id uint32) error {
	err := execOne(ctx, s.db.raw, "use prekey",
		"DELETE FROM postern_signal_prekey WHERE account_id=$1 AND key_id=$2", s.account, int64(id))
	if errors.Is(err, ErrNotFound) {
		return ErrPreKeyGone
	} else if err != nil {
		return err
	}
	return s.note(ctx, rowPreKey, keyName(id), 0)
}

// putSession stores an empty value for a session that is deleted: the row goes on counting versions, so
// that none of an earlier session opens again.
func (s *SignalStore) putSession(ctx context.Context, addr string, session []byte) error {
	return sessionRow.put(ctx, s, addr, session, s.db.epoch.generation)
}

// peerRow is how the tables of sessions and identities are read and written; column is "table.column".
type peerRow struct {
	kind               rowKind
	column, get, store string
}

var (
	sessionRow = &peerRow{
		rowSession, signalSession,
		"SELECT version, generation, session FROM postern_signal_session WHERE account_id=$1 AND address=$2",
		`INSERT INTO postern_signal_session (account_id, address, version, session, generation) VALUES ($1, $2, $3, $4, $5)
		 ON CONFLICT (account_id, address) DO UPDATE SET version=excluded.version, session=excluded.session, generation=excluded.generation`,
	}
	identityRow = &peerRow{
		rowIdentity, signalIdentity,
		"SELECT version, 0, identity FROM postern_signal_identity WHERE account_id=$1 AND address=$2",
		`INSERT INTO postern_signal_identity (account_id, address, version, identity) VALUES ($1, $2, $3, $4)
		 ON CONFLICT (account_id, address) DO UPDATE SET version=excluded.version, identity=excluded.identity`,
	}
)

// put stores a value under a version that no value of the row has had: also a row that is new has a greater one than any that was there
// before it, since the number of the commit is greater.
func (p *peerRow) put(ctx context.Context, s *SignalStore, addr string, value []byte, more ...any) error {
	version := max(s.expected(ctx, p.kind, addr)+1, s.db.epoch.next())
	if err := s.note(ctx, p.kind, addr, version); err != nil {
		return err
	}
	sealed := s.db.Seal(p.column, RowKey(s.account, addr), int(version), value)
	if _, err := s.db.raw.Exec(ctx, p.store, append([]any{s.account, addr, version, sealed}, more...)...); err != nil {
		return fmt.Errorf("database: store %s: %w", p.column, err)
	}
	return nil
}

func (s *SignalStore) keyRow(id uint32) string {
	return RowKey(s.account, keyName(id))
}

// keyName is a key's name in the sums.
func keyName(id uint32) string { return strconv.FormatUint(uint64(id), 10) }
