package database

import (
	"errors"
	"fmt"
)

// Errors of this package that callers tell apart with errors.Is. None of them
// carries a value from a row.
var (
	// ErrClosed is returned by everything once Close has been called.
	ErrClosed = errors.New("database: closed")
	// ErrCommitUnknown is returned by Do when the commit was sent and its outcome
	// is not known: the changes may or may not be on disk. The caller finds out by
	// reading back the row that makes the change idempotent, or by doing the same
	// change again if it is idempotent by itself.
	ErrCommitUnknown = errors.New("database: commit: outcome unknown")
	// ErrRolledBack is returned by Do when the shared transaction was lost before
	// it was committed: nothing of the function is in the database, and it may be
	// tried again.
	ErrRolledBack = errors.New("database: transaction rolled back")
	// ErrUnavailable is returned by Do when no transaction could be begun (server
	// away, file locked by someone else, disk full): the function was not run, and it may
	// be tried again.
	ErrUnavailable = errors.New("database: unavailable")
	// ErrFailed is returned by Do after a failure that makes this connection to the disk
	// untrustworthy for good (a failed fsync, a damaged file) or after the lease was lost.
	// The process must stop acknowledging anything and end; see DB.Failed.
	ErrFailed = errors.New("database: failed for good")
	// ErrLeaseLost is the cause of ErrFailed when another process has taken the lease.
	ErrLeaseLost = errors.New("database: lease: taken over by another process")
	// ErrWrongKey is returned by Open when the master key is not the one that this
	// database was sealed with.
	ErrWrongKey = errors.New("database: master key does not belong to this database (restore the key file that was made with it)")
	// ErrEpochFile is returned by changes of Signal state, and by Open, while the epoch file cannot be read or written:
	// nothing of the change is stored, since it could not be told later whether it was.
	ErrEpochFile = errors.New("database: epoch file: cannot be used")
	// ErrEpochForeign is returned by Open when the epoch file was written for another database.
	ErrEpochForeign = errors.New("database: epoch file: it belongs to another database (if another bridge uses it, give this one a file of its own; " +
		"if this is the database that is wanted, delete the file: new sessions are then begun with everybody)")
	// ErrEpochFormat is returned by Open when the file is not one that this program wrote; it is left as it is.
	ErrEpochFormat = errors.New("database: epoch file: not one that this program wrote (name another file in network.epoch_file; if this was the " +
		"bridge's, put it back, or move it away: new sessions are then begun with everybody)")
	// ErrMoved is returned by Open for a database that was moved to another one: two that go on from one state would use keys twice.
	ErrMoved = errors.New("database: it was moved to PostgreSQL by postern move-to-postgres, and no bridge may start on what was left behind (let database.type " +
		"and database.uri name the server; if that copy is given up for good, postern move-to-postgres --undo brings this one back)")
	// ErrSealBroken is returned when a sealed column does not open: it was changed, moved to
	// another row or column, or put back to an older version.
	ErrSealBroken = errors.New("database: sealed column does not open")
	// ErrNotFound is returned by changes that name a row which is not there. Reads return
	// nil and no error instead.
	ErrNotFound = errors.New("database: no such row")
	// ErrPreKeyGone is returned by SignalStore.Apply when the one-time prekey that the
	// change has used is no longer there: nothing of the change is stored.
	ErrPreKeyGone = errors.New("database: one-time prekey already used")
)

// PanicError is what Do returns when the function it ran panicked. Its text does not
// contain the panic's value, which could hold a secret; its type is named.
type PanicError struct {
	// Type is the Go type of the value the function panicked with.
	Type string
	// Stack is the stack of the goroutine at the panic, without argument values
	// that are readable.
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("database: function panicked with a %s", e.Type)
}

// LeaseHeldError is returned by AcquireLease (and by Open with Config.Holder set) when another
// process uses the database.
type LeaseHeldError struct {
	// Holder is what the other process called itself, "" if that is not known.
	Holder string
	// Since is when it took the lease, in Unix milliseconds, 0 if not known.
	Since int64
}

func (e *LeaseHeldError) Error() string {
	who := "another process"
	if e.Holder != "" {
		who = "another process (" + e.Holder + ")"
	}
	return "database: lease: " + who + " is using this database: stop it first, or give this one a database of its own"
}
