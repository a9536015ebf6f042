//go:build unix

package main

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"maunium.net/go/mautrix/appservice"

	"postern/bridge/doctor"
	"postern/bridge/parts"
	"postern/database"
	"postern/database/databasetest"
)

// running starts the bridge itself, as a process of its own.
func (c *clinic) running() {
	c.t.Helper()
	c.t.Setenv(childVariable, c.path("profile"))
	bridge, err := parts.PrepareBridge(parts.BridgeConfig{Postern: os.Args[0], Dir: c.dir})
	c.ok(err)
	if err := bridge.Start(inTime(c.t)); err != nil {
		raw, _ := os.ReadFile(bridge.LogPath()) // only for this message
		c.t.Fatalf("%v\n%s", err, raw)
	}
	c.t.Cleanup(func() {
		if err := bridge.Stop(); err != nil {
			c.t.Errorf("the bridge beside which the doctor looked has ended with: %v", err)
		}
	})
}

func TestDoctorWorksBesideARunningBridge(t *testing.T) {
	c := newClinic(t)
	c.set(map[string]any{
		"network.metrics.enabled": true, "network.metrics.address": fmt.Sprintf("127.0.0.1:%d", c.freePort()), "network.metrics.token": "a-token-for-figures",
	})
	before, err := os.ReadFile(c.path("config.yaml"))
	c.ok(err)
	c.running()
	if after, err := os.ReadFile(c.path("config.yaml")); err != nil || string(after) != string(before) {
		t.Errorf("the bridge has changed its configuration, %v", err)
	}
	code, wrong, out := c.examine()
	if code != 0 || len(wrong) != 0 || !strings.Contains(out, `"it runs, and listens on`) {
		t.Errorf("exit status %d, wrong: %v\n%s", code, wrong, out)
	}
	registered, err := os.ReadFile(c.path("registration.yaml"))
	c.ok(err)
	key, err := os.ReadFile(c.path("postern.key"))
	c.ok(err)
	for name, b := range map[string]struct {
		breaks func(c *clinic)
		finds  map[string]doctor.State
	}{
		"its database is another one now": {func(c *clinic) {
			files, err := seed()
			c.ok(err)
			c.write("other/postern.db", string(files["postern.db"].Data), 0o600)
			c.set(map[string]any{"database.uri": "file:" + c.path("other/postern.db")})
		}, failing("bridge")},
		"its figures have another token now": {func(c *clinic) {
			c.set(map[string]any{"network.metrics.token": "another-token-for-figures"})
		}, failing("metrics")},
		"it listens elsewhere now": {func(c *clinic) {
			c.set(map[string]any{"appservice.port": c.freePort()})
		}, failing("bridge", "metrics")},
		"the homeserver has another hs_token": {func(c *clinic) {
			r, err := appservice.LoadRegistration(c.path("registration.yaml"))
			c.ok(err)
			r.AppToken, r.ServerToken, r.ID, r.SenderLocalpart = "second-token-of-nobody", "another-of-nobody", "second", "second-sender"
			c.ok(r.Save(c.path("second.yaml")))
			second, err := os.ReadFile(c.path("second.yaml"))
			c.ok(err)
			c.ok(c.hs.AddService(second))
			c.set(map[string]any{"appservice.as_token": "second-token-of-nobody", "appservice.id": "second"})
			c.registration(func(r *appservice.Registration) {
				r.AppToken, r.ID = "second-token-of-nobody", "second"
				r.Namespaces.RoomAliases[0].Regex = strings.ReplaceAll(r.Namespaces.RoomAliases[0].Regex, "postern_room_", "second_room_")
			})
		}, failing("ping")},
		// Without the key nobody can tell which bridge it is that listens: one failure, and not a second one with a remedy that mends nothing.
		"others may read its key file":  {func(c *clinic) { c.ok(os.Chmod(c.path("postern.key"), 0o644)) }, failing("key-file")},
		"its key file has gone":         {func(c *clinic) { c.ok(os.Remove(c.path("postern.key"))) }, failing("database")},
		"its key file is another's now": {otherKey, failing("database")},
	} {
		c.ok(os.RemoveAll(c.path("postern.key")))
		c.write("postern.key", string(key), 0o600)
		c.write("config.yaml", string(before), 0o600)
		c.write("registration.yaml", string(registered), 0o600)
		b.breaks(c)
		if _, wrong, out := c.examine(); !maps.Equal(wrong, b.finds) {
			t.Errorf("%s: found %v, want %v\n%s", name, wrong, b.finds, out)
		}
	}
}

