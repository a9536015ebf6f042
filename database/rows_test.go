package database_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"postern/database"
	"postern/database/databasetest"
)

// rowWorld is a database whose rows are put back by somebody, with an account a that has sessions with twenty people.
type rowWorld struct {
	*epochWorld
	log *bytes.Buffer
	s   *database.SignalStore
}

// withRows runs fn on both databases.
func withRows(t *testing.T, fn func(w *rowWorld)) {
	withRowsAnd(t, true, fn)
}

// withRowsAnd runs fn on both databases, with an epoch file or without.
func withRowsAnd(t *testing.T, epochFile bool, fn func(w *rowWorld)) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		w := &rowWorld{log: &bytes.Buffer{}}
		if epochFile {
			cfg.EpochFile = filepath.Join(t.TempDir(), "epoch")
		}
		cfg.Log = zerolog.New(zerolog.SyncWriter(w.log))
		w.epochWorld = &epochWorld{T: t, cfg: cfg}
		w.start()
		putAccount(t, w.db, "a")
		putAccount(t, w.db, "b")
		for i := range 20 {
			w.put(w.person(i), "first")
		}
		w.ok(w.s.PutPreKeys(t.Context(), []database.PreKey{{ID: 1, Record: []byte("one")}, {ID: 2, Record: []byte("two")}}))
		w.ok(w.s.PutSignedPreKey(t.Context(), database.PreKey{ID: 1, Record: []byte("old"), CreatedAt: 1}))
		w.ok(w.s.PutSignedPreKey(t.Context(), database.PreKey{ID: 2, Record: []byte("new"), CreatedAt: 2}))
		fn(w)
		w.ok(w.db.CheckRows(t.Context()))
		w.ok(w.db.Close())
	})
}

func (w *rowWorld) start() {
	w.Helper()
	w.open()
	w.s = w.db.Signal("a")
}

func (w *rowWorld) restart() {
	w.Helper()
	w.ok(w.db.Close())
	w.start()
}

func (w *rowWorld) person(i int) string { return fmt.Sprintf("%d@lid", i) }

func (w *rowWorld) put(address, session string) {
	w.Helper()
	w.ok(w.s.Apply(w.Context(), database.SignalChange{Addr: address, Session: []byte(session), Identity: bytes.Repeat([]byte(session[:1]), 32)}, nil))
}

func (w *rowWorld) exec(query string, args ...any) {
	w.Helper()
	_, err := w.db.Raw().Exec(w.Context(), query, args...)
	w.ok(err)
}

// keep copies the rows of a table that are so, and returns what puts them back in place of what is there then.
func (w *rowWorld) keep(table, where string) (back func()) {
	w.Helper()
	kept := "kept_" + strings.ReplaceAll(table, "postern_", "")
	w.exec("CREATE TABLE " + kept + " AS SELECT * FROM " + table + " WHERE " + where)
	return func() {
		w.Helper()
		w.exec("DELETE FROM " + table + " WHERE " + where)
		w.exec("INSERT INTO " + table + " SELECT * FROM " + kept)
	}
}

// wantSession looks whether a session is there, and may be sent in.
func (w *rowWorld) wantSession(address, want string, wantOld bool) {
	w.Helper()
	got, old, err := w.s.LoadSession(w.Context(), address)
	if err != nil || string(got) != want || old != wantOld {
		w.Errorf("session of %s is %q, old: %t (%v), want %q, %t", address, got, old, err, want, wantOld)
	}
}

// wantTold looks whether the person is to be told, and the prekeys are to be replaced.
func (w *rowWorld) wantTold(told, keys bool) {
	w.Helper()
	r, err := w.s.Renewal(w.Context())
	if err != nil || (r.Untold != "") != told || (r.Keys != "") != keys {
		w.Errorf("to do: %+v (%v), want told: %t, keys: %t", r, err, told, keys)
	}
	w.ok(w.s.Told(w.Context(), r.Untold))
	w.ok(w.s.Renewed(w.Context(), r.Keys))
}

const ofPerson0 = "account_id='a' AND address='0@lid'"

func TestAnEarlierRowOfASessionPutBackWhileTheBridgeRunsIsNoticedAndNeverSentIn(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		back := w.keep("postern_signal_session", ofPerson0)
		w.put("0@lid", "second")
		w.wantSession("0@lid", "second", false)
		back()
		w.wantSession("0@lid", "first", true) // what comes late can be read in it
		w.wantTold(true, false)
		w.wantSession("0@lid", "first", true)
		w.wantTold(false, false) // once
		w.wantSession("1@lid", "first", false)
		w.put("0@lid", "third")
		w.wantSession("0@lid", "third", false)
		back() // again, below a version that has been mended
		w.wantSession("0@lid", "first", true)
		w.wantTold(true, false)
		if n := strings.Count(w.log.String(), "of an earlier time, or gone"); n != 2 {
			w.Errorf("the log says it %d times, want 2:\n%s", n, w.log)
		}
		w.restart()
		w.wantSession("0@lid", "first", true)
		w.wantTold(false, false)
	})
}

