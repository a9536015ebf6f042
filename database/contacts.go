package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// Contact is a person on the gatekeeper's side, the same for all accounts there. Its ID is what
// rooms, ghosts and log lines know; the address stands only here.
type Contact struct {
	// ID is the opaque local id.
	ID string
	// Gatekeeper is the profile's name.
	Gatekeeper string
	// JID is the person's address in text form.
	JID string
	// Phone is the number in E.164 with its plus sign, "" if not known. Sealed.
	Phone string
	// Name is the display name as last seen, "" if none was. Others choose it: what Postgres cannot
	// store in a text (NUL, invalid UTF-8) is left out on both databases.
	Name string
	// CreatedAt is in Unix milliseconds.
	CreatedAt int64
}

// ContactStore keeps contacts.
type ContactStore struct{ db *DB }

// Contacts is the store of contacts.
func (db *DB) Contacts() ContactStore { return ContactStore{db} }

const (
	contactColumns = "id, version, gatekeeper, jid, phone, name, created_at"
	contactPhone   = "postern_contact.phone"
)

// Ensure returns the contact with that address (text form), minting it with a new local id
// if there is none. The id of an address never changes.
func (s ContactStore) Ensure(ctx context.Context, gatekeeper, jid string) (*Contact, error) {
	if c, err := s.ByJID(ctx, gatekeeper, jid); c != nil || err != nil {
		return c, err
	}
	var c *Contact
	err := s.db.Do(ctx, func(ctx context.Context) error {
		_, err := s.db.raw.Exec(ctx, `
			INSERT INTO postern_contact (id, version, gatekeeper, jid, phone, name, created_at)
			VALUES ($1, 1, $2, $3, NULL, '', $4) ON CONFLICT (gatekeeper, jid) DO NOTHING`,
			NewLocalID(), gatekeeper, jid, time.Now().UnixMilli())
		if err != nil {
			return fmt.Errorf("database: ensure contact: %w", err)
		}
		c, err = s.ByJID(ctx, gatekeeper, jid)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Update stores JID, Phone and Name of the contact with that ID. ErrNotFound if there is none.
func (s ContactStore) Update(ctx context.Context, c *Contact) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		version, err := nextVersion(ctx, s.db.raw, "SELECT version FROM postern_contact WHERE id=$1", c.ID)
		if err != nil {
			return fmt.Errorf("database: update contact: %w", err)
		}
		var phone []byte
		if c.Phone != "" {
			phone = s.db.Seal(contactPhone, c.ID, version, []byte(c.Phone))
		}
		return execOne(ctx, s.db.raw, "update contact",
			"UPDATE postern_contact SET version=$2, jid=$3, phone=$4, name=$5 WHERE id=$1",
			c.ID, version, c.JID, phone, storableText(c.Name))
	})
}

// Get returns the contact with that local id, nil if there is none.
func (s ContactStore) Get(ctx context.Context, id string) (*Contact, error) {
	return s.one(ctx, "id=$1", id)
}

// ByJID returns the contact with that address (text form), nil if there is none.
func (s ContactStore) ByJID(ctx context.Context, gatekeeper, jid string) (*Contact, error) {
	return s.one(ctx, "gatekeeper=$1 AND jid=$2", gatekeeper, jid)
}

func (s ContactStore) one(ctx context.Context, where string, args ...any) (*Contact, error) {
	c, err := s.scan(s.db.raw.QueryRow(ctx, "SELECT "+contactColumns+" FROM postern_contact WHERE "+where, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("database: get contact: %w", err)
	}
	return c, nil
}

func (s ContactStore) scan(row dbutil.Scannable) (*Contact, error) {
	var c Contact
	var version int
	var phone []byte
	if err := row.Scan(&c.ID, &version, &c.Gatekeeper, &c.JID, &phone, &c.Name, &c.CreatedAt); err != nil {
		return nil, err
	}
	if phone != nil {
		plain, err := s.db.Unseal(contactPhone, c.ID, version, phone)
		if err != nil {
			return nil, err
		}
		c.Phone = string(plain)
	}
	return &c, nil
}
