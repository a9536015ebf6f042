package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/util/dbutil"
)

// Account is one enlisted user (or one who is about to be) at one gatekeeper.
type Account struct {
	// ID is the opaque local id, from NewLocalID.
	ID string
	// Gatekeeper is the profile's name.
	Gatekeeper string
	// MXID is the Matrix user who logged in.
	MXID string
	// Identifier is the normalised user-visible identifier (PROTOCOL.md 1.5). Sealed.
	Identifier string
	// Login is the address that the gatekeeper gave, in text form; "" before enlistment.
	Login string
	// Integrator is our number at the gatekeeper; 0 before enlistment.
	Integrator uint16
	// NoiseKey is the Noise static private key (32 bytes). Sealed.
	NoiseKey []byte
	// Device holds the long-term Signal keys, as package e2ee marshals them. Sealed.
	Device []byte
	// HMACKey is what stanza ids are derived with (PROTOCOL.md 6.1). Sealed.
	HMACKey []byte
	// ConsentVersion and ConsentAt (Unix milliseconds) say which text the user agreed to, and when.
	ConsentVersion int
	ConsentAt      int64
	// CreatedAt and EnlistedAt are Unix milliseconds; EnlistedAt is 0 before enlistment.
	CreatedAt  int64
	EnlistedAt int64
	// ReenlistedAt is when the account was enlisted again because the gatekeeper had forgotten it, in
	// Unix milliseconds, 0 for never.
	ReenlistedAt int64
}

// AccountStore keeps accounts.
type AccountStore struct{ db *DB }

// Accounts is the store of accounts.
func (db *DB) Accounts() AccountStore { return AccountStore{db} }

const (
	accountColumns = `id, version, gatekeeper, mxid, identifier, login, integrator, noise_key, device, hmac_key,
		consent_version, consent_at, created_at, enlisted_at, reenlisted_at`
	accountIdentifier = "postern_account.identifier"
	accountNoiseKey   = "postern_account.noise_key"
	accountDevice     = "postern_account.device"
	accountHMACKey    = "postern_account.hmac_key"
	accountIndex      = "postern_account.identifier_index"
)

// Put inserts the account or replaces the row with its ID. Two accounts with one identifier, or
// with one login, at the same gatekeeper are refused (IsUniqueViolation). A row's gatekeeper never changes.
func (s AccountStore) Put(ctx context.Context, a *Account) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_account WHERE id=$1", a.ID)
		if err != nil {
			return fmt.Errorf("database: put account: %w", err)
		}
		_, err = s.db.raw.Exec(ctx, `
			INSERT INTO postern_account (`+accountColumns+`, identifier_index)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
			ON CONFLICT (id) DO UPDATE SET version=excluded.version, mxid=excluded.mxid,
				identifier=excluded.identifier, identifier_index=excluded.identifier_index, login=excluded.login,
				integrator=excluded.integrator, noise_key=excluded.noise_key, device=excluded.device,
				hmac_key=excluded.hmac_key, consent_version=excluded.consent_version,
				consent_at=excluded.consent_at, created_at=excluded.created_at, enlisted_at=excluded.enlisted_at,
				reenlisted_at=excluded.reenlisted_at`,
			a.ID, version, a.Gatekeeper, a.MXID,
			s.db.Seal(accountIdentifier, a.ID, version, []byte(a.Identifier)), a.Login, int(a.Integrator),
			s.db.Seal(accountNoiseKey, a.ID, version, a.NoiseKey),
			s.db.Seal(accountDevice, a.ID, version, a.Device),
			s.db.Seal(accountHMACKey, a.ID, version, a.HMACKey),
			a.ConsentVersion, a.ConsentAt, a.CreatedAt, a.EnlistedAt, a.ReenlistedAt,
			s.identifierIndex(a.Gatekeeper, a.Identifier))
		if err != nil {
			return fmt.Errorf("database: put account: %w", err)
		}
		return nil
	})
}

// Get returns the account with that local id, nil if there is none.
func (s AccountStore) Get(ctx context.Context, id string) (*Account, error) {
	return s.one(ctx, "id=$1", id)
}

// ByIdentifier returns the account with that normalised identifier at the gatekeeper, or the one that asked for it and was given another
// form of it; nil if there is none.
func (s AccountStore) ByIdentifier(ctx context.Context, gatekeeper, identifier string) (*Account, error) {
	index := s.identifierIndex(gatekeeper, identifier)
	a, err := s.one(ctx, "gatekeeper=$1 AND identifier_index=$2", gatekeeper, index)
	if a != nil || err != nil {
		return a, err
	}
	return s.one(ctx, "id=(SELECT account_id FROM postern_account_alias WHERE gatekeeper=$1 AND identifier_index=$2)", gatekeeper, index)
}

