package image_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/bridge/parts"
)

// bound is generous: only what hangs runs into it.
const bound = 5 * time.Minute

func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestTheImageIsWhatItSaysItIs(t *testing.T) {
	i := theImage(t)
	c := i.config
	if c.User != "1337:1337" || c.WorkingDir != "/data" || !slices.Equal(slices.Collect(maps.Keys(c.Volumes)), []string{"/data"}) {
		t.Errorf("user %q, folder %q, volumes %v", c.User, c.WorkingDir, c.Volumes)
	}
	if ports := slices.Sorted(maps.Keys(c.ExposedPorts)); !slices.Equal(ports, []string{"29340/tcp", "29341/tcp"}) {
		t.Errorf("ports %v", ports)
	}
	data := volume(t, 1337, 1337)
	for _, program := range [][]string{{"/usr/bin/postern", "version"}, {"ffmpeg", "-version"}, {"ffprobe", "-version"}, append(i.healthCheck(t), "--help")} {
		if said, status := i.container(data).inside(program...).run(t); status != 0 {
			t.Errorf("%v: exit status %d\n%s", program, status, said)
		}
	}
	if said, _ := i.container(data, "version").run(t); strings.Contains(said, "unknown") {
		t.Errorf("the image does not know its version: %s", said)
	}
	if _, err := os.Stat(filepath.Join(i.root, "etc/ssl/certs/ca-certificates.crt")); err != nil {
		t.Error(err)
	}
	// Nothing needs a root that can be written, and nothing but /data can be.
	said, _ := i.container(data).inside("sh", "-c", "id -u; grep CapEff /proc/self/status; for d in / /tmp /usr /var/tmp /data; do touch $d/x && echo wrote $d; done").run(t)
	if !strings.HasPrefix(said, "1337\n") || !strings.Contains(said, "CapEff:\t0000000000000000") || strings.Count(said, "wrote ") != 1 || !strings.Contains(said, "wrote /data\n") {
		t.Errorf("in the container:\n%s", said)
	}
}

// TestTheImageConverts: to everything that phones are sent.
func TestTheImageConverts(t *testing.T) {
	i := theImage(t)
	c := i.container(volume(t, 1337, 1337))
	for file, args := range map[string]string{
		"film.mp4":  "-f lavfi -i testsrc=d=1:s=64x64 -f lavfi -i sine=d=1 -c:v libx264 -pix_fmt yuv420p -c:a aac",
		"voice.ogg": "-f lavfi -i sine=d=1 -c:a libopus", "picture.jpg": "-f lavfi -i testsrc=d=1 -frames:v 1 -c:v mjpeg", "sticker.webp": "-f lavfi -i testsrc=d=1 -frames:v 1 -c:v libwebp",
	} {
		command := slices.Concat([]string{"ffmpeg", "-nostdin", "-v", "error"}, strings.Fields(args), []string{"/data/" + file})
		if said, status := c.inside(command...).run(t); status != 0 {
			t.Errorf("%s: exit status %d\n%s", file, status, said)
		}
		if said, status := c.inside("ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "/data/"+file).run(t); status != 0 || !strings.Contains(said, "codec_name=") {
			t.Errorf("%s: exit status %d\n%s", file, status, said)
		}
	}
}

// story is an installation by the image, with a homeserver and the sandbox.
type story struct {
	*parts.World
	t     *testing.T
	ctx   context.Context
	i     *image
	data  string
	env   []string
	ports map[string]int
}

