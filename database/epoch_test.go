package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/database"
	"postern/database/databasetest"
)

// testBlock is small, so that blocks are used up fast.
const testBlock = 6

// epochWorld is a database with an epoch file that is opened, left and copied again and again.
type epochWorld struct {
	*testing.T
	cfg database.Config
	db  *database.DB
}

// withEpoch runs fn on both databases, each with an account a that has a session and a prekey.
func withEpoch(t *testing.T, fn func(w *epochWorld)) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		cfg.EpochFile = filepath.Join(t.TempDir(), "epoch")
		w := &epochWorld{T: t, cfg: database.WithEpochBlock(cfg, testBlock)}
		w.open()
		putAccount(t, w.db, "a")
		w.ok(w.db.Signal("a").PutPreKeys(t.Context(), []database.PreKey{{ID: 7, Record: []byte("key")}}))
		w.use(1)
		fn(w)
		if w.db != nil {
			w.ok(w.db.Close())
		}
	})
}

func (w *epochWorld) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *epochWorld) open() {
	w.Helper()
	db, err := database.Open(w.Context(), w.cfg)
	w.ok(err)
	w.db = db
}

// use commits n changes of Signal state.
func (w *epochWorld) use(n int) {
	w.Helper()
	for range n {
		w.ok(w.step())
	}
}

func (w *epochWorld) step() error {
	return w.db.Signal("a").Apply(w.Context(), database.SignalChange{Addr: "x", Session: []byte("session")}, nil)
}

func (w *epochWorld) leave(killed bool) {
	w.Helper()
	if killed {
		w.db.Kill()
	} else {
		w.ok(w.db.Close())
	}
	w.db = nil
}

// expect says whether the open database has been found to be an old copy: then its session is old and there is something to do.
func (w *epochWorld) expect(what string, old bool) {
	w.Helper()
	due, err := w.db.Signal("a").Renewal(w.Context())
	w.ok(err)
	if found := due.Keys != "" || due.Untold != ""; found != old || due.Keys != due.Untold {
		w.Errorf("%s: renewal is %+v, want an old copy: %v", what, due, old)
	}
	session, retired, err := w.db.Signal("a").LoadSession(w.Context(), "x")
	if err != nil || string(session) != "session" || retired != old {
		w.Errorf("%s: session %q, retired: %v (%v)", what, session, retired, err)
	}
}

// done clears what there is to do, as the bridge does, and begins a new session.
func (w *epochWorld) done() {
	w.Helper()
	s := w.db.Signal("a")
	due, err := s.Renewal(w.Context())
	w.ok(err)
	w.ok(s.Renewed(w.Context(), due.Keys))
	w.ok(s.Told(w.Context(), due.Untold))
	w.use(1)
	w.expect("after the renewal", false)
}

func TestNeitherARestartNorAKillIsTakenForAnOldCopy(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		for _, n := range []int{0, 1, testBlock/2 - 1, testBlock, 2*testBlock + 3} {
			for _, killed := range []bool{true, false} {
				w.use(n)
				w.leave(killed)
				w.open()
				w.expect(fmt.Sprintf("%d changes, killed: %v", n, killed), false)
			}
		}
	})
}

func TestACopyThatIsOneCommitOldIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name                string
		since               int
		killed, reservation bool
	}{
		{name: "closed in order", since: 1}, {name: "killed", since: 1, killed: true},
		{name: "killed, some blocks later", since: 3*testBlock + 1, killed: true},
		{name: "only prekeys given out since", reservation: true, killed: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			withEpoch(t, func(w *epochWorld) {
				w.leave(false)
				old := databasetest.Copy(w, w.cfg)
				w.open()
				w.use(c.since)
				var first uint32
				if c.reservation {
					var err error
					first, err = w.db.Signal("a").ReservePreKeyIDs(w.Context(), 5)
					w.ok(err)
				}
				w.leave(c.killed)
				newest := w.cfg
				w.cfg = old
				w.open()
				w.expect("the copy", true)
				s := w.db.Signal("a")
				if list, err := s.PreKeysToUpload(w.Context(), 10); err != nil || len(list) != 0 {
					w.Errorf("%d prekeys of the copy would be uploaded (%v)", len(list), err)
				}
				if id, err := s.ReservePreKeyIDs(w.Context(), 1); err != nil || id < first+100_000 {
					w.Errorf("prekey %d, want a leap from %d (%v)", id, first, err)
				}
				if id, err := s.ReserveSignedPreKeyID(w.Context()); err != nil || id < 100_000 {
					w.Errorf("signed prekey %d, want a leap (%v)", id, err)
				}
				w.leave(true)
				w.open()
				w.expect("before it is done, after another kill", true)
				w.done()
				w.leave(c.killed)
				w.open()
				w.expect("the copy is the database now", false)
				w.leave(false)
				w.cfg = newest
				w.open()
				w.expect("and the other one an old copy", true)
			})
		})
	}
}

