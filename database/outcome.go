package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"
)

// outcome is what a failed COMMIT means.
type outcome int

const (
	outcomeUnknown    outcome = iota // it may have happened
	outcomeRolledBack                // it has not happened
	outcomeFatal                     // unknown, and the disk must not be trusted again
)

func (o outcome) String() string {
	return [...]string{"unknown", "rolled back", "fatal"}[o]
}

// commitOutcome classifies the error of a COMMIT. Whatever is not known for certain to have been
// rolled back counts as unknown.
func commitOutcome(err error) outcome {
	var lite sqlite3.Error
	if errors.As(err, &lite) {
		return sqliteOutcome(lite)
	}
	var server *pq.Error
	if errors.As(err, &server) {
		return postgresOutcome(server)
	}
	if errors.Is(err, pq.ErrInFailedTransaction) || errors.Is(err, sql.ErrTxDone) {
		return outcomeRolledBack
	}
	return outcomeUnknown
}

func sqliteOutcome(err sqlite3.Error) outcome {
	if untrustworthy(err) {
		return outcomeFatal
	}
	switch {
	case err.Code == sqlite3.ErrFull, err.ExtendedCode == sqlite3.ErrIoErrWrite:
		// The last frame, with the mark of the commit, may be there in part, and what lies behind it from before may make it whole: then
		// SQLite finds it when it next reads its log from the beginning, unless something was committed over it.
		return outcomeUnknown
	case err.Code == sqlite3.ErrIoErr:
		return outcomeFatal
	}
	return outcomeRolledBack // busy, constraint: SQLite has not written a commit frame
}

func postgresOutcome(err *pq.Error) outcome {
	switch err.Code.Class() {
	case "08", "57", "58", "XX": // connection, operator intervention, system, internal
		return outcomeUnknown
	}
	if err.Severity != "ERROR" {
		return outcomeUnknown
	}
	return outcomeRolledBack
}

func isBusy(err error) bool {
	var lite sqlite3.Error
	return errors.As(err, &lite) && (lite.Code == sqlite3.ErrBusy || lite.Code == sqlite3.ErrLocked)
}

// lostConnection says whether a function's error means that the server is gone, or has not answered for
// postgresTxnLimit: then it is not the function's fault and the same may work again.
func lostConnection(err error) bool { return temporary(err) && !isBusy(err) }

// temporary says whether beginning a transaction is worth another try soon: the file is locked by
// someone else, or the server is away or starting.
func temporary(err error) bool {
	if isBusy(err) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	var network net.Error
	if errors.As(err, &network) {
		if _, bare := network.(syscall.Errno); !bare { // one inside an error of the network is not found first
			return true
		}
		// It has the same methods, and is about a file: nobody's connection is lost.
	}
	var server *pq.Error
	if errors.As(err, &server) {
		switch server.Code.Class() {
		case "08", "53", "57": // connection, too many of them, starting or shutting down
			return true
		}
	}
	return errors.Is(err, sql.ErrConnDone) || errors.Is(err, context.DeadlineExceeded)
}

// IsUniqueViolation says whether a change was refused because of a UNIQUE constraint or a primary key.
func IsUniqueViolation(err error) bool {
	var lite sqlite3.Error
	if errors.As(err, &lite) {
		return lite.ExtendedCode == sqlite3.ErrConstraintUnique || lite.ExtendedCode == sqlite3.ErrConstraintPrimaryKey
	}
	var server *pq.Error
	return errors.As(err, &server) && server.Code == "23505"
}
