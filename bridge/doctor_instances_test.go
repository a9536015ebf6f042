package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"postern/bridge/doctor"
	"postern/database"
	"postern/database/databasetest"
)

// TestDoctorLooksAtWhatTheInstancesShare breaks one thing after the other of a set-up of two instances, of which the other one runs.
func TestDoctorLooksAtWhatTheInstancesShare(t *testing.T) {
	c := newClinic(t)
	uri := databasetest.PostgresConfig(t).URI
	key, err := database.LoadKeyFile(c.path("postern.key"))
	c.ok(err)
	c.ok(os.Remove(c.path("epoch/postern.epoch")))
	name := "east"
	db, err := database.Open(t.Context(), database.Config{
		Dialect: "postgres", URI: uri, MasterKey: key, Holder: "test", EpochFile: c.path("epoch/postern.epoch"), Instance: &name,
	})
	c.ok(err)
	c.ok(db.Close())
	c.set(map[string]any{
		"database.type": "postgres", "database.uri": uri, "network.instances.name": name, "network.instances.all": []string{"east", "west"}, "network.instances.schema": "both",
	})
	finds := func(what string, want map[string]doctor.State, says string) {
		t.Helper()
		if _, wrong, out := c.examine(); !maps.Equal(wrong, want) || !strings.Contains(out, says) {
			t.Errorf("%s: found %v, want %v\n%s", what, wrong, want, out)
		}
	}
	finds("no key yet", warning("instances"), "there is no key for what the instances share")
	shared, err := database.LoadOrCreateKeyFile(c.path("shared.key"))
	c.ok(err)
	finds("nobody has run", map[string]doctor.State{}, "no instance has run yet")
	s, err := database.OpenShared(t.Context(), database.SharedConfig{URI: uri, Schema: "both", Key: shared})
	c.ok(err)
	t.Cleanup(func() { _ = s.Close() })
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	t.Cleanup(other.Close)
	c.ok(s.Join(t.Context(), database.Instance{Name: "west", Tables: "w", Appservice: "w", Bot: "@w:x", Address: other.URL}))
	finds("all is well", map[string]doctor.State{}, "east, one of 2 instances, of which 1 have joined")
	c.set(map[string]any{"network.instances.all": []string{"east", "north"}})
	finds("another list", warning("instances"), "has joined, and is not in")
	c.set(map[string]any{"network.instances.all": []string{"east", "west"}})
	other.Close()
	finds("the other one is away", warning("instances"), "does not answer where it says")
	c.ok(os.Remove(c.path("shared.key")))
	_, err = database.LoadOrCreateKeyFile(c.path("shared.key"))
	c.ok(err)
	finds("another key", failing("instances"), "not the key file of the other instances")
	c.set(map[string]any{"database.type": "sqlite3-fk-wal", "database.uri": "file:" + c.path("postern.db") + "?_txlock=immediate"})
	if _, wrong, out := c.examine(); wrong["instances"] != doctor.Failed || !strings.Contains(out, "the database is not Postgres") {
		t.Errorf("on SQLite: %v\n%s", wrong, out)
	}
}
