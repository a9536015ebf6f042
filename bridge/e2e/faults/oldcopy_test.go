package faults_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/bridge/e2e/faults/homeserver"
	"postern/connector/killpoint"
	"postern/database/databasetest"
)

// TestF27ARestoredOldDatabaseIsNoticedAndNoKeyIsUsedTwice puts an old copy of the database in the place of the newest one. What was said since is on both
// sides and not in the copy; the gatekeeper complains if one message key encrypts two messages, shown or not.
func TestF27ARestoredOldDatabaseIsNoticedAndNoKeyIsUsedTwice(t *testing.T) {
	for _, database := range []string{sqlite, postgres} {
		t.Run(database, func(t *testing.T) {
			r := ownRig(t, database)
			t.Run("after an orderly stop", func(t *testing.T) { r.within(t, func() { r.putBack(false) }) })
			t.Run("after a kill", func(t *testing.T) { r.within(t, func() { r.putBack(true) }) })
		})
	}
}

// ownRig is a world that no other test uses, since complaints stay.
func ownRig(t *testing.T, database string) *rig {
	t.Helper()
	r := must(newRig(t.Context(), t, database))(t)
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Errorf("closing the world: %v", err)
		}
	})
	// What was sent since the copy was made goes out once more under the same ids, in new sessions, because the bridge cannot know.
	// The gatekeeper and phones drop it by its id, and the gatekeeper says so.
	r.allowed = "a second message, or a second encryption, under an id already used"
	return r
}

// within runs a part of a test in a world that outlives it.
func (r *rig) within(t *testing.T, play func()) {
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	r.t, r.ctx = t, ctx
	r.run()
	defer func() {
		if t.Failed() {
			r.showLog()
		}
	}()
	play()
}

// copyName is where copies of the database go.
func (r *rig) copyName() string {
	if r.database == sqlite {
		return filepath.Join(r.dir, "copy.db")
	}
	return databasetest.NameOf(r.t, r.uri) + "_copy"
}

// backUp copies the database. On SQLite it may be in use.
func (r *rig) backUp(inUse bool) {
	r.t.Helper()
	switch {
	case r.database == postgres:
		databasetest.CopyPostgres(r.t, r.uri, r.copyName())
	case inUse:
		r.ok(os.RemoveAll(r.copyName()))
		db := must(sql.Open("sqlite3", r.Bridge.DatabasePath()))(r.t)
		defer db.Close()
		must(db.ExecContext(r.ctx, "VACUUM INTO ?", r.copyName()))(r.t)
	default:
		databasetest.CopySQLite(r.t, r.Bridge.DatabasePath(), r.copyName())
	}
}

// restore puts the copy in the place of the database.
func (r *rig) restore() {
	r.t.Helper()
	if r.database == sqlite {
		databasetest.CopySQLite(r.t, r.copyName(), r.Bridge.DatabasePath())
		return
	}
	databasetest.CopyPostgres(r.t, databasetest.WithDatabase(r.t, r.uri, r.copyName()), databasetest.NameOf(r.t, r.uri))
}

// renewalWords are in the notice that says that the database was an old copy.
const renewalWords = "new encryption sessions"

// renewals counts those notices.
func (r *rig) renewals() int { return len(r.hs.Messages(r.management, renewalWords)) }

// aged talks, copies the database, talks on, ends the bridge and puts the copy in its place. What both sides write then waits
// for the bridge.
func (r *rig) aged(killed bool) *chat {
	r.t.Helper()
	c := r.newChat()
	c.turns(1)
	if killed && r.database == sqlite {
		r.backUp(true)
	} else {
		r.ok(r.Bridge.Stop())
		r.backUp(false)
		r.ok(r.Bridge.Start(r.ctx))
	}
	copied := len(c.matrix)
	c.turns(2)
	if killed {
		c.fromMatrix(1)
		r.Bridge.Kill()
	} else {
		r.ok(r.Bridge.Stop())
	}
	c.forgotten(copied)
	r.restore()
	c.fromMatrix(2)
	c.fromPhone(2)
	return c
}

// forgotten notes that the bridge does not know of what alice has said since the copy: it tells again how far that has come, and may have
// told more before.
func (c *chat) forgotten(from int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retold == nil {
		c.retold = map[string]bool{}
	}
	for _, s := range c.matrix[from:] {
		c.retold[s.text] = true
	}
}

// turns lets both sides speak in turn, so that each of them makes ratchet steps.
func (c *chat) turns(n int) {
	c.r.t.Helper()
	for range n {
		c.fromMatrix(2)
		c.settled()
		c.fromPhone(2)
		c.settled()
	}
}

// putBack is the whole story. After a kill the bridge is killed twice more while it replaces its prekeys: it begins again, and tells the
// user once.
func (r *rig) putBack(killed bool) {
	before, known := r.renewals(), r.hs.Messages(r.management, renewalWords)
	c := r.aged(killed)
	if killed {
		for _, point := range killpoint.Renewal {
			r.arm(point, 1)
			r.ok(r.Bridge.Launch())
			r.dead(point)
		}
	}
	r.ok(r.Bridge.Start(r.ctx))
	c.turns(2)
	r.told(known)
	r.ok(r.Bridge.Stop())
	r.ok(r.Bridge.Start(r.ctx))
	c.turns(1)
	r.Bridge.Kill()
	r.ok(r.Bridge.Start(r.ctx))
	c.turns(1)
	c.check()
	if n := r.renewals() - before; n != 1 {
		r.t.Errorf("%d notices, want 1", n)
	}
}

// told waits for a notice besides those known.
func (r *rig) told(known []homeserver.Event) {
	r.t.Helper()
	must(r.hs.Expect(r.ctx, r.management, "the notice", func(e *homeserver.Event) bool {
		return strings.Contains(e.Body(), renewalWords) && !slices.ContainsFunc(known, func(k homeserver.Event) bool { return k.ID == e.ID })
	}))(r.t)
}

// complaintsBut leaves out what a test expects.
func complaintsBut(list []json.RawMessage, allowed string) (out []string) {
	for _, raw := range list {
		if allowed == "" || !strings.Contains(string(raw), allowed) {
			out = append(out, string(raw))
		}
	}
	return out
}
