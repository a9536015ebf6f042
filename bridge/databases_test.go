package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"postern/database"
	"postern/database/databasetest"
	"postern/database/transfer"
)

// TestDatabasesOfEarlierVersionsOpenAndKeepTheirRows: testdata/databases has a backup of each version that was published, of each kind of database, made by the whole program under
// traffic (docs/RELEASING.md). Each is put back, brought to this version's tables, ours and the framework's, and read: every row is there, and what was sealed opens.
func TestDatabasesOfEarlierVersionsOpenAndKeepTheirRows(t *testing.T) {
	paths, err := filepath.Glob("testdata/databases/*.zip")
	if err != nil || len(paths) < 2 {
		t.Fatalf("there are %d databases (%v)", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			var key [database.KeySize]byte
			a, err := transfer.OpenArchive(path, func(inArchive []byte) ([database.KeySize]byte, error) {
				var err error
				key, err = database.ParseKeyFile(inArchive)
				return key, err
			})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			cfg := databasetest.SQLiteConfig(t)
			if a.Dialect == "postgres" {
				cfg = databasetest.PostgresConfig(t)
			}
			cfg.MasterKey = key
			if _, err := transfer.Restore(t.Context(), transfer.Config{Database: cfg, Schemas: frameworkSchemas, Log: zerolog.Nop()}, a, nil); err != nil {
				t.Fatal(err)
			}
			db := databasetest.Open(t, cfg)
			for _, s := range frameworkSchemas {
				if _, used := a.Versions[s.Version]; !used {
					continue
				}
				if err := db.Raw().Child(s.Version, s.Upgrades, nil).Upgrade(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			checkRows(t, a, databasetest.Contents(t, db.Raw()))
			checkSealed(t, db)
		})
	}
}

// checkRows compares how many rows there are. Room keys of an old copy go, and what they were sent in, and each start counts in the rest.
func checkRows(t *testing.T, a *transfer.Archive, now map[string][]string) {
	t.Helper()
	for _, table := range a.Tables {
		if got := int64(len(now[table.Name])); got != table.Rows && table.Name != "crypto_megolm_outbound_session" && table.Name != "crypto_olm_session" &&
			(table.Name != "kv_store" || got != table.Rows+1) {
			t.Errorf("%s has %d rows, and had %d", table.Name, got, table.Rows)
		}
	}
	for _, table := range []string{"postern_account", "postern_signal_session", "postern_in", "postern_out", "postern_media", "message", "portal"} {
		if len(now[table]) == 0 {
			t.Errorf("%s is empty: it proves nothing", table)
		}
	}
}

// checkSealed reads what is sealed.
func checkSealed(t *testing.T, db *database.DB) {
	t.Helper()
	ctx := t.Context()
	accounts, err := db.Accounts().All(ctx)
	if err != nil || len(accounts) == 0 {
		t.Fatalf("%d accounts (%v)", len(accounts), err)
	}
	opened := map[string]int{}
	for _, account := range accounts {
		if account.Identifier == "" || len(account.NoiseKey) == 0 {
			t.Error("an account has lost its keys")
		}
		store := db.Signal(account.ID)
		for table, load := range map[string]func(addr string) ([]byte, error){
			"postern_signal_session":  func(addr string) ([]byte, error) { raw, _, err := store.LoadSession(ctx, addr); return raw, err },
			"postern_signal_identity": func(addr string) ([]byte, error) { return store.LoadIdentity(ctx, addr) },
		} {
			for _, addr := range addresses(t, db, table, account.ID) {
				if raw, err := load(addr); err != nil || len(raw) == 0 {
					t.Errorf("a row of %s does not open: %v", table, err)
				}
				opened[table]++
			}
		}
		if keys, err := store.SignedPreKeys(ctx); err != nil || len(keys) == 0 {
			t.Errorf("%d signed prekeys (%v)", len(keys), err)
		}
		err := db.Exports().Tables(ctx, account.MXID, func(table string, row map[string]any) error {
			for _, column := range []string{"identifier", "document", "phone", "plaintext"} {
				if value, ok := row[column].([]byte); ok && len(value) > 0 {
					opened[table+"."+column]++
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for _, what := range []string{
		"postern_signal_session", "postern_signal_identity", "postern_account.identifier", "postern_consent.document", "postern_contact.phone", "postern_out.plaintext",
	} {
		if opened[what] == 0 {
			t.Errorf("nothing of %s opens", what)
		}
	}
}

func addresses(t *testing.T, db *database.DB, table, account string) (list []string) {
	t.Helper()
	rows, err := db.Raw().Query(t.Context(), "SELECT address FROM "+table+" WHERE account_id=$1", account)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var addr string
		if err := rows.Scan(&addr); err != nil {
			t.Fatal(err)
		}
		list = append(list, addr)
	}
	return list
}

// TestTheFrameworksVersionsAreThoseThatAreCopied: the names of the tables that hold versions are the framework's own.
func TestTheFrameworksVersionsAreThoseThatAreCopied(t *testing.T) {
	var names []string
	for _, s := range frameworkSchemas {
		names = append(names, s.Version)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "crypto_version mx_version version" {
		t.Errorf("versions are in %s", got)
	}
}
