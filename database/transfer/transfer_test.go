package transfer_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	framework "maunium.net/go/mautrix/bridgev2/database/upgrades"
	crypto "maunium.net/go/mautrix/crypto/sql_store_upgrade"
	"maunium.net/go/mautrix/sqlstatestore"

	"postern/database"
	"postern/database/databasetest"
	"postern/database/transfer"
)

var schemas = []transfer.Schema{
	{Version: "version", Upgrades: framework.Table, Owner: "megabridge/postern"},
	{Version: "mx_version", Upgrades: sqlstatestore.UpgradeTable},
	{Version: "crypto_version", Upgrades: crypto.Table},
}

func config(cfg database.Config) transfer.Config {
	return transfer.Config{Database: cfg, Schemas: schemas, Program: "v0.0.0-test"}
}

// made is a database with a row in each table, ours and the framework's, which nobody has open; heads are left out, since these would have to be true.
func made(t *testing.T, cfg database.Config) database.Config {
	t.Helper()
	db, err := database.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, s := range schemas {
		child := db.Raw().Child(s.Version, s.Upgrades, nil)
		child.Owner = s.Owner
		if err := child.Upgrade(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if filled := databasetest.Fill(t, db.Raw(), "postern_signal_head"); len(filled) < 50 {
		t.Fatalf("only %d tables were filled", len(filled))
	}
	return cfg
}

// contents reads a database without a bridge, in a form that is the same for both kinds.
func contents(t *testing.T, cfg database.Config) map[string][]string {
	t.Helper()
	base, err := database.Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	all := databasetest.Contents(t, base.Raw())
	for table, rows := range all {
		for i, row := range rows {
			row = strings.NewReplacer(`"a": {"b": null}, "z": [1, 2.50, "é"]`, `"z": [1, 2.50, "é"], "a": {"b": null}`).Replace(row)
			rows[i] = row
		}
		slices.Sort(rows)
		all[table] = rows
	}
	return all
}

// same compares all tables but what was put into the epoch's row, and times, whose zone the two kinds have in two ways.
func same(t *testing.T, got, want map[string][]string) {
	t.Helper()
	for table, rows := range want {
		if table == "postern_epoch" {
			continue
		}
		if len(got[table]) != len(rows) {
			t.Errorf("%s has %d rows, want %d", table, len(got[table]), len(rows))
			continue
		}
		for i, row := range rows {
			if !strings.Contains(row, "2026-03-29") && got[table][i] != row {
				t.Errorf("%s:\n%q, want\n%q", table, got[table][i], row)
			}
		}
	}
	for table := range got {
		if _, ok := want[table]; !ok {
			t.Errorf("%s came from nowhere", table)
		}
	}
}

// opens says what Open says, and closes.
func opens(t *testing.T, cfg database.Config) error {
	t.Helper()
	db, err := database.Open(t.Context(), cfg)
	if err != nil {
		return err
	}
	return db.Close()
}

func TestMovingCopiesEveryTableAndEveryValue(t *testing.T) {
	from, to := made(t, databasetest.SQLiteConfig(t)), databasetest.PostgresConfig(t)
	want := contents(t, from)
	report, err := transfer.Move(t.Context(), config(from), to.URI)
	if err != nil {
		t.Fatal(err)
	}
	// What is counted here is not what the report says of itself.
	if len(report.Tables) != len(want) || len(report.LeftOut) > 0 || len(report.Replaced) > 0 {
		t.Errorf("%d tables of %d were copied, left out %v, replaced %v", len(report.Tables), len(want), report.LeftOut, report.Replaced)
	}
	same(t, contents(t, to), want)
	if err := opens(t, to); err != nil {
		t.Errorf("the copy: %v", err)
	}
	if err := opens(t, from); !errors.Is(err, database.ErrMoved) {
		t.Errorf("what was left behind opens: %v", err)
	}
}

// TestATimeIsTheSameMomentOnTheServer: what SQLite has as a moment with its zone, PostgreSQL has as the bridge's local time, as the framework writes it there.
func TestATimeIsTheSameMomentOnTheServer(t *testing.T) {
	from, to := made(t, databasetest.SQLiteConfig(t)), databasetest.PostgresConfig(t)
	if _, err := transfer.Move(t.Context(), config(from), to.URI); err != nil {
		t.Fatal(err)
	}
	db := databasetest.Open(t, to)
	at := time.Date(2026, 3, 29, 4, 5, 6, 789_012_345, time.Local)
	if _, err := db.Raw().Exec(t.Context(), "UPDATE crypto_olm_session SET last_encrypted=$1", at); err != nil {
		t.Fatal(err)
	}
	var equal bool
	if err := db.Raw().QueryRow(t.Context(), "SELECT last_encrypted=created_at OR last_encrypted=created_at+INTERVAL '1 microsecond' FROM crypto_olm_session").Scan(&equal); err != nil || !equal {
		t.Errorf("a time that was moved is not the one that is written there (%v)", err)
	}
}

func TestAfterMovingTheServerCountsOn(t *testing.T) {
	from, to := made(t, databasetest.SQLiteConfig(t)), databasetest.PostgresConfig(t)
	if _, err := transfer.Move(t.Context(), config(from), to.URI); err != nil {
		t.Fatal(err)
	}
	db := databasetest.Open(t, to)
	var next int64
	err := db.Raw().QueryRow(t.Context(), `INSERT INTO message (bridge_id, id, part_id, mxid, room_id, room_receiver, sender_id, sender_mxid, timestamp, edit_count, metadata)
		VALUES ('', 'next', '', '$next', 'portal', 'login', 'ghost', '', 0, 0, '{}') RETURNING rowid`).Scan(&next)
	if err != nil || next != 1<<40+1 && next != 8 {
		t.Errorf("the next message has the number %d (%v)", next, err)
	}
}

func TestMovingIsRefusedWhereItWouldHarm(t *testing.T) {
	from := made(t, databasetest.SQLiteConfig(t))
	full := made(t, databasetest.PostgresConfig(t))
	if _, err := transfer.Move(t.Context(), config(from), full.URI); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("into a database with tables: %v", err)
	}
	empty := databasetest.PostgresConfig(t)
	running := from
	running.Holder = "the bridge"
	db, err := database.Open(t.Context(), running)
	if err != nil {
		t.Fatal(err)
	}
	var held *database.LeaseHeldError
	if _, err := transfer.Move(t.Context(), config(from), empty.URI); !errors.As(err, &held) {
		t.Errorf("while the bridge runs: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wrong := from
	wrong.MasterKey[0]++
	if _, err := transfer.Move(t.Context(), config(wrong), empty.URI); !errors.Is(err, database.ErrWrongKey) {
		t.Errorf("with another key: %v", err)
	}
	if err := opens(t, from); err != nil {
		t.Errorf("after all that was refused: %v", err)
	}
	if _, err := transfer.Move(t.Context(), config(from), empty.URI); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Move(t.Context(), config(from), databasetest.PostgresConfig(t).URI); !errors.Is(err, transfer.ErrMarked) {
		t.Errorf("a second time: %v", err)
	}
}

func TestAMoveThatFailsLeavesBothAsTheyWere(t *testing.T) {
	from, to := made(t, databasetest.SQLiteConfig(t)), databasetest.PostgresConfig(t)
	alter(t, from, `UPDATE postern_out SET state='neither'`) // which SQLite takes, and PostgreSQL does not
	if _, err := transfer.Move(t.Context(), config(from), to.URI); err == nil || !strings.Contains(err.Error(), "postern_out.state") {
		t.Fatalf("a number that is none: %v", err)
	}
	if got := contents(t, to); len(got) > 0 {
		t.Errorf("%d tables are there", len(got))
	}
	alter(t, from, `UPDATE postern_out SET state=0`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := transfer.Move(ctx, config(from), to.URI); err == nil {
		t.Error("moved though nobody wanted it any more")
	}
	if err := opens(t, from); err != nil {
		t.Errorf("after moves that failed: %v", err)
	}
	if _, err := transfer.Move(t.Context(), config(from), to.URI); err != nil {
		t.Errorf("after moves that failed: %v", err)
	}
}

func TestATableOrATypeThatIsNotKnownIsNotCopiedByGuessing(t *testing.T) {
	from := made(t, databasetest.SQLiteConfig(t))
	alter(t, from, `CREATE TABLE another (x TEXT)`)
	report, err := transfer.Move(t.Context(), config(from), databasetest.PostgresConfig(t).URI)
	if err != nil || !slices.Equal(report.LeftOut, []string{"another"}) {
		t.Errorf("left out %v (%v)", report, err)
	}
	from = made(t, databasetest.SQLiteConfig(t))
	alter(t, from, `ALTER TABLE postern_person ADD COLUMN place POINT`)
	if _, err := transfer.Move(t.Context(), config(from), databasetest.PostgresConfig(t).URI); err == nil || !strings.Contains(err.Error(), "postern_person.place") {
		t.Errorf("a type that is not known: %v", err)
	}
	from = made(t, databasetest.SQLiteConfig(t))
	alter(t, from, `CREATE TABLE postern_new (x TEXT)`)
	if _, err := transfer.Move(t.Context(), config(from), databasetest.PostgresConfig(t).URI); !errors.Is(err, transfer.ErrVersions) {
		t.Errorf("a table of ours without a place: %v", err)
	}
}

func TestTextsThatPostgresDoesNotTakeHaveAMarkAndAreCounted(t *testing.T) {
	from, to := made(t, databasetest.SQLiteConfig(t)), databasetest.PostgresConfig(t)
	alter(t, from, "UPDATE postern_contact SET name='a' || char(0) || 'b'")
	alter(t, from, `UPDATE ghost SET metadata='{"x": "a\u0000b\\u0000"}', name=CAST(x'61ff62' AS TEXT)`)
	alter(t, from, `UPDATE portal SET metadata='{"x": "a\ud800b\ud83d\ude00"}', topic=x'610062'`)
	report, err := transfer.Move(t.Context(), config(from), to.URI)
	if err != nil {
		t.Fatal(err)
	}
	if r := report.Replaced; len(r) != 5 || r["portal.metadata"] != 1 || r["portal.topic"] != 1 || r["postern_contact.name"] != 1 || r["ghost.metadata"] != 1 || r["ghost.name"] != 1 {
		t.Errorf("replaced: %v", report.Replaced)
	}
	all := contents(t, to)
	if got := strings.Join(append(all["postern_contact"], all["ghost"]...), "\n"); strings.Count(got, "a\ufffdb") != 3 || !strings.Contains(got, `\\u0000`) {
		t.Errorf("%s", got)
	}
}

func TestWhatWasMovedCanBeTakenBackAndIsAnOldCopyThen(t *testing.T) {
	from, to := databasetest.SQLiteConfig(t), databasetest.PostgresConfig(t)
	from.EpochFile = filepath.Join(t.TempDir(), "postern.epoch")
	to.EpochFile = from.EpochFile
	made(t, from)
	if err := transfer.Unmove(t.Context(), config(from)); !errors.Is(err, transfer.ErrNotMarked) {
		t.Errorf("what was not moved: %v", err)
	}
	if _, err := transfer.Move(t.Context(), config(from), to.URI); err != nil {
		t.Fatal(err)
	}
	before := generation(t, to)
	if err := opens(t, to); err != nil {
		t.Fatal(err)
	}
	if got := generation(t, to); got != before {
		t.Errorf("what was moved counts as an old copy: %d, want %d", got, before)
	}
	if err := transfer.Unmove(t.Context(), config(from)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // once and not again
		if err := opens(t, from); err != nil {
			t.Fatal(err)
		}
		if got := generation(t, from); got != before+1 {
			t.Errorf("what was brought back is of generation %d, want %d", got, before+1)
		}
	}
}

// alter changes a database that nobody has open.
func alter(t *testing.T, cfg database.Config, statement string) {
	t.Helper()
	base, err := database.Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	if _, err := base.Raw().Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// generation is how often a database was found to be an old copy.
func generation(t *testing.T, cfg database.Config) (n int) {
	t.Helper()
	base, err := database.Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	if err := base.Raw().QueryRow(t.Context(), "SELECT generation FROM postern_epoch").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEachSchemaOfOneServerIsCopiedByItself: several bridges have a schema each in one database.
func TestEachSchemaOfOneServerIsCopiedByItself(t *testing.T) {
	server := databasetest.PostgresConfig(t)
	in := func(schema string) database.Config {
		cfg := server
		cfg.URI = databasetest.Schema(t, server.URI, schema)
		return cfg
	}
	own := in("own")
	made(t, in("neighbour"))
	from := made(t, databasetest.SQLiteConfig(t))
	alter(t, from, "UPDATE postern_person SET language='own'")
	want := contents(t, from)
	if _, err := transfer.Move(t.Context(), config(from), own.URI); err != nil {
		t.Fatal(err)
	}
	same(t, contents(t, own), want)
	_, a := backUp(t, own, transfer.BackupOptions{})
	third := in("third")
	if _, err := transfer.Restore(t.Context(), config(third), a, nil); err != nil {
		t.Fatal(err)
	}
	same(t, contents(t, third), want)
	var missing *database.SchemaError
	nowhere := server
	nowhere.URI = databasetest.WithSearchPath(t, server.URI, "nowhere")
	if _, err := transfer.Restore(t.Context(), config(nowhere), a, nil); !errors.As(err, &missing) {
		t.Errorf("into a schema that is not there: %v", err)
	}
}
