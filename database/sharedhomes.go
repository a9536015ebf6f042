package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Home says to which instance a Matrix user belongs, and why.
type Home struct {
	// Instance is its name, "" for nobody who has an account or was assigned: then the rule decides.
	Instance string
	// Account: the user has an account there. Assigned: the operator has said so.
	Account, Assigned bool
}

// Home is that of one Matrix user.
func (s *Shared) Home(ctx context.Context, mxid string) (h Home, err error) {
	err = s.pool.QueryRowContext(ctx, s.q("SELECT instance, account, assigned FROM %s.postern_home WHERE mxid=$1"), mxid).Scan(&h.Instance, &h.Account, &h.Assigned)
	if errors.Is(err, sql.ErrNoRows) {
		return Home{}, nil
	} else if err != nil {
		return Home{}, fmt.Errorf("database: shared schema: home: %w", err)
	}
	return h, nil
}

// Claim notes that a Matrix user has an account at that instance, unless they belong to another one, and returns the instance that they belong to.
func (s *Shared) Claim(ctx context.Context, mxid, instance string) (home string, err error) {
	err = s.do(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.q(`INSERT INTO %s.postern_home AS h (mxid, instance, account, assigned, since) VALUES ($1, $2, true, false, $3)
			ON CONFLICT (mxid) DO UPDATE SET account=true WHERE h.instance=excluded.instance`), mxid, instance, time.Now().UnixMilli())
		if err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, s.q("SELECT instance FROM %s.postern_home WHERE mxid=$1"), mxid).Scan(&home)
	})
	if err != nil {
		return "", fmt.Errorf("database: shared schema: claim: %w", err)
	}
	return home, nil
}

// Assign makes a Matrix user without an account one of that instance; an empty name leaves them to the rule again. Whoever has an account
// stays where it is, which the returned instance says; it is "" if the order was carried out.
func (s *Shared) Assign(ctx context.Context, mxid, instance string) (account string, err error) {
	err = s.do(ctx, func(tx *sql.Tx) error {
		query, args := `INSERT INTO %s.postern_home AS h (mxid, instance, account, assigned, since) VALUES ($1, $2, false, true, $3)
			ON CONFLICT (mxid) DO UPDATE SET instance=excluded.instance, assigned=true WHERE NOT h.account OR h.instance=excluded.instance`,
			[]any{mxid, instance, time.Now().UnixMilli()}
		if instance == "" {
			query, args = "DELETE FROM %s.postern_home WHERE mxid=$1 AND NOT account", args[:1]
		}
		if _, err := tx.ExecContext(ctx, s.q(query), args...); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, s.q("SELECT instance FROM %s.postern_home WHERE mxid=$1 AND account AND instance<>$2"), mxid, instance).Scan(&account)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("database: shared schema: assign: %w", err)
	}
	return account, nil
}

// ClaimIdentifier makes an identifier (normalised) one of a Matrix user; false if it is somebody else's.
func (s *Shared) ClaimIdentifier(ctx context.Context, gatekeeper, identifier, mxid string) (ours bool, err error) {
	index := s.identifierIndex(gatekeeper, identifier)
	err = s.do(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.q("INSERT INTO %s.postern_identifier (gatekeeper, identifier_index, mxid) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"),
			gatekeeper, index, mxid)
		if err != nil {
			return err
		}
		var owner string
		err = tx.QueryRowContext(ctx, s.q("SELECT mxid FROM %s.postern_identifier WHERE gatekeeper=$1 AND identifier_index=$2"), gatekeeper, index).Scan(&owner)
		ours = owner == mxid
		return err
	})
	if err != nil {
		return false, fmt.Errorf("database: shared schema: claim an identifier: %w", err)
	}
	return ours, nil
}

func (s *Shared) identifierIndex(gatekeeper, identifier string) []byte {
	return (&DB{sealer: s.sealer}).BlindIndex("postern_identifier.identifier_index", RowKey(gatekeeper, identifier))
}

// Release gives up what an instance has claimed for Matrix users who have no account any more: all of them but those in keep.
func (s *Shared) Release(ctx context.Context, instance string, keep map[string]bool) error {
	err := s.do(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, s.q("SELECT mxid FROM %s.postern_home WHERE instance=$1 AND account"), instance)
		if err != nil {
			return err
		}
		var gone []string
		for rows.Next() {
			var mxid string
			if err := rows.Scan(&mxid); err != nil {
				return errors.Join(err, rows.Close())
			}
			if !keep[mxid] {
				gone = append(gone, mxid)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, mxid := range gone {
			if err := s.release(ctx, tx, instance, mxid); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("database: shared schema: release: %w", err)
	}
	return nil
}

// ReleaseUser gives up what an instance has claimed for one Matrix user.
func (s *Shared) ReleaseUser(ctx context.Context, instance, mxid string) error {
	if err := s.do(ctx, func(tx *sql.Tx) error { return s.release(ctx, tx, instance, mxid) }); err != nil {
		return fmt.Errorf("database: shared schema: release: %w", err)
	}
	return nil
}

func (s *Shared) release(ctx context.Context, tx *sql.Tx, instance, mxid string) error {
	res, err := tx.ExecContext(ctx, s.q("UPDATE %s.postern_home SET account=false WHERE mxid=$1 AND instance=$2"), mxid, instance)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err // somebody else's
	}
	if _, err = tx.ExecContext(ctx, s.q("DELETE FROM %s.postern_home WHERE mxid=$1 AND NOT assigned"), mxid); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, s.q("DELETE FROM %s.postern_identifier WHERE mxid=$1"), mxid)
	return err
}

