package transfer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/database"
	"postern/database/databasetest"
	"postern/database/transfer"
)

var errBroken = errors.New("broken off here")

// breaking is the configuration of a Restore or a Move that fails at some steps; all of them have to be passed.
func breaking(t *testing.T, db database.Config, steps ...transfer.Step) transfer.Config {
	t.Helper()
	cfg, passed := config(db), map[transfer.Step]bool{}
	cfg.Step = func(at transfer.Step) error {
		if slices.Contains(steps, at) {
			passed[at] = true
			return errBroken
		}
		return nil
	}
	t.Cleanup(func() {
		if len(passed) != len(steps) {
			t.Errorf("of the steps %v only %v were passed", steps, passed)
		}
	})
	return cfg
}

// beside are the files beside a SQLite database, but its lock.
func beside(t *testing.T, cfg database.Config) (names []string) {
	t.Helper()
	path, release, err := database.HoldFile(cfg.URI)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		if name := strings.TrimPrefix(one, path); name != "" && name != ".lock" {
			names = append(names, name)
		}
	}
	return names
}

// nothing says whether nothing is where a database was to be put.
func nothing(t *testing.T, cfg database.Config) bool {
	t.Helper()
	base, err := database.Inspect(t.Context(), cfg)
	if database.IsAbsent(err) {
		return true
	} else if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	return cfg.Dialect == "postgres" && len(databasetest.Contents(t, base.Raw())) == 0
}

// TestARestoreThatFailsAtAnyStepLeavesNothingOrAllOfIt, says which, and works when it is done again.
func TestARestoreThatFailsAtAnyStepLeavesNothingOrAllOfIt(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		want := contents(t, made(t, cfg))
		_, a := backUp(t, cfg, transfer.BackupOptions{})
		server := cfg.Dialect == "postgres"
		kind, whole := "SQLite", []transfer.Step{transfer.Linked, transfer.Named}
		none := []transfer.Step{transfer.FilesPut, transfer.Copied, transfer.Committed, transfer.Naming}
		if server {
			kind, whole, none = "Postgres", []transfer.Step{transfer.Committed}, none[:2]
		}
		for _, step := range append(none, whole...) {
			t.Run(string(step), func(t *testing.T) {
				to := fresh(t, kind)
				report, err := transfer.Restore(t.Context(), breaking(t, to, step), a, nil)
				if !errors.Is(err, errBroken) || (report != nil) != slices.Contains(whole, step) {
					t.Fatalf("a report: %v, and %v", report != nil, err)
				}
				if report == nil {
					if !nothing(t, to) {
						t.Error("something is left behind")
					}
					if !server && len(beside(t, to)) > 0 {
						t.Errorf("left behind: %v", beside(t, to))
					}
					_, err = transfer.Restore(t.Context(), config(to), a, nil)
				} else if _, again := transfer.Restore(t.Context(), config(to), a, nil); errors.Is(again, transfer.ErrNotEmpty) {
					err = nil
				} else {
					err = errors.Join(errors.New("not refused"), again)
				}
				if err != nil {
					t.Fatalf("again: %v", err)
				}
				if !server && len(beside(t, to)) > 0 {
					t.Errorf("beside it: %v", beside(t, to))
				}
				same(t, contents(t, to), want)
				before := generation(t, to)
				if err := opens(t, to); err != nil || generation(t, to) != before+1 {
					t.Errorf("it opens as generation %d after %d: %v", generation(t, to), before, err)
				}
			})
		}
	})
}

