package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"postern/database"
	"postern/database/databasetest"
)

// TestTheOperatorSaysToWhichInstanceSomebodyBelongs: all that `postern instances` does, without a running bridge.
func TestTheOperatorSaysToWhichInstanceSomebodyBelongs(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	write := func(kind, uri string, instances map[string]any) {
		t.Helper()
		raw, err := yaml.Marshal(map[string]any{
			"database": map[string]any{"type": kind, "uri": uri},
			"network":  map[string]any{"instances": instances},
		})
		if err == nil {
			err = os.WriteFile(config, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int, says string, args ...string) string {
		t.Helper()
		var out, problems bytes.Buffer
		code := dispatch(t.Context(), append(append([]string{"instances"}, args...), "-c", config), &out, &problems)
		if text := out.String() + problems.String(); code != want || !strings.Contains(text, says) {
			t.Errorf("postern instances %v: exit status %d, want %d with %q:\n%s", args, code, want, says, text)
		}
		return out.String()
	}
	two := map[string]any{"name": "east", "all": []string{"east", "west"}, "schema": "both", "address": "http://127.0.0.1:1"}
	write("sqlite3-fk-wal", filepath.Join(dir, "postern.db"), two)
	run(exitConfig, "need database.type postgres", "list")
	uri := databasetest.PostgresConfig(t).URI
	write("postgres", uri, map[string]any{})
	run(exitConfig, "this bridge is the only one", "list")
	write("postgres", uri, two)
	run(exitDatabase, "has an instance ever run?", "list")

	key, err := database.LoadOrCreateKeyFile(filepath.Join(dir, "shared.key"))
	if err != nil {
		t.Fatal(err)
	}
	run(exitDatabase, "has one ever run?", "list")
	shared, err := database.OpenShared(t.Context(), database.SharedConfig{URI: uri, Schema: "both", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shared.Close() })
	if err := shared.Join(t.Context(), database.Instance{Name: "east", Tables: "e", Appservice: "as", Bot: "@bot:example.org", Address: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Claim(t.Context(), "@ben:example.org", "east"); err != nil {
		t.Fatal(err)
	}
	run(0, "west  has never run", "list")
	run(0, `"bot": "@bot:example.org"`, "list", "--json")
	run(0, `"users_with_accounts": 1`, "list", "--json")
	run(0, "by the rule", "where", "@anna:example.org")
	for _, name := range []string{"east", "west"} {
		run(0, "@anna:example.org belongs to "+name+".", "assign", "@anna:example.org", name)
		run(0, `"instance": "`+name+`"`, "where", "--json", "@anna:example.org")
		run(0, "since it was assigned", "where", "@anna:example.org")
	}
	run(0, "by the rule", "unassign", "@anna:example.org")
	run(0, "and has an account there", "where", "@ben:example.org")
	run(exitOther, "has an account at east", "assign", "@ben:example.org", "west")
	run(exitOther, "has an account at east", "unassign", "@ben:example.org")
	run(exitOther, `there is no instance "north"`, "assign", "@anna:example.org", "north")
	for _, wrong := range [][]string{{}, {"move"}, {"list", "x"}, {"where"}, {"where", "anna"}, {"assign", "@a:b"}, {"assign", "@a:b", "x", "y"}, {"unassign", "--json", "@a:b"}, {"move", "@a:b"}, {"move", "--to", "x"}, {"where", "@a:b", "--to", "x"}} {
		run(exitUsage, "postern instances list", wrong...)
	}
	run(0, "to another instance, with all that they have", "--help")
}
