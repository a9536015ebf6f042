package faults_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/database"
	"postern/database/databasetest"
)

// The row F-42: the database is locked by somebody else, restarted, or gone in the middle of a commit.

// lockFile has another process's view of the SQLite file: a transaction that writes, until the function is called.
func (r *rig) lockFile() (unlock func()) {
	r.t.Helper()
	db := must(sql.Open("sqlite3-fk-wal", "file:"+r.Bridge.DatabasePath()+"?_txlock=immediate"))(r.t)
	tx := must(db.BeginTx(context.WithoutCancel(r.ctx), nil))(r.t)
	return func() {
		r.t.Helper()
		r.ok(tx.Rollback())
		r.ok(db.Close())
	}
}

// TestF42TheFileIsLockedByAnotherProcess: for a second nobody notices; for longer than SQLite waits, the bridge says so, and goes on by itself.
func TestF42TheFileIsLockedByAnotherProcess(t *testing.T) {
	onSQLite(t, func(r *rig) {
		c := r.newChat()
		from, pid := r.logSize(), r.Bridge.PID()
		unlock := r.lockFile()
		second := time.NewTimer(time.Second)
		c.fromPhone(2)
		c.fromMatrix(2)
		<-second.C
		unlock()
		c.settled()
		if n := r.logged(from, "The database cannot commit"); n > 0 {
			r.t.Errorf("a lock of a second is told %d times", n)
		}
		unlock = r.lockFile()
		c.fromPhone(2)
		c.fromMatrix(2)
		r.notReady(database.ReasonLocked)
		if all() { // longer than anybody waits
			long := time.NewTimer(75 * time.Second)
			<-long.C
			r.notReady(database.ReasonLocked)
		}
		unlock()
		r.readyAgain()
		c.check()
		if n := r.logged(from, "The database cannot commit"); n != 1 {
			r.t.Errorf("the operator is told %d times", n)
		}
		if r.Bridge.PID() != pid {
			r.t.Error("the bridge was restarted")
		}
	})
}

// behindProxy is a world with a Postgres server of its own, and a proxy before it.
const behindProxy = "Postgres behind a proxy"

// TestF42TheServerIsRestartedUnderLoad: by its admin and by a crash, while both sides write.
func TestF42TheServerIsRestartedUnderLoad(t *testing.T) {
	t.Run(postgres, func(t *testing.T) {
		r := use(t, behindProxy)
		c := r.newChat()
		pid := r.Bridge.PID()
		for _, stop := range []func(){r.server.Shutdown, r.server.Kill} {
			from := r.logSize()
			done := r.load([]*chat{c}, 6)
			stop()
			<-done
			r.notReady(database.ReasonAway)
			r.ok(r.server.Start())
			r.readyAgain()
			c.settled()
			if n := r.logged(from, "The database cannot commit"); n != 1 {
				r.t.Errorf("the operator is told %d times", n)
			}
		}
		c.check()
		if r.Bridge.PID() != pid {
			r.t.Error("the bridge was restarted")
		}
	})
}

// TestF42TheConnectionIsCutInACommit: the server has never seen it, or has done it and nobody hears that.
func TestF42TheConnectionIsCutInACommit(t *testing.T) {
	last := 6
	if all() {
		last = 24
	}
	for _, what := range []cut{cutBefore, cutAfter} {
		t.Run(map[cut]string{cutBefore: "it has not happened", cutAfter: "it has happened"}[what], func(t *testing.T) {
			t.Run(postgres, func(t *testing.T) {
				r := use(t, behindProxy)
				c := r.newChat()
				pid := r.Bridge.PID()
				for n := 1; n <= last; n++ {
					hit := r.proxy.next(what, n)
					reached := func() bool {
						select {
						case <-hit:
							return true
						default:
							return false
						}
					}
					for !reached() {
						c.fromPhone(1)
						c.fromMatrix(1)
						c.settled()
					}
				}
				r.readyAgain()
				c.check()
				if r.Bridge.PID() != pid {
					r.t.Error("the bridge was restarted")
				}
			})
		})
	}
}

// TestF42WhatACommitOfUnknownOutcomeHasStoredIsHandled: a transaction of the homeserver is stored, and the bridge does not hear that. When it is
// repeated, all of it is known; and the homeserver, asked what the bridge has missed, shows nothing.
func TestF42WhatACommitOfUnknownOutcomeHasStoredIsHandled(t *testing.T) {
	t.Run(postgres, func(t *testing.T) {
		r := use(t, behindProxy)
		c := r.newChat()
		defer r.hs.AddFault(homeserver.Fault{
			Method: "GET", Path: "/sync", Status: 200, Kind: "application/json", Body: `{"next_batch":"s0_0","rooms":{}}`,
			Users: func(id string) bool { return id != r.alice.UserID },
		})()
		for n := 1; n <= 4; n++ { // the first is the journal's, unless something of the message before is still to be stored
			hit := r.proxy.next(cutAfter, n)
			for reached := false; !reached; {
				c.fromMatrix(1)
				c.settled()
				select {
				case <-hit:
					reached = true
				default:
				}
			}
		}
		r.readyAgain()
		c.check()
	})
}

// ownServer gives the world a Postgres server of its own behind a proxy.
func (r *rig) ownServer() string {
	t := lasting{r.t}
	r.server = databasetest.StartPostgres(t)
	var dsn string
	r.proxy, dsn = startProxy(t, databasetest.NewPostgresDatabase(t, r.server.DSN))
	return dsn
}
