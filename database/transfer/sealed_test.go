package transfer_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"postern/database"
	"postern/database/databasetest"
	"postern/database/transfer"
)

// TestNothingOfTheTablesIsInAnArchiveInTheClear: the framework's tables are not sealed in the database.
func TestNothingOfTheTablesIsInAnArchiveInTheClear(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		made(t, cfg)
		const secret = "syt_a-token-of-somebody"
		alter(t, cfg, `UPDATE "user" SET access_token='`+secret+`'`)
		alter(t, cfg, `UPDATE kv_store SET value='`+secret+`'`)
		path, a := backUp(t, cfg, transfer.BackupOptions{})
		rewrite(t, path, func(name string, content []byte) []byte {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("it is in %s", name)
			}
			return content
		})
		to := databasetest.SQLiteConfig(t)
		if _, err := transfer.Restore(t.Context(), config(to), a, nil); err != nil {
			t.Fatal(err)
		}
		if got := contents(t, to)["user"]; len(got) == 0 || !bytes.Contains([]byte(got[0]), []byte(secret)) {
			t.Error("it is not put back")
		}
	})
}

// TestABackupDuringAnUpgradeMissesNoRow: PostgreSQL shows a table that was written anew as an empty one to whoever began before that was committed.
func TestABackupDuringAnUpgradeMissesNoRow(t *testing.T) {
	cfg := made(t, databasetest.PostgresConfig(t))
	upgrading, err := database.Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer upgrading.Close()
	pool := upgrading.Raw().RawDB
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "ALTER TABLE postern_person ALTER COLUMN language TYPE TEXT USING language || ''"); err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		manifest *transfer.Manifest
		err      error
	}
	ended := make(chan outcome, 1)
	go func() {
		_, m, err := transfer.Backup(t.Context(), config(cfg), t.TempDir(), transfer.BackupOptions{})
		ended <- outcome{m, err}
	}()
	awaitHeldUp(t, pool)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	got := <-ended
	if got.err != nil {
		t.Fatal(got.err)
	}
	for _, table := range got.manifest.Tables {
		if table.Rows == 0 && table.Name != "postern_signal_head" {
			t.Errorf("%s is empty", table.Name)
		}
	}
}

// awaitHeldUp waits until another connection waits for a lock, or has given up waiting.
func awaitHeldUp(t *testing.T, pool *sql.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for held := false; !held; {
		err := pool.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname=current_database() AND pid<>pg_backend_pid()
			AND (wait_event_type='Lock' OR query='ROLLBACK'))`).Scan(&held)
		if err != nil {
			t.Fatal(errors.Join(errors.New("the backup is not held up"), err))
		}
	}
}
