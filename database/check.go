package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/util/dbutil"
)

// checkPatience bounds how long a SQLite file is looked through at the start, which holds up the bridge. A gigabyte needs more than that
// (docs/RELIABILITY.md), so that larger files are looked through in part.
const checkPatience = 5 * time.Second

// ErrDamaged is returned by Open for a SQLite file that is not whole.
var ErrDamaged = errors.New("database: the file is damaged: restore a backup of it, or rescue what is left into a new one with sqlite3's .recover; it was not changed")

// damaged says so of an error that shows it.
func damaged(err error) error {
	if err != nil && untrustworthy(err) {
		if errors.Is(err, ErrDamaged) {
			return err
		}
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return err
}

// checkFile looks through a SQLite file before anything is written to it: our tables with their indexes, in which a row that has another
// state than before shows, and then the form of all pages.
func (db *DB) checkFile(ctx context.Context) error {
	if db.raw.Dialect != dbutil.SQLite {
		return nil
	}
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, db.checkFor)
	defer cancel()
	queries, err := db.checkQueries(bounded)
	for _, query := range queries {
		if err == nil {
			err = db.checkOne(bounded, query)
		}
	}
	if bounded.Err() != nil && ctx.Err() == nil && !errors.Is(err, ErrDamaged) {
		db.log.Warn().Dur("duration", time.Since(began)).
			Msg("The database is too large to be looked through at the start; sqlite3's PRAGMA integrity_check does it, while the bridge is stopped")
		return nil
	}
	return damaged(err)
}

// checkQueries lists what is to be asked, what matters most first.
func (db *DB) checkQueries(ctx context.Context) (queries []string, err error) {
	rows, err := db.raw.Query(ctx, "SELECT name FROM sqlite_master WHERE type='table' AND name LIKE 'postern%' ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err = rows.Scan(&name); err != nil {
			return nil, err
		}
		queries = append(queries, "PRAGMA integrity_check('"+strings.ReplaceAll(name, "'", "''")+"')")
	}
	return append(queries, "PRAGMA quick_check"), rows.Err()
}

func (db *DB) checkOne(ctx context.Context, query string) error {
	rows, err := db.raw.Query(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var verdict string
		if err = rows.Scan(&verdict); err != nil {
			return err
		}
		if verdict != "ok" {
			// Names of tables and numbers of pages and rows.
			db.log.Error().Str("reason", verdict).Msg("The database's file is damaged")
			return ErrDamaged
		}
	}
	return rows.Err()
}
