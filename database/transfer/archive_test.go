package transfer_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/database"
	"postern/database/databasetest"
	"postern/database/transfer"
)

// backUp makes an archive, and opens it.
func backUp(t *testing.T, cfg database.Config, options transfer.BackupOptions) (path string, a *transfer.Archive) {
	t.Helper()
	path, _, err := transfer.Backup(t.Context(), config(cfg), t.TempDir(), options)
	if err != nil {
		t.Fatal(err)
	}
	return path, open(t, path, cfg.MasterKey)
}

// under has an archive opened with a key, whatever it brings along.
func under(key [database.KeySize]byte) func([]byte) ([database.KeySize]byte, error) {
	return func([]byte) ([database.KeySize]byte, error) { return key, nil }
}

func open(t *testing.T, path string, key [database.KeySize]byte) *transfer.Archive {
	t.Helper()
	a, err := transfer.OpenArchive(path, under(key))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// fresh is the configuration of a database that is not there yet: no file, or nothing on the server.
func fresh(t *testing.T, kind string) database.Config {
	if kind == "SQLite" {
		return databasetest.SQLiteConfig(t)
	}
	return databasetest.PostgresConfig(t)
}

func TestABackupHasEverythingAndIsPutBackIntoEitherKindOfDatabase(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		want := contents(t, made(t, cfg))
		path, a := backUp(t, cfg, transfer.BackupOptions{})
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("others may read it: %v (%v)", info.Mode(), err)
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
			t.Errorf("%d files beside it (%v)", len(entries), err)
		}
		for _, kind := range []string{"SQLite", "Postgres"} {
			t.Run("into "+kind, func(t *testing.T) {
				to := fresh(t, kind)
				report, err := transfer.Restore(t.Context(), config(to), a, nil)
				if err != nil {
					t.Fatal(err)
				}
				got := contents(t, to)
				if len(report.Tables) != len(want) || len(report.Replaced) > 0 {
					t.Errorf("%d tables of %d, replaced %v", len(report.Tables), len(want), report.Replaced)
				}
				same(t, got, want)
				before := generation(t, to)
				for range 2 {
					if err := opens(t, to); err != nil {
						t.Fatal(err)
					}
					if got := generation(t, to); got != before+1 {
						t.Errorf("generation %d, want %d: it is an old copy, once", got, before+1)
					}
				}
			})
		}
	})
}

// TestABackupIsOfOneMoment: rows that come in pairs, one in each of two tables, are pairs in the backup, however it falls between them.
func TestABackupIsOfOneMoment(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		made(t, cfg)
		cfg.Holder = "the bridge"
		db := databasetest.Open(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		ended, written := make(chan error, 1), make(chan struct{})
		go func() {
			for n := 0; ; n++ {
				err := db.Do(ctx, func(ctx context.Context) error {
					_, err := db.Raw().Exec(ctx, "INSERT INTO postern_person (mxid, language) VALUES ($1, 'de')", fmt.Sprint(n))
					if err == nil {
						_, err = db.Raw().Exec(ctx, "INSERT INTO postern_sync_token (name, token) VALUES ($1, 'x')", fmt.Sprint(n))
					}
					return err
				})
				if n == 50 {
					close(written)
				}
				if err != nil {
					ended <- err
					return
				}
			}
		}()
		<-written
		for range 5 {
			_, a := backUp(t, cfg, transfer.BackupOptions{})
			rows := map[string]int64{}
			for _, table := range a.Tables {
				rows[table.Name] = table.Rows
			}
			if rows["postern_person"] < 50 || rows["postern_person"] != rows["postern_sync_token"] {
				t.Errorf("%d rows of one, and %d of the other", rows["postern_person"], rows["postern_sync_token"])
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the bridge was held up: %v", err)
		}
	})
}

func TestABackupIsPutBackOnlyWhereNothingIs(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		made(t, cfg)
		want := contents(t, cfg)
		_, a := backUp(t, cfg, transfer.BackupOptions{})
		if _, err := transfer.Restore(t.Context(), config(cfg), a, nil); !errors.Is(err, transfer.ErrNotEmpty) {
			t.Errorf("over itself: %v", err)
		}
		same(t, contents(t, cfg), want)
		cfg.Holder = "the bridge"
		databasetest.Open(t, cfg)
		var held *database.LeaseHeldError
		if _, err := transfer.Restore(t.Context(), config(cfg), a, nil); !errors.As(err, &held) {
			t.Errorf("while a bridge runs: %v", err)
		}
	})
}

