package database_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"postern/database"
)

// lag copies what a server has that does not get the next commits, and returns what fails over to it.
func (w *rowWorld) lag() (failOver func()) {
	w.Helper()
	back := []func(){
		w.keep("postern_signal_session", ofPerson0), w.keep("postern_signal_identity", ofPerson0),
		w.keep("postern_signal_head", "account_id='a'"), w.keep("postern_epoch", "id=1"),
	}
	return func() {
		w.Helper()
		for _, fn := range back {
			fn()
		}
	}
}

// beforeHeads stops the bridge and leaves what a program that knew no heads would.
func (w *rowWorld) beforeHeads() {
	w.Helper()
	w.exec("DELETE FROM postern_signal_head")
	w.exec("UPDATE postern_epoch SET heads=NULL")
	w.ok(w.db.Close())
	w.ok(database.ForgetHeads(w.cfg.EpochFile))
}

// wantStop looks whether nothing is committed any more.
func (w *rowWorld) wantStop() {
	w.Helper()
	err := w.s.Apply(w.Context(), database.SignalChange{Addr: "5@lid", Session: []byte("other")}, nil)
	if !errors.Is(err, database.ErrFailed) {
		w.Errorf("a change got %v, want that the database has failed", err)
	}
}

func TestAFailoverToACopyThatLagsBehindEndsTheProcessAndIsAnOldCopyAtTheNextStart(t *testing.T) {
	for _, epochFile := range []bool{true, false} {
		for _, inDoubt := range []bool{true, false} {
			t.Run(fmt.Sprintf("epoch file: %t, in doubt: %t", epochFile, inDoubt), func(t *testing.T) {
				withRowsAnd(t, epochFile, func(w *rowWorld) {
					failOver := w.lag()
					w.put("0@lid", "second")
					failOver()
					if inDoubt {
						w.db.DoubtRows()
					} else { // the number of the commit tells
						_, err := w.s.ReservePreKeyIDs(w.Context(), 1)
						if !errors.Is(err, database.ErrRolledBack) {
							w.Errorf("reserving ids got %v", err)
						}
					}
					w.wantStop()
					w.wantStop()
					w.restart()
					w.wantSession("0@lid", "first", true)
					w.wantSession("7@lid", "first", true)
					w.wantTold(true, true)
					w.put("0@lid", "third")
					w.restart()
					w.wantSession("0@lid", "third", false)
					w.wantTold(false, false)
				})
			})
		}
	}
}

func TestHeadsThatAreTakenAwayAltogetherAreMissed(t *testing.T) {
	t.Run("stopped", func(t *testing.T) {
		withRows(t, func(w *rowWorld) {
			back := w.keep("postern_signal_session", ofPerson0)
			w.put("0@lid", "second")
			back()
			w.exec("DELETE FROM postern_signal_head")
			w.exec("UPDATE postern_epoch SET heads=NULL")
			w.restart()
			w.wantSession("0@lid", "first", true)
			w.wantTold(true, true)
			w.put("0@lid", "third")
			w.restart()
			w.wantSession("0@lid", "third", false)
			w.wantTold(false, false)
		})
	})
	for _, epochFile := range []bool{true, false} {
		t.Run(fmt.Sprintf("running, epoch file: %t", epochFile), func(t *testing.T) {
			withRowsAnd(t, epochFile, func(w *rowWorld) {
				back := w.keep("postern_signal_session", ofPerson0)
				w.put("0@lid", "second")
				back()
				w.exec("DELETE FROM postern_signal_head")
				w.exec("UPDATE postern_epoch SET heads=NULL")
				w.db.DoubtRows()
				w.wantStop()
				w.restart()
				w.wantSession("0@lid", "first", true)
				w.wantTold(true, true)
			})
		})
	}
}

func TestAKillBetweenTheRenewalAndTheFirstHeadsIsNoAlarmOfItsOwn(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		w.beforeHeads()
		w.ok(os.Remove(w.cfg.EpochFile))
		plain := w.cfg
		w.cfg = database.WithEpochSteps(plain, func(step string) error {
			if step == "heads" {
				return errKilled
			}
			return nil
		})
		if db, err := database.Open(w.Context(), w.cfg); !errors.Is(err, errKilled) {
			w.Fatalf("%v, %v", db, err)
		}
		w.cfg = plain
		w.start()
		w.wantSession("0@lid", "first", true)
		w.wantTold(true, true)
		if strings.Contains(w.log.String(), "of an earlier time") {
			w.Errorf("rows are taken for earlier ones:\n%s", w.log)
		}
		w.ok(w.db.CheckRows(w.Context()))
		w.restart()
		w.wantTold(false, false)
	})
}

func TestEmptyingAnAccountThatIsGoneHarmsNobodyInTheSameTransaction(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		ctx := w.Context()
		w.ok(w.db.Signal("b").Apply(ctx, database.SignalChange{Addr: "x", Session: []byte("b's")}, nil))
		w.ok(w.db.Accounts().Delete(ctx, "b"))
		for range 2 {
			answers := w.db.DoTogether(ctx,
				func(ctx context.Context) error {
					return w.s.Apply(ctx, database.SignalChange{Addr: "77@lid", Session: []byte("x")}, nil)
				},
				func(ctx context.Context) error { _, err := w.db.Leavings().Empty(ctx, "b"); return err },
				func(ctx context.Context) error { return w.db.Signal("nobody").Reset(ctx) },
			)
			for i, err := range answers {
				if err != nil {
					w.Errorf("function %d got %v", i, err)
				}
			}
			w.ok(w.db.CheckRows(ctx))
		}
		w.restart()
		w.wantSession("77@lid", "x", false)
		w.wantTold(false, false)
	})
}
