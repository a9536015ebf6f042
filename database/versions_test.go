package database_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// changedBySteps are the columns whose values a later version changes on purpose: by the table and column, the last version that has the old one.
var changedBySteps = map[string]int{
	"postern_in.read_receipt": 3, // what came before that version was read by nobody
}

// ownRows are of the bridge itself, and are made or counted up by each start.
var ownRows = []string{
	"postern_version", "postern_lease", "postern_key_check", "postern_epoch", "postern_signal_head", "version", "mx_version", "crypto_version",
}

// TestADatabaseOfEveryEarlierVersionIsUpgradedAndKeepsItsRows makes the tables as each earlier version had them, puts a row into each with a value in each column, and opens
// that with this version. Each row is there, and each column of it that was there says what it said.
func TestADatabaseOfEveryEarlierVersionIsUpgradedAndKeepsItsRows(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		if !strings.HasPrefix(cfg.Dialect, "sqlite") {
			cfg.URI = databasetest.WithSetting(t, cfg.URI, "synchronous_commit", "off") // nothing is cut off here
		}
		for version := 1; version <= database.SchemaVersion(); version++ {
			t.Run(fmt.Sprint(version), func(t *testing.T) {
				cfg := cfg
				if strings.HasPrefix(cfg.Dialect, "sqlite") {
					cfg = databasetest.SQLiteConfig(t)
				} else {
					cfg.URI = databasetest.Schema(t, cfg.URI, fmt.Sprint("v", version))
				}
				if err := database.MakeVersion(t.Context(), cfg, version); err != nil {
					t.Fatal(err)
				}
				before := filledBefore(t, cfg)
				if len(before) < 8 {
					t.Fatalf("only %d tables were filled", len(before))
				}
				db := databasetest.Open(t, cfg)
				after := databasetest.Contents(t, db.Raw())
				var made int
				if err := db.Raw().QueryRow(t.Context(), "SELECT version FROM postern_version").Scan(&made); err != nil || made != database.SchemaVersion() {
					t.Errorf("it has become version %d (%v)", made, err)
				}
				for table, rows := range before {
					for _, row := range rows {
						if !slices.ContainsFunc(after[table], func(now string) bool { return keeps(table, version, row, now) }) {
							t.Errorf("%s: the row\n%s\nis not in\n%s", table, row, strings.Join(after[table], "\n"))
						}
					}
				}
				again := databasetest.Fill(t, db.Raw(), ownRows...) // what is new can be written
				if version == database.SchemaVersion() && len(again) > 0 {
					t.Errorf("this version has tables that were empty: %v", again)
				}
			})
		}
	})
}

// filledBefore fills the tables of an earlier version, and returns what is in them.
func filledBefore(t *testing.T, cfg database.Config) map[string][]string {
	t.Helper()
	base, err := database.Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	databasetest.Fill(t, base.Raw(), ownRows...)
	all := databasetest.Contents(t, base.Raw())
	for _, table := range ownRows {
		delete(all, table)
	}
	for table, rows := range all {
		if len(rows) == 0 {
			t.Errorf("%s is empty", table)
		}
	}
	return all
}

// keeps says whether a row still has all that it had.
func keeps(table string, version int, before, now string) bool {
	has := strings.Split(now, "; ")
	for _, part := range strings.Split(before, "; ") {
		column, _, _ := strings.Cut(part, "=")
		if until, ok := changedBySteps[table+"."+column]; ok && version <= until {
			continue
		}
		if !slices.Contains(has, part) {
			return false
		}
	}
	return true
}
