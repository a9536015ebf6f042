package main

import (
	"testing"

	"postern/database"
)

func TestTheFrameworksPoolIsOpenedWithOurDriverAndItsOwnSettings(t *testing.T) {
	const own = "_busy_timeout=5000&_foreign_keys=on&_journal_mode=WAL"
	for _, c := range []struct{ kind, uri, wantKind, want string }{
		{"sqlite3-fk-wal", "file:a.db?_txlock=immediate", database.SQLiteDriver, "file:a.db?" + own + "&_stmt_cache_size=64&_synchronous=NORMAL&_txlock=immediate"},
		{"sqlite3-fk-wal", "a.db", database.SQLiteDriver, "a.db?" + own + "&_stmt_cache_size=64&_synchronous=NORMAL"},
		{"sqlite3-fk-wal-fullsync", "a.db?_stmt_cache_size=0", database.SQLiteDriver, "a.db?" + own + "&_stmt_cache_size=0&_synchronous=FULL"},
		{"litestream", "a.db", "litestream", "a.db?_stmt_cache_size=64"},
		{"postgres", "postgres://u@h/d", "postgres", "postgres://u@h/d"},
		{"pgx", "host=h dbname=d", "pgx", "host=h dbname=d"},
	} {
		if kind, uri := database.FrameworkPool(c.kind, c.uri); kind != c.wantKind || uri != c.want {
			t.Errorf("%s %s becomes %s %s", c.kind, c.uri, kind, uri)
		}
	}
}
