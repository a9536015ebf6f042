package database

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"go.mau.fi/util/dbutil"
)

// Inspection looks at a database without changing anything in it, be it in use or not. It takes no lease, upgrades nothing and makes no
// file that stays.
type Inspection struct {
	db *DB

	// Path is the SQLite file, "" for a server.
	Path string
	// Version is what the server, or the SQLite library, calls itself.
	Version string
	// Schema is the version of our tables, 0 if there are none yet; Compatible the oldest program's that may use them, and Known this program's.
	Schema, Compatible, Known int
}

// errTakenBack is how a probe ends.
var errTakenBack = errors.New("database: inspect: taken back")

// Inspect opens a database that is there for looking at it. Errors: one that wraps fs.ErrNotExist for a SQLite file that is not there,
// ErrDamaged, or what the driver says. Close gives it back.
func Inspect(ctx context.Context, cfg Config) (*Inspection, error) {
	i := &Inspection{Known: len(upgradeTable)}
	raw, place, err := i.open(cfg)
	if err != nil {
		return nil, err
	}
	i.db = &DB{raw: raw, log: cfg.Log, place: place}
	if i.db.sealer, err = newSealer(cfg.MasterKey); err == nil {
		err = damaged(i.look(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return i, nil
}

func (i *Inspection) open(cfg Config) (*dbutil.Database, leasePlace, error) {
	dialect, err := dbutil.ParseDialect(cfg.Dialect)
	if err != nil {
		return nil, leasePlace{}, fmt.Errorf("database: %w", err)
	}
	if dialect == dbutil.Postgres {
		return openPostgres(cfg.URI)
	}
	path, _, err := splitSQLiteURI(cfg.URI)
	if err != nil {
		return nil, leasePlace{}, err
	}
	i.Path = path
	if _, err = os.Stat(path); err != nil {
		return nil, leasePlace{}, fmt.Errorf("database: open file: %w", err)
	}
	// The mode of the journal is left as it is; the file is not made.
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=rw&_txlock=immediate&_busy_timeout=" + sqliteBusy
	pool, err := sql.Open(SQLiteDriver, dsn)
	if err != nil {
		return nil, leasePlace{}, fmt.Errorf("database: %w", err)
	}
	pool.SetMaxOpenConns(1)
	raw, err := dbutil.NewWithDB(pool, "sqlite3")
	return raw, leasePlace{file: path + ".lock"}, err
}

// look reads the versions.
func (i *Inspection) look(ctx context.Context) error {
	raw := i.db.raw
	if err := raw.RawDB.PingContext(ctx); err != nil {
		return fmt.Errorf("database: connect: %w", err)
	}
	query := "SELECT 'SQLite ' || sqlite_version()"
	if raw.Dialect == dbutil.Postgres {
		query = "SELECT 'PostgreSQL ' || current_setting('server_version')"
	}
	if err := raw.QueryRow(ctx, query).Scan(&i.Version); err != nil {
		return fmt.Errorf("database: inspect: version: %w", err)
	}
	there, err := tableHere(ctx, i.db.raw, versionTable)
	if err != nil {
		return fmt.Errorf("database: inspect: %w", err)
	} else if !there {
		return nil
	}
	var compatible sql.NullInt64
	err = raw.QueryRow(ctx, "SELECT version, compat FROM "+versionTable+" LIMIT 1").Scan(&i.Schema, &compatible)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return fmt.Errorf("database: inspect: schema: %w", err)
	}
	if i.Compatible = int(compatible.Int64); i.Compatible == 0 {
		i.Compatible = i.Schema
	}
	return nil
}

// Close gives back the connections.
func (i *Inspection) Close() error { return i.db.raw.Close() }

// Setting reads a setting: a PRAGMA of SQLite's, or one of the Postgres server's, as it holds for this user and database.
func (i *Inspection) Setting(ctx context.Context, name string) (value string, err error) {
	query := "SHOW " + name
	if i.db.raw.Dialect != dbutil.Postgres {
		query = "PRAGMA " + name
	}
	err = i.db.raw.QueryRow(ctx, query).Scan(&value)
	if err != nil {
		return "", fmt.Errorf("database: inspect: setting: %w", err)
	}
	return value, nil
}

// Writable makes a table and takes that back.
func (i *Inspection) Writable(ctx context.Context) error {
	err := i.db.raw.DoTxn(ctx, nil, func(ctx context.Context) error {
		if _, err := i.db.raw.Exec(ctx, "CREATE TABLE postern_doctor (probe INTEGER)"); err != nil {
			return err
		}
		if _, err := i.db.raw.Exec(ctx, "INSERT INTO postern_doctor (probe) VALUES (1)"); err != nil {
			return err
		}
		return errTakenBack
	})
	if errors.Is(err, errTakenBack) {
		return nil
	}
	return fmt.Errorf("database: inspect: write: %w", err)
}

// Key says whether the master key is the one of this database: ErrWrongKey if not. A database without tables takes any.
func (i *Inspection) Key(ctx context.Context) error {
	if i.Schema == 0 {
		return nil
	}
	var sealed []byte
	err := i.db.raw.QueryRow(ctx, "SELECT sealed FROM postern_key_check WHERE id=1").Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return fmt.Errorf("database: inspect: key: %w", err)
	}
	text, err := i.db.Unseal(keyCheckColumn, "1", 1, sealed)
	if err != nil || subtle.ConstantTimeCompare(text, []byte(keyCheckText)) != 1 {
		return ErrWrongKey
	}
	return nil
}

// Epoch is EpochFits for this database.
func (i *Inspection) Epoch(ctx context.Context, path string) error {
	if i.Schema == 0 {
		_, err := readEpoch(path)
		if errors.Is(err, errEpochDamaged) {
			err = nil
		}
		return err
	}
	return EpochFits(ctx, i.db.raw, path)
}

// EpochFits says whether an epoch file can be used with a database, without changing it: ErrEpochFile, ErrEpochForeign, ErrEpochFormat. One that is not there yet, or
// is damaged, can be: a new one is made. "" is for none.
func EpochFits(ctx context.Context, raw *dbutil.Database, path string) error {
	if path == "" {
		return nil
	}
	state, err := readEpoch(path)
	if err != nil || state == nil {
		if errors.Is(err, errEpochDamaged) {
			return nil
		}
		return err
	}
	if there, err := tableHere(ctx, raw, "postern_epoch"); err != nil || !there {
		return err // made by an older version
	}
	var id string
	err = raw.QueryRow(ctx, "SELECT database_id FROM postern_epoch WHERE id=1").Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return fmt.Errorf("database: inspect: epoch: %w", err)
	}
	if state.database != id {
		return ErrEpochForeign
	}
	return nil
}

