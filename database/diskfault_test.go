//go:build linux && cgo

package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/database"
	"postern/database/databasetest"
	"postern/database/diskfault"
)

// faultyDisk is a database on a disk that fails when it is told to.
func faultyDisk(t *testing.T) (database.Config, *diskfault.Folder) {
	t.Helper()
	cfg := databasetest.SQLiteConfig(t)
	folder, err := diskfault.In(filepath.Dir(cfg.URI))
	if err != nil {
		t.Fatal(err)
	}
	cfg.URI += "?vfs=" + diskfault.VFS
	return cfg, folder
}

// openFaulty opens it with tables, and so that SQLite's log is moved into the file every few commits.
func openFaulty(t *testing.T, cfg database.Config) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	db.Impatient(12)
	if _, err := db.Raw().Exec(t.Context(), "CREATE TABLE IF NOT EXISTS item (id BIGINT PRIMARY KEY, body TEXT NOT NULL DEFAULT '')"); err != nil {
		t.Fatal(err)
	}
	return db
}

// large inserts a row that needs pages of its own.
func large(db *database.DB, id int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := db.Raw().Exec(ctx, "INSERT INTO item (id, body) VALUES ($1, $2)", id, strings.Repeat("x", 9000))
		return err
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come about", what)
		}
		time.Sleep(time.Millisecond) // until the next look at the condition
	}
}

