package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Consent is one time that somebody agreed to what a login means.
type Consent struct {
	// AccountID is the local id of the account that it is for.
	AccountID string
	// At is when, in Unix milliseconds.
	At int64
	// Wording is the hash of the words that were agreed to.
	Wording string
	// Document says in what language, with which choices and to which text. Sealed.
	Document []byte
}

// ConsentStore keeps consents. They go with their account.
type ConsentStore struct{ db *DB }

// Consents is the store of consents.
func (db *DB) Consents() ConsentStore { return ConsentStore{db} }

const consentDocument = "postern_consent.document"

// Add stores that somebody agreed. Earlier consents stay.
func (s ConsentStore) Add(ctx context.Context, c *Consent) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, "INSERT INTO postern_consent (account_id, at, wording, document) VALUES ($1, $2, $3, $4)",
			c.AccountID, c.At, c.Wording, s.db.Seal(consentDocument, c.row(), 1, c.Document))
		if err != nil {
			return fmt.Errorf("database: add consent: %w", err)
		}
		return nil
	})
}

func (c *Consent) row() string { return RowKey(c.AccountID, c.Wording, fmt.Sprint(c.At)) }

// Latest is the consent that is in force for an account, nil if there is none.
func (s ConsentStore) Latest(ctx context.Context, accountID string) (*Consent, error) {
	c := &Consent{AccountID: accountID}
	var sealed []byte
	err := s.db.raw.QueryRow(ctx, "SELECT at, wording, document FROM postern_consent WHERE account_id=$1 ORDER BY at DESC LIMIT 1", accountID).
		Scan(&c.At, &c.Wording, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get consent: %w", err)
	}
	if c.Document, err = s.db.Unseal(consentDocument, c.row(), 1, sealed); err != nil {
		return nil, err
	}
	return c, nil
}

// Documents are those of all consents of an account, the oldest first.
func (s ConsentStore) Documents(ctx context.Context, accountID string) (list [][]byte, err error) {
	rows, err := s.db.raw.Query(ctx, "SELECT at, wording, document FROM postern_consent WHERE account_id=$1 ORDER BY at", accountID)
	if err != nil {
		return nil, fmt.Errorf("database: list consents: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		c := &Consent{AccountID: accountID}
		var sealed []byte
		if err = rows.Scan(&c.At, &c.Wording, &sealed); err == nil {
			c.Document, err = s.db.Unseal(consentDocument, c.row(), 1, sealed)
		}
		if err != nil {
			return nil, fmt.Errorf("database: list consents: %w", err)
		}
		list = append(list, c.Document)
	}
	return list, rows.Err()
}

// Assigned is the identifier that the admin has given a Matrix user.
type Assigned struct {
	MXID string
	// Identifier is normalised (PROTOCOL.md 1.5). Sealed.
	Identifier string
	// At is when, in Unix milliseconds.
	At int64
}

// AssignedStore keeps the identifiers that the admin gives.
type AssignedStore struct{ db *DB }

// AssignedIdentifiers is the store of the identifiers that the admin gives.
func (db *DB) AssignedIdentifiers() AssignedStore { return AssignedStore{db} }

const (
	assignedIdentifier = "postern_assigned.identifier"
	assignedIndex      = "postern_assigned.identifier_index"
)

// Put gives a Matrix user an identifier, in place of an earlier one. One that somebody else has is refused (IsUniqueViolation).
func (s AssignedStore) Put(ctx context.Context, a *Assigned) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_assigned WHERE mxid=$1", a.MXID)
		if err != nil {
			return fmt.Errorf("database: put assigned identifier: %w", err)
		}
		_, err = s.db.raw.Exec(ctx, `
			INSERT INTO postern_assigned (mxid, version, identifier, identifier_index, at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (mxid) DO UPDATE SET version=excluded.version, identifier=excluded.identifier,
				identifier_index=excluded.identifier_index, at=excluded.at`,
			a.MXID, version, s.db.Seal(assignedIdentifier, a.MXID, version, []byte(a.Identifier)),
			s.db.BlindIndex(assignedIndex, a.Identifier), a.At)
		if err != nil {
			return fmt.Errorf("database: put assigned identifier: %w", err)
		}
		return nil
	})
}

// Get is the identifier of a Matrix user, nil for none.
func (s AssignedStore) Get(ctx context.Context, mxid string) (*Assigned, error) {
	a := &Assigned{MXID: mxid}
	var version int
	var sealed []byte
	err := s.db.raw.QueryRow(ctx, "SELECT version, identifier, at FROM postern_assigned WHERE mxid=$1", mxid).Scan(&version, &sealed, &a.At)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get assigned identifier: %w", err)
	}
	plain, err := s.db.Unseal(assignedIdentifier, mxid, version, sealed)
	if err != nil {
		return nil, err
	}
	a.Identifier = string(plain)
	return a, nil
}

// Delete takes a Matrix user's identifier back, if there is one.
func (s AssignedStore) Delete(ctx context.Context, mxid string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_assigned WHERE mxid=$1", mxid); err != nil {
			return fmt.Errorf("database: delete assigned identifier: %w", err)
		}
		return nil
	})
}

// Region is what is known of where a Matrix user is.
type Region struct {
	MXID string
	// Country is what they declared themselves, ISO 3166-1 alpha-2, "" for nothing. Sealed.
	Country string
	// Declared is when they did, Checked when a gate last let them in, Until how long that holds, all in Unix milliseconds,
	// 0 for never or for as long as the gate says so.
	Declared, Checked, Until int64
}

// RegionStore keeps what is known of where people are.
type RegionStore struct{ db *DB }

// Regions is the store of where people are.
func (db *DB) Regions() RegionStore { return RegionStore{db} }

const regionCountry = "postern_region.country"

// Put stores what is known of a Matrix user.
func (s RegionStore) Put(ctx context.Context, r *Region) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_region WHERE mxid=$1", r.MXID)
		if err != nil {
			return fmt.Errorf("database: put region: %w", err)
		}
		_, err = s.db.raw.Exec(ctx, `
			INSERT INTO postern_region (mxid, version, country, declared, checked, until) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (mxid) DO UPDATE SET version=excluded.version, country=excluded.country, declared=excluded.declared,
				checked=excluded.checked, until=excluded.until`,
			r.MXID, version, s.db.Seal(regionCountry, r.MXID, version, []byte(r.Country)), r.Declared, r.Checked, r.Until)
		if err != nil {
			return fmt.Errorf("database: put region: %w", err)
		}
		return nil
	})
}

// Get is what is known of a Matrix user; a row with MXID alone if that is nothing.
func (s RegionStore) Get(ctx context.Context, mxid string) (*Region, error) {
	r := &Region{MXID: mxid}
	var version int
	var sealed []byte
	err := s.db.raw.QueryRow(ctx, "SELECT version, country, declared, checked, until FROM postern_region WHERE mxid=$1", mxid).
		Scan(&version, &sealed, &r.Declared, &r.Checked, &r.Until)
	if errors.Is(err, sql.ErrNoRows) {
		return r, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get region: %w", err)
	}
	plain, err := s.db.Unseal(regionCountry, mxid, version, sealed)
	if err != nil {
		return nil, err
	}
	r.Country = string(plain)
	return r, nil
}

// Delete forgets where a Matrix user is.
func (s RegionStore) Delete(ctx context.Context, mxid string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, "DELETE FROM postern_region WHERE mxid=$1", mxid); err != nil {
			return fmt.Errorf("database: delete region: %w", err)
		}
		return nil
	})
}
