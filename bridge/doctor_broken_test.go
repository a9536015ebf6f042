package main

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"maunium.net/go/mautrix/appservice"

	"postern/bridge/doctor"
	"postern/bridge/e2e/faults/homeserver"
	"postern/database"
)

// broken is a set-up with one thing wrong, and the checks that have to find it. Everything else has to be right.
type broken struct {
	name   string
	breaks func(c *clinic)
	finds  map[string]doctor.State
}

func failing(names ...string) map[string]doctor.State {
	all := map[string]doctor.State{}
	for _, name := range names {
		all[name] = doctor.Failed
	}
	return all
}

func warning(name string) map[string]doctor.State {
	return map[string]doctor.State{name: doctor.Warning}
}

// brokenSetUps are those that need nothing but a clinic.
func brokenSetUps() []broken {
	return slices.Concat(brokenFiles, brokenHomeserver, brokenPublic, brokenRest)
}

// brokenElsewhere are the checks of which the breaking needs more, with the tests that do it.
var brokenElsewhere = map[string]string{
	"user": "TestDoctorFindsThatSomebodyElseRunsIt", "disk": "TestDoctorFindsThatADiskIsFull", "file-limit": "TestDoctorFindsThatFewFilesMayBeOpen",
	"certificates": "TestDoctorFindsThatThereAreNoCertificates", "instances": "TestDoctorLooksAtWhatTheInstancesShare",
	"readiness": "TestABridgeThatIsNotReadySaysWhy", "database-durability": "TestDoctorFindsADatabaseInMemory",
}

// TestEveryCheckOfTheDoctorIsBrokenBySomeTest: one that is new needs a set-up that it finds.
func TestEveryCheckOfTheDoctorIsBrokenBySomeTest(t *testing.T) {
	found := map[string]bool{}
	for _, b := range brokenSetUps() {
		for name := range b.finds {
			found[name] = true
		}
	}
	sources := ""
	for _, pattern := range []string{"*_test.go", "doctor/*_test.go"} {
		for _, path := range must(filepath.Glob(pattern)) {
			sources += string(must(os.ReadFile(path)))
		}
	}
	for _, name := range doctor.Names() {
		test, elsewhere := brokenElsewhere[name]
		if elsewhere && !strings.Contains(sources, "\nfunc "+test+"(") {
			t.Errorf("%s: there is no %s", name, test)
		}
		if !elsewhere && !found[name] && !found[name+"-whatsapp"] {
			t.Errorf("no set-up breaks what %s looks at", name)
		}
	}
}

func TestDoctorFindsWhatIsWrongAndNothingElse(t *testing.T) {
	all := brokenSetUps()
	if len(all) < 25 {
		t.Errorf("there are only %d broken set-ups", len(all))
	}
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			c := newClinic(t)
			b.breaks(c)
			code, wrong, out := c.examine()
			if fmt.Sprint(wrong) != fmt.Sprint(b.finds) {
				t.Errorf("found %v, want %v\n%s", wrong, b.finds, out)
			}
			want := 0
			for _, state := range b.finds {
				if state == doctor.Failed {
					want = exitOther
				}
			}
			if code != want {
				t.Errorf("exit status %d, want %d", code, want)
			}
		})
	}
}

// sets breaks a set-up by values of the configuration.
func sets(values map[string]any) func(c *clinic) { return func(c *clinic) { c.set(values) } }

// otherKey is a key file that belongs to no database.
func otherKey(c *clinic) {
	c.ok(os.Remove(c.path("postern.key")))
	_, err := database.LoadOrCreateKeyFile(c.path("postern.key"))
	c.ok(err)
}

