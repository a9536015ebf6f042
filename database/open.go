package database

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3" // the driver behind SQLite
	"go.mau.fi/util/dbutil"
)

const (
	// poolSize is how many connections are kept: one for the writer, the others for readers.
	poolSize = 5
	// sqliteBusy is how long SQLite waits for another writer to the file, in milliseconds.
	sqliteBusy = "5000"
)

// Open opens the database, takes the lease if Config.Holder is set, brings the tables up to date and
// checks the master key and the epoch file. Errors: *LeaseHeldError, ErrDamaged, *SchemaError, *OtherInstanceError, ErrWrongKey, ErrEpochForeign, ErrEpochFormat, ErrEpochFile, or what
// the driver says.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	raw, place, err := openPool(cfg)
	if err != nil {
		return nil, err
	}
	db := &DB{raw: raw, log: cfg.Log, failure: &failure{ch: make(chan struct{})}, place: place}
	db.health = newHealth(cfg.Log, db.failure)
	raw.Log = watchedLogger{dbLogger{cfg.Log, cfg.Upgrading}, db.health, cfg.meter()}
	if db.sealer, err = newSealer(cfg.MasterKey); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	db.checkFor = checkPatience
	if err = damaged(db.start(ctx, &cfg)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (db *DB) start(ctx context.Context, cfg *Config) error {
	holder := cfg.Holder
	if err := db.reach(ctx, cfg); err != nil {
		return err
	}
	var lock leaseLock
	var err error
	if holder != "" {
		if lock, err = db.takeLock(ctx); err != nil {
			return err
		}
	}
	if err = errors.Join(db.checkFile(ctx), db.makeVersions(ctx)); err != nil {
		return errors.Join(err, releaseLock(lock))
	}
	if err = db.upgrade(ctx, lock); err != nil {
		return err
	}
	if db.writer, err = newWriter(db.raw, db.log, db.failure, db.health, cfg.meter()); err != nil {
		return errors.Join(err, releaseLock(lock))
	}
	if lock != nil {
		if db.lease, err = db.newLease(ctx, lock, holder); err != nil {
			return errors.Join(err, lock.release())
		}
	}
	if err = db.recognise(ctx, cfg); err != nil {
		return err
	}
	db.health.begin(db.probeCommit)
	return nil
}

// reach makes sure that there is a database, with the tables that there have to be.
func (db *DB) reach(ctx context.Context, cfg *Config) error {
	if err := db.raw.RawDB.PingContext(ctx); err != nil {
		return fmt.Errorf("database: connect: %w", err)
	}
	if err := db.checkSchema(ctx); err != nil {
		return err
	}
	if cfg.Existing {
		if exists, err := db.hasSchema(ctx); err != nil {
			return fmt.Errorf("database: look for tables: %w", err)
		} else if !exists {
			return fmt.Errorf("database: no tables of a bridge's: %w", fs.ErrNotExist)
		}
	}
	return nil
}

// recognise makes sure that it is the one that is meant: this instance's, under this key, and no old copy.
func (db *DB) recognise(ctx context.Context, cfg *Config) error {
	db.warnAboutServer(ctx)
	if cfg.Instance != nil {
		if err := db.checkInstance(ctx, *cfg.Instance); err != nil {
			return err
		}
	}
	if err := db.checkKey(ctx); err != nil {
		return err
	}
	return db.startEpoch(ctx, cfg)
}

// upgrade runs under the lease's lock, or without one when nobody asked for a lease.
func (db *DB) upgrade(ctx context.Context, lock leaseLock) error {
	err := db.raw.Child(versionTable, upgradeTable, nil).Upgrade(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("database: upgrade: %w", err), releaseLock(lock))
	}
	return nil
}

// Close waits for the running transaction, answers everybody else with ErrClosed, gives back the lease that
// Open took and closes the connections. It may be called more than once.
func (db *DB) Close() error {
	var err error
	db.closing.Do(func() {
		db.health.close()
		if db.writer != nil {
			db.writer.close()
			err = db.epoch.close()
		}
		if db.lease != nil {
			err = errors.Join(err, db.lease.Release())
		}
		err = errors.Join(err, db.raw.Close())
	})
	return err
}

func openPool(cfg Config) (*dbutil.Database, leasePlace, error) {
	dialect, err := dbutil.ParseDialect(cfg.Dialect)
	if err != nil {
		return nil, leasePlace{}, fmt.Errorf("database: %w", err)
	}
	if dialect == dbutil.Postgres {
		return openPostgres(cfg.URI)
	}
	return openSQLite(cfg.URI, cfg.Existing)
}

