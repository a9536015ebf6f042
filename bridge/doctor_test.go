package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"gopkg.in/yaml.v3"
	"maunium.net/go/mautrix/appservice"

	"postern/bridge/doctor"
	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/issuer"
	"postern/database"
)

// clinic is an installation in which everything is right but the bridge does not run, until a test breaks one thing.
type clinic struct {
	t          *testing.T
	hs         *homeserver.Server
	dir        string
	gatekeeper *httptest.Server
	keys       func(w http.ResponseWriter) // what the gatekeeper answers when asked for its keys
}

// seed has files of a bridge that has run once: made a single time, since its keys take long.
var seed = sync.OnceValues(func() (fstest.MapFS, error) {
	dir, err := os.MkdirTemp("", "postern-doctor-seed-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err = errors.Join(os.Mkdir(filepath.Join(dir, "epoch"), 0o700), openSeed(dir)); err != nil {
		return nil, err
	}
	files := fstest.MapFS{}
	for _, name := range []string{"postern.db", "postern.db.lock", "postern.key", "epoch/postern.epoch"} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = &fstest.MapFile{Data: raw, Mode: 0o600}
	}
	return files, nil
})

// openSeed makes a database with tables and token keys, its key file and its epoch file.
func openSeed(dir string) error {
	key, err := database.LoadOrCreateKeyFile(filepath.Join(dir, "postern.key"))
	if err != nil {
		return err
	}
	db, err := database.Open(context.Background(), database.Config{
		Dialect: "sqlite3-fk-wal", URI: filepath.Join(dir, "postern.db"), MasterKey: key, Holder: "test",
		EpochFile: filepath.Join(dir, "epoch", "postern.epoch"),
	})
	if err != nil {
		return err
	}
	_, err = issuer.New(context.Background(), issuer.Config{Base: "http://127.0.0.1:1", Store: db.IssuerKeys()})
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return err
}

// goodTool is an ffmpeg that says what the real one says.
const goodTool = "#!/bin/sh\necho \"$(basename \"$0\") version 7.1 Copyright\"\n"

func newClinic(t *testing.T) *clinic {
	t.Helper()
	from, err := seed()
	c := &clinic{t: t, dir: t.TempDir()}
	c.ok(err)
	c.ok(os.CopyFS(c.dir, from))
	for name := range from {
		c.ok(os.Chmod(c.path(name), 0o600)) // the copy's mode depends on the umask
	}
	c.hs, err = homeserver.Start("matrix.example.org")
	c.ok(err)
	t.Cleanup(c.hs.Close)
	c.keys = func(w http.ResponseWriter) { fmt.Fprint(w, `{"keys":[{"kty":"RSA","kid":"1","n":"AQAB","e":"AQAB"}]}`) }
	c.gatekeeper = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.keys(w) }))
	t.Cleanup(c.gatekeeper.Close)
	for _, name := range []string{"ffmpeg", "ffprobe"} {
		c.write("bin/"+name, goodTool, 0o700)
	}
	c.ok(writeExample(c.path("config.yaml"), io.Discard))
	private, public := c.freePort(), c.freePort()
	c.set(map[string]any{
		"homeserver.address": c.hs.URL(), "homeserver.domain": c.hs.Name(),
		"bridge.permissions": map[string]any{c.hs.Name(): "user", "@admin:" + c.hs.Name(): "admin"},
		"appservice.address": fmt.Sprintf("http://127.0.0.1:%d", private), "appservice.hostname": "127.0.0.1", "appservice.port": private,
		"network.public.base": fmt.Sprintf("http://127.0.0.1:%d", public), "network.public.address": fmt.Sprintf("127.0.0.1:%d", public),
		"database.uri":          "file:" + c.path("postern.db") + "?_txlock=immediate",
		"network.epoch_file":    "epoch/postern.epoch",
		"network.operator.name": "Example", "network.operator.contact": "@admin:matrix.example.org",
		"network.media.ffmpeg":                    "bin/ffmpeg",
		"network.gatekeepers.whatsapp.integrator": 7,
		"network.gatekeepers.whatsapp.chat":       "tcp://" + c.listener(),
		"network.gatekeepers.whatsapp.enlist_url": c.gatekeeper.URL + "/enlist",
		"network.gatekeepers.whatsapp.media_url":  c.gatekeeper.URL,
		"network.gatekeepers.whatsapp.jwks_url":   c.gatekeeper.URL + "/jwks",
	})
	c.register()
	return c
}