var brokenFiles = []broken{
	{"nobody may log in", sets(map[string]any{"bridge.permissions": map[string]any{"matrix.example.org": "commands"}}), failing("permissions")},
	{"only others may log in", sets(map[string]any{"bridge.permissions": map[string]any{"elsewhere.example": "user"}}), warning("permissions")},
	{"there is no admin", sets(map[string]any{"bridge.permissions": map[string]any{"*": "user", "matrix.example.org": "user"}}), warning("permissions")},
	{"the operator has no name", sets(map[string]any{"network.operator.name": ""}), warning("operator")},
	{"others may read the key file", func(c *clinic) { c.ok(os.Chmod(c.path("postern.key"), 0o644)) }, failing("key-file")},
	{"the key file is something else", func(c *clinic) { c.write("postern.key", "hello\n", 0o600) }, failing("key-file")},
	{"the key file has gone", func(c *clinic) { c.ok(os.Remove(c.path("postern.key"))) }, failing("database")},
	{"the key file is another bridge's", otherKey, failing("database")},
	{"the database is to be made where there is no folder", sets(map[string]any{"database.uri": "file:/nowhere/at/all/postern.db"}), failing("database")},
	{"the database is damaged", func(c *clinic) { c.write("postern.db", strings.Repeat("no database", 1000), 0o600) }, failing("database")},
	{"the database is a newer program's", func(c *clinic) {
		c.query("UPDATE postern_version SET version=1000, compat=1000")
	}, failing("database")},
	{"the database was moved", func(c *clinic) { c.query("UPDATE postern_epoch SET moved=1") }, failing("database")},
	{"the database cannot be written", func(c *clinic) {
		c.query("CREATE TABLE postern_doctor (probe INTEGER)") // takes the place of the probe
	}, failing("database-writable")},
	{"another process uses the database", func(c *clinic) {
		file, err := os.OpenFile(c.path("postern.db.lock"), os.O_RDWR|os.O_CREATE, 0o600)
		c.ok(err)
		c.ok(syscall.Flock(int(file.Fd()), syscall.LOCK_EX))
		c.t.Cleanup(func() { _ = file.Close() })
	}, failing("bridge")},
	{"the epoch file lies beside the database", func(c *clinic) {
		c.ok(os.Rename(c.path("epoch/postern.epoch"), c.path("postern.epoch")))
		c.set(map[string]any{"network.epoch_file": "postern.epoch"})
	}, warning("epoch-file")},
	{"the epoch file is something else", func(c *clinic) { c.write("epoch/postern.epoch", "hello\n", 0o600) }, failing("epoch-file")},
	{"the epoch file is another database's", func(c *clinic) {
		c.query("UPDATE postern_epoch SET database_id='another'")
	}, failing("epoch-file")},
	{"the spool has other things in it", func(c *clinic) { c.write("spool/thesis.txt", "hello", 0o600) }, failing("spool")},
	{"the spool is in the media store", sets(map[string]any{"network.media.spool": "media/spool"}), failing("spool")},
	{"the media store is a file", func(c *clinic) { c.write("media", "hello", 0o600) }, failing("media-store")},
	{"the object store is away", sets(map[string]any{
		"network.media.store": "s3", "network.media.s3.endpoint": "127.0.0.1:1", "network.media.s3.bucket": "b", "network.media.s3.access_key": "marker-key",
		"network.media.s3.secret_key": "marker-secret", "network.media.s3.insecure": true,
	}), failing("media-store")},
	{"ffmpeg is not where it is said to be", sets(map[string]any{"network.media.ffmpeg": "bin/none"}), failing("ffmpeg")},
	{"ffmpeg does not run", func(c *clinic) { c.write("bin/ffmpeg", "#!/bin/sh\nexit 1\n", 0o700) }, warning("ffmpeg")},
	{"ffprobe is missing", func(c *clinic) { c.ok(os.Remove(c.path("bin/ffprobe"))) }, warning("ffmpeg")},
}

// query changes the database behind everybody's back.
func (c *clinic) query(query string) {
	c.t.Helper()
	db, err := sql.Open(database.SQLiteDriver, c.path("postern.db"))
	c.ok(err)
	_, err = db.Exec(query)
	c.ok(err)
	c.ok(db.Close())
}

