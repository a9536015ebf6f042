// Package transfer copies whole databases of the bridge, with the framework's tables in them: into an archive and out of it, and from SQLite to
// PostgreSQL. It knows tables, columns and their types, and of what is in them nothing: sealed columns stay sealed, since they are bound to their
// table, row and version, and not to the database.
//
// It may import database. Layer: above database, below the commands. It implements no section of docs/PROTOCOL.md;
// docs/BACKUP.md has the format of archives.
package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"

	"postern/database"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotEmpty: there are tables of a bridge's where one is to be put, or remains of a file.
	ErrNotEmpty = errors.New("transfer: there is a database already")
	// ErrVersions: the tables are of other versions than this program makes, which only an archive of the same kind of database may be.
	ErrVersions = errors.New("transfer: tables of another version than this program's")
	// ErrNewer: the tables are of a version that this program does not know.
	ErrNewer = errors.New("transfer: tables of a newer version than this program's")
	// ErrArchive: a file is not a whole archive.
	ErrArchive = errors.New("transfer: not a whole archive of this program's")
	// ErrKey: an archive was made, or changed, under another key.
	ErrKey = errors.New("transfer: the archive was not made under this key, or was changed since")
	// ErrUnequal: what was written is not what was read.
	ErrUnequal = errors.New("transfer: what is there is not what was copied")
	// ErrUnknown: the answer to the last commit got lost.
	ErrUnknown = errors.New("transfer: commit: outcome unknown")
	// ErrMarked: a database was moved already. ErrNotMarked: it was not.
	ErrMarked    = errors.New("transfer: the database was moved already")
	ErrNotMarked = errors.New("transfer: the database was not moved")
	// ErrStaysMarked: nothing was copied, and the mark could not be taken away.
	ErrStaysMarked = errors.New("transfer: the database stays marked as moved")
)

// Schema is a set of tables with a version of its own: how to make them where they are not there yet.
type Schema struct {
	// Version is the table with the version.
	Version string
	// Upgrades makes the tables, step by step.
	Upgrades dbutil.UpgradeTable
	// Owner is noted beside the tables, if it is not "".
	Owner string
}

// Config says what to copy, and for whom.
type Config struct {
	// Database is the bridge's, with its master key.
	Database database.Config
	// Schemas are the framework's; ours is known.
	Schemas []Schema
	// Program is the version of the program, for the archive.
	Program string
	Log     zerolog.Logger
	// Step, if not nil, is told how far a Restore or a Move is, before it goes on; an error of it counts as that of what comes next. It is for tests that break
	// off there.
	Step func(Step) error
}

// Step is how far a Restore or a Move is.
type Step string

// The steps of a Restore, in their order. A server has neither a name to give nor a folder.
const (
	// FilesPut: the attachments are there, and no table is.
	FilesPut Step = "T1.files-put"
	// Copied: everything was written and compared, and not committed. It is one of a Move, too.
	Copied Step = "T2.copied"
	// Committed: it is committed; in SQLite in a file with another name.
	Committed Step = "T3.committed"
	// Naming: that file is on disk.
	Naming Step = "T4.naming"
	// Linked: it has both names.
	Linked Step = "T5.linked"
	// Named: it has its own name.
	Named Step = "T6.named"
)

// The other steps of a Move.
const (
	// Marked: the SQLite database is marked, and nothing is on the server.
	Marked Step = "T1.marked"
	// Moved: what is on the server is committed, and the locks are held.
	Moved Step = "T3.moved"
	// Unmarking: nothing was committed, and the mark is to be taken away.
	Unmarking Step = "T3.unmarking"
)

func (c *Config) at(s Step) error {
	if c.Step == nil {
		return nil
	}
	return c.Step(s)
}

// our tables' versions, as a Schema whose Upgrades are not needed.
func (c *Config) known(table string) (version int, ok bool) {
	if table == database.VersionTable {
		return database.SchemaVersion(), true
	}
	for _, s := range c.Schemas {
		if s.Version == table {
			return len(s.Upgrades), true
		}
	}
	return 0, false
}

