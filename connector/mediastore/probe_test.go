package mediastore_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/mediastore"
)

func TestAProbeFindsOutWhetherTheFolderTakesAnythingAndLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "media")
	backend, err := mediastore.Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	store, err := mediastore.New(mediastore.Config{Backend: backend, Index: newIndex(), Keep: time.Hour, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		err := filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				n++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := store.Probe(t.Context()); err != nil {
		t.Errorf("a store that works: %v", err)
	}
	if n := count(); n != 0 {
		t.Errorf("the probe has left %d files", n)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Probe(t.Context()); err == nil {
		t.Error("a folder that is away is not noticed")
	}
}

func TestAProbeOfAnObjectStoreAsksIt(t *testing.T) {
	store, err := mediastore.New(mediastore.Config{Backend: fakeS3Place(t).open(t), Index: newIndex(), Keep: time.Hour, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Probe(t.Context()); err != nil {
		t.Errorf("an object store that works: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.Probe(gone); err == nil {
		t.Error("an object store that does not answer is not noticed")
	}
}