// plays has the homeserver misbehave.
func plays(f homeserver.Fault) func(c *clinic) { return func(c *clinic) { c.hs.AddFault(f) } }

var brokenHomeserver = []broken{
	{"the homeserver is away", func(c *clinic) { c.hs.Down() }, failing("homeserver")},
	{"another program answers in the homeserver's place", plays(homeserver.Fault{Path: "/versions", Status: 200, Kind: "text/html", Body: "<html>"}), failing("homeserver")},
	{"the homeserver is too old", plays(homeserver.Fault{Path: "/versions", Status: 200, Body: `{"versions":["r0.6.1","v1.1"]}`}), failing("homeserver")},
	{"homeserver.domain is not the homeserver's", func(c *clinic) {
		c.set(map[string]any{
			"homeserver.domain": "wrong.example.org", "bridge.permissions": map[string]any{"wrong.example.org": "user", "@admin:wrong.example.org": "admin"},
		})
		c.registration(func(r *appservice.Registration) {
			for i := range r.Namespaces.UserIDs {
				r.Namespaces.UserIDs[i].Regex = strings.ReplaceAll(r.Namespaces.UserIDs[i].Regex, "matrix", "wrong")
			}
			r.Namespaces.RoomAliases[0].Regex = strings.ReplaceAll(r.Namespaces.RoomAliases[0].Regex, "matrix", "wrong")
		})
	}, failing("homeserver-token")},
	{"the registration is not there", func(c *clinic) { c.ok(os.Remove(c.path("registration.yaml"))) }, warning("registration")},
	{"the registration has another token", func(c *clinic) {
		c.registration(func(r *appservice.Registration) { r.AppToken = "another" })
	}, failing("registration")},
	{"the registration has another address", func(c *clinic) {
		c.registration(func(r *appservice.Registration) { r.URL = "http://elsewhere:1" })
	}, failing("registration")},
	{"the registration reserves other users", func(c *clinic) {
		c.registration(func(r *appservice.Registration) { r.Namespaces.UserIDs = r.Namespaces.UserIDs[:1] })
	}, failing("registration")},
	{"the registration is from before rooms had aliases", func(c *clinic) {
		c.registration(func(r *appservice.Registration) { r.Namespaces.RoomAliases = nil })
	}, failing("registration")},
	{"the registration asks for no receipts", func(c *clinic) {
		c.registration(func(r *appservice.Registration) { r.EphemeralEvents, r.SoruEphemeralEvents = false, false })
	}, failing("registration")},
	{"the registration is rate-limited", func(c *clinic) {
		c.registration(func(r *appservice.Registration) { r.RateLimited = nil })
	}, warning("registration")},
	{"the homeserver has never seen the registration", func(c *clinic) {
		c.set(map[string]any{"appservice.as_token": "a-token-of-nobody", "appservice.hs_token": "another-of-nobody"})
		c.registration(func(r *appservice.Registration) {
			r.AppToken, r.ServerToken = "a-token-of-nobody", "another-of-nobody"
		})
	}, failing("homeserver-token", "ping")},
	{"the homeserver has another hs_token", func(c *clinic) {
		c.set(map[string]any{"appservice.hs_token": "another-of-nobody"})
		c.registration(func(r *appservice.Registration) { r.ServerToken = "another-of-nobody" })
	}, failing("ping")},
	{"the homeserver looks for the bridge elsewhere", func(c *clinic) {
		port := c.freePort()
		c.set(map[string]any{"appservice.port": port})
	}, failing("ping")},
	{"the homeserver cannot be asked to ping", plays(homeserver.Fault{Path: "/ping", Status: 404, Body: `{"errcode":"M_UNRECOGNIZED"}`}), warning("ping")},
	{"Dendrite passes no receipts", plays(homeserver.Fault{Path: "/federation/v1/version", Status: 200, Body: `{"server":{"name":"Dendrite","version":"0.15.2"}}`}), warning("ephemeral-events")},
	{"encryption is required and not allowed", sets(map[string]any{"encryption.require": true}), failing("encryption")},
	{"the homeserver lets no bridge log in", func(c *clinic) {
		c.set(map[string]any{"encryption.allow": true})
		c.hs.AddFault(homeserver.Fault{Method: "GET", Path: "/login", Status: 200, Body: `{"flows":[{"type":"m.login.sso"}]}`})
	}, failing("encryption")},
	{"the token for acting as users is unknown", func(c *clinic) {
		c.set(map[string]any{"double_puppet.secrets": map[string]string{c.hs.Name(): "as_token:unknown-token"}})
	}, failing("double-puppets")},
	{"the token of an administrator is nobody's", func(c *clinic) {
		c.hs.AddFault(homeserver.Fault{Path: "/admin/whois/", Status: 401, Body: `{"errcode":"M_UNKNOWN_TOKEN"}`})
		c.set(map[string]any{"network.client_address.policy": "pass", "network.client_address.admin_token": "marker-admin-token"})
	}, failing("client-address")},
	{"the token of an administrator is an ordinary user's", func(c *clinic) {
		c.hs.AddFault(homeserver.Fault{Path: "/admin/whois/", Status: 403, Body: `{"errcode":"M_FORBIDDEN"}`})
		c.set(map[string]any{"network.client_address.policy": "pass", "network.client_address.admin_token": "marker-admin-token"})
	}, failing("client-address")},
	{"this machine's clock is slow", dateOf(3 * time.Minute), failing("clock")},
	{"this machine's clock is a little fast", dateOf(-time.Minute), warning("clock")},
}

