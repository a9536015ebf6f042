package database_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"sync"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func account(id string) *database.Account {
	return &database.Account{
		ID: id, Gatekeeper: "whatsapp", MXID: "@user:test", Identifier: id + "@mail.test", Login: "1-" + id + "@interop",
		Integrator: 1, NoiseKey: bytes.Repeat([]byte{1}, 32), Device: []byte("device"), HMACKey: []byte("hmac"),
		ConsentVersion: 3, ConsentAt: 1700000000123, CreatedAt: 1700000000456, EnlistedAt: 1700000000789,
	}
}

func putAccount(t testing.TB, db *database.DB, id string) *database.Account {
	t.Helper()
	a := account(id)
	if err := db.Accounts().Put(context.Background(), a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAccountsComeBackAsTheyWerePut(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.Accounts()
		a, b := putAccount(t, db, "a"), putAccount(t, db, "b")
		check := func(what string, got *database.Account, err error, want *database.Account) {
			t.Helper()
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v (%v), want %+v", what, got, err, want)
			}
		}
		got, err := store.Get(ctx, "a")
		check("by id", got, err, a)
		got, err = store.ByIdentifier(ctx, "whatsapp", "b@mail.test")
		check("by identifier", got, err, b)
		got, err = store.ByIdentifier(ctx, "messenger", "b@mail.test")
		check("by identifier elsewhere", got, err, nil)
		got, err = store.ByLogin(ctx, "whatsapp", "1-b@interop")
		check("by login", got, err, b)
		got, err = store.ByLogin(ctx, "whatsapp", "")
		check("by no login", got, err, nil)
		a.Login, a.Identifier, a.Device = "1-77@interop", "new@mail.test", []byte("another device")
		if err = store.Put(ctx, a); err != nil {
			t.Fatal(err)
		}
		got, err = store.ByIdentifier(ctx, "whatsapp", "new@mail.test")
		check("after a change", got, err, a)
		list, err := store.ByMXID(ctx, "@user:test")
		if err != nil || len(list) != 2 || !reflect.DeepEqual(list[0], a) || !reflect.DeepEqual(list[1], b) {
			t.Errorf("the user's accounts: %+v, %v", list, err)
		}
		if err = store.Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		got, err = store.Get(ctx, "a")
		check("after deletion", got, err, nil)
		if err = store.Delete(ctx, "a"); !errors.Is(err, database.ErrNotFound) {
			t.Errorf("deleting again: %v", err)
		}
	})
}

func TestTwoAccountsCannotShareAnIdentifierOrALogin(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		a := putAccount(t, db, "a")
		same := account("b")
		same.Identifier = a.Identifier
		if err := db.Accounts().Put(t.Context(), same); !database.IsUniqueViolation(err) {
			t.Errorf("the same identifier: %v", err)
		}
		same = account("b")
		same.Login = a.Login
		if err := db.Accounts().Put(t.Context(), same); !database.IsUniqueViolation(err) {
			t.Errorf("the same login: %v", err)
		}
		for _, id := range []string{"c", "d"} { // many may be without a login
			fresh := account(id)
			fresh.Login = ""
			if err := db.Accounts().Put(t.Context(), fresh); err != nil {
				t.Errorf("without a login: %v", err)
			}
		}
	})
}

func TestSecretsAndIdentifiersAreNotInTheFileInTheClear(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		a := account("a")
		a.NoiseKey, a.Device, a.HMACKey, a.Identifier = []byte("SECRET-noise"), []byte("SECRET-device"), []byte("SECRET-hmac"), "SECRET@mail.test"
		c, err := db.Contacts().Ensure(ctx, "whatsapp", "1@lid")
		if err != nil {
			t.Fatal(err)
		}
		c.Phone = "+SECRET"
		s := db.Signal("a")
		_, issuerErr := db.IssuerKeys().Save(ctx, []byte("SECRET-issuer"), 0)
		err = errors.Join(db.Accounts().Put(ctx, a), db.Contacts().Update(ctx, c), issuerErr,
			s.Apply(ctx, database.SignalChange{Addr: "x", Session: []byte("SECRET-session"), Identity: []byte("SECRET-identity")}, nil),
			s.PutPreKeys(ctx, []database.PreKey{{ID: 1, Record: []byte("SECRET-prekey")}}),
			s.PutSignedPreKey(ctx, database.PreKey{ID: 1, Record: []byte("SECRET-signed")}))
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"account", "contact", "issuer_keys", "signal_session", "signal_identity", "signal_prekey", "signal_signed_prekey", "key_check"} {
			rows, err := db.Raw().Query(ctx, "SELECT * FROM postern_"+table)
			if err != nil {
				t.Fatal(err)
			}
			columns, err := rows.Columns()
			if err != nil {
				t.Fatal(err)
			}
			count := 0
			for rows.Next() {
				count++
				values, places := make([]any, len(columns)), make([]any, len(columns))
				for i := range values {
					places[i] = &values[i]
				}
				if err = rows.Scan(places...); err != nil {
					t.Fatal(err)
				}
				if regexp.MustCompile("SECRET").MatchString(fmt.Sprintf("%s", values)) {
					t.Errorf("a secret stands in table %s in the clear", table)
				}
			}
			if err = errors.Join(rows.Err(), rows.Close()); err != nil || count == 0 {
				t.Errorf("table %s: %d rows, %v", table, count, err)
			}
		}
	})
}

