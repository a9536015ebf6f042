package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"maunium.net/go/mautrix/event"

	"postern/bridge/parts"
	"postern/database/databasetest"
)

// instances are two instances of one bridge: each with its schema in one Postgres database and its prefix in one bucket, over one homeserver and
// one gatekeeper, which knows one address for both.
type instances struct {
	t      *testing.T
	ctx    context.Context
	worlds [2]*parts.World
	uri    string // of the database
	bucket *minio.Client
	// entry is which of them the gatekeeper's requests reach.
	entry atomic.Int32
}

func openInstances(t *testing.T, more ...map[string]any) *instances {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound/2)
	t.Cleanup(cancel)
	in := &instances{t: t, ctx: ctx}
	if _, err := parts.MinIOPath(); errors.Is(err, parts.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skipf("SKIPPED: %v", err)
	}
	dir := worldDir(t)
	store := must(parts.StartMinIO(ctx, filepath.Join(dir, "minio")))(t)
	t.Cleanup(func() { in.check(store.Stop()) })
	client := must(minio.New(store.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(store.AccessKey, store.SecretKey, "")}))(t)
	in.bucket = client
	in.check(client.MakeBucket(ctx, "both", minio.MakeBucketOptions{}))
	sandbox := must(parts.StartSandbox(ctx, parts.SandboxConfig{Postern: postern, Dir: filepath.Join(dir, "sandbox")}))(t)
	t.Cleanup(func() { in.check(sandbox.Stop()) })

	var targets [2]atomic.Pointer[url.URL]
	door := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(targets[in.entry.Load()].Load()) },
		FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), // what is killed does not answer
	})
	t.Cleanup(door.Close)
	uri := databasetest.PostgresConfig(t).URI
	in.uri = uri
	settings := func(i int) map[string]any {
		name := []string{"east", "west"}[i]
		port := must(parts.FreePort())(t)
		targets[i].Store(must(url.Parse(fmt.Sprintf("http://127.0.0.1:%d", port)))(t))
		all := map[string]any{
			"logging.min_level": "debug", "network.public.base": door.URL, "network.public.address": fmt.Sprintf("127.0.0.1:%d", port),
			"database.type": "postgres", "database.uri": databasetest.Schema(t, uri, name),
			"network.instances.name": name, "network.instances.all": []string{"east", "west"}, "network.instances.schema": "both",
			"network.instances.key_file": filepath.Join(dir, "shared.key"),
			"appservice.id":              "postern_" + name, "appservice.bot.username": "postern_" + name, "appservice.username_template": "postern_" + name + "_{{.}}",
			"network.media.store": "s3", "network.media.s3.endpoint": store.Endpoint, "network.media.s3.bucket": "both", "network.media.s3.insecure": true,
			"network.media.s3.access_key": store.AccessKey, "network.media.s3.secret_key": store.SecretKey, "network.media.s3.prefix": name + "/",
			"network.connect": "attached", "network.attached.idle": "3s",
		}
		for _, settings := range more {
			maps.Copy(all, settings)
		}
		return all
	}
	world, err := parts.StartWorld(ctx, parts.WorldConfig{
		Dir: filepath.Join(dir, "east"), Postern: postern, Gatekeeper: sandbox.Control, Settings: settings(0),
		Own: func(registrations []string) (*parts.Homeserver, error) {
			second := sandbox.Settings()
			for path, value := range settings(1) {
				second[path] = value
			}
			second["homeserver.domain"] = "postern.localhost"
			second["bridge.permissions"] = map[string]string{"postern.localhost": "user"}
			second["network.requests.policy"], second["network.receipt_delay"] = "accept", "0s"
			bridge, err := parts.PrepareBridge(parts.BridgeConfig{Postern: postern, Dir: filepath.Join(dir, "west"), Settings: second})
			if err != nil {
				return nil, err
			}
			in.worlds[1] = &parts.World{Dir: filepath.Join(dir, "west"), Bridge: bridge, Bot: "@postern_west:postern.localhost"}
			return parts.StartSynapse(ctx, parts.SynapseConfig{Dir: filepath.Join(dir, "synapse"), Registrations: append(registrations, bridge.RegistrationPath())})
		},
	})
	if errors.Is(err, parts.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skipf("SKIPPED: %v", err)
	}
	in.check(err)
	t.Cleanup(func() { in.check(world.Stop()) })
	in.worlds[0] = world
	west := in.worlds[1]
	west.Homeserver, west.Gatekeeper, west.BotPrefix = world.Homeserver, world.Gatekeeper, world.BotPrefix
	in.check(west.Bridge.Set(map[string]any{"homeserver.address": world.Homeserver.URL}))
	in.check(west.Bridge.Start(ctx))
	t.Cleanup(func() {
		in.check(west.Bridge.Stop())
		in.showLogs()
	})
	return in
}

func (in *instances) check(err error) {
	in.t.Helper()
	if err != nil {
		in.t.Error(err)
		in.t.FailNow()
	}
}

