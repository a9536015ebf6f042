package databasetest

import (
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lib/pq"

	"postern/database"
)

// Copy makes a copy of a database that nobody has open, as a backup does, and returns the configuration to open the copy with. It is removed when
// the test ends.
func Copy(t testing.TB, cfg database.Config) database.Config {
	t.Helper()
	if strings.HasPrefix(cfg.Dialect, "sqlite") {
		path := filepath.Join(t.TempDir(), "copy.db")
		CopySQLite(t, cfg.URI, path)
		cfg.URI = path
		return cfg
	}
	var random [8]byte
	_, _ = rand.Read(random[:])
	name := "postern_copy_" + hex.EncodeToString(random[:])
	CopyPostgres(t, cfg.URI, name)
	t.Cleanup(func() {
		if _, err := admin(cfg.URI, "DROP DATABASE IF EXISTS "+pq.QuoteIdentifier(name)+" WITH (FORCE)"); err != nil {
			t.Logf("drop the copy: %v", err)
		}
	})
	cfg.URI = withDatabase(t, cfg.URI, name)
	return cfg
}

// CopySQLite copies the files of a SQLite database that nobody has open, over those of the other one.
func CopySQLite(t testing.TB, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		raw, err := os.ReadFile(from + suffix)
		if err == nil {
			err = os.WriteFile(to+suffix, raw, 0o600)
		} else if os.IsNotExist(err) && suffix != "" {
			err = os.Remove(to + suffix)
			if os.IsNotExist(err) {
				err = nil
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(to + "-shm"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// CopyPostgres makes a database of that name on the server of uri as a copy of the one that uri names, which nobody may be
// connected to. A database that has the name is replaced.
func CopyPostgres(t testing.TB, uri, name string) {
	t.Helper()
	from, err := databaseOf(uri)
	if err == nil {
		_, err = admin(uri, "DROP DATABASE IF EXISTS "+pq.QuoteIdentifier(name)+" WITH (FORCE)")
	}
	if err == nil {
		_, err = admin(uri, "CREATE DATABASE "+pq.QuoteIdentifier(name)+" TEMPLATE "+pq.QuoteIdentifier(from))
	}
	if err != nil {
		t.Fatalf("copy a database: %v", err)
	}
}

// WithDatabase is uri with another database of the same server.
func WithDatabase(t testing.TB, uri, name string) string { return withDatabase(t, uri, name) }

// NameOf is the name of the database that uri names.
func NameOf(t testing.TB, uri string) string {
	t.Helper()
	name, err := databaseOf(uri)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// admin runs a statement from a database that is always there.
func admin(uri, query string) (sql.Result, error) {
	cfg, err := pq.NewConfig(uri)
	if err != nil {
		return nil, err
	}
	cfg.Database = "postgres"
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	return db.Exec(query)
}

func databaseOf(uri string) (string, error) {
	cfg, err := pq.NewConfig(uri)
	return cfg.Database, err
}
