package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"postern/connector"
	"postern/connector/admin"
	"postern/database"
)

// TestOrdersAreGivenWhileNoBridgeRuns: what can be done is done on its database, and what cannot is refused.
func TestOrdersAreGivenWhileNoBridgeRuns(t *testing.T) {
	s := newShell(t, 1)
	db, err := database.Open(t.Context(), database.Config{
		Dialect: "sqlite3-fk-wal", URI: s.database(), MasterKey: s.key, Holder: "a test", EpochFile: filepath.Join(s.dir, "postern.epoch"), Log: zerolog.Nop(),
	})
	if err == nil {
		err = db.Accounts().Put(t.Context(), &database.Account{ID: "abc", Gatekeeper: "whatsapp", MXID: "@anna:example.org", Identifier: "anna", EnlistedAt: 1, CreatedAt: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err = db.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var out, problems bytes.Buffer
		if code := dispatch(t.Context(), append([]string{"admin", "-c", filepath.Join(s.dir, "config.yaml")}, args...), &out, &problems); code != want {
			t.Errorf("postern admin %v: exit status %d, want %d\n%s%s", args, code, want, &out, &problems)
		}
		return out.String() + problems.String()
	}
	s.has("the list", run(0, "users"), "@anna:example.org", "abc", "no_bridge")
	s.has("the list as JSON", run(0, "users", "--json"), `"user_id": "@anna:example.org"`, `"state": "no_bridge"`)
	s.has("one user", run(0, "user", "abc"), "@anna:example.org, account abc at WhatsApp")
	s.has("nobody", run(1, "user", "@ben:example.org"), "no login of that name")
	s.has("what needs a bridge", run(1, "disconnect", "abc"), "no bridge runs, and disconnect needs one")
	s.has("its own command", run(0, "suspend", "@anna:example.org", "enough"), "is suspended")
	s.has("the state", run(0, "users"), "suspended")
	s.has("deleting without a word", run(exitUsage, "delete", "abc"), "cannot be undone")
	s.has("deleting", run(0, "delete", "abc", "--yes"), "is being deleted")
	s.has("the state", run(0, "users"), "leaving")
	for _, wrong := range [][]string{{}, {"fly"}, {"users", "--loud"}, {"user"}, {"user", "Anna"}, {"users", "--force"}} {
		run(exitUsage, wrong...)
	}
	s.has("moving without the other configuration", run(exitUsage, "move", "@anna:example.org"), "move needs --to")
	help := run(0, "--help")
	for _, a := range admin.Actions {
		if !strings.Contains(help, strings.TrimSpace(a.Name+" "+a.Args)) {
			t.Errorf("the help does not name %s", a.Name)
		}
		if own := ownVerbs[a.Name] != nil; own != a.Own {
			t.Errorf("%s has a command of its own: %v", a.Name, own)
		}
	}
	if len(connector.DescribeActions()) != len(admin.Actions) {
		t.Error("not all actions are described")
	}
}