// showLogs shows, if the test failed, how the logs end.
func (in *instances) showLogs() {
	if !in.t.Failed() {
		return
	}
	for _, w := range in.worlds {
		if raw, err := os.ReadFile(w.Bridge.LogPath()); err == nil {
			in.t.Logf("the end of a bridge's log:\n%s", raw[max(0, len(raw)-6000):])
		}
	}
}

// member is a Matrix user with an account at one of the instances.
type member struct {
	*scene
	instance int
	phone    parts.Phone
	room     string
}

// join logs somebody in, at whichever instance is theirs: the first one is asked first, which says so.
func (in *instances) join(name string, with ...func(*parts.Person) matrixUser) *member {
	t := in.t
	t.Helper()
	person := must(parts.NewPerson(in.ctx, in.worlds[0].Homeserver, name, "password-of-"+name))(t)
	t.Cleanup(person.Close)
	var client matrixUser = plainUser{person}
	if len(with) > 0 {
		client = with[0](person)
	}
	for i, w := range in.worlds {
		since := time.Now().Add(-time.Second)
		room := must(person.CreateDM(in.ctx, w.Bot))(t)
		must(w.BotSays(in.ctx, person, room, since, "hello"))(t)
		must(person.SendText(in.ctx, room, "login "+w.Gatekeeper.Info.Profile))(t)
		said := must(person.Expect(in.ctx, "an answer to login", func(e *parts.Event) bool {
			body := e.Message().Body
			return e.RoomID == room && e.Sender == w.Bot && (strings.Contains(body, "another part of this bridge") || strings.Contains(body, "Please enter"))
		}))(t).Message().Body
		if strings.Contains(said, "another part") {
			if i != 0 || !strings.Contains(said, in.worlds[1].Bot) {
				t.Fatalf("%s was sent on by instance %d: %s", name, i, said)
			}
			continue
		}
		must(person.SendText(in.ctx, room, "agree"))(t)
		must(w.BotSays(in.ctx, person, room, since, "You are on"))(t)
		s := &scene{World: w, t: t, ctx: in.ctx, alice: client, person: person, management: room, identifier: name}
		m := &member{scene: s, instance: i}
		m.phone = m.scene.phone("Phone of "+name, true)
		m.room = m.startChat(m.phone)
		return m
	}
	t.Fatalf("no instance takes %s", name)
	return nil
}

// operate runs `postern instances` and returns what it says.
func (in *instances) operate(args ...string) (string, error) {
	out, err := exec.CommandContext(in.ctx, postern, append([]string{"instances", "-c", in.worlds[0].Bridge.ConfigPath()}, args...)...).CombinedOutput()
	return string(out), err
}

// assigned lets the operator give somebody to the instance that is not theirs by the rule, and logs them in there.
func (in *instances) assigned(name string) *member {
	in.t.Helper()
	names, user := []string{"east", "west"}, "@"+name+":postern.localhost"
	said := must(in.operate("where", user))(in.t)
	other := slices.IndexFunc(names, func(n string) bool { return !strings.Contains(said, "belongs to "+n+",") })
	must(in.operate("assign", user, names[other]))(in.t)
	m := in.join(name)
	if m.instance != other {
		in.t.Errorf("%s was assigned to %s and joined the other one", name, names[other])
	}
	if said, err := in.operate("assign", user, names[1-other]); err == nil || !strings.Contains(said, "has an account at "+names[other]) {
		in.t.Errorf("somebody with an account is assigned to another instance: %s, %v", said, err)
	}
	if said := must(in.operate("list"))(in.t); strings.Count(said, "@postern_") != 2 {
		in.t.Errorf("the instances are %s", said)
	}
	return m
}

// exchange sends texts both ways at once.
func (m *member) exchange(marker string, count int) {
	var both sync.WaitGroup
	both.Go(func() {
		for i := range count {
			for {
				if _, err := m.person.Send(m.ctx, m.room, "m.room.message", fmt.Sprintf("%s-%d", marker, i),
					map[string]any{"msgtype": "m.text", "body": fmt.Sprintf("%s to phone %d", marker, i)}); err == nil || m.ctx.Err() != nil {
					break
				}
			}
		}
	})
	both.Go(func() {
		for i := range count {
			if _, err := m.Gatekeeper.Say(m.ctx, m.phone.Phone, m.identifier, fmt.Sprintf("%s to room %d", marker, i)); err != nil {
				m.t.Error(err)
				return
			}
		}
	})
	both.Wait()
	m.onPhone(m.phone, fmt.Sprintf("%s to phone %d", marker, count-1))
	m.inRoom(m.room, fmt.Sprintf("%s to room %d", marker, count-1))
}