// SharedIssuerKeys keeps the signing keys that all instances have together.
type SharedIssuerKeys struct{ s *Shared }

// IssuerKeys is the store of the keys that tokens are signed with.
func (s *Shared) IssuerKeys() SharedIssuerKeys { return SharedIssuerKeys{s} }

const sharedIssuerColumn = "postern_shared_issuer_keys.sealed"

// Load returns the document and its version, nil and 0 if none was ever saved.
func (k SharedIssuerKeys) Load(ctx context.Context) (document []byte, version int, err error) {
	var sealed []byte
	err = k.s.pool.QueryRowContext(ctx, k.s.q("SELECT version, sealed FROM %s.postern_shared_issuer_keys")).Scan(&version, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, fmt.Errorf("database: load shared issuer keys: %w", err)
	}
	document, err = k.s.sealer.unseal(sharedIssuerColumn, issuerKeysRow, version, sealed)
	return document, version, err
}

// Save replaces the document if its version is still oldVersion.
func (k SharedIssuerKeys) Save(ctx context.Context, document []byte, oldVersion int) (saved bool, err error) {
	sealed := k.s.sealer.seal(sharedIssuerColumn, issuerKeysRow, oldVersion+1, document)
	err = k.s.do(ctx, func(tx *sql.Tx) error {
		query := "UPDATE %s.postern_shared_issuer_keys SET version=$1, sealed=$2 WHERE id=1 AND version=$3"
		args := []any{oldVersion + 1, sealed, oldVersion}
		if oldVersion == 0 {
			query, args = "INSERT INTO %s.postern_shared_issuer_keys (id, version, sealed) VALUES (1, $1, $2) ON CONFLICT (id) DO NOTHING", args[:2]
		}
		res, err := tx.ExecContext(ctx, k.s.q(query), args...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		saved = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("database: save shared issuer keys: %w", err)
	}
	return saved, nil
}

// Homes are those of all Matrix users who have an account or were assigned.
func (s *Shared) Homes(ctx context.Context) (map[string]Home, error) {
	rows, err := s.pool.QueryContext(ctx, s.q("SELECT mxid, instance, account, assigned FROM %s.postern_home"))
	if err != nil {
		return nil, fmt.Errorf("database: shared schema: list homes: %w", err)
	}
	defer rows.Close()
	homes := map[string]Home{}
	for rows.Next() {
		var mxid string
		var home Home
		if err := rows.Scan(&mxid, &home.Instance, &home.Account, &home.Assigned); err != nil {
			return nil, fmt.Errorf("database: shared schema: list homes: %w", err)
		}
		homes[mxid] = home
	}
	return homes, rows.Err()
}

// Gone notes that an account is no more, for the instances that it was moved away from: they have files of it.
func (s *Shared) Gone(ctx context.Context, account string) error {
	err := s.do(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.q("UPDATE %s.postern_moved SET gone=true WHERE account=$1"), account)
		return err
	})
	if err != nil {
		return fmt.Errorf("database: shared schema: note that an account is gone: %w", err)
	}
	return nil
}

// GoneFrom are the accounts that were moved away from an instance and are no more.
func (s *Shared) GoneFrom(ctx context.Context, instance string) (accounts []string, err error) {
	rows, err := s.pool.QueryContext(ctx, s.q("SELECT account FROM %s.postern_moved WHERE origin=$1 AND gone ORDER BY account"), instance)
	if err != nil {
		return nil, fmt.Errorf("database: shared schema: list accounts that are gone: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var account string
		if err := rows.Scan(&account); err != nil {
			return nil, fmt.Errorf("database: shared schema: list accounts that are gone: %w", err)
		}
		accounts = append(accounts, account)
	}
	return accounts, rows.Err()
}

// ForgetGone forgets one of them, whose files the instance has deleted.
func (s *Shared) ForgetGone(ctx context.Context, account, instance string) error {
	err := s.do(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.q("DELETE FROM %s.postern_moved WHERE account=$1 AND origin=$2"), account, instance)
		return err
	})
	if err != nil {
		return fmt.Errorf("database: shared schema: forget an account that is gone: %w", err)
	}
	return nil
}
