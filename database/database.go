// Package database is the bottom layer: tables and queries, SQLite and Postgres. Rows go in and
// rows come out as plain values; nothing here knows Matrix or the gatekeeper's wire.
//
// It may import the standard library, zerolog, go.mau.fi/util, the two drivers, and nothing of
// this project. It implements no section of docs/PROTOCOL.md; it keeps the promises on
// durability and on sealed columns that docs/ARCHITECTURE.md makes.
//
// Everything that is acknowledged to anyone is written through DB.Do, which returns when the
// change is on disk, and which shares one commit among all who are waiting. Each table has a small
// store type in its own file; the stores' changes call Do themselves and join a running one.
package database

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
)

// Config says which database to open, and how.
type Config struct {
	// Dialect is "sqlite3-fk-wal" (or any name that begins with "sqlite") or "postgres".
	Dialect string
	// URI is a file path or file: URI for SQLite (never in memory), a DSN or URL for
	// Postgres. Durability settings in it are overridden.
	URI string
	// MasterKey seals columns; see LoadOrCreateKeyFile.
	MasterKey [KeySize]byte
	// Holder, if set, takes the lease before anything is changed, so that two processes never
	// upgrade or use one database together; it is the text that a refused process shows. Close gives
	// the lease back.
	Holder string
	// Instance, if not nil, is the name of the instance of the bridge that the data has to belong to; "" for the only one. Data of another
	// is refused (*OtherInstanceError).
	Instance *string
	// Existing refuses to make a new database, be it a SQLite file or tables in a database that has none of ours: Open fails with an error
	// that wraps fs.ErrNotExist.
	Existing bool
	// Upgrading, if set, is called within the transaction of each step of the schema, when all of it is written.
	Upgrading func()
	// EpochFile is a file outside the database by which an old copy of it is noticed (see epoch.go), made if it is not there; ""
	// for none. It must not be part of the database's backup.
	EpochFile string
	// Meter, if set, is told how the database does.
	Meter Meter
	// Log receives upgrades, slow transactions and failures; never a value from a row.
	Log zerolog.Logger

	// epochStep names the steps of writing the epoch file, for tests that cut it off; epochBlock is in place of the constant's, for
	// tests that are not to be slow.
	epochStep  func(string) error
	epochBlock int64
}

// DB is an open database. All its methods may be called from any goroutine.
type DB struct {
	raw     *dbutil.Database
	log     zerolog.Logger
	sealer  *sealer
	writer  *writer
	failure *failure
	health  *health
	place   leasePlace
	epoch   *epoch
	rows    *rows
	// oldRows is told of accounts, see WhenRowsAreOld.
	oldRows atomic.Pointer[func(account string)]

	// checkFor bounds the look through the file.
	checkFor time.Duration

	closing sync.Once
	lease   *Lease // taken by Open
}

// WhenRowsAreOld has fn called with the local id of an account of which a row of Signal state was found not to be of now, when what is to be
// told about it (SignalStore.Renewal) is on disk. fn must not wait.
func (db *DB) WhenRowsAreOld(fn func(account string)) { db.oldRows.Store(&fn) }

// Raw is the dbutil database below, for plain queries outside a transaction and for building
// the framework's own database objects. Queries made through it, or through an object built on
// it, take part in a running Do when they are given the context that Do gave. Changes made through
// it outside Do are durable too, but each pays for a commit of its own.
func (db *DB) Raw() *dbutil.Database { return db.raw }

// Failed is closed when the database has failed for good: ErrFailed says what that means. The
// process should then stop and exit with an error; a restart finds out what is on disk.
func (db *DB) Failed() <-chan struct{} { return db.failure.ch }

// Err is nil, or ErrFailed with its cause once Failed is closed.
func (db *DB) Err() error { return db.failure.err() }

// Do runs fn in a transaction and returns when its changes are on disk.
//
// Many callers share a transaction and its commit: one goroutine runs all waiting functions
// one after another, each under a savepoint, commits once and answers everybody. Nothing waits while
// the goroutine is idle. An error from fn (which Do returns as it is, or under ErrRolledBack if the connection was
// lost meanwhile) or a panic in it (returned as
// *PanicError) takes back fn's changes and nobody else's.
//
// fn must be short, must do all its queries with the context it is given, must not keep that context, and
// must not wait for anything but the database. Its context carries ctx's values but not its
// cancellation: a caller that gives up before fn has started is answered at once and fn
// never runs; after that Do waits for the outcome. A Do inside fn joins the same transaction under a
// savepoint of its own, and is on disk when the outer one is.
//
// Errors besides fn's own: ErrCommitUnknown, ErrRolledBack, ErrUnavailable, ErrFailed, ErrClosed,
// and the context's.
func (db *DB) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	return db.writer.do(ctx, fn)
}