// complete compares what arrived.
func (m *member) complete(marker string, count int) {
	m.t.Helper()
	var out, in []string
	for i := range count {
		out, in = append(out, fmt.Sprintf("%s to phone %d", marker, i)), append(in, fmt.Sprintf("%s to room %d", marker, i))
	}
	if got := m.phoneTexts(m.phone, marker+" to phone"); !slices.Equal(got, out) {
		m.t.Errorf("%s: the phone has %q", m.identifier, got)
	}
	if _, got := m.texts(m.room, marker+" to room"); !slices.Equal(got, in) {
		m.t.Errorf("%s: the room has %q", m.identifier, got)
	}
}

// file sends a file to the phone, which fetches it by the address that both instances have.
func (m *member) file(text string) {
	m.t.Helper()
	content := with(m.upload([]byte(text), "text/plain"), map[string]any{"msgtype": "m.file", "body": text + ".txt", "info": map[string]any{"mimetype": "text/plain"}})
	m.send(m.room, event.EventMessage, content)
	e := must(m.Gatekeeper.Expect(m.ctx, m.phone.Phone, text, func(e *parts.PhoneEvent) bool {
		return e.Kind == "message" && e.Media != nil && e.Media.FileName == text+".txt"
	}))(m.t)
	if e.Media.Error != "" {
		m.t.Errorf("%s: fetching %s: %s", m.identifier, text, e.Media.Error)
	}
}

// TestTwoInstancesShareADatabaseABucketAndAnAddressAndEachUserBelongsToOne lets users of both write in both directions, with files and with pushes,
// whichever instance the gatekeeper's requests reach, while one of the two is killed.
func TestTwoInstancesShareADatabaseABucketAndAnAddressAndEachUserBelongsToOne(t *testing.T) {
	t.Parallel()
	in := openInstances(t)
	var members []*member
	of := [2]int{}
	for n := 0; of[0] == 0 || of[1] == 0; n++ {
		in.entry.Store(int32(n % 2))
		m := in.join(fmt.Sprintf("user%d", n))
		members = append(members, m)
		of[m.instance]++
	}
	guest := in.assigned("guest")
	of[guest.instance]++
	members = append(members, guest)
	t.Logf("%d users at one instance, %d at the other", of[0], of[1])

	const count = 10
	for round := range 2 {
		in.entry.Store(int32(round))
		var all sync.WaitGroup
		for _, m := range members { // what comes for an idle user arrives after a push, which may reach the other instance
			all.Go(func() {
				m.rests(true)
				m.toMatrix(m.room, m.phone, fmt.Sprintf("wake %d", round))
				m.file(fmt.Sprintf("file %d of %s", round, m.identifier))
			})
		}
		all.Wait()
		for _, m := range members {
			all.Go(func() { m.exchange(fmt.Sprintf("round %d", round), count) })
		}
		in.worlds[round].Bridge.Kill()
		<-in.worlds[round].Bridge.Done()
		in.check(in.worlds[round].Bridge.Start(in.ctx))
		all.Wait()
	}
	for _, m := range members {
		for round := range 2 {
			m.complete(fmt.Sprintf("round %d", round), count)
		}
	}
	in.oneStreamEach(members)
	in.secondProcessIsRefused()
	if complaints := must(in.worlds[0].Gatekeeper.Complaints(in.ctx))(t); len(complaints) > 0 {
		t.Errorf("the gatekeeper complains: %s", complaints)
	}
}

// oneStreamEach looks that each user is enlisted once, and that their rooms have the ghosts of their instance alone.
func (in *instances) oneStreamEach(members []*member) {
	known := map[string]int{}
	for _, p := range must(in.worlds[0].Gatekeeper.Partners(in.ctx))(in.t) {
		known[p.Identifier]++
	}
	for _, m := range members {
		if known[m.identifier] != 1 {
			in.t.Errorf("%s is enlisted %d times", m.identifier, known[m.identifier])
		}
		other := []string{"@postern_west", "@postern_east"}[m.instance]
		for _, e := range must(m.person.Messages(m.ctx, m.room))(in.t) {
			if strings.HasPrefix(e.Sender, other) {
				in.t.Errorf("%s is in a chat of %s, who belongs to the other instance", e.Sender, m.identifier)
			}
		}
	}
}

func (in *instances) secondProcessIsRefused() {
	in.t.Helper()
	running := in.worlds[0].Bridge
	said := filepath.Join(in.t.TempDir(), "second.log")
	second := must(parts.Start(parts.ProcessConfig{
		Name: "a second process", Path: postern, Dir: filepath.Dir(running.ConfigPath()), LogPath: said, Args: []string{"-c", running.ConfigPath()},
	}))(in.t)
	select {
	case <-second.Done():
	case <-in.ctx.Done():
		second.Kill()
		in.t.Fatal("a second process of an instance goes on")
	}
	if text := string(must(os.ReadFile(said))(in.t)); !strings.Contains(text, "stop it first") {
		in.t.Errorf("a second process says: %s", text)
	}
	res := must(http.Get(running.Address + "/_matrix/mau/ready"))(in.t)
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		in.t.Errorf("the first process answers %d then", res.StatusCode)
	}
}
