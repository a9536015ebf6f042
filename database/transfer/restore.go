package transfer

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"

	"go.mau.fi/util/dbutil"

	"postern/database"
)

// Restore puts an archive into a database without tables of a bridge's; a SQLite file must not be there at all. The archive is read and checked as a whole first. What is
// there at the end is marked as an old copy, so that the next start of the bridge uses no message key of it twice. Attachments go first; those without a row are collected
// later.
//
// An archive of the same kind of database may be of an older version, which is brought up to date here and at the next start. One of the other kind has to be of this
// program's versions.
//
// Errors: *database.LeaseHeldError, ErrNotEmpty, ErrVersions, ErrNewer, ErrArchive, ErrKey, ErrUnequal, ErrUnknown, database.ErrEpochForeign, or what the drivers say. With a report
// everything is there, and the error is only about what came after that.
func Restore(ctx context.Context, cfg Config, a *Archive, files *Attachments) (*Report, error) {
	if a.key != cfg.Database.MasterKey {
		return nil, ErrKey
	}
	if err := a.Check(ctx); err != nil {
		return nil, err
	}
	dialect, err := dbutil.ParseDialect(cfg.Database.Dialect)
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	if err := cfg.checkVersions(a.Versions, dialect.String() != a.Dialect); err != nil {
		return nil, err
	}
	report, done := &Report{Missing: a.Missing}, false
	put := func(raw *dbutil.Database) error {
		if err := a.putFiles(ctx, files, report); err != nil {
			return err
		}
		if err := cfg.at(FilesPut); err != nil {
			return err
		}
		return inTransaction(ctx, raw, func(ctx context.Context, tx *sql.Tx) error {
			if err := cfg.restore(ctx, a, raw, tx, report); err != nil {
				return err
			}
			return cfg.at(Copied)
		})
	}
	if dialect == dbutil.Postgres {
		err = cfg.restoreServer(ctx, put, &done)
	} else {
		err = cfg.restoreFile(ctx, put, &done)
	}
	if !done {
		return nil, err
	}
	return report, err
}

func (a *Archive) putFiles(ctx context.Context, files *Attachments, report *Report) error {
	if files == nil {
		return nil
	}
	return a.files(ctx, func(file *FilePart, name [sha256.Size]byte, content io.Reader) error {
		sum, _ := hash(file.SHA256)
		if err := files.Put(ctx, name, file.Size, sum, content); err != nil {
			return fmt.Errorf("transfer: store attachment: %w", err)
		}
		report.Files++
		return nil
	})
}

// restoreServer puts it into a PostgreSQL database; done is set when all of it is there.
func (c *Config) restoreServer(ctx context.Context, put func(raw *dbutil.Database) error, done *bool) (err error) {
	to, err := database.Inspect(ctx, c.Database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	release, err := to.Hold(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := empty(ctx, to.Raw().RawDB, dbutil.Postgres); err != nil {
		return err
	}
	if err := put(to.Raw()); err != nil {
		return err
	}
	*done = true
	return c.at(Committed)
}

// restoreFile makes a SQLite file under another name, which becomes its own when it is whole; done is set then.
func (c *Config) restoreFile(_ context.Context, put func(raw *dbutil.Database) error, done *bool) (err error) {
	path, release, err := database.HoldFile(c.Database.URI)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	// What a file that was removed has left beside it would be taken for a part of the new one.
	for _, suffix := range []string{"", "-wal", "-journal", "-shm"} {
		if info, err := os.Lstat(path + suffix); err == nil {
			return errors.Join(fmt.Errorf("%w: %s", ErrNotEmpty, path+suffix), unlink(path+restoring, info))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("transfer: %w", err)
		}
	}
	made := path + restoring
	discard := func() error {
		var all error
		for _, suffix := range []string{"", "-journal"} {
			if err := os.Remove(made + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				all = errors.Join(all, err)
			}
		}
		return all
	}
	if err := discard(); err != nil { // of a process that was killed
		return fmt.Errorf("transfer: %w", err)
	}
	err = c.makeFile(made, put)
	if errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("transfer: nothing was kept: %v", err) //nolint:errorlint // it is known: the file goes
	}
	if err == nil {
		err = c.at(Naming)
	}
	if err != nil {
		return errors.Join(err, discard())
	}
	if *done, err = name(made, path, func() error { return c.at(Linked) }); err == nil {
		return c.at(Named)
	}
	return errors.Join(fmt.Errorf("transfer: name the database: %w", err), discard())
}

// restoring ends the name of a SQLite file that is not whole yet.
const restoring = ".restoring"

// unlink takes away the other name of a file that was given its own when the process was killed.
func unlink(other string, file os.FileInfo) error {
	if info, err := os.Lstat(other); err != nil || !os.SameFile(info, file) {
		return nil //nolint:nilerr // it is no name of that file
	}
	return os.Remove(other)
}

// makeFile makes a SQLite file that is whole and on disk when it returns.
func (c *Config) makeFile(path string, put func(raw *dbutil.Database) error) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return fmt.Errorf("transfer: create database: %w", err)
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_journal_mode=DELETE&_synchronous=FULL&_foreign_keys=off&_txlock=immediate"
	pool, err := sql.Open(database.SQLiteDriver, dsn)
	if err != nil {
		return fmt.Errorf("transfer: create database: %w", err)
	}
	pool.SetMaxOpenConns(1)
	raw, err := dbutil.NewWithDB(pool, "sqlite3")
	if err == nil { // no expression in a table calls what it should not
		_, err = pool.Exec("PRAGMA trusted_schema=OFF")
	}
	if err == nil {
		err = put(raw)
	}
	if err == nil {
		err = c.at(Committed)
	}
	if err = errors.Join(err, pool.Close()); err != nil {
		return err
	}
	if file, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return fmt.Errorf("transfer: create database: %w", err)
	}
	if err = errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("transfer: create database: %w", err)
	}
	return nil
}

// restore does the copying.
func (c *Config) restore(ctx context.Context, a *Archive, raw *dbutil.Database, tx *sql.Tx, report *Report) error {
	finish := a.Finish
	var err error
	if raw.Dialect.String() == a.Dialect {
		err = run(ctx, tx, a.Setup)
	} else {
		finish, err = c.makeTables(ctx, raw, tx, a.Versions)
	}
	if err != nil {
		return err
	}
	made, err := readShape(ctx, tx, raw.Dialect)
	if err != nil {
		return err
	}
	t := &target{tx: tx, dialect: raw.Dialect, from: a.Dialect, tables: made.tables, report: report}
	for i := range a.Tables {
		part := &a.Tables[i]
		if c.unused(part.Name, a.Versions) {
			continue
		}
		count, err := t.load(ctx, &part.Table, func(fn func(row []any) error) error { return a.rows(ctx, part, fn) })
		if err != nil {
			return err
		}
		if raw.Dialect.String() == a.Dialect && len(report.Replaced) == 0 && count.Sum != part.Sum {
			return fmt.Errorf("%w: %s", ErrUnequal, part.Name)
		}
	}
	if err := run(ctx, tx, finish); err != nil {
		return err
	}
	if err := t.settle(ctx); err != nil {
		return err
	}
	if err := database.Upgrade(ctx, raw); err != nil {
		return err
	}
	if err := database.EpochFits(ctx, raw, c.Database.EpochFile); err != nil {
		return err
	}
	return database.Restored(ctx, raw)
}
