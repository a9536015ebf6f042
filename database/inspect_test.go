package database_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func TestAnInspectionSeesWhatIsThereAndLeavesItAsItIs(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		ctx := t.Context()
		cfg.EpochFile, cfg.Holder = filepath.Join(t.TempDir(), "epoch"), "the bridge"
		db, err := database.Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.IssuerKeys().Save(ctx, []byte("keys"), 0); err != nil {
			t.Fatal(err)
		}
		i, err := database.Inspect(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = i.Close() }) // nothing was written
		if i.Schema == 0 || i.Schema != i.Known || i.Compatible > i.Schema || i.Version == "" {
			t.Errorf("%+v", i)
		}
		held, err := i.Held(ctx)
		if err != nil || held == nil || held.Holder != "the bridge" {
			t.Errorf("held by %+v, %v", held, err)
		}
		if err := errors.Join(i.Key(ctx), i.Epoch(ctx, cfg.EpochFile), i.Writable(ctx)); err != nil {
			t.Error(err)
		}
		if document, version, err := i.IssuerKeys(ctx); err != nil || string(document) != "keys" || version != 1 {
			t.Errorf("%q, version %d, %v", document, version, err)
		}
		var tables int
		query := "SELECT COUNT(*) FROM sqlite_master WHERE name='postern_doctor'"
		if cfg.Dialect == "postgres" {
			query = "SELECT COUNT(*) FROM pg_tables WHERE tablename='postern_doctor'"
		}
		if err := db.Raw().QueryRow(ctx, query).Scan(&tables); err != nil || tables != 0 {
			t.Errorf("%d tables of the trial have stayed, %v", tables, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if held, err = i.Held(ctx); err != nil || held != nil {
			t.Errorf("afterwards it is held by %+v, %v", held, err)
		}
		cfg.MasterKey[0]++
		other, err := database.Inspect(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = other.Close() }) // likewise
		if err := other.Key(ctx); !errors.Is(err, database.ErrWrongKey) {
			t.Errorf("with another key: %v", err)
		}
		if err := os.WriteFile(cfg.EpochFile, []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := i.Epoch(ctx, cfg.EpochFile); !errors.Is(err, database.ErrEpochFormat) {
			t.Errorf("with another epoch file: %v", err)
		}
	})
}

func TestAnInspectionMakesNoDatabase(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "none.db")
	if _, err := database.Inspect(t.Context(), database.Config{Dialect: "sqlite3-fk-wal", URI: path}); !database.IsAbsent(err) {
		t.Errorf("error %v", err)
	}
	if made, err := database.CanMake(path); err != nil || made != path {
		t.Errorf("%q, %v", made, err)
	}
	if _, err := database.CanMake(filepath.Join(dir, "no", "folder.db")); err == nil {
		t.Errorf("a file could be made where there is no folder: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v has stayed, %v", entries, err)
	}
}
