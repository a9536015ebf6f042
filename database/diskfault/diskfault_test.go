//go:build linux && cgo

package diskfault_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"github.com/mattn/go-sqlite3"

	"postern/database/diskfault"
)

func open(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "a.db")+"?vfs="+diskfault.VFS+"&_synchronous=FULL")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err = db.Exec("CREATE TABLE t (n INTEGER)"); err != nil {
		t.Fatal(err)
	}
	return db
}

// TestSQLiteSeesTheFaultOfItsFolderAndNoOtherDatabaseDoes also counts: a layer that is never asked would let every other test pass.
func TestSQLiteSeesTheFaultOfItsFolderAndNoOtherDatabaseDoes(t *testing.T) {
	for name, fault := range map[string]diskfault.Fault{
		"a full disk":       {Op: diskfault.Write, Nth: 1, Code: diskfault.Full},
		"a sync that fails": {Op: diskfault.Sync, Nth: 1, Times: 1, Code: diskfault.IOErrFsync},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			folder, err := diskfault.In(dir)
			if err != nil {
				t.Fatal(err)
			}
			db, other := open(t, dir), open(t, t.TempDir())
			if folder.Count(diskfault.Write) == 0 || folder.Count(diskfault.Sync) == 0 {
				t.Fatal("the layer was not asked")
			}
			folder.Set(&fault)
			_, err = db.Exec("INSERT INTO t VALUES (1)")
			var lite sqlite3.Error
			if !errors.As(err, &lite) || int(lite.ExtendedCode) != fault.Code {
				t.Errorf("the answer is %v", err)
			}
			if folder.Failed() == 0 {
				t.Error("nothing has failed")
			}
			if _, err = other.Exec("INSERT INTO t VALUES (1)"); err != nil {
				t.Errorf("a database of another folder: %v", err)
			}
			folder.Set(nil)
			if _, err = db.Exec("INSERT INTO t VALUES (2)"); err != nil {
				t.Errorf("after the fault: %v", err)
			}
			var rows int
			if err = db.QueryRow("SELECT COUNT(*) FROM t WHERE n=2").Scan(&rows); err != nil || rows != 1 {
				t.Errorf("%d rows (%v)", rows, err)
			}
		})
	}
}
