package databasetest

import (
	"context"
	"database/sql"
	"os"
	"testing"

	"postern/database"
)

func TestEveryTestGetsADatabaseThatNobodyElseHas(t *testing.T) {
	for range 2 {
		Each(t, func(t *testing.T, db *database.DB) {
			// The second round fails here if it gets the database of the first.
			if _, err := db.Raw().Exec(context.Background(), "CREATE TABLE mine (x INTEGER)"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestADatabaseIsNamedInBothFormsOfADSN(t *testing.T) {
	for base, want := range map[string]string{
		"host=/tmp/x user=me dbname=postgres":           "host=/tmp/x user=me dbname=postgres dbname=fresh",
		"postgres://me@localhost/postgres?sslmode=none": "postgres://me@localhost/fresh?sslmode=none",
		"postgresql://me@localhost":                     "postgresql://me@localhost/fresh",
	} {
		if got := withDatabase(t, base, "fresh"); got != want {
			t.Errorf("%s became %s, want %s", base, got, want)
		}
	}
}

func TestAServerKeepsWhatWasCommittedOverACrashAndRemovesItAtTheEnd(t *testing.T) {
	server := StartPostgres(t)
	db, err := sql.Open("postgres", server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxIdleConns(0) // a process of an open connection may outlive the server by a moment
	if _, err = db.Exec("CREATE TABLE kept (x INTEGER); INSERT INTO kept VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err = db.Ping(); err == nil {
		t.Fatal("a killed server answers")
	}
	if err = server.Start(); err != nil {
		t.Fatal(err)
	}
	var x int
	if err = db.QueryRow("SELECT x FROM kept").Scan(&x); err != nil || x != 7 {
		t.Fatalf("after the crash: %d, %v", x, err)
	}
	server.Stop()
	if _, err = os.Stat(server.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}
