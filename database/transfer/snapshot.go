package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mau.fi/util/dbutil"
)

// How long a snapshot waits for an upgrade that is under way, and how often it looks.
const (
	snapshotPatience = time.Minute
	snapshotPause    = 100 * time.Millisecond
)

// What PostgreSQL says of a lock that somebody else has, and of a table that is gone.
const (
	lockNotAvailable = "55P03"
	undefinedTable   = "42P01"
)

// errChanging: an upgrade was under way, or is.
var errChanging = errors.New("transfer: the tables are being changed: try again when the bridge has started")

// snapshot lets fn read a database as it is at one moment, while others may change it.
func snapshot(ctx context.Context, raw *dbutil.Database, fn func(from queryer) error) (err error) {
	conn, err := raw.RawDB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("transfer: connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if raw.Dialect == dbutil.Postgres {
		err = beginOnServer(ctx, conn)
	} else if _, err = conn.ExecContext(ctx, "BEGIN"); err != nil { // and nothing of what the pool begins with, which would hold up whoever writes
		err = fmt.Errorf("transfer: begin: %w", err)
	}
	if err != nil {
		return err
	}
	err = fn(conn)
	_, end := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return errors.Join(err, end)
}

// beginOnServer begins a transaction on PostgreSQL that sees what was committed before, and in which no table changes its form. That has to be locked first: a table that somebody
// writes anew after the transaction's moment is empty in it, and nobody says so. It waits for no lock while it holds one, so that it stops nobody's upgrade.
func beginOnServer(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotPatience)
	defer cancel()
	for {
		err := lockTables(ctx, conn)
		if !errors.Is(err, errChanging) {
			return err
		}
		timer := time.NewTimer(snapshotPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return err
			}
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// lockTables is one attempt: errChanging if somebody has a lock, or tables came or went.
func lockTables(ctx context.Context, conn *sql.Conn) (err error) {
	before, err := ownTables(ctx, conn)
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return fmt.Errorf("transfer: begin: %w", err)
	}
	defer func() {
		if err != nil {
			_, end := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, end)
		}
	}()
	if len(before) > 0 {
		_, err := conn.ExecContext(ctx, "LOCK TABLE "+strings.Join(before, ", ")+" IN ACCESS SHARE MODE NOWAIT")
		var said interface{ SQLState() string }
		if errors.As(err, &said) && (said.SQLState() == lockNotAvailable || said.SQLState() == undefinedTable) {
			return errChanging
		} else if err != nil {
			return fmt.Errorf("transfer: lock tables: %w", err)
		}
	}
	after, err := ownTables(ctx, conn) // the transaction's first look
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		return errChanging
	}
	return nil
}

// ownTables are the names of the bridge's tables and the framework's on a server, quoted, as they are named there.
func ownTables(ctx context.Context, from queryer) (names []string, err error) {
	rows, err := list(ctx, from, serverTables)
	if err != nil {
		return nil, fmt.Errorf("transfer: read tables: %w", err)
	}
	for _, row := range rows {
		if belongs(row[0]) {
			names = append(names, quote(row[0]))
		}
	}
	return names, nil
}