// IssuerKeys returns the token issuer's document, nil if there is none yet.
func (i *Inspection) IssuerKeys(ctx context.Context) (document []byte, version int, err error) {
	if i.Schema == 0 {
		return nil, 0, nil
	}
	return i.db.IssuerKeys().Load(ctx)
}

// Accounts counts the accounts.
func (i *Inspection) Accounts(ctx context.Context) (n int, err error) {
	if i.Schema == 0 {
		return 0, nil
	}
	err = i.db.raw.QueryRow(ctx, "SELECT COUNT(*) FROM postern_account").Scan(&n)
	return n, err
}

// Held says whether another process uses the database, and what that called itself.
func (i *Inspection) Held(ctx context.Context) (holder *LeaseHeldError, err error) {
	var held bool
	if i.db.raw.Dialect == dbutil.Postgres {
		var schema string
		if err = i.db.raw.QueryRow(ctx, "SELECT COALESCE(current_schema(), '')").Scan(&schema); err != nil {
			return nil, fmt.Errorf("database: inspect: lease: %w", err)
		}
		err = i.db.raw.QueryRow(ctx, `SELECT EXISTS(SELECT 1 FROM pg_locks WHERE locktype='advisory' AND granted AND objsubid=1
			AND database=(SELECT oid FROM pg_database WHERE datname=current_database()) AND (classid::bigint<<32)|objid::bigint=$1)`,
			serverLockKey(schema)).Scan(&held)
	} else {
		held, err = fileLockHeld(i.db.place.file)
	}
	if err != nil {
		return nil, fmt.Errorf("database: inspect: lease: %w", err)
	} else if !held {
		return nil, nil
	}
	var named *LeaseHeldError
	if !errors.As(i.db.whoHolds(ctx), &named) {
		named = &LeaseHeldError{}
	}
	return named, nil
}

// serverLockKey is the number of the lock for a schema: several bridges may share one Postgres database.
func serverLockKey(schema string) int64 {
	sum := sha256.Sum256([]byte("postern lease\x00" + schema))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// CanMake says whether a SQLite file that is not there yet could be made, by making another one beside it and removing that.
func CanMake(uri string) (path string, err error) {
	path, _, err = splitSQLiteURI(uri)
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".postern-doctor-*")
	if err != nil {
		return path, fmt.Errorf("database: create file: %w", err)
	}
	return path, errors.Join(file.Close(), os.Remove(file.Name()))
}

// IsAbsent says whether an error of Inspect means that there is no database yet.
func IsAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
