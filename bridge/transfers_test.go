package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"postern/connector/mediastore"
	"postern/database"
)

// verb runs a command in a shell's folder, and checks its exit status.
func (s *shell) verb(want int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	var out, problems bytes.Buffer
	if code := dispatch(s.t.Context(), append(args, "-c", filepath.Join(s.dir, "config.yaml")), &out, &problems); code != want {
		s.t.Errorf("postern %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), code, want, &out, &problems)
	}
	return out.String(), problems.String()
}

// inhabited is a shell with a database in which somebody has a language.
func inhabited(t *testing.T) *shell {
	t.Helper()
	s := newShell(t, 1)
	db, err := database.Open(t.Context(), database.Config{Dialect: "sqlite3-fk-wal", URI: s.database(), MasterKey: s.key})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Do(t.Context(), func(ctx context.Context) error {
		_, err := db.Raw().Exec(ctx, "INSERT INTO postern_person (mxid, language) VALUES ('@anna:example.org', 'de')")
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheCommandsThatCopyRefuseWhatTheyDoNotUnderstand(t *testing.T) {
	s := newShell(t, 1)
	for _, args := range []string{
		"backup", "backup --out", "backup --out x y", "backup --out x --from y", "restore", "restore x", "restore --from x y", "move-to-postgres",
		"move-to-postgres --to x --undo", "move-to-postgres --to x --to-file y", "move-to-postgres x --undo --yes", "move-to-postgres --undo --yes --json",
		"move-to-postgres --undo", "move-to-postgres --yes", "move-to-postgres --to x --yes",
	} {
		_, stderr := s.verb(exitUsage, strings.Fields(args)...)
		s.has(args, stderr, "postern: ", "Exit status")
	}
}

func TestABackupIsMadeCheckedAndPutBackFromAShell(t *testing.T) {
	s := inhabited(t)
	out := filepath.Join(s.dir, "backup.zip")
	stdout, _ := s.verb(0, "backup", "--out", out)
	s.has("what it says", stdout, out, "tables with", "keep a copy of it somewhere else")
	_, stderr := s.verb(exitOther, "backup", "--out", out)
	s.has("over another", stderr, "is there already")
	if runtime.GOOS == "linux" { // nobody may make files in /proc, whoever they are
		_, stderr = s.verb(exitOther, "backup", "--out", "/proc/backup.zip")
		s.has("where nothing can be written", stderr, "the archive cannot be written")
	}
	stdout, _ = s.verb(0, "backup", "--out", s.dir, "--json", "--with-key", "--with-media")
	var said struct {
		Archive string
		Bytes   int64
		Key     bool
		Copied  struct{ Tables []struct{ Rows int } }
	}
	if err := json.Unmarshal([]byte(stdout), &said); err != nil || !said.Key || said.Bytes == 0 || len(said.Copied.Tables) < 20 || filepath.Dir(said.Archive) != s.dir {
		t.Errorf("%s (%v)", stdout, err)
	}
	_, stderr = s.verb(exitDatabase, "restore", "--from", out)
	s.has("over the database", stderr, "there is a database already, and nothing was changed")
	for _, path := range []string{s.database(), filepath.Join(s.dir, "postern.key")} {
		if err := os.Rename(path, path+".kept"); err != nil {
			t.Fatal(err)
		}
	}
	_, stderr = s.verb(exitConfig, "restore", "--from", out)
	s.has("without a key", stderr, "the key file is not in the archive")
	_, stderr = s.verb(exitOther, "restore", "--from", "none.zip")
	s.has("without an archive", stderr, "there is no archive at none.zip")
	for _, more := range []string{"--check", "--json"} {
		_, stderr = s.verb(exitConfig, "restore", "--from", said.Archive, more)
		s.has("with a key that nobody believes", stderr, "there is no key file at", "--with-key")
	}
	stdout, _ = s.verb(0, "restore", "--from", said.Archive, "--with-key", "--check")
	s.has("a check", stdout, "is whole", "a key that it brings along itself")
	if _, err := os.Stat(filepath.Join(s.dir, "postern.key")); err == nil {
		t.Error("a check has made a key file")
	}
	if err := os.WriteFile(s.database(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.verb(exitDatabase, "restore", "--from", said.Archive, "--with-key")
	if _, err := os.Stat(filepath.Join(s.dir, "postern.key")); err == nil {
		t.Error("the archive's key stays where nothing was restored")
	}
	if err := os.Remove(s.database()); err != nil {
		t.Fatal(err)
	}
	stdout, _ = s.verb(0, "restore", "--from", said.Archive, "--with-key")
	s.has("what it says", stdout, "Restored what was there on", "users are told")
	if key, err := database.LoadKeyFile(filepath.Join(s.dir, "postern.key")); err != nil || key != s.key {
		t.Errorf("the key file is not back (%v)", err)
	}
	// Another key than the archive's.
	if err := errors.Join(os.Remove(filepath.Join(s.dir, "postern.key")), os.Remove(s.database())); err != nil {
		t.Fatal(err)
	}
	if _, err := database.LoadOrCreateKeyFile(filepath.Join(s.dir, "postern.key")); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"--json", "--check"} {
		_, stderr = s.verb(exitDatabase, "restore", "--from", out, more)
		s.has("with another key", stderr, "was not made under the key in", "nothing was changed")
	}
}

func TestABackupNeedsADatabaseAndABucketHasItsOwnWays(t *testing.T) {
	s := newShell(t, 1)
	_, stderr := s.verb(exitDatabase, "backup", "--out", s.dir)
	s.has("without a database", stderr, "there is no database at database.uri")
	_, stderr = s.verb(exitDatabase, "move-to-postgres", "--to", "postgres://nobody@127.0.0.1:1/none?sslmode=disable")
	s.has("without a database", stderr, "there is no database at database.uri")
	s = inhabited(t)
	for _, out := range []string{"missing/", "missing/archive.zip"} {
		_, stderr = s.verb(exitOther, "backup", "--out", filepath.Join(s.dir, "folder")+"/"+out)
		s.has("without a folder", stderr, "there is no folder "+filepath.Join(s.dir, "folder/missing")+" to write to: make it first")
	}
	_, stderr = s.verb(exitOther, "move-to-postgres", "--undo", "--yes")
	s.has("what was not moved", stderr, "was not moved")
	_, stderr = s.verb(exitDatabase, "move-to-postgres", "--to", "postgres://nobody:secret-word@127.0.0.1:1/none?sslmode=disable")
	if strings.Contains(stderr, "secret-word") {
		t.Errorf("the password is in %s", stderr)
	}
	config, err := os.ReadFile(filepath.Join(s.dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config = append(config, "network:\n    media:\n        store: s3\n"...)
	if err := os.WriteFile(filepath.Join(s.dir, "config.yaml"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr = s.verb(exitOther, "backup", "--out", s.dir, "--with-media")
	s.has("attachments in a bucket", stderr, "has its own ways")
}

// TestARestoreThatIsRefusedTouchesNoFileOfTheBridgeThatRuns: not those that it is just writing either.
func TestARestoreThatIsRefusedTouchesNoFileOfTheBridgeThatRuns(t *testing.T) {
	s := inhabited(t)
	config, err := os.ReadFile(filepath.Join(s.dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	media := filepath.Join(s.dir, "attachments")
	config = append(config, "network:\n    media:\n        store: files\n        path: "+media+"\n"...)
	if err := os.WriteFile(filepath.Join(s.dir, "config.yaml"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	content, name := []byte("an attachment"), mediastore.NameOf("its reference")
	backend, err := mediastore.Files(media)
	if err != nil {
		t.Fatal(err)
	}
	if err := mediastore.PutInto(t.Context(), backend, name, int64(len(content)), sha256.Sum256(content), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	db, err := database.Open(t.Context(), database.Config{Dialect: "sqlite3-fk-wal", URI: s.database(), MasterKey: s.key, Holder: "the bridge"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = db.Media().Add(t.Context(), &database.MediaObject{RefHash: name, Owner: "account", Size: int64(len(content)), SHA256: sha256.Sum256(content), Created: 1, Expires: 2})
	if err != nil {
		t.Fatal(err)
	}
	out, writing := filepath.Join(s.dir, "backup.zip"), filepath.Join(media, "tmp", "put-by-the-bridge")
	stdout, _ := s.verb(0, "backup", "--out", out, "--with-media")
	s.has("what it says", stdout, "1 attachments")
	if err := os.WriteFile(writing, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr := s.verb(exitDatabase, "restore", "--from", out)
	s.has("while a bridge runs", stderr, "is using the database")
	if _, err := os.Stat(writing); err != nil {
		t.Errorf("what the bridge was writing is gone: %v", err)
	}
}