func TestAnEarlierRowOfASessionPutBackWhileTheBridgeIsStoppedIsNoticedAtTheStart(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		back := w.keep("postern_signal_session", ofPerson0)
		w.put("0@lid", "second")
		back()
		w.ok(w.db.Close())
		w.start()
		w.wantSession("0@lid", "first", true)
		w.wantTold(true, false)
		others := 0
		for i := 1; i < 20; i++ {
			share := database.RowBucket(w.person(i)) == database.RowBucket("0@lid")
			if share {
				others++
			}
			w.wantSession(w.person(i), "first", share)
		}
		if others > 5 {
			w.Errorf("%d of 19 others share a sum with one", others)
		}
		w.put("0@lid", "third")
		w.restart()
		w.wantSession("0@lid", "third", false)
		w.wantTold(false, false)
	})
}

func TestAnIdentityThatIsPutBackOrTakenAwayIsNoticed(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		back := w.keep("postern_signal_identity", ofPerson0)
		w.put("0@lid", "second")
		want := func(first string) {
			w.Helper()
			got, err := w.s.LoadIdentity(w.Context(), "0@lid")
			if err != nil || string(got) != strings.Repeat(first, 32*len(first)) {
				w.Errorf("identity %q (%v), want %q", got, err, first)
			}
		}
		back()
		want("f") // so that the contact's real key shows as a change
		w.wantTold(true, false)
		w.put("0@lid", "third")
		w.exec("DELETE FROM postern_signal_identity WHERE " + ofPerson0)
		want("")
		w.wantTold(true, false)
		want("")
		w.wantTold(false, false)
		w.put("0@lid", "fourth")
		back()
		w.restart()
		w.wantTold(true, false)
		w.wantSession("0@lid", "fourth", true) // in whose sum the identity is
	})
}

func TestAPreKeyThatWasUsedAndIsPutBackIsNotUsedAgain(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "running", false: "stopped"}[running], func(t *testing.T) {
			withRows(t, func(w *rowWorld) {
				ctx := w.Context()
				one, signed := w.keep("postern_signal_prekey", "account_id='a' AND key_id=1"), w.keep("postern_signal_signed_prekey", "account_id='a' AND key_id=1")
				id := uint32(1)
				w.ok(w.s.Apply(ctx, database.SignalChange{UsedPreKey: &id}, nil))
				w.ok(w.s.DeleteSignedPreKeys(ctx, 2))
				one()
				signed()
				if !running {
					w.restart()
					w.wantTold(true, true) // nobody knows which, so all are replaced
					return
				}
				if list, err := w.s.PreKeysToUpload(ctx, 10); err != nil || len(list) != 1 || list[0].ID != 2 {
					w.Errorf("to be uploaded: %v (%v)", list, err)
				}
				w.wantTold(true, false)
				if key, err := w.s.LoadPreKey(ctx, 1); key != nil || err != nil {
					w.Errorf("one-time prekey %q (%v)", key, err)
				}
				if key, err := w.s.LoadSignedPreKey(ctx, 1); key != nil || err != nil {
					w.Errorf("signed prekey %q (%v)", key, err)
				}
				if list, err := w.s.SignedPreKeys(ctx); err != nil || len(list) != 1 || string(list[0].Record) != "new" {
					w.Errorf("signed prekeys: %v (%v)", list, err)
				}
				w.wantTold(true, false)
				w.exec("DELETE FROM postern_signal_prekey")
				if key, err := w.s.LoadPreKey(ctx, 2); key != nil || err != nil {
					w.Errorf("a prekey that is gone is %q (%v)", key, err)
				}
				w.wantTold(true, false)
			})
		})
	}
}

// A partial restore of everything that one account has leaves its sums right: the sum over all heads tells.
func TestAllRowsOfAnAccountPutBackTogetherAreNoticedAtTheStart(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		var all []func()
		for _, table := range []string{"session", "identity", "prekey", "signed_prekey", "head"} {
			all = append(all, w.keep("postern_signal_"+table, "account_id='a'"))
		}
		w.put("0@lid", "second")
		for _, back := range all {
			back()
		}
		w.restart()
		w.wantSession("0@lid", "first", true)
		w.wantSession("1@lid", "first", true)
		w.wantTold(true, true)
	})
}