func TestDoctorLooksAtPostgres(t *testing.T) {
	c := newClinic(t)
	uri := databasetest.PostgresConfig(t).URI
	key, err := database.LoadKeyFile(c.path("postern.key"))
	c.ok(err)
	c.ok(os.Remove(c.path("epoch/postern.epoch")))
	cfg := database.Config{Dialect: "postgres", URI: uri, MasterKey: key, Holder: "test", EpochFile: c.path("epoch/postern.epoch")}
	db, err := database.Open(t.Context(), cfg)
	c.ok(err)
	c.set(map[string]any{"database.type": "postgres", "database.uri": uri})
	if _, wrong, out := c.examine(); !maps.Equal(wrong, failing("bridge")) || !strings.Contains(out, "another process") {
		t.Errorf("while another process uses it: %v\n%s", wrong, out)
	}
	c.ok(db.Close())
	if code, wrong, out := c.examine(); code != 0 || len(wrong) != 0 {
		t.Errorf("exit status %d, wrong: %v\n%s", code, wrong, out)
	}
	raw, err := sql.Open("postgres", uri)
	c.ok(err)
	defer raw.Close()
	var name string
	c.ok(raw.QueryRow("SELECT current_database()").Scan(&name))
	for _, b := range []struct {
		before, uri, after string
		finds              map[string]doctor.State
	}{
		{"ALTER DATABASE " + name + " SET synchronous_commit=off", uri, "ALTER DATABASE " + name + " RESET synchronous_commit", warning("database-durability")},
		{
			"REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE postern_reader LOGIN; GRANT pg_read_all_data TO postern_reader", uri + " user=postern_reader",
			"DROP ROLE postern_reader", failing("database-writable"),
		},
	} {
		_, err = raw.Exec(b.before)
		c.ok(err)
		c.set(map[string]any{"database.uri": b.uri})
		if _, wrong, out := c.examine(); !maps.Equal(wrong, b.finds) {
			t.Errorf("%s: found %v, want %v\n%s", b.before, wrong, b.finds, out)
		}
		_, err = raw.Exec(b.after)
		c.ok(err)
	}
	c.set(map[string]any{"database.uri": "postgres://user:marker-password@127.0.0.1:1/postern?sslmode=disable"})
	if _, wrong, out := c.examine(); !maps.Equal(wrong, failing("database")) || strings.Contains(out, "marker-password") {
		t.Errorf("a server that is away: %v\n%s", wrong, out)
	}
}

func TestDoctorTriesARealObjectStore(t *testing.T) {
	if _, err := parts.MinIOPath(); errors.Is(err, parts.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skipf("NOT RUN against a real object store: %v", err)
	}
	c := newClinic(t)
	server, err := parts.StartMinIO(inTime(t), t.TempDir())
	c.ok(err)
	t.Cleanup(func() { c.ok(server.Stop()) })
	client, err := minio.New(server.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")})
	c.ok(err)
	c.ok(client.MakeBucket(t.Context(), "attachments", minio.MakeBucketOptions{}))
	settings := map[string]any{
		"network.media.store": "s3", "network.media.s3.endpoint": server.Endpoint, "network.media.s3.bucket": "attachments",
		"network.media.s3.access_key": server.AccessKey, "network.media.s3.secret_key": server.SecretKey, "network.media.s3.insecure": true,
	}
	c.set(settings)
	if _, wrong, out := c.examine(); len(wrong) != 0 {
		t.Errorf("found %v\n%s", wrong, out)
	}
	for object := range client.ListObjects(t.Context(), "attachments", minio.ListObjectsOptions{Recursive: true}) {
		t.Errorf("%s was left in the bucket", object.Key)
	}
	for key, value := range map[string]string{"bucket": "none-of-that-name", "secret_key": "not-the-right-secret", "access_key": "nobody-with-that-key"} {
		c.set(settings)
		c.set(map[string]any{"network.media.s3." + key: value})
		if _, wrong, out := c.examine(); !maps.Equal(wrong, failing("media-store")) || strings.Contains(out, "not-the-right-secret") {
			t.Errorf("with another %s: found %v\n%s", key, wrong, out)
		}
	}
}