// begin brings up the gatekeeper, which runs in the image too.
func begin(t *testing.T) *story {
	t.Helper()
	built := theImage(t)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	s := &story{World: &parts.World{}, t: t, ctx: ctx, i: built, data: volume(t, 1337, 1337), ports: map[string]int{}}
	for _, name := range []string{"private", "public", "control", "chat", "http"} {
		s.ports[name] = must(parts.FreePort())(t)
	}
	at := func(name string) string { return fmt.Sprintf("127.0.0.1:%d", s.ports[name]) }
	gatekeeper := s.i.container(volume(t, 1337, 1337), "sandbox", "--state", "/data/state", "--control", at("control"), "--chat", at("chat"), "--http", at("http"))
	s.run("the sandbox", gatekeeper)
	var err error
	for s.Gatekeeper, err = parts.UseGatekeeper(ctx, "http://"+at("control")); err != nil; s.Gatekeeper, err = parts.UseGatekeeper(ctx, "http://"+at("control")) {
		s.pause(err)
	}
	public := "http://" + at("public")
	if err := s.Gatekeeper.AddIntegrator(ctx, parts.Integrator{
		ID: parts.IntegratorID, Name: "Image", IdentifierType: "username", PublicBase: public, MediaBase: public + "/media",
	}); err != nil {
		t.Fatal(err)
	}
	info := s.Gatekeeper.Info
	s.env = []string{
		"POSTERN_HOMESERVER__ADDRESS=http://127.0.0.1:1", "POSTERN_HOMESERVER__DOMAIN=postern.localhost",
		`POSTERN_BRIDGE__PERMISSIONS={"postern.localhost": "user"}`, "POSTERN_NETWORK__PUBLIC__BASE=" + public,
		"POSTERN_NETWORK__PUBLIC__ADDRESS=" + at("public"), "POSTERN_NETWORK__OPERATOR__NAME=Example", "POSTERN_NETWORK__OPERATOR__CONTACT=@admin:postern.localhost",
		fmt.Sprintf("POSTERN_APPSERVICE__PORT=%d", s.ports["private"]), "POSTERN_APPSERVICE__ADDRESS=http://" + at("private"),
	}
	const whatsapp = "POSTERN_NETWORK__GATEKEEPERS__WHATSAPP__"
	for key, value := range map[string]string{
		"INTEGRATOR": fmt.Sprint(parts.IntegratorID), "CHAT": info.ChatTCP, "ENLIST_URL": info.EnlistURL, "MEDIA_URL": info.MediaURL,
		"JWKS_URL": info.JWKSURL, "NOISE_ROOT_KEY": info.NoiseRootKey,
	} {
		s.env = append(s.env, whatsapp+key+"="+value)
	}
	return s
}

// pause lets a moment go by between two questions, and fails at the bound.
func (s *story) pause(why error) {
	s.t.Helper()
	select {
	case <-s.ctx.Done():
		s.t.Fatal(s.ctx.Err(), why)
	case <-time.After(50 * time.Millisecond):
	}
}

// run starts a container that is stopped at the end of the test.
func (s *story) run(name string, c *container) *parts.Process {
	s.t.Helper()
	log := filepath.Join(s.t.TempDir(), "log")
	p := must(c.start(name, log))(s.t)
	s.t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			s.t.Error(err)
		}
		if raw, err := os.ReadFile(log); s.t.Failed() && err == nil {
			s.t.Logf("%s said, at the end:\n%s", name, raw[max(0, len(raw)-4000):])
		}
	})
	return p
}

// bridge is the bridge's container.
func (s *story) bridge(args ...string) *container {
	c := s.i.container(s.data, args...)
	c.set(s.env...)
	return c
}

// step starts the container once, and it ends.
func (s *story) step(c *container, want int, words ...string) {
	s.t.Helper()
	said, status := c.run(s.t)
	if status != want {
		s.t.Fatalf("exit status %d, and not %d\n%s", status, want, said)
	}
	for _, word := range words {
		if !strings.Contains(said, word) {
			s.t.Errorf("no %q in\n%s", word, said)
		}
	}
}

// ownFile looks at a file that the container has written.
func (s *story) ownFile(name string, uid uint32) string {
	s.t.Helper()
	path := filepath.Join(s.data, name)
	info := must(os.Stat(path))(s.t)
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != uid || info.Mode().Perm() != 0o600 {
		s.t.Errorf("%s belongs to %d, with mode %o", name, owner, info.Mode().Perm())
	}
	return string(must(os.ReadFile(path))(s.t))
}