func (c *clinic) ok(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *clinic) path(name string) string { return filepath.Join(c.dir, name) }

func (c *clinic) write(name, content string, mode os.FileMode) {
	c.t.Helper()
	c.ok(os.MkdirAll(filepath.Dir(c.path(name)), 0o700))
	c.ok(os.WriteFile(c.path(name), []byte(content), mode))
	c.ok(os.Chmod(c.path(name), mode))
}

func (c *clinic) freePort() int {
	c.t.Helper()
	port, err := parts.FreePort()
	c.ok(err)
	return port
}

// listener takes connections and says nothing.
func (c *clinic) listener() string {
	c.t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	c.ok(err)
	c.t.Cleanup(func() { _ = socket.Close() })
	return socket.Addr().String()
}

// set changes values of the configuration, by dotted path.
func (c *clinic) set(values map[string]any) {
	c.t.Helper()
	raw, err := os.ReadFile(c.path("config.yaml"))
	c.ok(err)
	var doc yaml.Node
	c.ok(yaml.Unmarshal(raw, &doc))
	for path, value := range values {
		node := doc.Content[0]
		for _, key := range strings.Split(path, ".") {
			node = child(node, key, yaml.MappingNode)
		}
		c.ok(node.Encode(value))
	}
	raw, err = yaml.Marshal(&doc)
	c.ok(err)
	c.write("config.yaml", string(raw), 0o600)
}

// register writes the registration and gives it to the homeserver.
func (c *clinic) register() {
	c.t.Helper()
	c.ok(generateRegistration(c.path("config.yaml"), c.path("registration.yaml"), &yaml.Node{}))
	raw, err := os.ReadFile(c.path("registration.yaml"))
	c.ok(err)
	c.ok(c.hs.AddService(raw))
}

// registration changes the registration's file, not what the homeserver has.
func (c *clinic) registration(change func(r *appservice.Registration)) {
	c.t.Helper()
	r, err := appservice.LoadRegistration(c.path("registration.yaml"))
	c.ok(err)
	change(r)
	c.ok(r.Save(c.path("registration.yaml")))
}

// examine runs the command and returns its exit status and what is not as it should be, by check.
func (c *clinic) examine() (code int, wrong map[string]doctor.State, out string) {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	code = dispatch(c.t.Context(), []string{"doctor", "-c", c.path("config.yaml"), "--json"}, &stdout, &stderr)
	var said struct {
		OK     bool            `json:"ok"`
		Checks []doctor.Result `json:"checks"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &said); err != nil {
		c.t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	wrong = map[string]doctor.State{}
	for _, r := range said.Checks {
		if r.State == doctor.Failed || r.State == doctor.Warning {
			if wrong[r.Check] != doctor.Failed {
				wrong[r.Check] = r.State
			}
			if r.Remedy == "" {
				c.t.Errorf("%s does not say what to do", r.Check)
			}
		}
	}
	if said.OK != (code == 0) {
		c.t.Errorf("ok is %t, and the exit status %d", said.OK, code)
	}
	return code, wrong, stdout.String()
}

// hashes are the files below the folder with their content, but for what an open SQLite database has beside it.
func (c *clinic) hashes() map[string]string {
	c.t.Helper()
	all := map[string]string{}
	c.ok(filepath.WalkDir(c.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(path, "-wal") || strings.HasSuffix(path, "-shm") {
			return err
		}
		all[path] = entry.Type().String()
		if entry.Type().IsRegular() {
			raw, err := os.ReadFile(path)
			all[path] = string(raw)
			return err
		}
		return nil
	}))
	return all
}

func TestDoctorFindsNothingWrongWithAnInstallationThatIsRightAndChangesNothing(t *testing.T) {
	c := newClinic(t)
	before := c.hashes()
	code, wrong, out := c.examine()
	if code != 0 || len(wrong) != 0 {
		t.Errorf("exit status %d, wrong: %v\n%s", code, wrong, out)
	}
	after := c.hashes()
	for path, content := range after {
		if was, there := before[path]; !there || was != content {
			t.Errorf("%s was changed", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("there are %d files, and were %d", len(after), len(before))
	}
	for _, name := range doctor.Names() {
		if !strings.Contains(out, `"check": "`+name) {
			t.Errorf("the check %s has said nothing", name)
		}
	}
}

