package database_test

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"postern/database"
)

// An error of the operating system about a file has the methods of one about the network, and the database's own trouble is looked for
// with those: taken for that, the bridge would have found the database well again at each look, and connected anew each time.
func TestTroubleWithTheEpochFileIsNotTakenForTroubleWithTheDatabase(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		w.leave(false)
		var broken atomic.Bool
		w.cfg = database.WithEpochSteps(w.cfg, func(string) error {
			if broken.Load() {
				return &fs.PathError{Op: "open", Path: "postern.epoch.new", Err: syscall.ENOSPC}
			}
			return nil
		})
		w.open()
		broken.Store(true)
		var err error
		for range 2 * testBlock {
			if err = w.step(); err != nil {
				break
			}
		}
		if !errors.Is(err, database.ErrEpochFile) || errors.Is(err, database.ErrRolledBack) || w.db.EpochTrouble().IsZero() {
			w.Errorf("after a block: %v, trouble since %s", err, w.db.EpochTrouble())
		}
		if state := w.db.Health(); state.Reason != "" {
			w.Errorf("the database is said to be in trouble: %s", state.Reason)
		}
		broken.Store(false)
	})
}
