package connector

import (
	"errors"
	"testing"

	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
	"postern/database"
	"postern/database/databasetest"
)

func TestTheDatabaseConformsAsASignalStore(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		e2eetest.Conformance(t, func() e2ee.Store {
			a := &database.Account{ID: database.NewLocalID(), Gatekeeper: "whatsapp"}
			a.Identifier = a.ID
			if err := db.Accounts().Put(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			return newSignalStore(db, a.ID)
		})
	})
}

// TestADamagedSignalRowIsLostAloneAndInTheRatchetsWords: it must not look like a database that fails, which is everybody's trouble.
func TestADamagedSignalRowIsLostAloneAndInTheRatchetsWords(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		a := &database.Account{ID: database.NewLocalID(), Gatekeeper: "whatsapp"}
		a.Identifier = a.ID
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ok(db.Accounts().Put(ctx, a))
		s := newSignalStore(db, a.ID)
		ok(s.PutPreKeys(ctx, []database.PreKey{{ID: 1, Record: []byte("one")}, {ID: 2, Record: []byte("two")}}))
		ok(s.PutSignedPreKey(ctx, database.PreKey{ID: 3, Record: []byte("three"), CreatedAt: 1}))
		for _, addr := range []string{"x", "y"} {
			ok(s.Commit(ctx, &e2ee.Change{Addr: addr, Session: []byte("session"), Identity: make([]byte, 32)}, nil))
		}
		for table, where := range map[string]string{"session SET session": "address='x'", "identity SET identity": "address='x'",
			"prekey SET record": "key_id=1", "signed_prekey SET record": "key_id=3"} {
			_, err := db.Raw().Exec(ctx, "UPDATE postern_signal_"+table+"=$1 WHERE account_id=$2 AND "+where, []byte("damaged"), a.ID)
			ok(err)
		}
		load := func(what string, want error, row []byte, err error) {
			t.Helper()
			if !errors.Is(err, want) || (row == nil) != (want != nil) {
				t.Errorf("%s: %q, %v, want error %v", what, row, err, want)
			}
		}
		row, err := s.LoadSession(ctx, "x")
		load("session", e2ee.ErrCorruptSession, row, err)
		row, err = s.LoadIdentity(ctx, "x")
		load("identity", e2ee.ErrKeyStored, row, err)
		row, err = s.LoadPreKey(ctx, 1)
		load("prekey", e2ee.ErrKeyStored, row, err)
		row, err = s.LoadSignedPreKey(ctx, 3)
		load("signed prekey", e2ee.ErrKeyStored, row, err)
		row, err = s.LoadSession(ctx, "y")
		load("another's session", nil, row, err)
		row, err = s.LoadPreKey(ctx, 2)
		load("another prekey", nil, row, err)
		list, err := s.PreKeysToUpload(ctx, 10)
		if err != nil || len(list) != 2 || list[0].Record != nil || string(list[1].Record) != "two" {
			t.Errorf("listed: %v, %v", list, err)
		}
	})
}
