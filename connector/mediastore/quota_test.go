package mediastore_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/connector/mediastore"
)

func quotaWorld(t *testing.T, quota int64) *world {
	return newWorld(t, filesBackend(t, t.TempDir()), quota)
}

// overQuota checks a refusal.
func overQuota(t *testing.T, err error, used int64) {
	t.Helper()
	var refusal *mediastore.QuotaError
	if !errors.Is(err, mediastore.ErrQuota) || !errors.As(err, &refusal) || refusal.Limit != 1000 || refusal.Used != used {
		t.Errorf("want a refusal with %d used, got %v", used, err)
	}
}

func TestAnOwnerOverTheQuotaIsRefusedAndOthersAreNot(t *testing.T) {
	w, ctx := quotaWorld(t, 1000), context.Background()
	w.put(t, "a", random(1, 600))
	_, err := w.Put(ctx, "a", writes(random(2, 401)))
	overQuota(t, err, 600)
	w.put(t, "b", random(3, 1000))
	w.put(t, "a", random(4, 400)) // exactly full
	_, err = w.Put(ctx, "a", writes(random(5, 1)))
	overQuota(t, err, 1000)
	if got := names(t, w.backend); len(got) != 3 {
		t.Errorf("%d blobs", len(got))
	}
	w.clock.add(46 * 24 * time.Hour)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	w.put(t, "a", random(6, 1000)) // what has expired has made room
}

