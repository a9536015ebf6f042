package database_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.mau.fi/util/dbutil"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/sqlstatestore"

	"postern/database"
	"postern/database/databasetest"
)

// inSchema is a configuration whose tables lie in a schema of the same database.
func inSchema(t *testing.T, cfg database.Config, path string) database.Config {
	t.Helper()
	cfg.URI = databasetest.WithSearchPath(t, cfg.URI, path)
	return cfg
}

// framework makes the framework's tables, as its start does.
func framework(t *testing.T, cfg database.Config) {
	t.Helper()
	raw, err := dbutil.NewWithDialect(cfg.URI, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.Owner = "megabridge/postern"
	for what, upgrade := range map[string]func(context.Context) error{
		"bridge": frameworkdb.New("", frameworkdb.MetaTypes{}, raw).Upgrade,
		"state":  sqlstatestore.NewSQLStateStore(raw, dbutil.NoopLogger, false).Upgrade,
		"crypto": crypto.NewSQLCryptoStore(raw, dbutil.NoopLogger, "", "", []byte("x")).DB.Upgrade,
	} {
		if err := upgrade(t.Context()); err != nil {
			t.Fatalf("making the framework's tables (%s): %v", what, err)
		}
	}
}

func tablesIn(t *testing.T, db *database.DB, schema string) map[string]bool {
	t.Helper()
	rows, err := db.Raw().Query(t.Context(), "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname=$1", schema)
	list, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, name := range list {
		all[name] = true
	}
	return all
}

func TestEachSchemaOfOneDatabaseHoldsAllTablesOfItsInstance(t *testing.T) {
	cfg := databasetest.PostgresConfig(t)
	var before map[string]bool
	for i, name := range []string{"one", "two"} {
		own := cfg
		own.URI = databasetest.Schema(t, cfg.URI, name)
		own.Holder, own.Instance = name, &name
		db := databasetest.Open(t, own) // with a lease: the other one holds its own
		framework(t, own)
		tables := tablesIn(t, db, name)
		for _, want := range []string{"postern_account", "postern_lease", "portal", "message", "crypto_account", "mx_room_state", "database_owner"} {
			if !tables[want] {
				t.Errorf("%s is not in the schema %s", want, name)
			}
		}
		if i > 0 && len(tables) != len(before) {
			t.Errorf("%d tables in one schema, %d in the other", len(before), len(tables))
		}
		before = tables
		if public := tablesIn(t, db, "public"); len(public) > 0 {
			t.Errorf("tables are in public: %v", public)
		}
		again := own
		again.Holder = "a second process"
		var held *database.LeaseHeldError
		if _, err := database.Open(t.Context(), again); !errors.As(err, &held) {
			t.Errorf("a second process of the instance got %v", err)
		}
	}
}

func TestTheDataOfAnotherInstanceIsRefusedInWords(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		open := func(name string) error {
			cfg.Instance = &name
			db, err := database.Open(t.Context(), cfg)
			if err != nil {
				return err
			}
			return db.Close()
		}
		for _, name := range []string{"", "one", "one"} { // the only one becomes one of several
			if err := open(name); err != nil {
				t.Fatalf("as %q: %v", name, err)
			}
		}
		for _, name := range []string{"two", ""} {
			var other *database.OtherInstanceError
			err := open(name)
			if !errors.As(err, &other) || other.Theirs != "one" || !strings.Contains(err.Error(), "schema of its own") {
				t.Errorf("as %q: %v", name, err)
			}
		}
	})
}

func TestASchemaThatIsNotThereIsRefusedAndNothingIsMadeInAnother(t *testing.T) {
	cfg := databasetest.PostgresConfig(t)
	for _, path := range []string{"missing", "missing,public", `"Missing One",public`} {
		var missing *database.SchemaError
		_, err := database.Open(t.Context(), inSchema(t, cfg, path))
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), "CREATE SCHEMA") {
			t.Errorf("search_path %s: %v", path, err)
		}
	}
	db := databasetest.Open(t, inSchema(t, cfg, "public"))
	if tables := tablesIn(t, db, "public"); !tables["postern_account"] {
		t.Errorf("public has %v", tables)
	}
}