// TestTheImageStartsInThreeStepsAndCarriesMessages on a root that cannot be written, as the image's user, with a real homeserver.
func TestTheImageStartsInThreeStepsAndCarriesMessages(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.step(s.bridge(), 0, "Wrote a configuration to /data/config.yaml", "start again")
	config := s.ownFile("config.yaml", 1337)
	// Before anything is set it says all that is missing, and writes nothing.
	s.step(s.i.container(s.data), 11, "homeserver.address is not set", "homeserver.domain is not set", "bridge.permissions is not set", "network.public.base is not configured")
	if s.ownFile("config.yaml", 1337) != config {
		t.Error("the configuration was changed")
	}
	s.step(s.bridge(), 0, "Wrote the registration to /data/registration.yaml", "start again")
	s.ownFile("registration.yaml", 1337)
	s.Homeserver = must(parts.StartSynapse(s.ctx, parts.SynapseConfig{Dir: t.TempDir(), Registrations: []string{filepath.Join(s.data, "registration.yaml")}}))(t)
	t.Cleanup(func() {
		if err := s.Homeserver.Stop(); err != nil {
			t.Error(err)
		}
	})
	s.env[0], s.Bot = "POSTERN_HOMESERVER__ADDRESS="+s.Homeserver.URL, "@posternbot:postern.localhost"
	check := s.bridge().inside(s.i.healthCheck(t)...)
	if said, status := check.run(t); status != 1 || !strings.Contains(said, "no bridge answers") {
		t.Errorf("the health check before the start: exit status %d\n%s", status, said)
	}
	running := s.run("the bridge", s.bridge())
	said, status := check.run(t)
	for ; status != 0; said, status = check.run(t) {
		s.pause(fmt.Errorf("the health check: exit status %d, %s", status, said))
		select {
		case <-running.Done():
			t.Fatal("the bridge has ended")
		default:
		}
	}
	s.ownFile("postern.key", 1337)
	s.step(s.bridge("doctor"), 0, "ok       ffmpeg", "it runs", "ok       certificates", "Synapse 1.")
	person := must(parts.NewPerson(s.ctx, s.Homeserver, "alice", "password-of-alice"))(t)
	t.Cleanup(person.Close)
	s.talk(person)
	if err := running.Stop(); err != nil {
		t.Error(err)
	}
	s.step(check, 1, "no bridge answers")
	// A third start is like the second time of any bridge, and one whose epoch folder was left out of a backup runs, too.
	if err := os.RemoveAll(filepath.Join(s.data, "epoch")); err != nil {
		t.Fatal(err)
	}
	s.run("the bridge again", s.bridge())
	for said, status = check.run(t); status != 0; said, status = check.run(t) {
		s.pause(fmt.Errorf("the health check: exit status %d, %s", status, said))
	}
	s.ownFile("epoch/postern.epoch", 1337)
}

// talk is a login and a message each way.
func (s *story) talk(person *parts.Person) {
	login := must(s.LogIn(s.ctx, person))(s.t)
	ben := must(s.Gatekeeper.AddUser(s.ctx, parts.Phone{Phone: "+491700000001", Name: "Ben", OptedIn: true}))(s.t)
	since := time.Now().Add(-time.Second)
	must(person.SendText(s.ctx, login.Room, "start-chat "+ben.Phone))(s.t)
	invite := must(person.ExpectInvite(s.ctx, "the chat's room", func(i parts.Invite) bool { return !i.Space && i.Shows("Ben", ben.Phone) }))(s.t)
	if err := person.Join(s.ctx, invite.Room); err != nil {
		s.t.Fatal(err)
	}
	must(person.SendText(s.ctx, invite.Room, "from a client"))(s.t)
	must(s.Gatekeeper.Expect(s.ctx, ben.Phone, "the message", func(e *parts.PhoneEvent) bool { return e.Text == "from a client" }))(s.t)
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, login.Identifier, "from a phone"))(s.t)
	must(person.Expect(s.ctx, "the answer", func(e *parts.Event) bool {
		return e.RoomID == invite.Room && e.TS >= since.UnixMilli() && e.Message().Body == "from a phone"
	}))(s.t)
}

func TestTheImageStartsAsAnotherUserAndSaysWhereItMayNotWrite(t *testing.T) {
	t.Parallel()
	i := theImage(t)
	s := &story{t: t, i: i, data: volume(t, 4711, 4711)}
	other := s.bridge()
	other.User = "4711:4711"
	s.step(s.bridge(), 10, "/data/config.yaml cannot be read: this is user 1337:1337, and /data belongs to user 4711:4711", "--user 4711:4711", "chown -R 1337:1337")
	s.step(other, 0, "Wrote a configuration to /data/config.yaml")
	s.ownFile("config.yaml", 4711)
	s.step(other, 11, "homeserver.address is not set")
	if err := os.Chmod(s.data, 0o755); err != nil {
		t.Fatal(err)
	}
	s.step(s.bridge(), 10, "/data/config.yaml cannot be read: this is user 1337:1337, and /data/config.yaml belongs to user 4711:4711", "--user 4711:4711")
	if err := os.Remove(filepath.Join(s.data, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	s.step(s.bridge(), 20, "/data cannot be written: this is user 1337:1337, and /data belongs to user 4711:4711", "--user 4711:4711")
	fixed := s.bridge()
	fixed.Mounts["/data"] = mount{From: volume(t, 1337, 1337), ReadOnly: true}
	s.step(fixed, 20, "/data cannot be written: it is read-only. Mount a volume")
}
