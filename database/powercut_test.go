//go:build linux && cgo

package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"postern/database"
	"postern/database/databasetest"
	"postern/database/databasetest/disklog"
)

func cutURI(uri string) (path, query string, found bool) { return strings.Cut(uri, "?") }

// powerChecker opens what cuts leave and compares it with the run.
type powerChecker struct {
	run    *powerRun
	sealer *database.DB // any database under the same key
	need   []int        // before each place of the recording: how many steps have to be there
	told   []int        // and how many would have to if the framework's commits were durable by themselves
	keys   map[powerStep]int
	dir    string

	states, torn, scattered int
	missing                 int // states without a row that the framework had been told is committed
}

func newPowerChecker(t *testing.T, run *powerRun) (*powerChecker, *disklog.Disk) {
	t.Helper()
	ops, failed := run.rec.Ops()
	if failed > 0 {
		t.Fatalf("%d calls to the disk failed", failed)
	}
	c := &powerChecker{run: run, sealer: databasetest.Open(t, databasetest.SQLiteConfig(t)), dir: t.TempDir(), keys: map[powerStep]int{}}
	need, told := 0, 0
	for _, op := range ops {
		c.need, c.told = append(c.need, need), append(c.told, told)
		if op.Kind != disklog.Mark {
			continue
		}
		told = max(told, op.Mark+1)
		if run.steps[op.Mark].kind != powerFramework {
			need = max(need, op.Mark+1)
		}
	}
	c.need, c.told = append(c.need, need), append(c.told, told)
	for place, step := range run.steps {
		c.keys[step] = place
	}
	return c, disklog.NewDisk(ops)
}

// check rebuilds one state and opens it. The order of commits is one for both pools: so what is there has to be
// its beginning, without a gap, at least up to the last of ours that was reported.
func (c *powerChecker) check(ctx context.Context, disk *disklog.Disk, s disklog.State, whole bool) (err error) {
	path := filepath.Join(c.dir, "cut.db")
	for _, old := range []string{path, path + "-wal", path + "-shm", path + "-journal"} {
		if err = os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for name, content := range disk.Files(s) {
		name = strings.Replace(name, "postern.db", "cut.db", 1)
		if err = os.WriteFile(filepath.Join(c.dir, name), content, 0o600); err != nil {
			return err
		}
	}
	// What the cut has left is looked at without syncs: nothing here is kept.
	db, err := sql.Open("sqlite3", "file:"+path+"?_synchronous=OFF&_foreign_keys=on")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	var verdict string
	if err = db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		return fmt.Errorf("integrity_check: %s (%w)", verdict, err)
	}
	there, err := c.beginning(ctx, db, c.need[s.At])
	c.count(s, there)
	if err != nil || !whole {
		return err
	}
	if err = db.Close(); err != nil {
		return err
	}
	return c.open(ctx, path, there)
}

func (c *powerChecker) count(s disklog.State, there int) {
	c.states++
	if s.Torn {
		c.torn++
	} else if s.Scattered {
		c.scattered++
	}
	if there < c.told[s.At] {
		c.missing++
	}
}

// beginning says how many steps are there.
func (c *powerChecker) beginning(ctx context.Context, db *sql.DB, need int) (int, error) {
	present := make([]bool, len(c.run.steps))
	var tables int
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('postern_in', 'message')").Scan(&tables)
	if err != nil {
		return 0, err
	}
	if tables < 2 { // cut while the tables were made
		return 0, c.enough(0, need)
	}
	rows, err := db.QueryContext(ctx, `SELECT item_id, c.jid, CASE WHEN q.state=1 THEN 1 ELSE 0 END, 0 FROM postern_in q
		JOIN postern_chat USING (account_id) JOIN postern_contact c ON c.id=contact_id WHERE postern_chat.id=q.chat_id
		UNION ALL SELECT id, room_id || '@lid', 0, 1 FROM message`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var item, address string
		var done, framework bool
		if err = rows.Scan(&item, &address, &done, &framework); err != nil {
			return 0, err
		}
		chat, err := strconv.Atoi(strings.TrimSuffix(address, "@lid"))
		if err != nil {
			return 0, err
		}
		kinds := []int{powerArrived}
		if framework {
			kinds = []int{powerFramework}
		} else if done {
			kinds = append(kinds, powerFinished)
		}
		for _, kind := range kinds {
			place, ok := c.keys[powerStep{kind, item, chat}]
			if !ok {
				return 0, fmt.Errorf("a row that nobody wrote: %s", item)
			}
			present[place] = true
		}
	}
	if err = rows.Err(); err != nil {
		return 0, err
	}
	there := 0
	for there < len(present) && present[there] {
		there++
	}
	for place := there; place < len(present); place++ {
		if present[place] {
			return 0, fmt.Errorf("step %d (kind %d) is there and step %d (kind %d) is not", place, c.run.steps[place].kind, there, c.run.steps[there].kind)
		}
	}
	if err = c.enough(there, need); err != nil {
		return 0, err
	}
	return there, c.sessions(ctx, db, there)
}