func TestAHeadThatIsDamagedOrGoneIsNoOldCopyUnnoticed(t *testing.T) {
	for what, statement := range map[string]string{
		"damaged":             "UPDATE postern_signal_head SET sums=(SELECT heads FROM postern_epoch)",
		"gone":                "DELETE FROM postern_signal_head",
		"under a version":     "UPDATE postern_signal_head SET version=version+1",
		"the sum over them":   "UPDATE postern_epoch SET heads=(SELECT sums FROM postern_signal_head WHERE account_id='a')",
		"another row of sums": "UPDATE postern_signal_head SET sums=(SELECT sums FROM postern_signal_head WHERE account_id='b') WHERE account_id='a'",
	} {
		t.Run(what, func(t *testing.T) {
			withRows(t, func(w *rowWorld) {
				w.ok(w.db.Signal("b").Apply(w.Context(), database.SignalChange{Addr: "x", Session: []byte("b's")}, nil))
				w.exec(statement)
				w.restart()
				w.wantSession("0@lid", "first", true)
				w.wantTold(true, true)
				w.put("0@lid", "second")
				w.restart()
				w.wantSession("0@lid", "second", false)
				w.wantTold(false, false)
			})
		})
	}
}

func TestADatabaseFromBeforeThereWereHeadsIsTrustedOnce(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		w.beforeHeads()
		w.start()
		w.wantSession("0@lid", "first", false)
		w.wantTold(false, false)
		back := w.keep("postern_signal_session", ofPerson0)
		w.put("0@lid", "second")
		back()
		w.restart()
		w.wantSession("0@lid", "first", true)
		w.wantTold(true, false)
	})
}

// TestTheSumsAreThoseOfTheRowsWhateverIsTakenBack runs changes at random, alone and together, of which some are taken back.
func TestTheSumsAreThoseOfTheRowsWhateverIsTakenBack(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		change := func(ctx context.Context) error {
			s := w.db.Signal([]string{"a", "b"}[rand.IntN(2)])
			switch rand.IntN(8) {
			case 0:
				return s.PutPreKeys(ctx, []database.PreKey{{ID: rand.Uint32N(200) + 1, Record: []byte("key")}})
			case 1:
				id := rand.Uint32N(200) + 1
				if err := s.Apply(ctx, database.SignalChange{UsedPreKey: &id}, nil); !errors.Is(err, database.ErrPreKeyGone) {
					return err
				}
				return nil
			case 2:
				return s.DeletePreKeys(ctx, []uint32{rand.Uint32N(200) + 1, rand.Uint32N(200) + 1})
			case 3:
				return s.PutSignedPreKey(ctx, database.PreKey{ID: rand.Uint32N(20) + 1, CreatedAt: rand.Int64N(9), Record: []byte("signed")})
			case 4:
				return s.DeleteSignedPreKeys(ctx, rand.Int64N(9))
			case 5:
				if rand.IntN(20) > 0 {
					return nil
				}
				return s.Reset(ctx)
			}
			return s.Apply(ctx, database.SignalChange{
				Addr: w.person(rand.IntN(30)), Session: []byte("session"), Identity: make([]byte, 32), DeleteSession: rand.IntN(9) == 0,
			}, nil)
		}
		for range 40 {
			var fns []func(ctx context.Context) error
			for range 1 + rand.IntN(6) {
				fns = append(fns, func(ctx context.Context) error {
					for range 1 + rand.IntN(3) {
						err := w.db.Do(ctx, func(ctx context.Context) error { // nested
							if err := change(ctx); err != nil || rand.IntN(3) > 0 {
								return err
							}
							return errMine
						})
						if err != nil && !errors.Is(err, errMine) {
							return err
						}
					}
					if rand.IntN(3) == 0 {
						return errMine
					}
					return nil
				})
			}
			for _, err := range w.db.DoTogether(w.Context(), fns...) {
				if err != nil && !errors.Is(err, errMine) {
					w.Fatal(err)
				}
			}
			if rand.IntN(5) == 0 {
				w.db.DoubtRows()
			}
			if err := w.db.CheckRows(w.Context()); err != nil {
				w.Fatal(err)
			}
		}
		w.ok(w.db.Accounts().Delete(w.Context(), "b"))
		w.ok(w.db.CheckRows(w.Context()))
		w.restart()
		w.wantTold(false, false)
	})
}

func TestRowsThatSomebodyChangesWhileACommitIsInDoubtEndTheProcess(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		back := w.keep("postern_signal_session", ofPerson0)
		w.put("0@lid", "second")
		back()
		w.db.DoubtRows()
		err := w.s.Apply(w.Context(), database.SignalChange{Addr: "1@lid", Session: []byte("second")}, nil)
		if !errors.Is(err, database.ErrFailed) {
			w.Errorf("got %v", err)
		}
		w.restart()
		w.wantSession("0@lid", "first", true)
		w.wantTold(true, false)
	})
}
