package database

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"strings"

	"github.com/mattn/go-sqlite3"
	"go.mau.fi/util/dbutil"
	"go.mau.fi/util/dbutil/litestream"
)

// SQLiteDriver is the database/sql driver for connections to the SQLite file, ours and the framework's. It differs from the framework's
// own, sqlite3-fk-wal, in that its commits move nothing from the log to the file: SQLite keeps to itself what goes wrong there. After
// an fsync of the log that failed, the next attempt would find nothing to sync, overwrite parts of the file with
// what is not durable in the log, and a power cut then leaves neither. The writer does it instead, and looks at the error. And its connections write
// in the order in which they came (see turns.go).
const SQLiteDriver = "sqlite3-postern"

func init() {
	sql.Register(SQLiteDriver, &turnDriver{sqlite3.SQLiteDriver{ConnectHook: func(conn *sqlite3.SQLiteConn) error {
		for name, fn := range litestream.Functions {
			if err := conn.RegisterFunc(name, fn, true); err != nil {
				return err
			}
		}
		_, err := conn.Exec("PRAGMA wal_autocheckpoint = 0", nil)
		return err
	}}})
}

// FrameworkPool is how the framework opens the same database: its configured type and URI, for SQLite with our driver and the settings that
// its own makes, and with a cache of statements, since the framework has each of its queries prepared anew.
func FrameworkPool(dialect, uri string) (string, string) {
	if parsed, err := dbutil.ParseDialect(dialect); err != nil || parsed != dbutil.SQLite {
		return dialect, uri
	}
	path, query, _ := strings.Cut(uri, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return dialect, uri // opening it says what is wrong
	}
	if q.Get("_stmt_cache_size") == "" {
		q.Set("_stmt_cache_size", "64")
	}
	if strings.HasPrefix(dialect, "litestream") { // which moves the log by itself
		return dialect, path + "?" + q.Encode()
	}
	synchronous := "NORMAL"
	if strings.HasSuffix(dialect, "fullsync") {
		synchronous = "FULL"
	}
	q.Set("_foreign_keys", "on")
	q.Set("_journal_mode", "WAL")
	q.Set("_synchronous", synchronous)
	q.Set("_busy_timeout", sqliteBusy)
	return SQLiteDriver, path + "?" + q.Encode()
}

const (
	// checkpointPages is from how many pages on the log is moved into the file.
	checkpointPages = 1000
	// checkpointLook is after how many commits the log's length is looked at.
	checkpointLook = 4
)

// committed counts commits, and moves the log into the file when it has grown long.
func (w *writer) committed() {
	if w.lite == nil {
		return
	}
	if w.commits++; w.commits < w.look {
		return
	}
	w.commits = 0
	log, done, err := w.checkpoint("NOOP")
	if err == nil && log >= w.pages && done < log {
		log, done, err = w.checkpoint("PASSIVE")
	}
	if err == nil && log >= w.pages && done < log {
		err = w.rest()
	}
	switch {
	case err == nil:
		w.behind = false
	case untrustworthy(err) || syncFailed(err):
		w.fail.set(err)
		w.health.note(err)
		w.drop()
	case !w.behind:
		// A full disk, say: the log grows, and whoever cannot commit says so.
		w.behind = true
		w.log.Warn().Err(err).Msg("Could not move SQLite's log into its file")
	}
}

// rest moves what others have written meanwhile, while nobody writes: the log is begun anew only where all of it is in the file, and would
// grow as long as there is no pause.
func (w *writer) rest() error {
	leave, err := w.turns.enter(context.Background())
	if err != nil {
		return err
	}
	defer leave()
	_, _, err = w.checkpoint("PASSIVE")
	return err
}

// checkpoint returns how many pages the log has and how many of them are in the file.
func (w *writer) checkpoint(mode string) (log, done int, err error) {
	var busy int
	err = w.sql.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &log, &done)
	return log, done, err
}

// syncFailed says whether an error of the disk may be that of a sync.
func syncFailed(err error) bool {
	var lite sqlite3.Error
	return errors.As(err, &lite) && lite.Code == sqlite3.ErrIoErr && lite.ExtendedCode != sqlite3.ErrIoErrWrite && lite.ExtendedCode != sqlite3.ErrIoErrRead
}