// dateOf has the homeserver's clock go ahead of ours.
func dateOf(ahead time.Duration) func(c *clinic) {
	return func(c *clinic) {
		c.hs.AddFault(homeserver.Fault{
			Path: "/versions", Status: 200, Body: `{"versions":["v1.11"]}`,
			Header: http.Header{"Date": {time.Now().Add(ahead).UTC().Format(http.TimeFormat)}},
		})
	}
}

// answersInstead starts a server at the public address's place in the world, and lets the base name it.
func answersInstead(c *clinic, handler http.HandlerFunc) {
	server := httptest.NewServer(handler)
	c.t.Cleanup(server.Close)
	c.set(map[string]any{"network.public.base": server.URL})
}

// proxies passes some paths on to the public listener, as a reverse proxy that was set up for these only.
func proxies(paths ...string) func(c *clinic) {
	return func(c *clinic) {
		cfg, err := doctorSubject(c.path("config.yaml"), "")
		c.ok(err)
		behind := "http://" + cfg.Network.Public.Address
		answersInstead(c, func(w http.ResponseWriter, r *http.Request) {
			for _, path := range paths {
				if strings.HasPrefix(r.URL.Path, path) {
					passOn(w, r, behind)
					return
				}
			}
			http.NotFound(w, r)
		})
	}
}

func passOn(w http.ResponseWriter, r *http.Request, behind string) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, behind+r.URL.Path, r.Body)
	if err != nil {
		w.WriteHeader(500)
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.WriteHeader(502)
		return
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // whoever asked may have gone away
}

