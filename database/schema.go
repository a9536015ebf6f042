package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/util/dbutil"
)

// SchemaError says that the Postgres schema that the URI's search_path begins with cannot be used.
type SchemaError struct {
	// Schema is that schema, "" if no schema of the search path is there.
	Schema string
}

func (e *SchemaError) Error() string {
	if e.Schema == "" {
		return "database: no schema of search_path is there: make the one that it names with CREATE SCHEMA"
	}
	return fmt.Sprintf("database: the schema %q, which search_path begins with, is not there: make it with CREATE SCHEMA, or the tables would lie in another", e.Schema)
}

// OtherInstanceError says that the database (or its schema) holds the data of another instance.
type OtherInstanceError struct {
	// Theirs and Ours are the instances' names; Ours may be "".
	Theirs, Ours string
}

func (e *OtherInstanceError) Error() string {
	ours := "this one, which has no name"
	if e.Ours != "" {
		ours = fmt.Sprintf("%q", e.Ours)
	}
	return fmt.Sprintf("database: it holds the data of the instance %q, and not of %s: give each instance a schema of its own (search_path in database.uri)",
		e.Theirs, ours)
}

// frameworkVersions are the tables that the framework's packages keep their versions in.
var frameworkVersions = []string{"version", "mx_version", "crypto_version"}

// checkSchema makes sure that all tables, ours and the framework's, are in the first schema of the search path.
func (db *DB) checkSchema(ctx context.Context) error {
	if db.raw.Dialect != dbutil.Postgres {
		return nil
	}
	var current sql.NullString
	var path string
	err := db.raw.QueryRow(ctx, "SELECT current_schema(), current_setting('search_path')").Scan(&current, &path)
	if err != nil {
		return fmt.Errorf("database: look for the schema: %w", err)
	}
	if wanted := firstSchema(path); wanted != "$user" && wanted != current.String {
		return &SchemaError{wanted}
	} else if !current.Valid {
		return &SchemaError{}
	}
	return nil
}

// makeVersions makes the tables that versions are kept in. dbutil makes them too, but asks before whether they are there in any schema of the
// database, so that it would take those of another instance for ours.
func (db *DB) makeVersions(ctx context.Context) error {
	if db.raw.Dialect != dbutil.Postgres {
		return nil
	}
	for _, table := range append([]string{versionTable}, frameworkVersions...) {
		here, err := tableHere(ctx, db.raw, table)
		if err == nil && !here {
			_, err = db.raw.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+table+" (version INTEGER, compat INTEGER)")
		}
		if err != nil {
			return fmt.Errorf("database: make the tables of versions: %w", err)
		}
	}
	return nil
}

// firstSchema is the first name of a search path.
func firstSchema(path string) string {
	if quoted, ok := strings.CutPrefix(strings.TrimSpace(path), `"`); ok {
		var name strings.Builder
		for i := 0; i < len(quoted); i++ {
			if quoted[i] == '"' {
				if i+1 >= len(quoted) || quoted[i+1] != '"' {
					break
				}
				i++
			}
			name.WriteByte(quoted[i])
		}
		return name.String()
	}
	first, _, _ := strings.Cut(path, ",")
	return strings.ToLower(strings.TrimSpace(first))
}

// tableHere says whether a table is in the schema that ours are in.
func tableHere(ctx context.Context, raw *dbutil.Database, table string) (here bool, err error) {
	if raw.Dialect != dbutil.Postgres {
		return raw.TableExists(ctx, table)
	}
	err = raw.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname=current_schema() AND tablename=$1)", table).Scan(&here)
	return here, err
}

// hasSchema says whether our tables were made: their version stands there.
func (db *DB) hasSchema(ctx context.Context) (bool, error) {
	here, err := tableHere(ctx, db.raw, versionTable)
	if err != nil || !here {
		return false, err
	}
	var made bool
	err = db.raw.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM "+versionTable+")").Scan(&made)
	return made, err
}

// checkInstance compares the name of the instance with that whose data is here. Data of a bridge without a name becomes that of the
// one that comes first.
func (db *DB) checkInstance(ctx context.Context, name string) error {
	return db.Do(ctx, func(ctx context.Context) error {
		var there string
		err := db.raw.QueryRow(ctx, "SELECT name FROM postern_instance WHERE id=1").Scan(&there)
		switch {
		case err == nil && there != name:
			return &OtherInstanceError{Theirs: there, Ours: name}
		case err == nil:
			return nil
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("database: instance: %w", err)
		case name == "":
			return nil
		}
		if _, err = db.raw.Exec(ctx, "INSERT INTO postern_instance (id, name, since) VALUES (1, $1, $2)", name, time.Now().UnixMilli()); err != nil {
			return fmt.Errorf("database: instance: %w", err)
		}
		return nil
	})
}

// SchemaName is the name of the schema that the tables are in; "" for SQLite.
func (db *DB) SchemaName(ctx context.Context) (name string, err error) {
	if db.raw.Dialect != dbutil.Postgres {
		return "", nil
	}
	if err = db.raw.QueryRow(ctx, "SELECT current_schema()").Scan(&name); err != nil {
		return "", fmt.Errorf("database: look for the schema: %w", err)
	}
	return name, nil
}