// TestADiskThatIsFullAtAnyWriteLosesNothingAndTheDatabaseRecoversByItself: the writes of a short run are counted, and then the disk is full from
// each of them on, until somebody makes room.
func TestADiskThatIsFullAtAnyWriteLosesNothingAndTheDatabaseRecoversByItself(t *testing.T) {
	for _, code := range []int{diskfault.Full, diskfault.IOErrWrite} {
		t.Run(map[int]string{diskfault.Full: "full", diskfault.IOErrWrite: "a write fails"}[code], func(t *testing.T) {
			cfg, disk := faultyDisk(t)
			db := openFaulty(t, cfg)
			var want []int
			maybe := map[int]bool{}
			id, positions := 0, 0
			for n := 1; ; n++ {
				disk.Set(&diskfault.Fault{Op: diskfault.Write, Nth: n, Code: code})
				failed := false
				for range 6 {
					id++
					err := db.Do(t.Context(), large(db, id))
					if err == nil {
						want = append(want, id)
						continue
					}
					failed = true
					if errors.Is(err, database.ErrCommitUnknown) {
						maybe[id] = true
					}
				}
				if !failed && disk.Failed() > 0 {
					failed = db.Health().Reason != "" // the disk was full while the log was moved, and no commit needed room
				}
				if failed {
					positions++
				}
				if state := db.Health(); failed && state.Reason != database.ReasonFull && state.Reason != database.ReasonDisk {
					t.Fatalf("write %d: the database says %q", n, state.Reason)
				}
				reached := disk.Failed() > 0
				disk.Set(nil)
				eventually(t, "recovery", func() bool { return db.Health().Reason == "" })
				id++
				if err := db.Do(t.Context(), large(db, id)); err != nil {
					t.Fatalf("write %d: with room again: %v", n, err)
				}
				want = append(want, id)
				if !reached {
					break
				}
			}
			if err := db.Err(); err != nil {
				t.Fatalf("a full disk is not the end: %v", err)
			}
			if positions < 20 {
				t.Errorf("the disk was full at %d places only", positions)
			}
			t.Logf("%d places", positions)
			compareItems(t, db, want, maybe)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = openFaulty(t, cfg)
			compareItems(t, db, want, maybe)
			wholeFile(t, db)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// compareItems wants all that was reported, and of the rest only what may be there.
func compareItems(t *testing.T, db *database.DB, want []int, maybe map[int]bool) {
	t.Helper()
	got, late := items(t, db), 0
	for _, id := range want {
		if !slices.Contains(got, id) {
			t.Errorf("item %d was reported and is missing", id)
		}
	}
	for _, id := range got {
		if maybe[id] {
			late++
		} else if !slices.Contains(want, id) {
			t.Errorf("item %d is there and was refused", id)
		}
	}
	t.Logf("of %d commits with an unknown outcome %d have happened", len(maybe), late)
}

func wholeFile(t *testing.T, db *database.DB) {
	t.Helper()
	var verdict string
	if err := db.Raw().QueryRow(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("the file is %s (%v)", verdict, err)
	}
}

// TestAnySyncThatFailsOnceIsTheEnd: also those that move SQLite's log into its file, which nobody waits for, and those of the framework's
// pool.
func TestAnySyncThatFailsOnceIsTheEnd(t *testing.T) {
	seen := 0
	for n := 1; ; n++ {
		cfg, disk := faultyDisk(t)
		db := openFaulty(t, cfg)
		disk.Set(&diskfault.Fault{Op: diskfault.Sync, Nth: n, Times: 1, Code: diskfault.IOErrFsync})
		var want, maybe []int
		for id := 1; id <= 12; id++ {
			if disk.Failed() > 0 {
				break
			}
			switch err := db.Do(t.Context(), large(db, id)); {
			case err == nil:
				want = append(want, id)
			case errors.Is(err, database.ErrCommitUnknown):
				maybe = append(maybe, id)
			case errors.Is(err, database.ErrFailed): // the log was being moved when the last one had been answered
			default:
				t.Fatalf("sync %d: %v", n, err)
			}
		}
		if disk.Failed() == 0 {
			_ = db.Close()
			break
		}
		seen++
		<-db.Failed()
		if err := db.Do(t.Context(), large(db, 99)); !errors.Is(err, database.ErrFailed) {
			t.Errorf("sync %d: Do after it got %v", n, err)
		}
		if state := db.Health(); state.Reason != database.ReasonFailed {
			t.Errorf("sync %d: the database says %q", n, state.Reason)
		}
		disk.Set(nil)
		_ = db.Close() // what it says does not matter any more
		db = openFaulty(t, cfg)
		got := items(t, db)
		for _, id := range want {
			if !slices.Contains(got, id) {
				t.Errorf("sync %d: item %d was reported and is missing", n, id)
			}
		}
		for _, id := range got {
			if !slices.Contains(want, id) && !slices.Contains(maybe, id) {
				t.Errorf("sync %d: item %d is there and was refused", n, id)
			}
		}
		wholeFile(t, db)
		_ = db.Close()
	}
	if seen < 14 { // one for each commit, two each time the log is moved
		t.Errorf("%d syncs were seen to fail", seen)
	}
	t.Logf("%d syncs", seen)
}

// TestAFailedSyncOfTheFrameworksPoolCountsAsOurs: its next commit would begin the log anew, and syncs its head.
func TestAFailedSyncOfTheFrameworksPoolCountsAsOurs(t *testing.T) {
	cfg, disk := faultyDisk(t)
	db := openFaulty(t, cfg)
	pool, err := sql.Open(database.FrameworkPool("sqlite3-fk-wal", "file:"+cfg.URI+"&_txlock=immediate"))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for pragma, want := range map[string]string{"synchronous": "1", "wal_autocheckpoint": "0", "foreign_keys": "1", "journal_mode": "wal", "busy_timeout": "5000"} {
		var got string
		if err := pool.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", pragma, got, err, want)
		}
	}
	disk.Set(&diskfault.Fault{Op: diskfault.Sync, Nth: 1, Times: 1, Code: diskfault.IOErrFsync})
	_, err = pool.Exec("PRAGMA wal_checkpoint(PASSIVE)")
	if err == nil {
		t.Fatal("the sync did not fail")
	}
	db.Note(fmt.Errorf("some query: %w", err))
	<-db.Failed()
	if err := db.Do(t.Context(), insert(db, 1)); !errors.Is(err, database.ErrFailed) {
		t.Errorf("Do after it got %v", err)
	}
	_ = db.Close()
}

// TestAFileThatIsLockedForLongIsSaidAndFoundFreeByItself: another process writes for longer than SQLite waits.
func TestAFileThatIsLockedForLongIsSaidAndFoundFreeByItself(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	db := openFaulty(t, cfg)
	defer db.Close()
	db.SetBusyTimeout(t, 20*time.Millisecond)
	other, err := sql.Open("sqlite3", "file:"+cfg.URI+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() { answer <- db.Do(context.Background(), insert(db, 1)) }()
	eventually(t, "the notice of the lock", func() bool { return db.Health().Reason == database.ReasonLocked })
	select {
	case err := <-answer:
		t.Fatalf("Do did not wait: %v", err)
	default:
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("the caller who waited got %v", err)
	}
	eventually(t, "recovery", func() bool { return db.Health().Reason == "" })
}