// versionTables are the tables with versions, ours first.
func (c *Config) versionTables() []string {
	list := []string{database.VersionTable}
	for _, s := range c.Schemas {
		list = append(list, s.Version)
	}
	return list
}

// Version is that of a set of tables, and the oldest program's that may use them.
type Version struct {
	Version    int `json:"version"`
	Compatible int `json:"compatible"`
}

// checkVersions compares the versions of what is to be copied with this program's; exact if they have to be the same.
func (c *Config) checkVersions(versions map[string]Version, exact bool) error {
	if _, ok := versions[database.VersionTable]; !ok {
		return fmt.Errorf("%w: %s is not there", ErrVersions, database.VersionTable)
	}
	for table, v := range versions {
		known, ok := c.known(table)
		switch {
		case !ok:
			return fmt.Errorf("%w: %s is not known", ErrNewer, table)
		case v.Compatible > known:
			return fmt.Errorf("%w: %s is %d, known are those up to %d", ErrNewer, table, v.Version, known)
		case exact && v.Version != known:
			return fmt.Errorf("%w: %s is %d, and this program's %d", ErrVersions, table, v.Version, known)
		}
	}
	return nil
}

// Count is how much of a table was copied.
type Count struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	// Sum is over the contents of all rows, in whatever order they lie.
	Sum string `json:"sum"`
}

// Report is what was copied.
type Report struct {
	Tables []Count `json:"tables"`
	// LeftOut are tables that are not the bridge's, nor the framework's.
	LeftOut []string `json:"left_out,omitempty"`
	// Replaced are texts with characters that PostgreSQL does not take, which have a mark in their place: table, column and how many.
	Replaced map[string]int `json:"replaced,omitempty"`
	// Files is how many attachments there are, and Missing how many of the index were not there whole.
	Files   int `json:"files"`
	Missing int `json:"missing"`
	// Accounts and Sessions are those that the next start begins anew.
	Accounts int64 `json:"accounts"`
	Sessions int64 `json:"sessions"`
}

// Rows is how many rows there are in all tables.
func (r *Report) Rows() (n int64) {
	for _, t := range r.Tables {
		n += t.Rows
	}
	return n
}

func (r *Report) count(c Count) {
	r.Tables = append(r.Tables, c)
	switch c.Table {
	case "postern_account":
		r.Accounts = c.Rows
	case "postern_signal_session":
		r.Sessions = c.Rows
	}
}

// frameworkTables are those of the framework whose names have no beginning of their own.
var frameworkTables = []string{
	"user", "user_login", "portal", "ghost", "message", "disappearing_message", "reaction", "user_portal", "backfill_task", "kv_store",
	"public_media", "database_owner", "version",
}

// belongs says whether a table is the bridge's or the framework's, by its name.
func belongs(table string) bool {
	for _, prefix := range []string{"postern_", "mx_", "crypto_"} {
		if strings.HasPrefix(table, prefix) {
			return true
		}
	}
	return slices.Contains(frameworkTables, table)
}

// unused says whether a table is to hold a version, and holds none, so that it need not be there.
func (c *Config) unused(table string, versions map[string]Version) bool {
	_, used := versions[table]
	return !used && slices.Contains(c.versionTables(), table)
}

// readVersions reads which sets of tables are there, and their versions.
func (c *Config) readVersions(ctx context.Context, from queryer, tables []Table) (map[string]Version, error) {
	versions := map[string]Version{}
	for _, name := range c.versionTables() {
		if !slices.ContainsFunc(tables, func(t Table) bool { return t.Name == name }) {
			continue
		}
		var v Version
		err := from.QueryRowContext(ctx, "SELECT version, COALESCE(compat, version) FROM "+quote(name)).Scan(&v.Version, &v.Compatible)
		if errors.Is(err, sql.ErrNoRows) {
			continue // made, and the tables not yet
		} else if err != nil {
			return nil, fmt.Errorf("transfer: version in %s: %w", name, err)
		}
		if v.Compatible == 0 {
			v.Compatible = v.Version
		}
		versions[name] = v
	}
	return versions, nil
}