func TestACopyTakenWhileTheDatabaseWasInUseIsNoticed(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	cfg.EpochFile = filepath.Join(t.TempDir(), "epoch")
	w := &epochWorld{T: t, cfg: cfg}
	w.open()
	putAccount(t, w.db, "a")
	w.use(5)
	w.cfg.URI = filepath.Join(t.TempDir(), "copy.db")
	if _, err := w.db.Raw().Exec(t.Context(), "VACUUM INTO $1", w.cfg.URI); err != nil {
		t.Fatal(err)
	}
	w.use(1)
	w.leave(true)
	w.open()
	w.expect("the copy", true)
	w.leave(false)
}

func TestAnEpochFileThatIsGoneOrNotWholeMakesTheDatabaseAnOldCopy(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		w.leave(true)
		whole, err := os.ReadFile(w.cfg.EpochFile)
		w.ok(err)
		head := strings.IndexByte(string(whole), '\n') + 1
		w.ok(os.Remove(w.cfg.EpochFile))
		w.open()
		w.expect("gone", true)
		w.done()
		w.leave(true)
		for _, n := range []int{0, 1, len("postern-epoch-1"), 40, head - 1} {
			w.ok(os.Truncate(w.cfg.EpochFile, int64(n)))
			w.open()
			w.expect(fmt.Sprintf("cut off at %d", n), true)
			w.done()
			w.leave(true)
		}
		// Without its mark the block speaks.
		w.ok(os.Truncate(w.cfg.EpochFile, int64(head+3)))
		w.open()
		w.expect("cut off in the mark", false)
		w.leave(true)
	})
}

func TestAnOldEpochFileIsNoticedToo(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		w.leave(false)
		before, err := os.ReadFile(w.cfg.EpochFile)
		w.ok(err)
		w.open()
		w.use(1)
		w.leave(false)
		w.ok(os.WriteFile(w.cfg.EpochFile, before, 0o600))
		w.open()
		w.expect("the file is old", true)
	})
}

func TestAFreshDatabaseIsNoOldCopyAndAnotherOnesFileIsRefused(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		w.leave(false)
		file, err := os.ReadFile(w.cfg.EpochFile)
		w.ok(err)
		fresh := databasetest.SQLiteConfig(w)
		fresh.EpochFile = w.cfg.EpochFile
		if db, err := database.Open(w.Context(), fresh); !errors.Is(err, database.ErrEpochForeign) {
			w.Fatalf("a fresh database with another one's file: %v, %v", db, err)
		}
		if again, err := os.ReadFile(w.cfg.EpochFile); err != nil || string(again) != string(file) {
			w.Errorf("the other one's file was changed (%v)", err)
		}
		fresh.EpochFile = filepath.Join(w.TempDir(), "epoch")
		for range 2 { // without anything in it there is nothing to lose
			db, err := database.Open(w.Context(), fresh)
			w.ok(err)
			putAccount(w, db, "a")
			if due, err := db.Signal("a").Renewal(w.Context()); err != nil || due.Keys != "" {
				w.Errorf("a fresh database is taken for an old copy: %+v, %v", due, err)
			}
			w.ok(db.Close())
			w.ok(os.Remove(fresh.EpochFile))
		}
		w.ok(os.WriteFile(w.cfg.EpochFile, []byte("somebody's shopping list"), 0o600))
		if _, err := database.Open(w.Context(), w.cfg); !errors.Is(err, database.ErrEpochFormat) {
			w.Errorf("a file that is not ours: %v", err)
		}
		if raw, _ := os.ReadFile(w.cfg.EpochFile); string(raw) != "somebody's shopping list" {
			w.Error("a file that is not ours was overwritten")
		}
		w.cfg.EpochFile = filepath.Join(w.TempDir(), "no such folder", "epoch")
		if _, err := database.Open(w.Context(), w.cfg); !errors.Is(err, database.ErrEpochFile) {
			w.Errorf("a file that cannot be made: %v", err)
		}
	})
}