// PutAlias notes the identifier that an account asked for where the gatekeeper has answered with another form, so that ByIdentifier finds the
// account by either. What another account asked for is refused (IsUniqueViolation).
func (s AccountStore) PutAlias(ctx context.Context, a *Account, asked string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		index := s.identifierIndex(a.Gatekeeper, asked)
		_, err := s.db.raw.Exec(ctx, "DELETE FROM postern_account_alias WHERE gatekeeper=$1 AND identifier_index=$2 AND account_id=$3",
			a.Gatekeeper, index, a.ID)
		if err == nil {
			_, err = s.db.raw.Exec(ctx, "INSERT INTO postern_account_alias (gatekeeper, identifier_index, account_id) VALUES ($1, $2, $3)",
				a.Gatekeeper, index, a.ID)
		}
		if err != nil {
			return fmt.Errorf("database: put alias: %w", err)
		}
		return nil
	})
}

// ByLogin returns the account that the gatekeeper knows under that address (text form), nil if there is none.
func (s AccountStore) ByLogin(ctx context.Context, gatekeeper, login string) (*Account, error) {
	if login == "" {
		return nil, nil
	}
	return s.one(ctx, "gatekeeper=$1 AND login=$2", gatekeeper, login)
}

// ByMXID returns all accounts of a Matrix user, oldest first.
func (s AccountStore) ByMXID(ctx context.Context, mxid string) ([]*Account, error) {
	return s.many(ctx, "mxid=$1", mxid)
}

// All returns every account, oldest first. An account whose sealed columns do not open is left out
// of the list, and the error, joined from all of these, says so beside the good ones:
// one damaged row keeps nobody else out.
func (s AccountStore) All(ctx context.Context) ([]*Account, error) {
	return s.many(ctx, "1=1")
}

// Delete removes the account and everything that belongs to it: chats, Signal state and queues. Its attachments in the media
// store expire: their rows are needed to find the files.
func (s AccountStore) Delete(ctx context.Context, id string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if err := s.db.Media().ExpireOwner(ctx, id); err != nil {
			return err
		}
		if err := execOne(ctx, s.db.raw, "delete account", "DELETE FROM postern_account WHERE id=$1", id); err != nil {
			return err
		}
		return s.db.noteRow(ctx, rowChange{account: id, wipe: true, gone: true})
	})
}

func (s AccountStore) identifierIndex(gatekeeper, identifier string) []byte {
	return s.db.BlindIndex(accountIndex, RowKey(gatekeeper, identifier))
}

func (s AccountStore) one(ctx context.Context, where string, args ...any) (*Account, error) {
	a, err := s.scan(s.db.raw.QueryRow(ctx, "SELECT "+accountColumns+" FROM postern_account WHERE "+where, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get account: %w", err)
	}
	return a, nil
}

func (s AccountStore) many(ctx context.Context, where string, args ...any) ([]*Account, error) {
	rows, err := s.db.raw.Query(ctx, "SELECT "+accountColumns+" FROM postern_account WHERE "+where+" ORDER BY created_at, id", args...)
	list, err := unbroken(rows, err, s.scan)
	if err != nil {
		return list, fmt.Errorf("database: list accounts: %w", err)
	}
	return list, nil
}

func (s AccountStore) scan(row dbutil.Scannable) (*Account, error) {
	var a Account
	var version, integrator int
	var identifier, noiseKey, device, hmacKey []byte
	err := row.Scan(&a.ID, &version, &a.Gatekeeper, &a.MXID, &identifier, &a.Login, &integrator, &noiseKey, &device, &hmacKey,
		&a.ConsentVersion, &a.ConsentAt, &a.CreatedAt, &a.EnlistedAt, &a.ReenlistedAt)
	if err != nil {
		return nil, err
	}
	a.Integrator = uint16(integrator)
	plain, err := s.db.Unseal(accountIdentifier, a.ID, version, identifier)
	if err != nil {
		return nil, err
	}
	a.Identifier = string(plain)
	if a.NoiseKey, err = s.db.Unseal(accountNoiseKey, a.ID, version, noiseKey); err != nil {
		return nil, err
	}
	if a.Device, err = s.db.Unseal(accountDevice, a.ID, version, device); err != nil {
		return nil, err
	}
	if a.HMACKey, err = s.db.Unseal(accountHMACKey, a.ID, version, hmacKey); err != nil {
		return nil, err
	}
	return &a, nil
}
