package database_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"go.mau.fi/util/dbutil"

	"postern/database"
	"postern/database/databasetest"
)

const (
	envChildDialect = "POSTERN_TEST_CHILD_DIALECT"
	envChildURI     = "POSTERN_TEST_CHILD_URI"
)

// TestMain lets the test binary be the other process of TestAKilledProcess….
func TestMain(m *testing.M) {
	if dialect := os.Getenv(envChildDialect); dialect != "" {
		if err := child(dialect, os.Getenv(envChildURI)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child takes the lease and then writes rows for ever, printing each id once Do has returned.
func child(dialect, uri string) error {
	cfg := database.Config{Dialect: dialect, URI: uri, Holder: "the child"}
	for i := range cfg.MasterKey {
		cfg.MasterKey[i] = byte(i + 1)
	}
	db, err := database.Open(context.Background(), cfg)
	if err != nil {
		return err
	}
	for id := 1; ; id++ {
		if err = db.Do(context.Background(), insert(db, id)); err != nil {
			return err
		}
		fmt.Println(id)
	}
}

func TestAKilledProcessLeavesTheLeaseFreeAndItsCommitsOnDisk(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		db := databasetest.Open(t, cfg) // no lease: only makes the tables
		makeTable(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), envChildDialect+"="+cfg.Dialect, envChildURI+"="+cfg.URI)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err = cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		acked := 0
		read := func() bool {
			if !lines.Scan() {
				return false
			}
			n, err := strconv.Atoi(lines.Text())
			if err != nil || n != acked+1 {
				t.Fatalf("the child said %q after %d", lines.Text(), acked)
			}
			acked = n
			return true
		}
		for acked < 20 {
			if !read() {
				t.Fatal("the child ended by itself")
			}
		}
		drained := make(chan struct{})
		stop := make(chan struct{})
		go func() { // keeps the child writing while we are refused
			defer close(drained)
			for read() {
			}
			<-stop
		}()

		cfg.Holder = "the second"
		_, err = database.Open(t.Context(), cfg)
		var held *database.LeaseHeldError
		if !errors.As(err, &held) {
			t.Fatalf("the second process got %v", err)
		}
		if held.Holder != "the child" || held.Since == 0 || !strings.Contains(err.Error(), "stop it first") {
			t.Errorf("the refusal says %q %d: %v", held.Holder, held.Since, err)
		}

		if err = cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // reports the signal
		close(stop)
		<-drained
		db = databasetest.Open(t, cfg) // at once: its grace is far below this test's patience
		got := items(t, db)
		if len(got) < acked || len(got) > acked+1 {
			t.Errorf("the child had been told that %d rows were on disk, there are %d", acked, len(got))
		}
		for i, id := range got {
			if id != i+1 {
				t.Fatalf("row %d is %d", i, id)
			}
		}
	})
}

// steal makes the first holder lose its lock behind its back, as when a server is cut off or a lock file
// is removed.
func steal(t *testing.T, db *database.DB) {
	t.Helper()
	if db.Raw().Dialect == dbutil.SQLite {
		if err := os.Remove(db.LeaseFile()); err != nil {
			t.Fatal(err)
		}
		return
	}
	var cut int
	err := db.Raw().QueryRow(t.Context(), `SELECT COUNT(pg_terminate_backend(pid)) FROM pg_locks
		WHERE locktype='advisory' AND database=(SELECT oid FROM pg_database WHERE datname=current_database())`).Scan(&cut)
	if err != nil || cut != 1 {
		t.Fatalf("cut %d lock connections: %v", cut, err)
	}
}

func TestAHolderThatLostItsLockToAnotherCannotCommit(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		first := databasetest.Open(t, cfg)
		makeTable(t, first)
		lease, err := first.AcquireLease(t.Context(), "first")
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Release()
		if err = first.Do(t.Context(), insert(first, 1)); err != nil {
			t.Fatal(err)
		}
		steal(t, first)
		cfg.Holder = "second"
		second := databasetest.Open(t, cfg)
		if err = second.Do(t.Context(), insert(second, 2)); err != nil {
			t.Errorf("the second holder got %v", err)
		}
		err = first.Do(t.Context(), insert(first, 3))
		if !errors.Is(err, database.ErrFailed) || !errors.Is(err, database.ErrLeaseLost) {
			t.Errorf("the first holder got %v", err)
		}
		<-first.Failed()
		if err = first.Do(t.Context(), insert(first, 4)); !errors.Is(err, database.ErrLeaseLost) {
			t.Errorf("then it got %v", err)
		}
		wantItems(t, second, 1, 2)
	})
}

func TestTheHeartbeatNoticesALostLock(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		first := databasetest.Open(t, cfg)
		makeTable(t, first)
		lease, err := first.AcquireLease(t.Context(), "first")
		if err != nil {
			t.Fatal(err)
		}
		lease.Beat() // nothing has happened
		steal(t, first)
		lease.Beat() // nobody came in between: it is ours again
		if first.Err() != nil {
			t.Fatalf("failed although nobody had taken the lease: %v", first.Err())
		}
		if err = first.Do(t.Context(), insert(first, 1)); err != nil {
			t.Error(err)
		}
		cfg.Holder = "second"
		var held *database.LeaseHeldError
		if _, err = database.Open(t.Context(), cfg); !errors.As(err, &held) {
			t.Errorf("with the lock taken again the second got %v", err)
		}
		steal(t, first)
		second := databasetest.Open(t, cfg)
		lease.Beat()
		if !errors.Is(first.Err(), database.ErrLeaseLost) {
			t.Errorf("with the second in place the first says %v", first.Err())
		}
		if err = second.Close(); err != nil {
			t.Error(err)
		}
		if err = lease.Release(); err != nil {
			t.Error(err)
		}
	})
}

func TestAHolderThatCameAndWentInBetweenIsNoticed(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		first := databasetest.Open(t, cfg)
		lease, err := first.AcquireLease(t.Context(), "first")
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Release()
		steal(t, first)
		cfg.Holder = "second"
		second, err := database.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err = second.Close(); err != nil {
			t.Fatal(err)
		}
		lease.Beat()
		if !errors.Is(first.Err(), database.ErrLeaseLost) {
			t.Errorf("the first says %v", first.Err())
		}
	})
}

func TestAReleasedLeaseCanBeTakenAgain(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		for range 3 {
			lease, err := db.AcquireLease(t.Context(), "me")
			if err != nil {
				t.Fatal(err)
			}
			if err = errors.Join(lease.Release(), lease.Release()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