var errKilled = errors.New("killed here")

func TestAKillAtAnyStepOfReservingIsNoOldCopy(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		plain := w.cfg
		for _, at := range []string{"create", "sync", "rename", "sync folder"} {
			w.leave(true)
			var armed atomic.Bool
			w.cfg = database.WithEpochSteps(plain, func(step string) error {
				if armed.Load() && step == at {
					return errKilled
				}
				return nil
			})
			w.open()
			armed.Store(true)
			var err error
			for n := 0; err == nil; n++ {
				if err = w.step(); n > 2*testBlock {
					w.Fatalf("%s: %d changes without a new block", at, n)
				}
			}
			if !errors.Is(err, database.ErrEpochFile) || !errors.Is(err, errKilled) {
				w.Errorf("%s: %v", at, err)
			}
			w.leave(true)
			w.cfg = plain
			w.open()
			w.expect("killed at "+at, false)
		}
	})
}

func TestARenewalThatIsCutOffBeginsAgain(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		w.leave(false)
		old := databasetest.Copy(w, w.cfg)
		w.open()
		w.use(1)
		w.leave(false)
		for _, at := range []string{"create", "sync", "rename", "sync folder", "renew"} {
			w.cfg = database.WithEpochSteps(old, func(step string) error {
				if step == at {
					return errKilled
				}
				return nil
			})
			if db, err := database.Open(w.Context(), w.cfg); !errors.Is(err, errKilled) {
				w.Fatalf("%s: %v, %v", at, db, err)
			}
		}
		w.cfg = old
		w.open()
		w.expect("at last", true)
		w.done()
	})
}

func TestWhileTheEpochFileCannotBeWrittenNothingIsEncrypted(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		w.leave(false)
		var broken atomic.Bool
		w.cfg = database.WithEpochSteps(w.cfg, func(step string) error {
			if broken.Load() {
				return errKilled
			}
			return nil
		})
		w.open()
		if since := w.db.EpochTrouble(); !since.IsZero() {
			w.Errorf("trouble since %s", since)
		}
		broken.Store(true)
		var err error
		for range 2 * testBlock {
			if err = w.step(); err != nil {
				break
			}
		}
		if !errors.Is(err, database.ErrEpochFile) || w.db.EpochTrouble().IsZero() {
			w.Fatalf("after a block: %v, trouble since %s", err, w.db.EpochTrouble())
		}
		before := w.db.EpochCounter()
		extra := func(context.Context) error { w.Error("the change was begun"); return nil }
		err = w.db.Signal("a").Apply(w.Context(), database.SignalChange{Addr: "y", Session: []byte("other")}, extra)
		if session, _, _ := w.db.Signal("a").LoadSession(w.Context(), "y"); err == nil || session != nil || w.db.EpochCounter() != before {
			w.Errorf("stored all the same: %q, %v", session, err)
		}
		if _, err = w.db.Signal("a").ReservePreKeyIDs(w.Context(), 1); !errors.Is(err, database.ErrEpochFile) {
			w.Errorf("ids of prekeys are given out: %v", err)
		}
		_, err = w.db.Contacts().Ensure(w.Context(), "whatsapp", "1@lid")
		w.ok(err) // all else goes on
		broken.Store(false)
		for deadline := time.Now().Add(time.Minute); w.step() != nil; {
			if time.Now().After(deadline) {
				w.Fatal("it never recovers")
			}
		}
		if since := w.db.EpochTrouble(); !since.IsZero() {
			w.Errorf("trouble since %s", since)
		}
		w.leave(true)
		w.open()
		w.expect("afterwards", false)
	})
}

