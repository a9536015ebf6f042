package main

import (
	"testing"

	"go.mau.fi/util/dbutil"
)

func TestOnlySQLiteIsToldToKeepStatements(t *testing.T) {
	for _, c := range []struct{ kind, uri, want string }{
		{"sqlite3-fk-wal", "file:a.db?_txlock=immediate", "file:a.db?_txlock=immediate&_stmt_cache_size=64"},
		{"sqlite3-fk-wal", "a.db", "a.db?_stmt_cache_size=64"},
		{"sqlite3-fk-wal", "a.db?_stmt_cache_size=0", "a.db?_stmt_cache_size=0"},
		{"postgres", "postgres://u@h/d", "postgres://u@h/d"},
		{"pgx", "host=h dbname=d", "host=h dbname=d"},
	} {
		var cfg dbutil.Config
		cfg.Type, cfg.URI = c.kind, c.uri
		if got := withStatementCache(cfg); got.URI != c.want || got.Type != c.kind {
			t.Errorf("%s %s becomes %s %s", c.kind, c.uri, got.Type, got.URI)
		}
	}
}