func TestADamagedAccountKeepsNoOtherOut(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		putAccount(t, db, "a")
		b := putAccount(t, db, "b")
		// Swapped with the other row's: sealed by the same key, in the wrong place.
		_, err := db.Raw().Exec(t.Context(), "UPDATE postern_account SET device=(SELECT device FROM postern_account WHERE id='b') WHERE id='a'")
		if err != nil {
			t.Fatal(err)
		}
		list, err := db.Accounts().All(t.Context())
		if !errors.Is(err, database.ErrSealBroken) || len(list) != 1 || !reflect.DeepEqual(list[0], b) {
			t.Errorf("all accounts: %+v, %v", list, err)
		}
		if _, err = db.Accounts().Get(t.Context(), "a"); !errors.Is(err, database.ErrSealBroken) {
			t.Errorf("the damaged one: %v", err)
		}
	})
}

func TestContactsHaveOneOpaqueIdForEver(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.Contacts()
		var wg sync.WaitGroup
		ids := make([]string, 16)
		for i := range ids {
			wg.Go(func() {
				c, err := store.Ensure(ctx, "whatsapp", "4915112345678@s.whatsapp.net")
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = c.ID
			})
		}
		wg.Wait()
		if len(slices.Compact(ids)) != 1 || !regexp.MustCompile(`^[a-z2-7]{16}$`).MatchString(ids[0]) {
			t.Fatalf("ids %v", ids)
		}
		other, err := store.Ensure(ctx, "messenger", "4915112345678@s.whatsapp.net")
		if err != nil || other.ID == ids[0] {
			t.Errorf("at another gatekeeper: %+v, %v", other, err)
		}
		c := &database.Contact{ID: ids[0], JID: "123@lid", Phone: "+4915112345678", Name: "Nul\x00 and \xff bad"}
		if err = store.Update(ctx, c); err != nil {
			t.Fatal(err)
		}
		got, err := store.ByJID(ctx, "whatsapp", "123@lid")
		if err != nil || got == nil || got.ID != ids[0] || got.Phone != c.Phone || got.Name != "Nul and  bad" || got.CreatedAt == 0 {
			t.Errorf("after the address had changed: %+v, %v", got, err)
		}
		c.Phone = ""
		if err = store.Update(ctx, c); err != nil {
			t.Fatal(err)
		}
		if got, err = store.Get(ctx, ids[0]); err != nil || got.Phone != "" {
			t.Errorf("without a number: %+v, %v", got, err)
		}
		if err = store.Update(ctx, &database.Contact{ID: "none"}); !errors.Is(err, database.ErrNotFound) {
			t.Errorf("updating nobody: %v", err)
		}
	})
}

func TestChatsBelongToAnAccountAndAContact(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.Chats()
		putAccount(t, db, "a")
		putAccount(t, db, "b")
		person, err := db.Contacts().Ensure(ctx, "whatsapp", "1@lid")
		if err != nil {
			t.Fatal(err)
		}
		first, err := store.Ensure(ctx, "a", person.ID)
		if err != nil {
			t.Fatal(err)
		}
		again, err := store.Ensure(ctx, "a", person.ID)
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Errorf("the same chat: %+v and %+v, %v", first, again, err)
		}
		other, err := store.Ensure(ctx, "b", person.ID)
		if err != nil || other.ID == first.ID {
			t.Errorf("another account's: %+v, %v", other, err)
		}
		if got, err := store.Get(ctx, first.ID); err != nil || !reflect.DeepEqual(got, first) {
			t.Errorf("by id: %+v, %v", got, err)
		}
		if list, err := store.ByAccount(ctx, "a"); err != nil || len(list) != 1 || list[0].ID != first.ID {
			t.Errorf("of the account: %+v, %v", list, err)
		}
		if _, err = store.Ensure(ctx, "nobody", person.ID); err == nil {
			t.Error("a chat of no account was stored")
		}
		if err = db.Accounts().Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Get(ctx, first.ID); err != nil || got != nil {
			t.Errorf("after its account has gone: %+v, %v", got, err)
		}
	})
}

func TestIssuerKeysAreReplacedOnlyByWhoHasReadThem(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.IssuerKeys()
		if doc, version, err := store.Load(ctx); err != nil || doc != nil || version != 0 {
			t.Errorf("at first: %q %d %v", doc, version, err)
		}
		step := func(doc string, old int, want bool) {
			t.Helper()
			if saved, err := store.Save(ctx, []byte(doc), old); err != nil || saved != want {
				t.Errorf("saving %q over %d: %v, %v", doc, old, saved, err)
			}
		}
		step("too early", 1, false)
		step("one", 0, true)
		step("also first", 0, false)
		step("two", 1, true)
		step("stale", 1, false)
		if doc, version, err := store.Load(ctx); err != nil || string(doc) != "two" || version != 2 {
			t.Errorf("in the end: %q %d %v", doc, version, err)
		}
	})
}

func TestANewerSchemaIsRefused(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		db := databasetest.Open(t, cfg)
		if _, err := db.Raw().Exec(t.Context(), "UPDATE postern_version SET version=99, compat=99"); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := database.Open(t.Context(), cfg); err == nil {
			t.Error("a database of a newer program was opened")
		}
	})
}