func TestWhatIsBeingWrittenCountsForTheQuota(t *testing.T) {
	w, ctx := quotaWorld(t, 1000), context.Background()
	waiting, err := w.Put(ctx, "a", writes(random(1, 300))) // no row yet
	if err != nil {
		t.Fatal(err)
	}
	wrote, goOn := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		_, err := w.Put(ctx, "a", func(to io.Writer) error {
			_, err := to.Write(random(2, 500))
			close(wrote)
			<-goOn
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-wrote
	_, err = w.Put(ctx, "a", writes(random(3, 201)))
	overQuota(t, err, 800)
	if err := w.Commit(ctx, waiting); err != nil { // counts as before, not twice
		t.Fatal(err)
	}
	_, err = w.Put(ctx, "a", writes(random(3, 201)))
	overQuota(t, err, 800)
	close(goOn)
	group.Wait()
	w.put(t, "a", random(4, 200))
}

func TestWhatFailsOrIsDiscardedGivesItsRoomBack(t *testing.T) {
	w, ctx := quotaWorld(t, 1000), context.Background()
	cause := errors.New("cut")
	for range 3 {
		if _, err := w.Put(ctx, "a", func(to io.Writer) error { return errors.Join(writes(random(1, 900))(to), cause) }); !errors.Is(err, cause) {
			t.Fatal(err)
		}
		o, err := w.Put(ctx, "a", writes(random(2, 900)))
		if err != nil {
			t.Fatal(err)
		}
		w.Discard(ctx, o)
		w.Discard(ctx, o)
		if err := w.Commit(ctx, o); !errors.Is(err, mediastore.ErrGone) {
			t.Errorf("commit of what was discarded: %v", err)
		}
	}
	if got := names(t, w.backend); len(got) != 0 {
		t.Errorf("%d blobs", len(got))
	}
}

func TestManyPutsAtOnceNeverGoOverTheQuota(t *testing.T) {
	w, ctx := quotaWorld(t, 1000), context.Background()
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			o, err := w.Put(ctx, "a", writes(random(uint64(i), 170)))
			if err == nil {
				err = w.Commit(ctx, o)
			}
			if err != nil && !errors.Is(err, mediastore.ErrQuota) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if used, err := w.index.Used(ctx, "a"); err != nil || used > 1000 || used < 170 {
		t.Errorf("%d bytes of 1000: %v", used, err)
	}
}

func TestDiscardingWhatHasARowLeavesIt(t *testing.T) {
	w, ctx := quotaWorld(t, 1000), context.Background()
	o := w.put(t, "a", random(1, 10))
	w.Discard(ctx, o)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if got := names(t, w.backend); len(got) != 1 || w.index.count() != 1 {
		t.Errorf("%d blobs, %d rows", len(got), w.index.count())
	}
}

func TestACommitMayBeRepeated(t *testing.T) {
	w, ctx := quotaWorld(t, 1000), context.Background()
	o := w.put(t, "a", random(1, 600))
	for range 2 {
		if err := w.Commit(ctx, o); err != nil {
			t.Error(err)
		}
	}
	w.put(t, "a", random(2, 400)) // it counts once
}

func TestAnIndexThatFailsStopsAPutBeforeItWrites(t *testing.T) {
	w := quotaWorld(t, 1000)
	w.index.failing.Store(true)
	_, err := w.Put(context.Background(), "a", func(io.Writer) error {
		t.Error("was written")
		return nil
	})
	if !errors.Is(err, errIndex) {
		t.Error(err)
	}
	w.index.failing.Store(false)
	w.put(t, "a", random(1, 10))
}

func TestAnObjectThatIsNotCommittedForADayIsGivenUp(t *testing.T) {
	w, ctx := quotaWorld(t, 1000), context.Background()
	o, err := w.Put(ctx, "a", writes(random(1, 900)))
	if err != nil {
		t.Fatal(err)
	}
	w.clock.add(23 * time.Hour)
	if err := w.Sweep(ctx); err != nil || len(names(t, w.backend)) != 1 {
		t.Fatalf("after 23 hours: %v", err)
	}
	w.clock.add(2 * time.Hour)
	if err := w.Sweep(ctx); err != nil || len(names(t, w.backend)) != 0 {
		t.Fatalf("after 25 hours: %v", err)
	}
	if err := w.Commit(ctx, o); !errors.Is(err, mediastore.ErrGone) {
		t.Errorf("commit: %v", err)
	}
	w.put(t, "a", random(2, 1000))
}

func TestOneThingThatFailsKeepsNothingElseFromBeingSwept(t *testing.T) {
	w, ctx := quotaWorld(t, 0), context.Background()
	w.put(t, "a", random(1, 10))
	w.clock.add(50 * 24 * time.Hour)
	broken := errors.New("disk is on fire")
	w.backend.failing.Store(&broken)
	if err := w.Sweep(ctx); !errors.Is(err, broken) || w.index.count() != 1 {
		t.Errorf("%v, %d rows", err, w.index.count())
	}
	if err := w.DeleteOwner(ctx, "a"); !errors.Is(err, broken) {
		t.Errorf("delete owner: %v", err)
	}
	w.backend.failing.Store(nil)
	if err := w.Sweep(ctx); err != nil || w.index.count() != 0 || len(names(t, w.backend)) != 0 {
		t.Errorf("%v, %d rows", err, w.index.count())
	}
}

func TestRowsAreKeptIfMostFilesAreMissing(t *testing.T) {
	dir := t.TempDir()
	w, ctx := newWorld(t, filesBackend(t, dir), 0), context.Background()
	for i := range 20 {
		w.put(t, "a", random(uint64(i), 10))
	}
	if err := os.Rename(dir, dir+"-away"); err != nil { // as when a disk is not mounted
		t.Fatal(err)
	}
	w.backend.Backend = filesBackend(t, dir)
	if err := w.Sweep(ctx); err == nil || !strings.Contains(err.Error(), "storage") || w.index.count() != 20 {
		t.Errorf("%v, %d rows", err, w.index.count())
	}
}

// roomForOneFile is the most that a file of the child may have.
const roomForOneFile = 300_000

// TestAFullDiskLeavesTheStoreSound runs in a child whose files may have 300,000 bytes: the system refuses the rest of a write, as it does when
// a disk is full.
func TestAFullDiskLeavesTheStoreSound(t *testing.T) {
	if dir := os.Getenv("POSTERN_TEST_FULL"); dir != "" {
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: roomForOneFile, Max: roomForOneFile}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		fullDisk(t, dir)
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "POSTERN_TEST_FULL="+t.TempDir())
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func fullDisk(t *testing.T, dir string) {
	w, ctx := newWorld(t, filesBackend(t, dir), 1<<20), context.Background()
	w.put(t, "a", random(1, 1000))
	for range 5 {
		if _, err := w.Put(ctx, "a", writes(random(2, 2*roomForOneFile))); !errors.Is(err, mediastore.ErrFull) {
			t.Errorf("more than there is room for: %v", err)
		}
		// A fill that does not look at errors.
		_, err := w.Put(ctx, "a", func(to io.Writer) error {
			for range 8 {
				_, _ = to.Write(random(3, 100_000))
			}
			return nil
		})
		if !errors.Is(err, mediastore.ErrFull) {
			t.Errorf("errors that fill swallows: %v", err)
		}
	}
	w.put(t, "a", random(4, roomForOneFile)) // also for the quota nothing is left of what failed
	p := place{temp: dir + "/tmp"}
	if left := p.temporaries(t); len(left) != 0 || len(names(t, w.backend)) != 2 || w.index.count() != 2 {
		t.Errorf("left: %v, %d blobs, %d rows", left, len(names(t, w.backend)), w.index.count())
	}
}