// TestTheOtherNameOfARestoredFileGoesWhenItIsDoneAgain: the process was killed between giving the file its name and taking the other one away.
func TestTheOtherNameOfARestoredFileGoesWhenItIsDoneAgain(t *testing.T) {
	cfg := made(t, databasetest.SQLiteConfig(t))
	_, a := backUp(t, cfg, transfer.BackupOptions{})
	to := databasetest.SQLiteConfig(t)
	if _, err := transfer.Restore(t.Context(), config(to), a, nil); err != nil {
		t.Fatal(err)
	}
	path, release, err := database.HoldFile(to.URI)
	if err == nil {
		err = errors.Join(release(), os.Link(path, path+".restoring"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Restore(t.Context(), config(to), a, nil); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("over it: %v", err)
	}
	if names := beside(t, to); len(names) > 0 {
		t.Errorf("beside it: %v", names)
	}
	if err := os.WriteFile(path+".restoring", []byte("somebody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Restore(t.Context(), config(to), a, nil); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("over it: %v", err)
	}
	if names := beside(t, to); !slices.Equal(names, []string{".restoring"}) {
		t.Errorf("another file of that name is gone: %v", names)
	}
}

// TestAMoveThatFailsAtAnyStepLeavesOneDatabaseToGoOnFrom, says which, and works when it is done again.
func TestAMoveThatFailsAtAnyStepLeavesOneDatabaseToGoOnFrom(t *testing.T) {
	move := func(t *testing.T, steps ...transfer.Step) (from, to database.Config, want map[string][]string, report *transfer.Report, err error) {
		t.Helper()
		from, to = made(t, databasetest.SQLiteConfig(t)), databasetest.PostgresConfig(t)
		want = contents(t, from)
		report, err = transfer.Move(t.Context(), breaking(t, from, steps...), to.URI)
		if !errors.Is(err, errBroken) {
			t.Fatalf("broken off: %v", err)
		}
		return from, to, want, report, err
	}
	moved := func(t *testing.T, from, to database.Config, want map[string][]string) {
		t.Helper()
		same(t, contents(t, to), want)
		if err := errors.Join(opens(t, to)); err != nil {
			t.Error(err)
		}
		if err := opens(t, from); !errors.Is(err, database.ErrMoved) {
			t.Errorf("what was left behind opens: %v", err)
		}
	}
	for _, step := range []transfer.Step{transfer.Marked, transfer.Copied} {
		t.Run(string(step), func(t *testing.T) {
			from, to, _, report, err := move(t, step)
			if report != nil || errors.Is(err, transfer.ErrStaysMarked) || !nothing(t, to) {
				t.Errorf("a report: %v, nothing there: %v, %v", report != nil, nothing(t, to), err)
			}
			if err := opens(t, from); err != nil {
				t.Errorf("the SQLite database: %v", err)
			}
			want := contents(t, from) // a start has changed it
			if _, err := transfer.Move(t.Context(), config(from), to.URI); err != nil {
				t.Fatalf("again: %v", err)
			}
			moved(t, from, to, want)
		})
	}
	t.Run(string(transfer.Moved), func(t *testing.T) {
		from, to, want, report, _ := move(t, transfer.Moved)
		if report == nil {
			t.Fatal("there is no report of what is there")
		}
		if _, err := transfer.Move(t.Context(), config(from), to.URI); !errors.Is(err, transfer.ErrMarked) {
			t.Errorf("again: %v", err)
		}
		moved(t, from, to, want)
	})
	t.Run(string(transfer.Unmarking), func(t *testing.T) {
		from, to, _, report, err := move(t, transfer.Copied, transfer.Unmarking)
		if report != nil || !errors.Is(err, transfer.ErrStaysMarked) || !nothing(t, to) {
			t.Errorf("a report: %v, nothing there: %v, %v", report != nil, nothing(t, to), err)
		}
		if _, err := transfer.Move(t.Context(), config(from), to.URI); !errors.Is(err, transfer.ErrMarked) {
			t.Errorf("again: %v", err)
		}
		before := generation(t, from)
		if err := transfer.Unmove(context.WithoutCancel(t.Context()), config(from)); err != nil {
			t.Fatal(err)
		}
		if err := opens(t, from); err != nil || generation(t, from) != before+1 {
			t.Errorf("taken back it opens as generation %d after %d: %v", generation(t, from), before, err)
		}
		want := contents(t, from)
		if _, err := transfer.Move(t.Context(), config(from), to.URI); err != nil {
			t.Fatalf("after that: %v", err)
		}
		moved(t, from, to, want)
	})
}
