package databasetest

import (
	"database/sql"
	"net/url"
	"strings"
	"testing"

	"github.com/lib/pq"
)

// Schema makes a schema in the Postgres database of a URI, and returns the URI with it as search path.
func Schema(t testing.TB, uri, name string) string {
	t.Helper()
	db, err := sql.Open("postgres", uri)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE SCHEMA " + pq.QuoteIdentifier(name)); err != nil {
		t.Fatalf("create schema: %v", err)
	}
	return WithSearchPath(t, uri, pq.QuoteIdentifier(name))
}

// WithSearchPath is a URI with a search path.
func WithSearchPath(t testing.TB, uri, path string) string {
	t.Helper()
	return WithSetting(t, uri, "search_path", path)
}

// WithSetting is a URI with a setting of the server's.
func WithSetting(t testing.TB, uri, name, value string) string {
	t.Helper()
	if !strings.Contains(uri, "://") {
		return uri + " " + name + "='" + value + "'"
	}
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal("the URI does not parse")
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}