// TestWhatAnotherFileHasLeftIsNotTakenForAPartOfTheNewOne: SQLite would read a log that lies beside the file.
func TestWhatAnotherFileHasLeftIsNotTakenForAPartOfTheNewOne(t *testing.T) {
	_, a := backUp(t, made(t, databasetest.SQLiteConfig(t)), transfer.BackupOptions{})
	to := databasetest.SQLiteConfig(t)
	for _, suffix := range []string{"-wal", "-journal"} {
		if err := os.WriteFile(to.URI+suffix, []byte("of another"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := transfer.Restore(t.Context(), config(to), a, nil); !errors.Is(err, transfer.ErrNotEmpty) {
			t.Errorf("beside a %s: %v", suffix, err)
		}
		if err := os.Remove(to.URI + suffix); err != nil {
			t.Fatal(err)
		}
	}
	// What a process that was killed has left is written anew.
	if err := os.WriteFile(to.URI+".restoring", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Restore(t.Context(), config(to), a, nil); err != nil {
		t.Fatal(err)
	}
	if err := opens(t, to); err != nil {
		t.Error(err)
	}
}

// rewrite makes another archive of one, part by part; nil leaves one out.
func rewrite(t *testing.T, path string, change func(name string, content []byte) []byte) string {
	t.Helper()
	from, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	var out bytes.Buffer
	to := zip.NewWriter(&out)
	for _, part := range from.File {
		r, err := part.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if content = change(part.Name, content); content == nil {
			continue
		}
		w, err := to.Create(part.Name)
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(t.TempDir(), "changed.zip")
	if err := os.WriteFile(changed, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestAnArchiveThatIsDamagedForgedOrNotWholeIsRefused(t *testing.T) {
	cfg := made(t, databasetest.SQLiteConfig(t))
	path, whole := backUp(t, cfg, transfer.BackupOptions{})
	if err := whole.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	// As restoring says it, and nothing is made.
	refused := func(path string, want error) {
		t.Helper()
		to := databasetest.SQLiteConfig(t)
		a, err := transfer.OpenArchive(path, under(cfg.MasterKey))
		if err == nil {
			defer a.Close()
			_, err = transfer.Restore(t.Context(), config(to), a, nil)
		}
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if entries, err := os.ReadDir(filepath.Dir(to.URI)); err != nil || len(entries) > 1 { // the lock's file
			t.Errorf("%d files were made (%v)", len(entries), err)
		}
	}
	for name, c := range map[string]struct {
		want   error
		change func(name string, content []byte) []byte
	}{
		"a row": {transfer.ErrArchive, func(name string, content []byte) []byte {
			if name == "tables/postern_person.sealed" {
				content[len(content)/2] ^= 1
			}
			return content
		}},
		"no table": {transfer.ErrArchive, func(name string, content []byte) []byte {
			if name == "tables/postern_person.sealed" {
				return nil
			}
			return content
		}},
		"no manifest": {transfer.ErrArchive, func(name string, content []byte) []byte {
			if name == "manifest.json" {
				return nil
			}
			return content
		}},
		"another statement": {transfer.ErrKey, func(name string, content []byte) []byte {
			if name == "manifest.json" {
				return bytes.Replace(content, []byte("CREATE INDEX"), []byte("DROP TABLE x; CREATE INDEX"), 1)
			}
			return content
		}},
	} {
		t.Run(name, func(t *testing.T) { refused(rewrite(t, path, c.change), c.want) })
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"cut off": raw[:len(raw)-100], "the first half": raw[:len(raw)/2], "empty": nil, "a text": []byte("no archive")} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.zip")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			refused(path, transfer.ErrArchive)
		})
	}
	other := config(databasetest.SQLiteConfig(t))
	other.Database.MasterKey[3]++
	if _, err := transfer.OpenArchive(path, under(other.Database.MasterKey)); !errors.Is(err, transfer.ErrKey) {
		t.Errorf("with another key: %v", err)
	}
	if _, err := transfer.Restore(t.Context(), other, whole, nil); !errors.Is(err, transfer.ErrKey) {
		t.Errorf("for a bridge with another key: %v", err)
	}
}

// TestAnArchiveOfANewerVersionIsRefused: of each set of tables.
func TestAnArchiveOfANewerVersionIsRefused(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		made(t, cfg)
		for _, table := range []string{"postern_version", "mx_version"} {
			newer := cfg
			alter(t, newer, "UPDATE "+table+" SET version=version+1, compat=version+1")
			if _, _, err := transfer.Backup(t.Context(), config(newer), t.TempDir(), transfer.BackupOptions{}); !errors.Is(err, transfer.ErrNewer) {
				t.Errorf("%s: %v", table, err)
			}
			alter(t, newer, "UPDATE "+table+" SET version=version-1, compat=version-1")
		}
		older := config(cfg)
		_, a := backUp(t, cfg, transfer.BackupOptions{})
		older.Schemas = append([]transfer.Schema(nil), schemas...)
		older.Schemas[1].Upgrades = older.Schemas[1].Upgrades[:2]
		older.Database = fresh(t, "SQLite")
		if _, err := transfer.Restore(t.Context(), older, a, nil); !errors.Is(err, transfer.ErrNewer) {
			t.Errorf("an older program restores it: %v", err)
		}
	})
}

// TestAnArchiveThatCannotBeFinishedLeavesNothing: neither over one that is there, nor where the disk does not take it, nor when it is called off.
func TestAnArchiveThatCannotBeFinishedLeavesNothing(t *testing.T) {
	cfg := made(t, databasetest.SQLiteConfig(t))
	dir := t.TempDir()
	there := filepath.Join(dir, "there.zip")
	if err := os.WriteFile(there, []byte("an older one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := transfer.Backup(t.Context(), config(cfg), there, transfer.BackupOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another: %v", err)
	}
	failing := &transfer.Attachments{Open: func([sha256.Size]byte) (io.ReadCloser, error) { return nil, errors.New("the disk is gone") }}
	putMedia(t, cfg, []byte("an attachment"))
	if _, _, err := transfer.Backup(t.Context(), config(cfg), dir, transfer.BackupOptions{Files: failing}); err == nil {
		t.Error("made without its attachments")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := transfer.Backup(ctx, config(cfg), dir, transfer.BackupOptions{}); err == nil {
		t.Error("made though nobody wanted it any more")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files are there, want the older one (%v)", len(entries), err)
	}
}

// putMedia adds a row for an attachment to the index, and returns its name.
func putMedia(t *testing.T, cfg database.Config, content []byte) [sha256.Size]byte {
	t.Helper()
	db, err := database.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	name := sha256.Sum256(append([]byte("reference of "), content...))
	err = db.Media().Add(t.Context(), &database.MediaObject{RefHash: name, Owner: "account", Size: int64(len(content)), SHA256: sha256.Sum256(content), Created: 1, Expires: 2})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAttachmentsAreInTheBackupIfTheyAreWhole(t *testing.T) {
	cfg := made(t, databasetest.SQLiteConfig(t))
	files := map[[sha256.Size]byte][]byte{}
	sound := putMedia(t, cfg, []byte("a sound attachment"))
	files[sound] = []byte("a sound attachment")
	files[putMedia(t, cfg, []byte("a damaged one"))] = []byte("a damaged On")
	putMedia(t, cfg, []byte("one that is gone"))
	files[sha256.Sum256([]byte("nobody's"))] = []byte("a file without a row")
	source := &transfer.Attachments{Open: func(name [sha256.Size]byte) (io.ReadCloser, error) {
		if content, ok := files[name]; ok {
			return io.NopCloser(bytes.NewReader(content)), nil
		}
		return nil, fs.ErrNotExist
	}}
	_, a := backUp(t, cfg, transfer.BackupOptions{Files: source})
	if a.Files != 1 || a.Missing != 2 {
		t.Errorf("%d files, missing %d", a.Files, a.Missing)
	}
	got := map[[sha256.Size]byte]string{}
	store := &transfer.Attachments{Put: func(_ context.Context, name [sha256.Size]byte, _ int64, _ [sha256.Size]byte, content io.Reader) error {
		raw, err := io.ReadAll(content)
		got[name] = string(raw)
		return err
	}}
	report, err := transfer.Restore(t.Context(), config(databasetest.SQLiteConfig(t)), a, store)
	if err != nil || report.Files != 1 || len(got) != 1 || got[sound] != "a sound attachment" {
		t.Errorf("stored %v, %v (%v)", got, report, err)
	}
}

func TestTheKeyIsInABackupOnlyWhenAskedFor(t *testing.T) {
	cfg := made(t, databasetest.SQLiteConfig(t))
	brought := func(path string) (text []byte) {
		a, err := transfer.OpenArchive(path, func(inArchive []byte) ([database.KeySize]byte, error) {
			text = inArchive
			return cfg.MasterKey, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
		return text
	}
	path, a := backUp(t, cfg, transfer.BackupOptions{})
	if key := brought(path); key != nil || a.Key {
		t.Errorf("a key file: %q", key)
	}
	rewrite(t, path, func(name string, content []byte) []byte {
		if bytes.Contains(content, cfg.MasterKey[:]) || bytes.Contains(content, []byte(hex.EncodeToString(cfg.MasterKey[:]))) || strings.Contains(name, "key") && !strings.Contains(name, "tables/") {
			t.Errorf("the key is in %s", name)
		}
		return content
	})
	path, a = backUp(t, cfg, transfer.BackupOptions{KeyFile: []byte("the key file")})
	if key := brought(path); string(key) != "the key file" || !a.Key {
		t.Errorf("a key file: %q", key)
	}
	if _, _, err := transfer.Backup(t.Context(), config(cfg), t.TempDir(), transfer.BackupOptions{KeyFile: make([]byte, 2000)}); err == nil {
		t.Error("a key file that nobody would read again is put into an archive")
	}
}

// TestAnEpochFileOfAnotherDatabaseIsNotPutBeside: the bridge would refuse to start.
func TestAnEpochFileOfAnotherDatabaseIsNotPutBeside(t *testing.T) {
	_, a := backUp(t, made(t, databasetest.SQLiteConfig(t)), transfer.BackupOptions{})
	other, to := databasetest.SQLiteConfig(t), databasetest.SQLiteConfig(t)
	other.EpochFile = filepath.Join(t.TempDir(), "postern.epoch")
	if err := opens(t, other); err != nil {
		t.Fatal(err)
	}
	to.EpochFile = other.EpochFile
	if _, err := transfer.Restore(t.Context(), config(to), a, nil); !errors.Is(err, database.ErrEpochForeign) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(to.URI); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a database is there (%v)", err)
	}
}