func TestACommitThatManyShareCountsOnceAndOneWithoutSignalStateDoesNot(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		change := func(addr string, err error) func(context.Context) error {
			return func(ctx context.Context) error {
				return errors.Join(w.db.Signal("a").Apply(ctx, database.SignalChange{Addr: addr, Session: []byte("s")}, nil), err)
			}
		}
		// What fails commits nothing, so that the writer has nothing more to do when it is answered.
		if err := w.db.Do(w.Context(), func(context.Context) error { return errMine }); !errors.Is(err, errMine) {
			w.Error(err)
		}
		before := w.db.EpochCounter()
		for _, err := range w.db.DoTogether(w.Context(), change("1", nil), change("2", nil), change("3", nil)) {
			w.ok(err)
		}
		if n := w.db.EpochCounter() - before; n != 1 {
			w.Errorf("three changes in one commit count %d", n)
		}
		before = w.db.EpochCounter()
		w.ok(w.db.Do(w.Context(), func(context.Context) error { return nil }))
		if err := w.db.Do(w.Context(), change("4", errMine)); !errors.Is(err, errMine) {
			w.Error(err)
		}
		if n := w.db.EpochCounter() - before; n != 0 {
			w.Errorf("what changes nothing counts %d", n)
		}
		w.leave(true)
		w.open()
		w.expect("afterwards", false)
	})
}

// BenchmarkEpochFile compares changes of Signal state, which are counted in database and file, with the same statements uncounted, round by
// round in one run, for one caller and for many. The figure is the median of the rounds' ratios: it is what the number in the database, the
// mark and the blocks cost together.
func BenchmarkEpochFile(b *testing.B) {
	for _, callers := range []int{1, 64} {
		for name, fresh := range map[string]func(testing.TB) database.Config{"SQLite": databasetest.SQLiteConfig, "Postgres": databasetest.PostgresConfig} {
			b.Run(fmt.Sprintf("%s/%d", name, callers), func(b *testing.B) {
				with, without := fresh(b), fresh(b)
				with.EpochFile = filepath.Join(b.TempDir(), "epoch")
				counted, plain := databasetest.Open(b, with), databasetest.Open(b, without)
				putAccount(b, counted, "a")
				putAccount(b, plain, "a")
				var ratios []float64
				for b.Loop() {
					a := together(b, callers, func(address string) error { return change(counted, address) })
					ratios = append(ratios, float64(a)/float64(together(b, callers, func(address string) error { return uncounted(plain, address) })))
				}
				slices.Sort(ratios)
				b.ReportMetric(ratios[len(ratios)/2], "x/uncounted")
			})
		}
	}
}

func change(db *database.DB, address string) error {
	return db.Signal("a").Apply(context.Background(), database.SignalChange{Addr: address, Session: make([]byte, 900)}, nil)
}

// uncounted does what change does, but for the counting.
func uncounted(db *database.DB, address string) error {
	return db.Do(context.Background(), func(ctx context.Context) error {
		var version int64
		err := db.Raw().QueryRow(ctx, "SELECT version FROM postern_signal_session WHERE account_id='a' AND address=$1", address).Scan(&version)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		sealed := db.Seal("postern_signal_session.session", database.RowKey("a", address), int(version)+1, make([]byte, 900))
		_, err = db.Raw().Exec(ctx, `INSERT INTO postern_signal_session (account_id, address, version, session, generation) VALUES ('a', $1, $2, $3, 0)
			ON CONFLICT (account_id, address) DO UPDATE SET version=excluded.version, session=excluded.session, generation=excluded.generation`,
			address, version+1, sealed)
		return err
	})
}

// together has so many callers commit eight changes each, and says how long that took.
func together(b *testing.B, callers int, do func(address string) error) time.Duration {
	begin := time.Now()
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for range 8 {
				if err := do(fmt.Sprint(c)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	return time.Since(begin)
}
