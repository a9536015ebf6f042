package database_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"

	"postern/database"
	"postern/database/databasetest"
)

func TestACommitThatIsRefusedIsReportedAsRolledBackToAll(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		for _, q := range []string{
			"CREATE TABLE item (id BIGINT PRIMARY KEY)",
			"CREATE TABLE part (item BIGINT REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)",
		} {
			if _, err := db.Raw().Exec(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		orphan := func(ctx context.Context) error { // only the commit finds out
			_, err := db.Raw().Exec(ctx, "INSERT INTO part (item) VALUES (99)")
			return err
		}
		for i, err := range db.DoTogether(t.Context(), insert(db, 1), orphan, insert(db, 2)) {
			if !errors.Is(err, database.ErrRolledBack) || errors.Is(err, database.ErrCommitUnknown) {
				t.Errorf("function %d got %v", i, err)
			}
		}
		wantItems(t, db)
		if err := db.Do(t.Context(), insert(db, 3)); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		wantItems(t, db, 3)
	})
}

func TestAConnectionLostInTheCommitIsReportedAsUnknown(t *testing.T) {
	db := databasetest.Open(t, databasetest.PostgresConfig(t))
	makeTable(t, db)
	for _, q := range []string{
		`CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$`,
		`CREATE TABLE cutter (id BIGINT)`,
		`CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON cutter DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut()`,
	} {
		if _, err := db.Raw().Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	cut := func(ctx context.Context) error {
		_, err := db.Raw().Exec(ctx, "INSERT INTO cutter (id) VALUES (1)")
		return err
	}
	for i, err := range db.DoTogether(t.Context(), insert(db, 1), cut, insert(db, 2)) {
		if !errors.Is(err, database.ErrCommitUnknown) {
			t.Errorf("function %d got %v", i, err)
		}
	}
	if err := db.Do(t.Context(), insert(db, 3)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	wantItems(t, db, 3)
}

func TestAConnectionLostBeforeTheCommitIsReportedAsRolledBack(t *testing.T) {
	db := databasetest.Open(t, databasetest.PostgresConfig(t))
	makeTable(t, db)
	cut := func(ctx context.Context) error {
		_, _ = db.Raw().Exec(ctx, "SELECT pg_terminate_backend(pg_backend_pid())")
		return nil // and it does not say so
	}
	answers := db.DoTogether(t.Context(), insert(db, 1), cut, insert(db, 2))
	if !errors.Is(answers[0], database.ErrRolledBack) || !errors.Is(answers[1], database.ErrRolledBack) || answers[2] != nil {
		t.Errorf("answers are %v", answers)
	}
	wantItems(t, db, 2)
	// A function that does say so has the same to say: not its fault, and it may be tried again.
	says := func(ctx context.Context) error { return errors.Join(cut(ctx), insert(db, 3)(ctx)) }
	answers = db.DoTogether(t.Context(), insert(db, 4), says, says)
	for i, err := range append(answers, db.Do(t.Context(), says)) {
		if !errors.Is(err, database.ErrRolledBack) {
			t.Errorf("function %d got %v", i, err)
		}
	}
	if err := db.Do(t.Context(), insert(db, 5)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	wantItems(t, db, 2, 5)
}

func TestWorkGoesOnAfterTheServerHasBeenRestarted(t *testing.T) {
	for _, how := range []string{"in order", "by SIGKILL"} {
		t.Run(how, func(t *testing.T) {
			server := databasetest.StartPostgres(t)
			cfg := databasetest.SQLiteConfig(t)
			cfg.Dialect, cfg.URI, cfg.Holder = "postgres", server.DSN, "restart test"
			db := databasetest.Open(t, cfg)
			makeTable(t, db)
			if err := db.Do(t.Context(), insert(db, 1)); err != nil {
				t.Fatal(err)
			}
			if how == "in order" {
				server.Shutdown()
			} else {
				server.Kill()
			}
			ctx, cancel := context.WithCancel(t.Context())
			waiting := make(chan error, 1)
			go func() { waiting <- db.Do(ctx, insert(db, 2)) }()
			cancel() // a caller can leave while the server is away
			if err := <-waiting; err == nil {
				t.Error("Do succeeded without a server")
			}
			later := make(chan error, 1)
			go func() {
				for { // a dying server may still take the first statement
					err := db.Do(context.Background(), insert(db, 3))
					if !errors.Is(err, database.ErrRolledBack) {
						later <- err
						return
					}
				}
			}()
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			if err := <-later; err != nil {
				t.Errorf("the caller who waited for the server got %v", err)
			}
			wantItems(t, db, 1, 3)
		})
	}
}

func TestALockedFileIsWaitedForAndACallerCanLeave(t *testing.T) {
	db := databasetest.Open(t, databasetest.SQLiteConfig(t))
	makeTable(t, db)
	other, err := db.Raw().BeginTx(t.Context(), nil) // another writer to the same file, as the framework's pool is
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	left, stayed := make(chan error, 1), make(chan error, 1)
	go func() { left <- db.Do(ctx, insert(db, 1)) }()
	go func() { stayed <- db.Do(context.Background(), insert(db, 2)) }()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller who left got %v", err)
	}
	if err = other.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-stayed; err != nil {
		t.Errorf("the caller who stayed got %v", err)
	}
	wantItems(t, db, 2)
}

// logFiles swaps what is behind this process's descriptors of the SQLite log for another file, and
// returns how to swap back: a disk that fails, without any help from SQLite.
func logFiles(t *testing.T, dbPath, other string) (restore func()) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("NOT RUN: no list of open files here: %v", err)
	}
	bad, err := os.OpenFile(other, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	saved := map[int]int{}
	for _, entry := range fds {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", entry.Name()))
		if err != nil || target != dbPath+"-wal" {
			continue
		}
		fd := 0
		for _, c := range entry.Name() {
			fd = fd*10 + int(c-'0')
		}
		if saved[fd], err = syscall.Dup(fd); err != nil {
			t.Fatal(err)
		}
		if err = syscall.Dup3(int(bad.Fd()), fd, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	if len(saved) == 0 {
		t.Fatal("no open log found")
	}
	return func() {
		for fd, copy := range saved {
			if err := errors.Join(syscall.Dup3(copy, fd, syscall.O_CLOEXEC), syscall.Close(copy)); err != nil {
				t.Error(err)
			}
		}
		_ = bad.Close()
	}
}

func TestAFullDiskIsReportedAndWorkGoesOnWhenThereIsRoom(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	db := databasetest.Open(t, cfg)
	makeTable(t, db)
	if err := db.Do(t.Context(), insert(db, 1)); err != nil {
		t.Fatal(err)
	}
	restore := logFiles(t, cfg.URI, "/dev/full") // every write: no space left
	answers := db.DoTogether(t.Context(), insert(db, 2), insert(db, 3))
	restore()
	for i, err := range answers {
		if !errors.Is(err, database.ErrCommitUnknown) {
			t.Errorf("function %d got %v", i, err)
		}
	}
	if db.Err() != nil {
		t.Errorf("a full disk is not the end: %v", db.Err())
	}
	if err := db.Do(t.Context(), insert(db, 4)); err != nil {
		t.Errorf("with room again: %v", err)
	}
	wantItems(t, db, 1, 4)
}

func TestAFailedFsyncIsTheEnd(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	db, err := database.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	makeTable(t, db)
	if err := db.Do(t.Context(), insert(db, 1)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-db.Failed():
		t.Fatal("failed before anything happened")
	default:
	}
	restore := logFiles(t, cfg.URI, "/dev/null") // takes every write and cannot be synced
	answers := db.DoTogether(t.Context(), insert(db, 2), insert(db, 3))
	restore()
	for i, err := range answers {
		if !errors.Is(err, database.ErrCommitUnknown) {
			t.Errorf("function %d got %v", i, err)
		}
	}
	<-db.Failed()
	if err := db.Do(t.Context(), insert(db, 4)); !errors.Is(err, database.ErrFailed) {
		t.Errorf("Do after a failed fsync got %v", err)
	}
	_ = db.Close() // what it says does not matter any more
	db = databasetest.Open(t, cfg)
	if got := items(t, db); !slices.Contains(got, 1) || slices.Contains(got, 4) {
		t.Errorf("after a restart: %v", got)
	}
}

func TestFailedCommitsAreClassified(t *testing.T) {
	table := []struct {
		name string
		err  error
		want string
	}{
		{"SQLite disk full", sqlite3.Error{Code: sqlite3.ErrFull}, "unknown"},
		{"SQLite write error", sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrWrite}, "unknown"},
		{"SQLite fsync error", sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrFsync}, "fatal"},
		{"SQLite other I/O error", sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrTruncate}, "fatal"},
		{"SQLite damaged file", sqlite3.Error{Code: sqlite3.ErrCorrupt}, "fatal"},
		{"SQLite busy", sqlite3.Error{Code: sqlite3.ErrBusy}, "rolled back"},
		{"Postgres serialisation failure", &pq.Error{Severity: "ERROR", Code: "40001"}, "rolled back"},
		{"Postgres deferred constraint", &pq.Error{Severity: "ERROR", Code: "23503"}, "rolled back"},
		{"Postgres shut down by admin", &pq.Error{Severity: "FATAL", Code: "57P01"}, "unknown"},
		{"Postgres I/O error", &pq.Error{Severity: "ERROR", Code: "58030"}, "unknown"},
		{"Postgres internal error", &pq.Error{Severity: "ERROR", Code: "XX000"}, "unknown"},
		{"Postgres panic", &pq.Error{Severity: "PANIC", Code: "53100"}, "unknown"},
		{"Postgres aborted transaction", pq.ErrInFailedTransaction, "rolled back"},
		{"connection reset", syscall.ECONNRESET, "unknown"},
		{"time-out", context.DeadlineExceeded, "unknown"},
	}
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			if got := database.CommitOutcome(c.err); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestDurabilitySettingsInTheURIAreOverridden(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	path := cfg.URI
	cfg.URI = "file:" + path + "?_synchronous=OFF&_sync=OFF&_journal_mode=DELETE&_fk=off&_txlock=deferred&_busy_timeout=1"
	db := databasetest.Open(t, cfg)
	err := db.Do(t.Context(), func(ctx context.Context) error {
		for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "5000"} {
			var got string
			if err := db.Raw().QueryRow(ctx, "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %s (%v), want %s", pragma, got, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v (%v), want 0600", info.Mode(), err)
	}
}

func TestSynchronousCommitOffOnTheServerIsOverridden(t *testing.T) {
	cfg := databasetest.PostgresConfig(t)
	cfg.URI += " options='-c synchronous_commit=off'"
	if strings.HasPrefix(os.Getenv(databasetest.EnvPostgres), "postgres") {
		t.Skip("the base DSN is a URL, this test wants to append to one in words")
	}
	db := databasetest.Open(t, cfg)
	err := db.Do(t.Context(), func(ctx context.Context) error {
		var level string
		err := db.Raw().QueryRow(ctx, "SHOW synchronous_commit").Scan(&level)
		if err == nil && level != "on" {
			t.Errorf("synchronous_commit is %s inside Do", level)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestADatabaseThatCannotBeDurableIsRefused(t *testing.T) {
	for _, uri := range []string{"", ":memory:", "file::memory:?cache=shared", "file:x?mode=memory", "file:%zz", filepath.Join(t.TempDir(), "no", "such", "folder.db")} {
		cfg := database.Config{Dialect: "sqlite3-fk-wal", URI: uri}
		if db, err := database.Open(t.Context(), cfg); err == nil {
			_ = db.Close()
			t.Errorf("%q was opened", uri)
		}
	}
	if _, err := database.Open(t.Context(), database.Config{Dialect: "mysql", URI: "x"}); err == nil {
		t.Error("an unknown dialect was opened")
	}
	_, err := database.Open(t.Context(), database.Config{Dialect: "postgres", URI: "host=127.0.0.1 password='hidden"})
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("a DSN that does not parse gave %v", err)
	}
}
