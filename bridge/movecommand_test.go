package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// twoInstances are the configurations of two instances over one database, both of which have run once, as far as their tables go.
type twoInstances struct {
	*testing.T
	dir, uri string
	configs  [2]string
	schemas  [2]string
	keys     [2][database.KeySize]byte
	shared   *database.Shared
}

func newTwoInstances(t *testing.T) *twoInstances {
	t.Helper()
	w := &twoInstances{T: t, dir: t.TempDir(), uri: databasetest.PostgresConfig(t).URI}
	key, err := database.LoadOrCreateKeyFile(filepath.Join(w.dir, "shared.key"))
	w.ok(err)
	for i, name := range []string{"east", "west"} {
		w.schemas[i] = databasetest.Schema(t, w.uri, name)
		w.ok(os.Mkdir(filepath.Join(w.dir, name), 0o700))
		w.configs[i] = filepath.Join(w.dir, name, "config.yaml")
		w.configure(i, "gatekeepers: {whatsapp: {integrator: 7}}")
		w.keys[i], err = database.LoadOrCreateKeyFile(filepath.Join(w.dir, name, "postern.key"))
		w.ok(err)
		w.ok(w.open(i).Close())
	}
	w.shared, err = database.OpenShared(t.Context(), database.SharedConfig{URI: w.uri, Schema: "both", Key: key})
	w.ok(err)
	t.Cleanup(func() { w.ok(w.shared.Close()) })
	return w
}

func (w *twoInstances) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *twoInstances) name(i int) string { return []string{"east", "west"}[i] }

func (w *twoInstances) configure(i int, gatekeepers string) {
	w.Helper()
	name := w.name(i)
	w.ok(os.WriteFile(w.configs[i], []byte(fmt.Sprintf(`
homeserver: {address: 'http://127.0.0.1:1', domain: example.org, retry_limit: 0}
appservice: {address: 'http://127.0.0.1:2', id: postern_%[1]s, as_token: 'abcdefghijklmnop', hs_token: 'ponmlkjihgfedcba', bot: {username: postern_%[1]s}, username_template: 'postern_%[1]s_{{.}}'}
bridge: {permissions: {example.org: user}}
database: {type: postgres, uri: %[2]q}
network:
  public: {base: 'https://bridge.example.org'}
  instances: {name: %[1]s, all: [east, west], schema: both, key_file: ../shared.key, address: 'http://127.0.0.1:%[3]d'}
  %[4]s
`, name, w.schemas[i], i+3, gatekeepers)), 0o600))
}

func (w *twoInstances) open(i int) *database.DB {
	w.Helper()
	name := w.name(i)
	db, err := database.Open(w.Context(), database.Config{
		Dialect: "postgres", URI: w.schemas[i], MasterKey: w.keys[i], Holder: name, Instance: &name, EpochFile: filepath.Join(w.dir, name, "postern.epoch"),
	})
	w.ok(err)
	return db
}

// change does something in the first instance's database.
func (w *twoInstances) change(query string, args ...any) {
	w.Helper()
	db := w.open(0)
	_, err := db.Raw().Exec(w.Context(), query, args...)
	w.ok(err)
	w.ok(db.Close())
}

// join has an instance tell the others of it, as its start does.
func (w *twoInstances) join(i int, ghosts string) {
	w.Helper()
	name := w.name(i)
	w.ok(w.shared.Join(w.Context(), database.Instance{
		Name: name, Tables: name, Appservice: "postern_" + name, Bot: "@postern_" + name + ":example.org", Ghosts: ghosts, Address: "http://" + name,
	}))
}

// refuses orders a move, and looks for the words with which it is refused.
func (w *twoInstances) refuses(status int, words string) {
	w.Helper()
	var out, problems bytes.Buffer
	code := dispatch(w.Context(), []string{"instances", "move", "@anna:example.org", "-c", w.configs[0], "--to", w.configs[1]}, &out, &problems)
	if text := out.String() + problems.String(); code != status || !strings.Contains(text, words) {
		w.Errorf("exit status %d, want %d with %q:\n%s", code, status, words, text)
	}
	if home, err := w.shared.Home(w.Context(), "@anna:example.org"); err != nil || home.Instance == "west" {
		w.Errorf("%+v, %v", home, err)
	}
}

// TestAUserWhoCannotBeMovedStaysAndTheOperatorIsToldWhy: nothing is asked of the homeserver, which is not there.
func TestAUserWhoCannotBeMovedStaysAndTheOperatorIsToldWhy(t *testing.T) {
	w := newTwoInstances(t)
	w.refuses(exitOther, "@anna:example.org has no account at east: whoever has none is assigned")
	db := w.open(0)
	w.ok(db.Accounts().Put(t.Context(), &database.Account{
		ID: "anna", Gatekeeper: "whatsapp", MXID: "@anna:example.org", Identifier: "anna", Login: "7-1@interop", Integrator: 7, EnlistedAt: 1, HMACKey: []byte("k"),
	}))
	w.refuses(exitDatabase, "stop both instances first")
	w.ok(db.Close())
	_, err := w.shared.Claim(t.Context(), "@anna:example.org", "east")
	w.ok(err)
	for _, table := range []string{"portal (bridge_id TEXT, receiver TEXT, id TEXT, mxid TEXT, other_user_id TEXT)", "ghost (bridge_id TEXT, id TEXT, name TEXT)"} {
		w.change("CREATE TABLE " + table)
	}
	w.refuses(exitOther, "the instance east has not told the others its bot and its ghosts")
	w.join(0, "@postern_east_*:example.org")
	w.join(1, "")
	w.refuses(exitOther, "the instance west has not told the others its bot and its ghosts")
	w.join(1, "@postern_west_*:example.org")

	w.change("INSERT INTO postern_suspended (mxid, version, reason, at, ended) VALUES ('@anna:example.org', 1, 'x', 1, false)")
	w.refuses(exitOther, "is suspended")
	w.change("DELETE FROM postern_suspended")
	w.change("INSERT INTO postern_leaving (account_id, room_id, reason, asked, outcome, emptied, counts) VALUES ('anna', '', '', 1, '', false, '{}')")
	w.refuses(exitOther, "is being deleted")
	w.change("DELETE FROM postern_leaving")
	w.configure(1, "gatekeepers: {whatsapp: {integrator: 8}}")
	w.refuses(exitOther, "is not the same in both configurations")
	w.configure(1, "gatekeepers: {whatsapp: {integrator: 7}}")
	w.change("UPDATE postern_account SET gatekeeper='messenger'")
	w.refuses(exitOther, "which the configuration of west does not have")
	w.change("UPDATE postern_account SET gatekeeper='whatsapp'")
	w.change("INSERT INTO portal VALUES ('', 'anna', 'chat', '!r:example.org', 'wa-x')")
	w.refuses(exitOther, "Do it again")

	west := w.open(1)
	w.refuses(exitDatabase, "stop both instances first")
	w.ok(west.Close())
	w.ok(os.Rename(filepath.Join(w.dir, "west", "postern.key"), filepath.Join(w.dir, "west", "x.key")))
	w.refuses(exitConfig, "postern.key")
}
