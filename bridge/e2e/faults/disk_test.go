package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"postern/database"
	"postern/database/diskfault"
)

// The rows F-40 and F-41: the disk under SQLite. Postgres has its own disk, and says what is wrong with it (F-42).

// diskFails makes the disk under the bridge's SQLite file fail: from the nth operation on, so many times, or until diskWorks if times is 0.
func (r *rig) diskFails(op string, nth, times, code int) {
	r.t.Helper()
	r.order(r.disk, fmt.Sprintf("%s %d %d %d\n", op, nth, times, code))
}

// diskWorks ends that, and says whether anything has failed.
func (r *rig) diskWorks() (failed bool) {
	r.t.Helper()
	if err := os.Remove(r.disk); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	return os.Remove(r.disk+".done") == nil
}

// diskHasFailed says whether something has failed since diskFails.
func (r *rig) diskHasFailed() bool {
	_, err := os.Stat(r.disk + ".done")
	return err == nil
}

// readiness is what the bridge answers on /_matrix/mau/ready.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
}

// readiness asks whether the bridge is ready, and whether it lives.
func (r *rig) readiness() readiness {
	r.t.Helper()
	ask := func(path string, into any) int {
		req := must(http.NewRequestWithContext(r.ctx, http.MethodGet, r.Bridge.Address+path, nil))(r.t)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			r.t.Fatalf("the bridge does not answer: %v", err)
		}
		defer res.Body.Close()
		r.ok(json.NewDecoder(res.Body).Decode(into))
		return res.StatusCode
	}
	var live struct{ Live bool }
	if code := ask("/_matrix/mau/live", &live); code != http.StatusOK || !live.Live {
		r.t.Errorf("live answers %d", code)
	}
	var now readiness
	if code := ask("/_matrix/mau/ready", &now); (code == http.StatusOK) != now.Ready {
		r.t.Errorf("ready answers %d and %v", code, now.Ready)
	}
	return now
}

// soon waits for a condition, or for the bridge to end.
func (r *rig) soon(what string, holds func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-r.Bridge.Done():
			r.t.Fatalf("the bridge ended while waiting for %s", what)
		case <-r.ctx.Done():
			r.t.Fatalf("%s does not come about", what)
		}
	}
}

// notReady waits until the bridge says that it cannot take anything, and why.
func (r *rig) notReady(reason string) {
	r.t.Helper()
	var last readiness
	r.soon("readiness false with "+reason, func() bool {
		last = r.readiness()
		return !last.Ready && strings.Contains(strings.Join(last.Reasons, " "), reason)
	})
}

// readyAgain waits until the bridge is ready.
func (r *rig) readyAgain() {
	r.t.Helper()
	r.soon("readiness", func() bool { return r.readiness().Ready })
}

// onSQLite plays a row that is about its file.
func onSQLite(t *testing.T, play func(r *rig)) {
	t.Run(sqlite, func(t *testing.T) { play(use(t, sqlite)) })
}

// logged counts the lines of the bridge's log with a text, from a place on.
func (r *rig) logged(from int64, text string) int {
	r.t.Helper()
	raw := must(os.ReadFile(r.Bridge.LogPath()))(r.t)
	return strings.Count(string(raw[from:]), text)
}

// loggedOfHers is logged for the lines about alice's account: others may be logged in, since worlds are shared.
func (r *rig) loggedOfHers(from int64, text string) (n int) {
	r.t.Helper()
	db := r.openDatabase()
	defer db.Close()
	var account string
	r.ok(db.QueryRowContext(r.ctx, "SELECT id FROM postern_account WHERE mxid='"+r.alice.UserID+"'").Scan(&account))
	raw := must(os.ReadFile(r.Bridge.LogPath()))(r.t)
	for line := range strings.Lines(string(raw[from:])) {
		if strings.Contains(line, text) && strings.Contains(line, `"account":"`+account+`"`) {
			n++
		}
	}
	return n
}

func (r *rig) logSize() int64 {
	r.t.Helper()
	return must(os.Stat(r.Bridge.LogPath()))(r.t).Size()
}

// TestF40TheDiskIsFullFromAnyWriteOn: both sides write, and from one write of the bridge on there is no room. It says so, once, acknowledges nothing,
// and takes everything up again when there is room, in the same process.
func TestF40TheDiskIsFullFromAnyWriteOn(t *testing.T) {
	onSQLite(t, func(r *rig) {
		if all() {
			ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Minute)
			defer cancel()
			r.ctx = ctx
		}
		c := r.newChat()
		pid, played := r.Bridge.PID(), 0
		for n := 1; ; n += step(n) {
			from := r.logSize()
			r.diskFails("write", n, 0, diskfault.Full)
			c.fromPhone(1)
			c.fromMatrix(1)
			// Either the disk fills up on the way, or everything arrives before it does.
			arrived := make(chan struct{})
			go func() {
				defer close(arrived)
				c.arrived()
			}()
			full := false
			r.soon("a full disk, or everything to arrive", func() bool {
				select {
				case <-arrived:
					return true
				default:
					full = r.diskHasFailed()
					return full
				}
			})
			if full {
				played++
				r.notReady(database.ReasonFull)
				if n%7 == 1 { // what was acknowledged is on disk
					r.Bridge.Kill()
					r.diskWorks()
					r.run()
					pid = r.Bridge.PID()
				}
			}
			r.diskWorks()
			r.readyAgain()
			<-arrived
			if told := r.logged(from, "The database cannot commit"); full && n%7 != 1 && told != 1 {
				r.t.Errorf("write %d: the operator is told %d times", n, told)
			}
			if !full {
				break
			}
		}
		c.check()
		if r.Bridge.PID() != pid {
			r.t.Error("the bridge was restarted")
		}
		if played < 5 {
			r.t.Errorf("the disk was full %d times only", played)
		}
		r.t.Logf("full at %d places", played)
	})
}

