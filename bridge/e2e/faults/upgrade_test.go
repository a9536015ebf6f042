package faults_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/connector/killpoint"
	"postern/database/databasetest"
)

// TestF17KilledInEachStepOfTheSchema: the bridge begins with an empty database and dies within the first step, then within the second, and so on,
// so that each step is tried on a database of the version before; then a few times more while it starts. What is in a step is
// all there or not at all, and somebody can log in at the end.
func TestF17KilledInEachStepOfTheSchema(t *testing.T) {
	steps := len(must(filepath.Glob("../../../database/upgrades/*.sql"))(t))
	if steps < 6 {
		t.Fatalf("there are %d steps", steps)
	}
	for _, database := range []string{sqlite, postgres} {
		t.Run(database, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			r := must(newRig(ctx, t, database))(t)
			t.Cleanup(func() {
				if err := r.close(); err != nil && !t.Failed() {
					t.Error(err)
				}
			})
			r.Bridge.Kill()
			r.emptyDatabase()
			for step := range steps {
				nth := 2
				if step == 0 {
					nth = 1
				}
				r.arm(killpoint.Upgrading, nth)
				r.ok(r.Bridge.Launch())
				r.dead(killpoint.Upgrading)
				if version := r.schema(); version != step {
					t.Fatalf("killed in step %d, and the database has version %d", step+1, version)
				}
			}
			for range 4 {
				r.ok(r.Bridge.Launch())
				pause(rand.N(300*time.Millisecond), r.ctx.Done())
				r.Bridge.Kill()
			}
			r.run()
			if version := r.schema(); version != steps {
				t.Errorf("the database has version %d, want %d", version, steps)
			}
			n := r.newcomer()
			n.logIn()
			n.checkOne()
		})
	}
}

// emptyDatabase gives a bridge that is dead a database without anything in it.
func (r *rig) emptyDatabase() {
	r.t.Helper()
	// A file of another database is refused.
	r.ok(os.Remove(filepath.Join(filepath.Dir(r.Bridge.ConfigPath()), "postern.epoch")))
	if r.database == postgres {
		r.uri = databasetest.PostgresConfig(lasting{r.t}).URI
		r.ok(r.Bridge.Set(map[string]any{"database.uri": r.uri}))
		return
	}
	for _, path := range must(filepath.Glob(r.Bridge.DatabasePath() + "*"))(r.t) {
		r.ok(os.Remove(path))
	}
}

// schema is the version of the database's tables.
func (r *rig) schema() (version int) {
	r.t.Helper()
	db := r.openDatabase()
	defer db.Close()
	if err := db.QueryRowContext(r.ctx, "SELECT version FROM postern_version").Scan(&version); err != nil && !errors.Is(err, sql.ErrNoRows) {
		r.t.Fatal(err)
	}
	return version
}