func openSQLite(uri string, existing bool) (*dbutil.Database, leasePlace, error) {
	path, query, err := splitSQLiteURI(uri)
	if err != nil {
		return nil, leasePlace{}, err
	}
	if existing {
		if _, err = os.Stat(path); err != nil {
			return nil, leasePlace{}, fmt.Errorf("database: open file: %w", err)
		}
	}
	// The file holds who talks with whom: it is made readable for its owner alone, and SQLite gives
	// its companions the same mode. Never opened here if it exists: closing it would drop the locks of
	// other connections of this process.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = file.Close()
	} else if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil {
		return nil, leasePlace{}, fmt.Errorf("database: create file: %w", err)
	}
	writing, err := sql.Open(SQLiteDriver, sqliteDSN(path, query, url.Values{"_txlock": {"immediate"}}))
	if err != nil {
		return nil, leasePlace{}, fmt.Errorf("database: %w", err)
	}
	reading, err := sql.Open(SQLiteDriver, sqliteDSN(path, query, url.Values{"_query_only": {"true"}}))
	if err != nil {
		return nil, leasePlace{}, errors.Join(fmt.Errorf("database: %w", err), writing.Close())
	}
	raw, err := dbutil.NewWithDB(writing, "sqlite3")
	if err != nil {
		return nil, leasePlace{}, errors.Join(err, writing.Close(), reading.Close())
	}
	raw.ReadOnlyDB = reading
	for _, pool := range []*sql.DB{writing, reading} {
		pool.SetMaxOpenConns(poolSize)
		pool.SetMaxIdleConns(poolSize) // opening a connection costs more than any query
	}
	return raw, leasePlace{file: path + ".lock"}, nil
}

// splitSQLiteURI takes a path or a file: URI apart into an absolute path and its parameters.
func splitSQLiteURI(uri string) (path string, query url.Values, err error) {
	path, rawQuery, _ := strings.Cut(uri, "?")
	if query, err = url.ParseQuery(rawQuery); err != nil {
		return "", nil, errors.New("database: SQLite URI: parameters do not parse")
	}
	if rest, isURI := strings.CutPrefix(path, "file:"); isURI {
		rest = strings.TrimPrefix(rest, "//")
		if path, err = url.PathUnescape(rest); err != nil {
			return "", nil, errors.New("database: SQLite URI: path does not parse")
		}
	}
	if path == "" || strings.Contains(path, ":memory:") || query.Get("mode") == "memory" {
		return "", nil, errors.New("database: SQLite URI: a file is needed, a database in memory is lost with the process")
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", nil, fmt.Errorf("database: SQLite URI: %w", err)
	}
	return path, query, nil
}

// sqliteDSN keeps what the admin's parameters say except about durability, locking and foreign keys.
func sqliteDSN(path string, query, more url.Values) string {
	q := url.Values{}
	for key, values := range query {
		switch key {
		case "_txlock", "_sync", "_synchronous", "_journal", "_journal_mode", "_fk", "_foreign_keys",
			"_timeout", "_busy_timeout", "_locking", "_locking_mode", "_query_only", "_writable_schema":
		default:
			q[key] = values
		}
	}
	q.Set("_journal_mode", "WAL")
	q.Set("_synchronous", "FULL")
	q.Set("_foreign_keys", "on")
	q.Set("_busy_timeout", sqliteBusy)
	q.Set("_stmt_cache_size", "64")
	for key, values := range more {
		q[key] = values
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func openPostgres(uri string) (*dbutil.Database, leasePlace, error) {
	cfg, err := pq.NewConfig(uri)
	if err != nil {
		// The driver's error may quote the DSN, which has a password in it.
		return nil, leasePlace{}, errors.New("database: Postgres URI does not parse")
	}
	// A query with arguments then takes one round trip, not two. (Statements prepared by hand would
	// too; but database/sql locks up when one made on the writer's connection fails inside its transaction.)
	cfg.BinaryParameters = true
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, leasePlace{}, errors.New("database: Postgres URI is not usable")
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(2 * poolSize)
	pool.SetMaxIdleConns(2 * poolSize)
	raw, err := dbutil.NewWithDB(pool, "postgres")
	if err != nil {
		return nil, leasePlace{}, errors.Join(err, pool.Close())
	}
	return raw, leasePlace{connector: connector}, nil
}

// warnAboutServer tells the operator when the server's own settings take back what we promise.
func (db *DB) warnAboutServer(ctx context.Context) {
	if db.raw.Dialect != dbutil.Postgres {
		return
	}
	for _, setting := range []string{"fsync", "full_page_writes"} {
		var value string
		if err := db.raw.QueryRow(ctx, "SHOW "+setting).Scan(&value); err != nil || value != "on" {
			db.log.Warn().Err(err).Str("setting", setting).Str("value", value).
				Msg("The Postgres server does not protect commits against power loss")
		}
	}
}

const (
	keyCheckColumn = "postern_key_check.sealed"
	keyCheckText   = "this database belongs to this key"
)

// checkKey compares the master key with the one the database was made with.
func (db *DB) checkKey(ctx context.Context) error {
	var sealed []byte
	err := db.raw.QueryRow(ctx, "SELECT sealed FROM postern_key_check WHERE id=1").Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		err = db.Do(ctx, func(ctx context.Context) error {
			_, err := db.raw.Exec(ctx, "INSERT INTO postern_key_check (id, sealed) VALUES (1, $1) ON CONFLICT (id) DO NOTHING",
				db.Seal(keyCheckColumn, "1", 1, []byte(keyCheckText)))
			if err != nil {
				return err
			}
			return db.raw.QueryRow(ctx, "SELECT sealed FROM postern_key_check WHERE id=1").Scan(&sealed)
		})
	}
	if err != nil {
		return fmt.Errorf("database: check key: %w", err)
	}
	text, err := db.Unseal(keyCheckColumn, "1", 1, sealed)
	if err != nil || subtle.ConstantTimeCompare(text, []byte(keyCheckText)) != 1 {
		return ErrWrongKey
	}
	return nil
}
