package faults_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/database/databasetest"
)

// The operator's copies: a backup that is put back after the database was lost, and a move from SQLite to PostgreSQL.

// postern runs the program beside the bridge and checks its exit status; nothing personal may be in what it says.
func (r *rig) postern(want int, args ...string) (said, complaint string) {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(r.ctx, r.program, append(args, "-c", r.Bridge.ConfigPath())...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	code := 0
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		r.ok(err)
	}
	if code != want {
		r.t.Fatalf("postern %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), code, want, &stdout, &stderr)
	}
	for _, secret := range []string{"kanarienvogel", "@alice", "+49"} {
		if strings.Contains(stdout.String()+stderr.String(), secret) {
			r.t.Errorf("postern %s says %s", args[0], secret)
		}
	}
	return stdout.String(), stderr.String()
}

// TestF27ABackupMadeUnderTrafficIsPutBackAndNoKeyIsUsedTwice: what was said since the backup moved the ratchets on, then the bridge is killed, and database, attachments and epoch
// file are lost.
func TestF27ABackupMadeUnderTrafficIsPutBackAndNoKeyIsUsedTwice(t *testing.T) {
	for _, database := range []string{sqlite, postgres} {
		t.Run(database, func(t *testing.T) {
			r := ownRig(t, database)
			r.within(t, func() { r.loseEverything() })
		})
	}
}

func (r *rig) loseEverything() {
	c := r.newChat()
	c.turns(1)
	c.fileFromMatrix(false)
	c.fileFromPhone(true)
	c.settled()
	c.awaitFiles()
	known, copied, archive := r.hs.Messages(r.management, renewalWords), len(c.matrix), filepath.Join(r.dir, "backup.zip")
	before := r.index()
	traffic := r.loadFiles([]*chat{c}, 8)
	r.postern(0, "backup", "--out", archive, "--with-media")
	<-traffic
	c.turns(2)
	c.awaitFiles()
	c.fromMatrix(1)
	r.Bridge.Kill()
	if _, complaint := r.postern(14, "restore", "--from", archive); !strings.Contains(complaint, "there is a database already") {
		r.t.Errorf("over the database: %s", complaint)
	}
	c.forgotten(copied)
	r.emptyDatabase()
	r.ok(os.RemoveAll(r.storeDir()))
	r.postern(0, "restore", "--from", archive, "--check")
	said, _ := r.postern(0, "restore", "--from", archive)
	if !strings.Contains(said, "users are told") {
		r.t.Errorf("restore says %s", said)
	}
	blobs, index := r.blobs(), r.index()
	for name := range before {
		if _, there := index[name]; !there {
			r.t.Errorf("attachment %s is not in the index any more", name)
		}
	}
	for name := range index {
		if _, there := blobs[name]; !there {
			r.t.Errorf("attachment %s is not there any more", name)
		}
	}
	c.fromMatrix(2)
	c.fromPhone(2)
	from := r.logSize()
	r.ok(r.Bridge.Start(r.ctx))
	if r.logged(from, "a backup was put into the database") != 1 {
		r.t.Error("the log does not say that a backup was put back")
	}
	if _, complaint := r.postern(14, "restore", "--from", archive); !strings.Contains(complaint, "is using the database") {
		r.t.Errorf("while the bridge runs: %s", complaint)
	}
	c.turns(2)
	r.told(known)
	r.ok(r.Bridge.Stop())
	r.ok(r.Bridge.Start(r.ctx))
	c.turns(1)
	c.check()
	if n := r.renewals() - len(known); n != 1 {
		r.t.Errorf("%d notices, want 1", n)
	}
	if dir := os.Getenv(keepDatabases); dir != "" {
		name := fmt.Sprintf("%s-%d.zip", strings.ToLower(r.database), r.schema())
		r.postern(0, "backup", "--with-key", "--out", filepath.Join(must(filepath.Abs(dir))(r.t), name))
	}
}

// keepDatabases names a folder that this test puts a backup of its database into, for later versions of the program to open: docs/RELEASING.md.
const keepDatabases = "POSTERN_KEEP_DATABASES"

// TestF27ABackupPutBackTogetherWithTheEpochFileOfThatTimeIsNoticed: the file alone would find nothing wrong.
func TestF27ABackupPutBackTogetherWithTheEpochFileOfThatTimeIsNoticed(t *testing.T) {
	for _, database := range []string{sqlite, postgres} {
		t.Run(database, func(t *testing.T) {
			r := ownRig(t, database)
			r.within(t, func() {
				c := r.newChat()
				c.turns(1)
				r.ok(r.Bridge.Stop())
				epoch, archive := filepath.Join(filepath.Dir(r.Bridge.ConfigPath()), "postern.epoch"), filepath.Join(r.dir, "backup.zip")
				kept := must(os.ReadFile(epoch))(r.t)
				r.postern(0, "backup", "--out", archive, "--with-key")
				r.ok(r.Bridge.Start(r.ctx))
				known, copied := r.hs.Messages(r.management, renewalWords), len(c.matrix)
				c.turns(2)
				r.Bridge.Kill()
				c.forgotten(copied)
				r.emptyDatabase()
				// The key file is lost, too, and is in the archive.
				r.ok(os.Remove(filepath.Join(filepath.Dir(r.Bridge.ConfigPath()), "postern.key")))
				r.ok(os.WriteFile(epoch, kept, 0o600))
				r.postern(0, "restore", "--from", archive, "--with-key")
				c.fromMatrix(2)
				c.fromPhone(2)
				r.ok(r.Bridge.Start(r.ctx))
				c.turns(1)
				r.told(known)
				c.check()
			})
		})
	}
}

// TestMovingToPostgresLosesDoublesAndRekeysNothing: with what waits on either side, and attachments.
func TestMovingToPostgresLosesDoublesAndRekeysNothing(t *testing.T) {
	r := ownRig(t, sqlite)
	r.allowed = ""
	r.within(t, func() { r.move() })
}

func (r *rig) move() {
	c := r.newChat()
	done := r.loadFiles([]*chat{c}, 8)
	<-done
	c.turns(1)
	c.awaitFiles()
	c.fromPhone(2)
	c.fromMatrix(2)
	there := databasetest.PostgresConfig(lasting{r.t}).URI
	if _, complaint := r.postern(14, "move-to-postgres", "--to", there); !strings.Contains(complaint, "is using the database") {
		r.t.Errorf("while the bridge runs: %s", complaint)
	}
	r.Bridge.Kill()
	sessions, kept := r.sessions(), r.index()
	tables := r.tableCounts()
	var report struct {
		Moved struct {
			Tables []struct {
				Table string
				Rows  int
			}
			Replaced map[string]int
			LeftOut  []string `json:"left_out"`
		}
	}
	said, _ := r.postern(0, "move-to-postgres", "--to", there, "--json")
	r.ok(json.Unmarshal([]byte(said), &report))
	if len(report.Moved.Tables) != len(tables) || len(report.Moved.LeftOut) > 0 || len(report.Moved.Replaced) > 0 {
		r.t.Errorf("%d tables of %d: %s", len(report.Moved.Tables), len(tables), said)
	}
	if _, complaint := r.postern(14, "move-to-postgres", "--to", there); !strings.Contains(complaint, "moved already") {
		r.t.Errorf("a second time: %s", complaint)
	}
	// Started by mistake as it was configured.
	r.ok(r.Bridge.Launch())
	<-r.Bridge.Done()
	if code := r.Bridge.ExitCode(); code != 14 {
		r.t.Errorf("the bridge starts on what was left behind: exit status %d", code)
	}
	r.database, r.uri = postgres, there
	r.ok(r.Bridge.Set(map[string]any{"database.type": "postgres", "database.uri": there}))
	got := r.tableCounts()
	maps.DeleteFunc(got, func(name string, rows int) bool { _, wanted := tables[name]; return !wanted && rows == 0 }) // made for what is not in use
	if !maps.Equal(got, tables) {
		r.t.Errorf("the tables have %v rows, want %v", got, tables)
	}
	if got := r.sessions(); got != sessions {
		r.t.Errorf("sessions are\n%s, want\n%s", got, sessions)
	}
	if got := r.index(); !maps.Equal(got, kept) {
		r.t.Errorf("the index of attachments has %d rows, want %d", len(got), len(kept))
	}
	c.fromMatrix(2)
	c.fromPhone(2)
	r.ok(r.Bridge.Start(r.ctx))
	c.settled()
	<-r.loadFiles([]*chat{c}, 8)
	c.turns(1)
	r.Bridge.Kill()
	r.ok(r.Bridge.Start(r.ctx))
	c.turns(1)
	c.check()
	if n := r.renewals(); n != 0 {
		r.t.Errorf("%d notices of new sessions, want none", n)
	}
	if n := r.count("SELECT generation FROM postern_epoch"); n != 0 {
		r.t.Errorf("it was taken for an old copy %d times", n)
	}
}

// tableCounts are the tables, with how many rows each has.
func (r *rig) tableCounts() map[string]int {
	r.t.Helper()
	db := r.openDatabase()
	defer db.Close()
	query := "SELECT name FROM sqlite_master WHERE type='table'"
	if r.database == postgres {
		query = "SELECT table_name FROM information_schema.tables WHERE table_schema=current_schema()"
	}
	rows := must(db.QueryContext(r.ctx, query))(r.t)
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		r.ok(rows.Scan(&name))
		names = append(names, name)
	}
	r.ok(rows.Err())
	slices.Sort(names)
	counts := map[string]int{}
	for _, name := range names {
		counts[name] = r.count(`SELECT COUNT(*) FROM "` + name + `"`)
	}
	return counts
}