var brokenPublic = []broken{
	{"nothing answers at the public address", func(c *clinic) {
		c.set(map[string]any{"network.public.base": fmt.Sprintf("http://127.0.0.1:%d", c.freePort())})
	}, failing("public-keys", "token")},
	{"another web site answers at the public address", func(c *clinic) {
		answersInstead(c, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome</html>") })
	}, failing("public-keys", "public-paths", "token")},
	{"another bridge answers at the public address", func(c *clinic) {
		answersInstead(c, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"issuer":"http://other","keys":[{"kty":"RSA","kid":"other","n":"AQAB","e":"AQAB"}]}`)
		})
	}, failing("public-keys", "public-paths", "token")},
	{"the reverse proxy passes only the keys on", proxies("/.well-known/"), failing("public-paths")},
	{"the reverse proxy leaves out the discovery document", proxies("/.well-known/oauth/", "/push", "/media/"), failing("token")},
	{"the reverse proxy leaves out attachments", proxies("/.well-known/", "/push"), warning("public-paths")},
	{"the reverse proxy has a page of its own for attachments", func(c *clinic) {
		proxies("/.well-known/", "/push")(c)
		cfg, err := doctorSubject(c.path("config.yaml"), "")
		c.ok(err)
		behind := cfg.Network.Public.Base
		answersInstead(c, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/media/") {
				fmt.Fprint(w, "<html>")
				return
			}
			passOn(w, r, behind)
		})
	}, failing("public-paths")},
	{"the public address has a certificate that nobody knows", func(c *clinic) {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		c.t.Cleanup(server.Close)
		c.set(map[string]any{"network.public.base": server.URL})
	}, failing("public-keys", "token")},
	{"another program listens at the public listener's address", func(c *clinic) {
		c.set(map[string]any{"network.public.address": c.listener()})
	}, failing("public-listener")},
	{"another program listens at the private listener's address", func(c *clinic) {
		server := httptest.NewServer(http.NotFoundHandler())
		c.t.Cleanup(server.Close)
		c.set(map[string]any{"appservice.port": server.Listener.Addr().(*net.TCPAddr).Port})
	}, failing("bridge")},
	{"the private listener's address is another machine's", sets(map[string]any{"appservice.hostname": "192.0.2.1"}), failing("bridge")},
}

var brokenRest = []broken{
	{"the gatekeeper's stream cannot be reached", sets(map[string]any{"network.gatekeepers.whatsapp.chat": "tcp://127.0.0.1:1"}), failing("gatekeeper-whatsapp")},
	{"the gatekeeper's enlistment cannot be reached", sets(map[string]any{"network.gatekeepers.whatsapp.enlist_url": "http://127.0.0.1:1/enlist"}), failing("gatekeeper-whatsapp")},
	{"the gatekeeper's name is unknown", sets(map[string]any{"network.gatekeepers.whatsapp.media_url": "http://media.invalid"}), failing("gatekeeper-whatsapp")},
	{"the gatekeeper's keys are something else", func(c *clinic) {
		c.keys = func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }
	}, failing("gatekeeper-whatsapp")},
	{"the gatekeeper does not speak TLS there", func(c *clinic) {
		c.set(map[string]any{"network.gatekeepers.whatsapp.enlist_url": strings.Replace(c.gatekeeper.URL, "http:", "https:", 1)})
	}, failing("gatekeeper-whatsapp")},
	{"the gatekeeper's certificate is of nobody", func(c *clinic) {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog, server.TLS = log.New(io.Discard, "", 0), &tls.Config{MinVersion: tls.VersionTLS12}
		server.StartTLS()
		c.t.Cleanup(server.Close)
		c.set(map[string]any{"network.gatekeepers.whatsapp.media_url": server.URL})
	}, failing("gatekeeper-whatsapp")},
	{"the gatekeeper's clock is another", func(c *clinic) {
		good := c.keys
		c.keys = func(w http.ResponseWriter) {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			good(w)
		}
	}, failing("clock")},
	{"a file with a secret is not there", sets(map[string]any{
		"network.region.hook.token_file": "none",
	}), failing("secret-files")},
	{"a file with a secret is empty", func(c *clinic) {
		c.write("token", "\n", 0o600)
		c.set(map[string]any{"network.metrics.enabled": true, "network.metrics.address": fmt.Sprintf("127.0.0.1:%d", c.freePort()), "network.metrics.token_file": "token"})
	}, failing("secret-files")},
	{"another program listens where the figures are to be", func(c *clinic) {
		c.set(map[string]any{"network.metrics.enabled": true, "network.metrics.address": c.listener()})
	}, failing("metrics")},
	{"the mail server is away", sets(map[string]any{
		"network.identifier.mode": "email", "network.identifier_type": "email", "network.identifier.smtp.address": "127.0.0.1:1",
		"network.identifier.smtp.from": "bridge@example.org", "network.identifier.smtp.tls": "none",
	}), failing("mail-server")},
	{"the service that says who may join is away", sets(map[string]any{
		"network.region.gate": "hook", "network.region.hook.url": "http://127.0.0.1:1/",
	}), failing("region-hook")},
}

// What a machine has too little of is set low for the whole process, so these are by themselves.

func TestDoctorFindsThatFewFilesMayBeOpen(t *testing.T) {
	c := newClinic(t)
	var limit syscall.Rlimit
	c.ok(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 250
	c.ok(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	defer func() { c.ok(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) }()
	if _, wrong, out := c.examine(); len(wrong) != 1 || wrong["file-limit"] != doctor.Failed {
		t.Errorf("found %v\n%s", wrong, out)
	}
}

func TestDoctorFindsThatSomebodyElseRunsIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: giving a file to another user takes root")
	}
	c := newClinic(t)
	c.ok(os.Chown(c.path("postern.key"), 65534, 65534))
	if _, wrong, out := c.examine(); len(wrong) != 1 || wrong["user"] != doctor.Warning {
		t.Errorf("found %v\n%s", wrong, out)
	}
}

func TestDoctorFindsADatabaseInMemory(t *testing.T) {
	const memory = "/dev/shm"
	var kind syscall.Statfs_t
	if err := syscall.Statfs(memory, &kind); err != nil || kind.Type != 0x01021994 {
		t.Skip("NOT RUN: this system has no tmpfs at /dev/shm, which the check is about")
	}
	c := newClinic(t)
	dir, err := os.MkdirTemp(memory, "postern-test-")
	c.ok(err)
	defer os.RemoveAll(dir)
	raw, err := os.ReadFile(c.path("postern.db"))
	c.ok(err)
	c.ok(os.WriteFile(dir+"/postern.db", raw, 0o600))
	c.set(map[string]any{"database.uri": "file:" + dir + "/postern.db"})
	_, wrong, out := c.examine()
	if delete(wrong, "disk"); len(wrong) != 1 || wrong["database-durability"] != doctor.Warning {
		t.Errorf("found %v\n%s", wrong, out)
	}
}

func TestDoctorFindsThatADiskIsFull(t *testing.T) {
	for state, thresholds := range map[doctor.State][2]int64{doctor.Failed: {1 << 62, 1 << 62}, doctor.Warning: {1 << 62, 0}} {
		restore := doctor.SetRoom(thresholds[0], thresholds[1])
		_, wrong, out := newClinic(t).examine()
		restore()
		if len(wrong) != 1 || wrong["disk"] != state {
			t.Errorf("found %v\n%s", wrong, out)
		}
	}
}

// TestDoctorFindsThatThereAreNoCertificates in a process of its own, since they are read once.
func TestDoctorFindsThatThereAreNoCertificates(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("NOT RUN: where root certificates are is said by the environment on Linux only")
	}
	c := newClinic(t)
	c.ok(os.Mkdir(c.path("none"), 0o700))
	cmd := exec.CommandContext(inTime(t), os.Args[0], "doctor", "-c", c.path("config.yaml"))
	cmd.Env = append(os.Environ(), childVariable+"=none", "SSL_CERT_FILE="+c.path("none/file"), "SSL_CERT_DIR="+c.path("none"))
	out, _ := cmd.CombinedOutput() // it ends with 1
	var failed []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "FAIL") {
			failed = append(failed, line)
		}
	}
	if code := cmd.ProcessState.ExitCode(); code != exitOther || len(failed) != 1 || !strings.Contains(failed[0], "certificates: there are no root certificates") {
		t.Errorf("exit status %d, and found %q\n%s", code, failed, out)
	}
}

// inTime bounds what a test waits for.
func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), bounded)
	t.Cleanup(cancel)
	return ctx
}