func TestDoctorPrintsALineForEachCheckAndNoSecret(t *testing.T) {
	c := newClinic(t)
	c.set(map[string]any{
		"provisioning.shared_secret": "marker-provisioning-secret", "network.region.gate": "hook", "network.region.hook.url": "http://127.0.0.1:1/marker-in-url",
		"network.region.hook.token": "marker-hook-token", "double_puppet.secrets": map[string]string{c.hs.Name(): "as_token:marker-puppet-token"},
		"database.type": "postgres", "database.uri": "postgres://marker-user:marker-password@127.0.0.1:1/marker?sslmode=disable",
	})
	var stdout, stderr bytes.Buffer
	if code := dispatch(t.Context(), []string{"doctor", "-c", c.path("config.yaml")}, &stdout, &stderr); code != exitOther {
		t.Errorf("exit status %d", code)
	}
	all := stdout.String() + stderr.String()
	cfg, err := loadConfig(c.path("config.yaml"), &yaml.Node{})
	c.ok(err)
	for _, secret := range []string{
		cfg.AppService.ASToken, cfg.AppService.HSToken, "marker-provisioning-secret", "marker-in-url", "marker-hook-token", "marker-puppet-token", "marker-password",
	} {
		if strings.Contains(all, secret) {
			t.Errorf("a secret was printed: %s", secret)
		}
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if len(lines) < len(doctor.Names()) {
		t.Errorf("%d lines for %d checks", len(lines), len(doctor.Names()))
	}
	for _, line := range lines {
		state, _, _ := strings.Cut(line, " ")
		if !slices.Contains([]string{"ok", "warning", "FAIL", "-"}, state) || (state == "FAIL") != strings.Contains(line, ". To do: ") && state != "warning" {
			t.Errorf("line %q", line)
		}
	}
}

func TestDoctorThatCannotLookEndsWithTwoAndSaysWhy(t *testing.T) {
	c := newClinic(t)
	for name, args := range map[string][]string{
		"an unknown flag":         {"doctor", "--loud"},
		"a word too many":         {"doctor", "now"},
		"no configuration":        {"doctor", "-c", c.path("none.yaml")},
		"an unfit configuration":  {"doctor", "-c", c.path("unfit.yaml")},
		"no YAML":                 {"doctor", "-c", c.path("registration.yaml")},
		"an unknown key, in JSON": {"doctor", "-c", c.path("unknown.yaml"), "--json"},
	} {
		c.write("unfit.yaml", "homeserver: {address: 'http://localhost:1'}\n", 0o600)
		c.write("unknown.yaml", "homeserver: {port: 1}\n", 0o600)
		var stdout, stderr bytes.Buffer
		if code := dispatch(t.Context(), args, &stdout, &stderr); code != exitUsage || stdout.Len()+stderr.Len() == 0 {
			t.Errorf("%s: exit status %d, said %q", name, code, stdout.String()+stderr.String())
		}
	}
}

// bounded is generous: only a test that hangs runs into it.
const bounded = time.Minute
