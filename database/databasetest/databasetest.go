// Package databasetest gives tests fresh databases: a SQLite file in the test's folder, and a Postgres
// database on the server that POSTERN_TEST_POSTGRES names (a DSN or URL whose user may create
// databases) or else on a private server that is started when the machine has Postgres installed.
//
// It is for tests alone and may import database and the Postgres driver.
package databasetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lib/pq"
	"github.com/rs/zerolog"

	"postern/database"
)

// EnvPostgres names the variable with the base DSN.
const EnvPostgres = "POSTERN_TEST_POSTGRES"

// Each runs fn as a subtest on a fresh SQLite database and as another on a fresh Postgres database. The
// second is skipped loudly where there is no Postgres, and fails if CI=true.
func Each(t *testing.T, fn func(t *testing.T, db *database.DB)) {
	t.Helper()
	EachConfig(t, func(t *testing.T, cfg database.Config) { fn(t, Open(t, cfg)) })
}

// EachConfig is Each for tests that open the database themselves, perhaps several times.
func EachConfig(t *testing.T, fn func(t *testing.T, cfg database.Config)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { fn(t, SQLiteConfig(t)) })
	t.Run("Postgres", func(t *testing.T) { fn(t, PostgresConfig(t)) })
}

// Open opens a database and closes it when the test ends.
func Open(t testing.TB, cfg database.Config) *database.DB {
	t.Helper()
	db, err := database.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// SQLiteConfig is a fresh SQLite database.
func SQLiteConfig(t testing.TB) database.Config {
	t.Helper()
	return config("sqlite3-fk-wal", filepath.Join(t.TempDir(), "postern.db"))
}

// PostgresConfig is a fresh Postgres database, removed when the test ends.
func PostgresConfig(t testing.TB) database.Config {
	t.Helper()
	return config("postgres", NewPostgresDatabase(t, baseDSN(t)))
}

func config(dialect, uri string) database.Config {
	cfg := database.Config{Dialect: dialect, URI: uri, Log: zerolog.Nop()}
	for i := range cfg.MasterKey {
		cfg.MasterKey[i] = byte(i + 1)
	}
	return cfg
}

var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// baseDSN is the server that tests share: the one that was named, or a private one that lives as
// long as this process.
func baseDSN(t testing.TB) string {
	t.Helper()
	if dsn := os.Getenv(EnvPostgres); dsn != "" {
		return dsn
	}
	shared.once.Do(func() { shared.server, shared.err = startServer() })
	if shared.err != nil {
		Missing(t, shared.err)
	}
	return shared.server.DSN
}

// Missing skips the test loudly for want of a part of the machine, or fails it if CI=true.
func Missing(t testing.TB, why error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("NOT RUN, and CI=true: no Postgres: %v", why)
	}
	t.Skipf("NOT RUN: no Postgres (set %s, or install it): %v", EnvPostgres, why)
}

// NewPostgresDatabase makes a database on the server and returns its DSN; it is dropped when the
// test ends, or with the private server.
func NewPostgresDatabase(t testing.TB, base string) string {
	t.Helper()
	var random [8]byte
	_, _ = rand.Read(random[:])
	name := "postern_test_" + hex.EncodeToString(random[:])
	admin := func(query string) error {
		db, err := sql.Open("postgres", base)
		if err != nil {
			return err
		}
		defer db.Close()
		_, err = db.Exec(query)
		return err
	}
	if err := admin("CREATE DATABASE " + pq.QuoteIdentifier(name)); err != nil {
		t.Fatalf("create test database: %v", err)
	}
	if shared.server != nil && base == shared.server.DSN {
		return withDatabase(t, base, name) // goes with the server
	}
	t.Cleanup(func() {
		if err := admin("DROP DATABASE IF EXISTS " + pq.QuoteIdentifier(name) + " WITH (FORCE)"); err != nil {
			t.Logf("drop test database: %v", err)
		}
	})
	return withDatabase(t, base, name)
}

func withDatabase(t testing.TB, base, name string) string {
	t.Helper()
	if !strings.HasPrefix(base, "postgres://") && !strings.HasPrefix(base, "postgresql://") {
		return base + " dbname=" + name // a later one counts
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("%s does not parse", EnvPostgres)
	}
	u.Path = "/" + name
	return u.String()
}
