package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// VersionTable is the table with the version of ours.
const VersionTable = versionTable

// SchemaVersion is the version of our tables that this program makes.
func SchemaVersion() int { return len(upgradeTable) }

// Upgrade brings our tables in a database to the version of this program, or makes them. It takes part in a transaction that ctx carries.
func Upgrade(ctx context.Context, raw *dbutil.Database) error {
	if err := (&DB{raw: raw}).makeVersions(ctx); err != nil {
		return err
	}
	if err := raw.Child(versionTable, upgradeTable, nil).Upgrade(ctx); err != nil {
		return fmt.Errorf("database: upgrade: %w", err)
	}
	return nil
}

// Raw is the database below, for reading and writing tables as they are.
func (i *Inspection) Raw() *dbutil.Database { return i.db.raw }

// Hold takes the lock of the lease, so that no bridge starts on the database until release is called, or returns *LeaseHeldError, or *SchemaError. Nothing is
// counted in the database: it may have no tables.
func (i *Inspection) Hold(ctx context.Context) (release func() error, err error) {
	if err := i.db.checkSchema(ctx); err != nil {
		return nil, err
	}
	lock, err := i.db.takeLock(ctx)
	if err != nil {
		return nil, err
	}
	return lock.release, nil
}

// HoldFile is Hold for a SQLite file that need not be there; path is the file.
func HoldFile(uri string) (path string, release func() error, err error) {
	if path, _, err = splitSQLiteURI(uri); err != nil {
		return "", nil, err
	}
	lock, err := takeFileLock(path + ".lock")
	if errors.Is(err, errLockHeld) {
		return path, nil, &LeaseHeldError{}
	} else if err != nil {
		return path, nil, err
	}
	return path, lock.release, nil
}

// versionMoved is from which version of the tables on a database can be moved.
const versionMoved = 23

// Moved says whether the database was moved to another one.
func (i *Inspection) Moved(ctx context.Context) (bool, error) {
	if i.Schema < versionMoved { // nobody could move it then
		return false, nil
	}
	var moved int
	err := i.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_epoch WHERE moved<>0").Scan(&moved)
	if err != nil {
		return false, fmt.Errorf("database: inspect: epoch: %w", err)
	}
	return moved > 0, nil
}

// SetMoved notes that the database was moved to another one, or takes that back, while nobody else uses it.
func (i *Inspection) SetMoved(ctx context.Context, moved bool) error {
	at := int64(0)
	if moved {
		at = time.Now().UnixMilli()
	}
	result, err := i.db.raw.Exec(ctx, "UPDATE postern_epoch SET moved=$1 WHERE id=1", at)
	if err == nil {
		var n int64
		if n, err = result.RowsAffected(); err == nil && n != 1 {
			err = errors.New("no bridge has ever used this database")
		}
	}
	if err != nil {
		return fmt.Errorf("database: mark as moved: %w", err)
	}
	return nil
}

// Restored notes that what is in a database comes from a backup, or from before another one went on from it: the next Open takes it for an old copy,
// whatever the epoch file says, and none for one that was moved. It takes part in a transaction that ctx carries.
func Restored(ctx context.Context, raw *dbutil.Database) error {
	// There is no row yet in what was made before there was one, or was never opened as a whole.
	result, err := raw.Exec(ctx, `INSERT INTO postern_epoch (id, database_id, branch, counter, generation, moved, restored) VALUES (1, $1, $2, 0, 0, 0, $3)
		ON CONFLICT (id) DO UPDATE SET moved=0, restored=excluded.restored`, randomID(), randomID(), time.Now().UnixMilli())
	if err == nil {
		var n int64
		if n, err = result.RowsAffected(); err == nil && n != 1 {
			err = fmt.Errorf("%d rows were changed", n)
		}
	}
	if err != nil {
		return fmt.Errorf("database: mark as restored: %w", err)
	}
	return nil
}

// sayRenewed tells the operator how much is begun anew.
func (db *DB) sayRenewed(ctx context.Context) error {
	var accounts, sessions int
	err := db.raw.QueryRow(ctx, "SELECT (SELECT COUNT(*) FROM postern_account), (SELECT COUNT(*) FROM postern_signal_session)").Scan(&accounts, &sessions)
	if err != nil {
		return fmt.Errorf("database: epoch: %w", err)
	}
	db.log.Warn().Int("count", accounts).Msg("So many accounts replace their prekeys, and their users are told")
	db.log.Warn().Int("count", sessions).Msg("So many sessions are not sent in any more: new ones are begun when something is to be sent")
	return nil
}
