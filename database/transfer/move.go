package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/util/dbutil"

	"postern/database"
)

// open opens a database that is there, and checks the key where there is one to check.
func open(ctx context.Context, cfg database.Config) (*database.Inspection, error) {
	base, err := database.Inspect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := base.Key(ctx); err != nil {
		return nil, errors.Join(err, base.Close())
	}
	return base, nil
}

// Move copies the bridge's SQLite database into a PostgreSQL database without tables of a bridge's. Nobody may use either meanwhile. What was copied is read
// again and compared before the one transaction is committed.
//
// From before that transaction on the SQLite database is marked, so that no bridge starts on it: what goes on from one state twice uses keys twice. The mark is
// taken away if it is known that nothing was committed. With ErrUnknown it stays.
//
// Errors: *database.LeaseHeldError, ErrNotEmpty, ErrVersions, ErrNewer, ErrUnequal, ErrUnknown, ErrMarked, ErrStaysMarked, database.ErrWrongKey, or what the drivers say. With a report the
// move is done, and the error is only about what came after that.
func Move(ctx context.Context, cfg Config, uri string) (report *Report, err error) {
	from, err := open(ctx, cfg.Database)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if from.Schema != database.SchemaVersion() {
		return nil, fmt.Errorf("%w: %s is %d, and this program's %d", ErrVersions, database.VersionTable, from.Schema, database.SchemaVersion())
	}
	released, err := from.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, released()) }()
	if marked, err := from.Moved(ctx); err != nil {
		return nil, err
	} else if marked {
		return nil, ErrMarked
	}
	there := cfg.Database
	there.Dialect, there.URI = "postgres", uri
	to, err := database.Inspect(ctx, there)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	releasedThere, err := to.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, releasedThere()) }()
	if err := empty(ctx, to.Raw().RawDB, dbutil.Postgres); err != nil {
		return nil, err
	}
	if err := from.SetMoved(ctx, true); err != nil {
		return nil, err
	}
	moved, done := &Report{}, false
	if err = cfg.at(Marked); err == nil {
		err = snapshot(ctx, from.Raw(), func(source queryer) error {
			err := inTransaction(ctx, to.Raw(), func(ctx context.Context, tx *sql.Tx) error {
				if err := cfg.move(ctx, source, to.Raw(), tx, moved); err != nil {
					return err
				}
				return cfg.at(Copied)
			})
			if done = err == nil; done {
				err = cfg.at(Moved)
			}
			return err
		})
	}
	if done {
		return moved, err
	}
	if !errors.Is(err, ErrUnknown) {
		err = errors.Join(err, cfg.unmark(ctx, from))
	}
	return nil, err
}

// unmark takes the mark away when it is known that nothing was committed.
func (c *Config) unmark(ctx context.Context, from *database.Inspection) error {
	err := c.at(Unmarking)
	if err == nil {
		err = from.SetMoved(context.WithoutCancel(ctx), false)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStaysMarked, err)
	}
	return nil
}

// move does the copying.
func (c *Config) move(ctx context.Context, source queryer, raw *dbutil.Database, tx *sql.Tx, report *Report) error {
	found, err := readShape(ctx, source, dbutil.SQLite)
	if err != nil {
		return err
	}
	report.LeftOut = found.leftOut
	versions, err := c.readVersions(ctx, source, found.tables)
	if err != nil {
		return err
	}
	if err := c.checkVersions(versions, true); err != nil {
		return err
	}
	finish, err := c.makeTables(ctx, raw, tx, versions)
	if err != nil {
		return err
	}
	made, err := readShape(ctx, tx, dbutil.Postgres)
	if err != nil {
		return err
	}
	t := &target{tx: tx, dialect: dbutil.Postgres, from: dbutil.SQLite.String(), tables: made.tables, report: report}
	for i := range found.tables {
		table := &found.tables[i]
		if c.unused(table.Name, versions) {
			continue
		}
		if _, err := t.load(ctx, table, func(fn func(row []any) error) error { return readRows(ctx, source, dbutil.SQLite, table, fn) }); err != nil {
			return err
		}
	}
	if err := run(ctx, tx, finish); err != nil {
		return err
	}
	if err := t.settle(ctx); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE postern_epoch SET moved=0")
	return err
}

// Unmove takes back that a SQLite database was moved. Nobody knows here how far the other copy has come, so the next start takes this one for an old copy.
// ErrNotMarked if it was not moved.
func Unmove(ctx context.Context, cfg Config) (err error) {
	base, err := open(ctx, cfg.Database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	released, err := base.Hold(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, released()) }()
	marked, err := base.Moved(ctx)
	if err != nil {
		return err
	} else if !marked {
		return ErrNotMarked
	}
	return database.Restored(ctx, base.Raw())
}