// step is the way to the next write to fail at: in the short run a few of them.
func step(n int) int {
	if all() {
		return 1
	}
	return n + 2
}

// arrived waits until all that was said has arrived, without failing the test.
func (c *chat) arrived() { c.settled() }

// TestF41ASyncThatFailsOnceEndsTheBridge: nothing is acknowledged after it, the bridge says what it was and ends, and
// the next process goes on with what is on disk.
func TestF41ASyncThatFailsOnceEndsTheBridge(t *testing.T) {
	last := 3
	if all() {
		last = 24
	}
	onSQLite(t, func(r *rig) {
		if all() {
			ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Minute)
			defer cancel()
			r.ctx = ctx
		}
		c := r.newChat()
		for n := 1; n <= last; n++ {
			from := r.logSize()
			r.diskFails("sync", n, 1, diskfault.IOErrFsync)
			for !r.diskHasFailed() {
				c.fromPhone(1)
				c.fromMatrix(1)
			}
			select {
			case <-r.Bridge.Done():
			case <-r.ctx.Done():
				r.t.Fatalf("sync %d: the bridge goes on", n)
			}
			if code := r.Bridge.ExitCode(); code != 14 {
				r.t.Errorf("sync %d: the bridge ended with %d", n, code)
			}
			if r.logged(from, "postern: database: failed for good") != 1 {
				r.t.Errorf("sync %d: the bridge does not say why it ends", n)
			}
			r.diskWorks()
			r.run()
			c.fromPhone(1)
			c.fromMatrix(1)
			c.settled()
		}
		c.check()
	})
}

// TestF44ADamagedPageIsFoundAtTheStart: the file of the stopped bridge is damaged. The bridge refuses it, says what is to be done, and leaves it
// as it is; with the file put back it goes on.
func TestF44ADamagedPageIsFoundAtTheStart(t *testing.T) {
	onSQLite(t, func(r *rig) {
		c := r.newChat()
		r.ok(r.Bridge.Stop())
		path := r.Bridge.DatabasePath()
		whole := must(os.ReadFile(path))(r.t)
		log, err := os.ReadFile(path + "-wal") // there may be something in it still
		if !errors.Is(err, os.ErrNotExist) {
			r.ok(err)
		}
		broken := append([]byte(nil), whole...)
		for page := 3; page < len(broken)/4096; page += 5 {
			broken[page*4096+3] ^= 0x40 // how many cells the page has
		}
		r.ok(os.WriteFile(path, broken, 0o600))
		from := r.logSize()
		r.ok(r.Bridge.Launch())
		select {
		case <-r.Bridge.Done():
		case <-r.ctx.Done():
			r.t.Fatal("the bridge runs on a damaged file")
		}
		if code := r.Bridge.ExitCode(); code != 14 {
			r.t.Errorf("the bridge ended with %d", code)
		}
		if r.logged(from, ".recover") == 0 || r.logged(from, "restore a backup") == 0 {
			r.t.Error("the bridge does not say what is to be done")
		}
		r.ok(os.WriteFile(path, whole, 0o600))
		r.ok(os.WriteFile(path+"-wal", log, 0o600))
		r.ok(os.RemoveAll(path + "-shm"))
		r.run()
		c.fromPhone(1)
		c.fromMatrix(1)
		c.check()
	})
}

// TestF44DamageThatIsFoundWhileTheBridgeRunsEndsIt: pages read as damaged. Nothing is acknowledged from what cannot be trusted.
func TestF44DamageThatIsFoundWhileTheBridgeRunsEndsIt(t *testing.T) {
	const corrupt = 11
	onSQLite(t, func(r *rig) {
		c := r.newChat()
		r.diskFails("read", 1, 0, corrupt)
		for !r.diskHasFailed() {
			c.fromPhone(1)
			c.fromMatrix(1)
		}
		select {
		case <-r.Bridge.Done():
		case <-r.ctx.Done():
			r.t.Fatal("the bridge goes on")
		}
		if code := r.Bridge.ExitCode(); code != 14 {
			r.t.Errorf("the bridge ended with %d", code)
		}
		r.diskWorks()
		r.run()
		c.fromMatrix(1)
		c.check()
	})
}
