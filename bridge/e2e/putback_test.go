package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"postern/database"
)

// TestABackupOfAnEncryptedBridgeIsPutBackAndNoSessionOfItIsUsedAgain: on a real homeserver with encrypted rooms. What the bridge encrypted since the backup it encrypted in sessions that the
// backup has as they were before; put back, it begins other ones, with the room and with the devices in it, and its one-time keys are taken by the homeserver.
func TestABackupOfAnEncryptedBridgeIsPutBackAndNoSessionOfItIsUsedAgain(t *testing.T) {
	t.Parallel()
	s := open(t, setting{encrypted: true})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "before, says alice")
	s.toMatrix(room, ben, "before, says Ben")
	archive := filepath.Join(t.TempDir(), "backup.zip")
	s.postern("backup", "--out", archive)
	s.toMatrix(room, ben, "since, says Ben")
	s.Bridge.Kill()
	before := s.olmSessions()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(s.Bridge.DatabasePath() + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	s.postern("restore", "--from", archive)
	s.ok(s.Bridge.Start(s.ctx))
	s.toMatrix(room, ben, "after, says Ben")
	s.toPhone(room, ben, "after, says alice")
	s.ok(s.Bridge.Stop())
	after := s.olmSessions()
	if len(before) == 0 || len(after) == 0 {
		t.Fatalf("%d sessions with devices, and %d: it proves nothing", len(before), len(after))
	}
	for _, id := range after {
		if slices.Contains(before, id) {
			t.Error("a session with a device is one of before")
		}
	}
	db := s.bridgeFile()
	defer db.Close()
	var repaired string
	s.ok(db.QueryRowContext(s.ctx, "SELECT value FROM kv_store WHERE key='otk_repair_needed'").Scan(&repaired))
	if repaired != "false" {
		t.Errorf("the homeserver still has one-time keys of before: %q", repaired)
	}
}

// postern runs a command of the program's, which must succeed.
func (s *scene) postern(args ...string) {
	s.t.Helper()
	out, err := exec.CommandContext(s.ctx, postern, append(args, "-c", s.Bridge.ConfigPath())...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
}

// bridgeFile opens the file of a bridge that does not run.
func (s *scene) bridgeFile() *sql.DB {
	s.t.Helper()
	return must(sql.Open(database.SQLiteDriver, "file:"+s.Bridge.DatabasePath()))(s.t)
}

// olmSessions are the ids of the bot's sessions with devices.
func (s *scene) olmSessions() (ids []string) {
	s.t.Helper()
	db := s.bridgeFile()
	defer db.Close()
	rows := must(db.QueryContext(context.WithoutCancel(s.ctx), "SELECT session_id FROM crypto_olm_session"))(s.t)
	defer rows.Close()
	for rows.Next() {
		var id string
		s.ok(rows.Scan(&id))
		ids = append(ids, id)
	}
	s.ok(rows.Err())
	return ids
}
