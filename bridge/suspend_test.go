package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"postern/database"
)

// TestSomebodyIsSuspendedWhileNoBridgeRuns: the order is on disk for the next one.
func TestSomebodyIsSuspendedWhileNoBridgeRuns(t *testing.T) {
	s := newShell(t, 1)
	db, err := database.Open(t.Context(), database.Config{
		Dialect: "sqlite3-fk-wal", URI: s.database(), MasterKey: s.key, Holder: "a test", EpochFile: filepath.Join(s.dir, "postern.epoch"), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err = db.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var out, problems bytes.Buffer
		if code := dispatch(t.Context(), append(args, "-c", filepath.Join(s.dir, "config.yaml")), &out, &problems); code != want {
			t.Errorf("postern %v: exit status %d, want %d\n%s%s", args, code, want, &out, &problems)
		}
		return out.String() + problems.String()
	}
	s.has("suspending", run(0, "suspend", "@anna:example.org", "too", "many"), "@anna:example.org is suspended, but has no login here")
	s.has("again", run(0, "suspend", "@anna:example.org", "far too many"), "already")
	s.has("the list", run(0, "suspended"), "@anna:example.org", "far too many")
	s.has("the list as JSON", run(0, "suspended", "--json"), `"user_id": "@anna:example.org"`)
	s.has("ending it", run(0, "unsuspend", "@anna:example.org"), "not suspended any more")
	s.has("ending it again", run(0, "unsuspend", "@anna:example.org"), "was not suspended")
	s.has("the empty list", run(0, "suspended"), "Nobody is suspended")
	for _, wrong := range [][]string{
		{"suspend"}, {"suspend", "anna"}, {"suspend", "--json", "@a:b"}, {"unsuspend", "@a:b", "why"}, {"suspended", "@a:b"}, {"suspend", "@a:b", strings.Repeat("x", 400)},
	} {
		s.has("wrong usage", run(exitUsage, wrong...), "postern unsuspend USER")
	}
	s.has("help", run(0, "suspend", "--help"), "They are told, with the reason")
}
