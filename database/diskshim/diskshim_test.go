//go:build linux && cgo

package diskshim_test

import (
	"database/sql"
	"path/filepath"
	"sync/atomic"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"postern/database/diskshim"
)

// counting is a layer that counts what it is told, and refuses writes while it is told to.
type counting struct {
	opened, wrote, synced atomic.Int64
	refuse                atomic.Bool
}

func (c *counting) Opened(string) int64 { return c.opened.Add(1) }

func (c *counting) Ask(_ int64, op diskshim.Op) int {
	if op == diskshim.Write && c.refuse.Load() {
		return 778 // SQLITE_IOERR_WRITE
	}
	return 0
}

func (c *counting) Wrote(_ int64, _ []byte, _ int64, code int) {
	if code == 0 {
		c.wrote.Add(1)
	}
}
func (c *counting) Truncated(int64, int64, int) {}
func (c *counting) SyncBegins(int64) int64      { return 0 }
func (c *counting) Synced(_, _ int64, code int) {
	if code == 0 {
		c.synced.Add(1)
	}
}
func (c *counting) Removed(string, bool, int) {}

func TestALayerIsToldOfWritesAndSyncsAndMayRefuseThem(t *testing.T) {
	layer := &counting{}
	if err := diskshim.Register("counting", false, layer); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(t.TempDir(), "test.db")+"?vfs=counting&_synchronous=FULL")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err = db.Exec("CREATE TABLE kept (n INTEGER)"); err != nil {
		t.Fatal(err)
	}
	if layer.opened.Load() == 0 || layer.wrote.Load() == 0 || layer.synced.Load() == 0 {
		t.Errorf("told of %d files, %d writes and %d syncs", layer.opened.Load(), layer.wrote.Load(), layer.synced.Load())
	}
	layer.refuse.Store(true)
	if _, err = db.Exec("INSERT INTO kept VALUES (1)"); err == nil {
		t.Error("a write that the layer refuses is taken")
	}
	layer.refuse.Store(false)
	var n int
	if err = db.QueryRow("SELECT COUNT(*) FROM kept").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows are kept of a write that was refused (%v)", n, err)
	}
}
