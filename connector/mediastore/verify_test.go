package mediastore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"postern/connector/mediastore"
)

// blobPath is where a blob of the files backend lies.
func blobPath(dir, ref string) string {
	name := mediastore.NameOf(ref).String()
	return filepath.Join(dir, name[:2], name[2:4], name)
}

// turn turns one bit of a blob.
func turn(t *testing.T, path string, at int) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[at] ^= 0x10
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// get asks the store's handler.
func get(w *world, method, ref, ranges string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "/"+ref, nil)
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	out := httptest.NewRecorder()
	w.Handler().ServeHTTP(out, req)
	return out
}

func TestADamagedBlobIsNotServedNotEvenInParts(t *testing.T) {
	for name, ask := range map[string][2]string{
		"all of it": {"GET"}, "a part before the damage": {"GET", "bytes=0-9"}, "parts": {"GET", "bytes=0-1,5000-5001"}, "its length": {"HEAD"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := newWorld(t, filesBackend(t, dir), 0)
			good, bad := w.put(t, "a", random(1, 70_000)), w.put(t, "a", random(2, 70_000))
			turn(t, blobPath(dir, bad.Ref), 69_999)
			for range 2 {
				if got := get(w, ask[0], bad.Ref, ask[1]); got.Code != http.StatusNotFound || got.Header().Get("ETag") != "" {
					t.Errorf("a damaged blob is answered with %d", got.Code)
				}
			}
			equal(t, "opened files", w.backend.opened.Load(), 1) // it is known by now
			if err := w.Check(t.Context(), bad.Ref); !errors.Is(err, mediastore.ErrDamaged) {
				t.Errorf("checked: %v", err)
			}
			if got := get(w, ask[0], good.Ref, ask[1]); got.Code >= 300 {
				t.Errorf("the other one is answered with %d", got.Code)
			}
		})
	}
}

func TestABlobIsVerifiedAgainAfterAnHour(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, filesBackend(t, dir), 0)
	o := w.put(t, "a", random(1, 1000))
	for range 3 {
		equal(t, "status", get(w, "HEAD", o.Ref, "").Code, 200)
	}
	equal(t, "opened files", w.backend.opened.Load(), 1)
	turn(t, blobPath(dir, o.Ref), 500)
	w.clock.add(time.Hour)
	equal(t, "status an hour later", get(w, "GET", o.Ref, "").Code, 404)
	turn(t, blobPath(dir, o.Ref), 500) // restored from a backup
	w.clock.add(time.Hour)
	equal(t, "status when it is whole again", get(w, "GET", o.Ref, "").Code, 200)
}

func TestManyWhoAskForABlobReadItOnceToVerifyIt(t *testing.T) {
	w := newWorld(t, filesBackend(t, t.TempDir()), 0)
	o := w.put(t, "a", random(1, 3<<20))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if got := get(w, "HEAD", o.Ref, ""); got.Code != 200 {
				t.Errorf("answered with %d", got.Code)
			}
		})
	}
	all.Wait()
	equal(t, "opened files", w.backend.opened.Load(), 1)
}

// TestWhoLeavesSaysNothingOfTheBlob: the one that reads it has gone away, and a storage that cannot be read is no damage.
func TestWhoLeavesSaysNothingOfTheBlob(t *testing.T) {
	w := newWorld(t, filesBackend(t, t.TempDir()), 0)
	o := w.put(t, "a", random(1, 1000))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Check(gone, o.Ref); !errors.Is(err, context.Canceled) {
		t.Errorf("of who has left: %v", err)
	}
	trouble := errors.New("trouble")
	w.backend.failing.Store(&trouble)
	equal(t, "status while the storage is away", get(w, "GET", o.Ref, "").Code, 503)
	w.backend.failing.Store(nil)
	if err := w.Check(t.Context(), o.Ref); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestACheckFindsWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, filesBackend(t, dir), 0)
	o, old := w.put(t, "a", random(1, 1000)), w.put(t, "a", random(2, 1000))
	if err := os.Remove(blobPath(dir, o.Ref)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(blobPath(dir, old.Ref), 999); err != nil {
		t.Fatal(err)
	}
	for what, ref := range map[string]string{"removed": o.Ref, "cut": old.Ref, "never there": "nothing"} {
		if err := w.Check(t.Context(), ref); !errors.Is(err, mediastore.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	last := w.put(t, "a", random(3, 1000))
	w.clock.add(45 * 24 * time.Hour)
	if err := w.Check(t.Context(), last.Ref); !errors.Is(err, mediastore.ErrNotFound) {
		t.Errorf("expired: %v", err)
	}
}
