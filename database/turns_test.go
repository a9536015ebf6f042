package database_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"
	"time"

	"postern/database"
	"postern/database/databasetest"
)

// frameworkPool opens the database's file as the framework does.
func frameworkPool(t *testing.T, cfg database.Config) *sql.DB {
	t.Helper()
	pool, err := sql.Open(database.FrameworkPool("sqlite3-fk-wal", "file:"+cfg.URI))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

// TestWhoAlwaysWritesLeavesTurnsToOthers: the writer has further functions when its transaction ends, so that SQLite's file is hardly ever free when
// somebody looks for it now and then. A statement of another connection that waited comes before them all the same.
func TestWhoAlwaysWritesLeavesTurnsToOthers(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	db := databasetest.Open(t, cfg)
	pool := frameworkPool(t, cfg)
	if _, err := pool.Exec("CREATE TABLE theirs (n INTEGER)"); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		full, theirs := make(chan struct{}), make(chan error, 1)
		var ours sync.WaitGroup
		ours.Go(func() {
			err := db.Do(t.Context(), func(ctx context.Context) error {
				go func() {
					_, err := pool.ExecContext(t.Context(), "INSERT INTO theirs (n) VALUES ($1)", n)
					theirs <- err
				}()
				database.WaitForCrowd(db)
				close(full)
				<-time.After(2 * database.MaxHold) // nothing more is taken into this transaction
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-full
		for range 3 {
			ours.Go(func() {
				err := db.Do(t.Context(), func(ctx context.Context) error {
					var count int
					if err := db.Raw().QueryRow(ctx, "SELECT COUNT(*) FROM theirs").Scan(&count); err != nil {
						return err
					}
					if count != n+1 {
						t.Errorf("%d rows of another connection when the next transaction begins, want %d", count, n+1)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		ours.Wait()
		if err := <-theirs; err != nil {
			t.Error(err)
		}
	}
}

// TestATurnEndsHoweverItsTransactionDoes: by a commit, a rollback, a cancellation, a closed connection, or an error; and waiting for one ends
// with the context.
func TestATurnEndsHoweverItsTransactionDoes(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	db := databasetest.Open(t, cfg)
	pool := frameworkPool(t, cfg)
	if _, err := pool.Exec("CREATE TABLE theirs (n INTEGER PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	begin := func(ctx context.Context) *sql.Tx {
		tx, err := pool.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	ends := map[string]func(){
		"commit":       func() { _ = begin(t.Context()).Commit() },
		"rollback":     func() { _ = begin(t.Context()).Rollback() },
		"cancellation": func() { ctx, cancel := context.WithCancel(t.Context()); tx := begin(ctx); cancel(); _ = tx.Rollback() },
		"a closed connection": func() {
			_, dsn := database.FrameworkPool("sqlite3-fk-wal", "file:"+cfg.URI)
			conn, err := pool.Driver().Open(dsn)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = conn.(driver.ConnBeginTx).BeginTx(t.Context(), driver.TxOptions{}); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		},
		"an error": func() {
			for range 2 {
				_, _ = pool.Exec("INSERT INTO theirs (n) VALUES (1)")
				_ = pool.QueryRow("INSERT INTO theirs (n) VALUES (1) RETURNING n").Scan(new(int))
			}
		},
	}
	for name, end := range ends {
		end()
		held := begin(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { _, err := pool.ExecContext(ctx, "DELETE FROM theirs"); result <- err }()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("after %s: waiting ended with %v", name, err)
		}
		if err := held.Rollback(); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		if err := db.Do(t.Context(), func(ctx context.Context) error { _, err := db.Raw().Exec(ctx, "DELETE FROM theirs"); return err }); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

// TestStatementsThatWriteAreKnownByTheirFirstWord, whatever stands behind it.
func TestStatementsThatWriteAreKnownByTheirFirstWord(t *testing.T) {
	for query, want := range map[string]bool{
		"INSERT INTO a VALUES (1)": true, "\n\t\tupdate a\nSET b=1": true, "DELETE\nFROM a": true, "REPLACE\tINTO a VALUES (1)": true, "VACUUM": true,
		"SELECT 1": false, "\n\tSELECT * FROM a": false, "PRAGMA synchronous": false, "SAVEPOINT a": false, "": false,
	} {
		if got := database.Writes(query); got != want {
			t.Errorf("%q: %v", query, got)
		}
	}
}