var errPowerLost = errors.New("what was reported committed is missing")

func (c *powerChecker) enough(there, need int) error {
	if there < need {
		return fmt.Errorf("%w: step %d (kind %d) and %d more", errPowerLost, there, c.run.steps[there].kind, need-there-1)
	}
	return nil
}

// sessions checks that each session is the one of the last step that moved it on.
func (c *powerChecker) sessions(ctx context.Context, db *sql.DB, there int) error {
	want := map[string]int{}
	for place, step := range c.run.steps[:there] {
		if step.kind == powerArrived {
			want[powerAddress(step.chat)] = place
		}
	}
	rows, err := db.QueryContext(ctx, "SELECT address, version, session FROM postern_signal_session")
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var address string
		var version int
		var sealed []byte
		if err = rows.Scan(&address, &version, &sealed); err != nil {
			return err
		}
		session, err := c.sealer.Unseal("postern_signal_session.session", database.RowKey(powerAccount, address), version, sealed)
		if err != nil {
			return err
		}
		if place, err := strconv.Atoi(string(session)); err != nil || place != want[address] {
			return fmt.Errorf("the session of %s is of step %s, want %d", address, session, want[address])
		}
	}
	if n != len(want) {
		return fmt.Errorf("%d sessions, want %d", n, len(want))
	}
	return rows.Err()
}

// open opens the database as the bridge does at its start, and asks for the work that is left.
func (c *powerChecker) open(ctx context.Context, path string, there int) error {
	cfg := c.run.cfg
	cfg.URI, cfg.Holder = path, ""
	db, err := database.Open(ctx, cfg)
	if err != nil {
		return err
	}
	pending, want := 0, 0
	for _, step := range c.run.steps[:there] {
		switch step.kind {
		case powerArrived:
			want++
		case powerFinished:
			want--
		}
	}
	for _, chat := range c.run.chats {
		list, err := db.Queue(powerAccount).PendingIn(ctx, chat.ID, -1, len(c.run.steps))
		if err != nil {
			return errors.Join(err, db.Close())
		}
		for _, row := range list {
			if string(row.Payload) != "body "+row.ItemID {
				return errors.Join(fmt.Errorf("the payload of %s is another", row.ItemID), db.Close())
			}
		}
		pending += len(list)
	}
	if pending != want {
		err = fmt.Errorf("%d items are pending, want %d", pending, want)
	}
	return errors.Join(err, db.Close())
}

// powerSample is so many of the states of a run, or all of them (0), in their order.
func powerSample(disk *disklog.Disk, n int) (sample []disklog.State, all int) {
	states := disk.States(rand.IntN)
	if n == 0 || n >= len(states) {
		return states, len(states)
	}
	for left, s := range states {
		if rand.IntN(len(states)-left) < n-len(sample) { // each with the same chance
			sample = append(sample, s)
		}
	}
	return sample, len(states)
}

