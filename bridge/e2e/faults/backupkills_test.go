package faults_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/database/databasetest"
	"postern/database/transfer"
)

// The row F-27 for the operator's commands: they are killed at each step, and done again.

// dies runs a command of the program's that is killed at a step.
func (r *rig) dies(at transfer.Step, args ...string) {
	r.t.Helper()
	r.arm(string(at), 1)
	cmd := exec.CommandContext(r.ctx, r.program, append(args, "-c", r.Bridge.ConfigPath())...)
	cmd.Env = append(os.Environ(), "POSTERN_KILL="+r.orders)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if r.disarm() || !errors.As(err, &exit) || exit.ExitCode() != -1 {
		r.t.Fatalf("postern %s did not die at %s: %v\n%s", args[0], at, err, out)
	}
}

// nowhere takes the database away, with all that lies beside it.
func (r *rig) nowhere() {
	r.t.Helper()
	folder := filepath.Dir(r.Bridge.ConfigPath())
	for _, path := range append(must(filepath.Glob(r.Bridge.DatabasePath()+"*"))(r.t), filepath.Join(folder, "postern.epoch"), filepath.Join(folder, "postern.key")) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.t.Fatal(err)
		}
	}
	r.ok(os.RemoveAll(r.storeDir()))
	if r.database == postgres {
		r.uri = databasetest.PostgresConfig(lasting{r.t}).URI
		r.ok(r.Bridge.Set(map[string]any{"database.uri": r.uri}))
	}
}

// TestF27ARestoreThatIsKilledAtAnyStepLeavesNothingOrAllOfIt: done again it works, or says that all of it is there.
func TestF27ARestoreThatIsKilledAtAnyStepLeavesNothingOrAllOfIt(t *testing.T) {
	for _, database := range []string{sqlite, postgres} {
		t.Run(database, func(t *testing.T) {
			r := ownRig(t, database)
			r.within(t, func() { r.restoreKilled() })
		})
	}
}

func (r *rig) restoreKilled() {
	c := r.newChat()
	c.turns(1)
	c.fileFromMatrix(false)
	c.settled()
	c.awaitFiles()
	r.ok(r.Bridge.Stop())
	archive := filepath.Join(r.dir, "backup.zip")
	r.postern(0, "backup", "--out", archive, "--with-media", "--with-key")
	tables, index := r.tableCounts(), r.index()
	none := []transfer.Step{transfer.FilesPut, transfer.Copied, transfer.Committed, transfer.Naming}
	whole := []transfer.Step{transfer.Linked, transfer.Named}
	if r.database == postgres {
		none, whole = none[:2], []transfer.Step{transfer.Committed}
	}
	for i, step := range append(none, whole...) {
		r.nowhere()
		r.dies(step, "restore", "--from", archive, "--with-key")
		if i < len(none) {
			r.postern(0, "restore", "--from", archive, "--with-key")
		} else if _, complaint := r.postern(14, "restore", "--from", archive, "--with-key"); !strings.Contains(complaint, "there is a database already") {
			r.t.Errorf("killed at %s, and again: %s", step, complaint)
		}
		if got := r.tableCounts(); !maps.Equal(got, tables) {
			r.t.Errorf("killed at %s, the tables have %v rows, want %v", step, got, tables)
		}
		if got := r.index(); !maps.Equal(got, index) || len(r.blobs()) != len(index) {
			r.t.Errorf("killed at %s, of %d attachments %d are in the index and %d in the folder", step, len(index), len(got), len(r.blobs()))
		}
		if left := must(filepath.Glob(r.Bridge.DatabasePath() + ".restoring*"))(r.t); len(left) > 0 {
			r.t.Errorf("killed at %s, left behind: %v", step, left)
		}
	}
	r.ok(r.Bridge.Start(r.ctx))
	c.turns(1)
	c.check()
}

// TestF27AMoveThatIsKilledAtAnyStepLeavesOneDatabaseToGoOnFrom: the bridge starts on no other, and done again it says what to do.
func TestF27AMoveThatIsKilledAtAnyStepLeavesOneDatabaseToGoOnFrom(t *testing.T) {
	r := ownRig(t, sqlite)
	r.within(t, func() { r.moveKilled() })
}

func (r *rig) moveKilled() {
	c := r.newChat()
	c.turns(1)
	r.ok(r.Bridge.Stop())
	tables := r.tableCounts()
	there := databasetest.PostgresConfig(lasting{r.t}).URI
	marked := func(step transfer.Step) {
		r.t.Helper()
		if _, complaint := r.postern(14, "move-to-postgres", "--to", there); !strings.Contains(complaint, "a move was cut off") || !strings.Contains(complaint, "--undo --yes") {
			r.t.Errorf("killed at %s, and again: %s", step, complaint)
		}
		r.ok(r.Bridge.Launch())
		<-r.Bridge.Done()
		if code := r.Bridge.ExitCode(); code != 14 {
			r.t.Errorf("killed at %s: the bridge starts on what may have been moved: exit status %d", step, code)
		}
	}
	for _, step := range []transfer.Step{transfer.Marked, transfer.Copied} {
		r.dies(step, "move-to-postgres", "--to", there)
		marked(step)
		r.postern(0, "move-to-postgres", "--undo", "--yes")
	}
	r.dies(transfer.Moved, "move-to-postgres", "--to", there)
	marked(transfer.Moved)
	r.database, r.uri = postgres, there
	r.ok(r.Bridge.Set(map[string]any{"database.type": "postgres", "database.uri": there}))
	got := r.tableCounts()
	maps.DeleteFunc(got, func(name string, rows int) bool { _, wanted := tables[name]; return !wanted && rows == 0 })
	if !maps.Equal(got, tables) {
		r.t.Errorf("the tables have %v rows, want %v", got, tables)
	}
	r.ok(r.Bridge.Start(r.ctx))
	c.turns(1)
	c.check()
}