// checkCoverage says what the recording has, and that it went through all that can go wrong: the log copied into the
// file more than once, begun anew, and removed at the restart.
func checkCoverage(t *testing.T, run *powerRun) {
	t.Helper()
	ops, _ := run.rec.Ops()
	names := map[int64]string{}
	writes, syncs, removed, begun := map[string]int{}, map[string]int{}, 0, 0
	for _, op := range ops {
		name := strings.TrimPrefix(names[op.File], "postern.db")
		switch op.Kind {
		case disklog.Create:
			names[op.File] = op.Name
		case disklog.Write:
			writes[name]++
			if name == "-wal" && op.Offset == 0 {
				begun++
			}
		case disklog.SyncEnd:
			syncs[name]++
		case disklog.Remove:
			removed++
		}
	}
	t.Logf("%d writes and %d syncs of the file, %d and %d of the log, which was begun %d times; %d removals",
		writes[""], syncs[""], writes["-wal"], syncs["-wal"], begun, removed)
	if syncs[""] < 4 || syncs["-wal"] < 100 || begun < 4 || removed < 2 {
		t.Error("the run was too short, or was not recorded")
	}
}

// F-43. Which states there are depends on how the goroutines of the run met; t.ArtifactDir has the files of one
// that fails.
func TestAfterAPowerCutNothingThatWasReportedCommittedIsMissing(t *testing.T) {
	run := recordRun(t, 1_000, "")
	c, disk := newPowerChecker(t, run)
	checkCoverage(t, run)
	n := 120
	if os.Getenv("POSTERN_ALL") == "1" {
		n = 0
	}
	states, all := powerSample(disk, n)
	for i, s := range states {
		err := c.check(t.Context(), disk, s, i%20 == 0)
		if err == nil {
			continue
		}
		for name, content := range disk.Files(s) {
			if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name), content, 0o600); err != nil {
				t.Error(err)
			}
		}
		t.Fatalf("a cut at %d: %v", s.At, err)
	}
	t.Logf("%d of %d states, of which %d with a torn write and %d with scattered ones; in %d the framework's newest rows were missing",
		c.states, all, c.torn, c.scattered, c.missing)
	if c.missing == 0 {
		t.Error("no cut took a row of the framework that no commit of ours came after: the model of cuts is too kind")
	}
}

// The check above has to notice when our commits are no more than the framework's, or less.
func TestCommitsThatAreNotSyncedAreCaughtByThePowerCutCheck(t *testing.T) {
	for _, weak := range []string{"NORMAL", "OFF"} {
		t.Run("synchronous="+weak, func(t *testing.T) {
			run := recordRun(t, 100, weak)
			c, disk := newPowerChecker(t, run)
			states, all := powerSample(disk, 25)
			lost := 0
			for _, s := range states {
				if errors.Is(c.check(t.Context(), disk, s, false), errPowerLost) {
					lost++
				}
			}
			t.Logf("something that was reported is missing in %d of %d states (of %d)", lost, len(states), all)
			if lost == 0 {
				t.Error("nothing was found missing")
			}
		})
	}
}

func TestADatabaseWithAGapIsCaughtByThePowerCutCheck(t *testing.T) {
	run := recordRun(t, 40, "")
	c, _ := newPowerChecker(t, run)
	path, _, _ := cutURI(run.cfg.URI)
	db, err := sql.Open("sqlite3", "file:"+path+"?_synchronous=OFF")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if there, err := c.beginning(t.Context(), db, len(run.steps)); err != nil || there != len(run.steps) {
		t.Fatalf("of the whole run %d steps of %d are there: %v", there, len(run.steps), err)
	}
	for _, change := range []string{
		"DELETE FROM message WHERE id='M10'",
		"DELETE FROM postern_in WHERE item_id='M10'",
		"UPDATE postern_in SET state=0 WHERE item_id='M10'",
		"UPDATE postern_signal_session SET version=version-1 WHERE address='3@lid'",
		"DELETE FROM postern_signal_session WHERE address='3@lid'",
	} {
		t.Run(change, func(t *testing.T) {
			if _, err := db.Exec("BEGIN; " + change); err != nil {
				t.Fatal(err)
			}
			if _, err := c.beginning(t.Context(), db, 0); err == nil {
				t.Error("nothing was noticed")
			}
			if _, err := db.Exec("ROLLBACK"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
