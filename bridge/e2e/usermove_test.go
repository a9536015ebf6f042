package e2e_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// moves is `postern instances move` for a member of one of the instances.
func (m *member) moves(in *instances, program string, env ...string) (string, error) {
	m.t.Helper()
	cmd := exec.CommandContext(in.ctx, program, "instances", "move", "@"+m.identifier+":postern.localhost",
		"-c", in.worlds[m.instance].Bridge.ConfigPath(), "--to", in.worlds[1-m.instance].Bridge.ConfigPath())
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// stop and start stop and start both instances.
func (in *instances) stop() {
	in.t.Helper()
	for _, w := range in.worlds {
		in.check(w.Bridge.Stop())
	}
}

func (in *instances) start() {
	in.t.Helper()
	for _, w := range in.worlds {
		in.check(w.Bridge.Start(in.ctx))
	}
}

// both says something in each direction.
func (m *member) both(marker string) {
	m.t.Helper()
	must(m.person.Send(m.ctx, m.room, "m.room.message", marker, map[string]any{"msgtype": "m.text", "body": marker + " to phone 0"}))(m.t)
	must(m.Gatekeeper.Say(m.ctx, m.phone.Phone, m.identifier, marker+" to room 0"))(m.t)
}

// arrived waits for what both has said.
func (m *member) arrived(marker string) {
	m.t.Helper()
	m.onPhone(m.phone, marker+" to phone 0")
	m.inRoom(m.room, marker+" to room 0")
}

// TestAUserIsMovedToAnotherInstanceWithAllThatTheyHave moves somebody who writes and is written to all the time, and kills the program that does it at each
// of its steps. The rooms stay, with the other instance's ghosts in them; nothing is lost, doubled or done by both.
func TestAUserIsMovedToAnotherInstanceWithAllThatTheyHave(t *testing.T) {
	t.Parallel()
	armed := os.Getenv("POSTERN_ARMED")
	if armed == "" {
		armed = filepath.Join(t.TempDir(), "postern")
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "goolm,killpoints", "-o", armed, "postern/bridge").CombinedOutput(); err != nil {
			t.Fatalf("building postern to be killed: %v\n%s", err, out)
		}
	}
	in := openInstances(t)
	m := in.join("anna")
	// Somebody at the other instance has a chat with the same person.
	must(in.operate("assign", "@ben:postern.localhost", []string{"east", "west"}[1-m.instance]))(t)
	stays := in.join("ben")
	shared := stays.startChat(m.phone)
	m.file("before the move")
	id := must(m.Gatekeeper.Say(m.ctx, m.phone.Phone, m.identifier, "to be edited"))(t)
	gone := must(m.Gatekeeper.Say(m.ctx, m.phone.Phone, m.identifier, "to be taken back"))(t)
	m.inRoom(m.room, "to be taken back")
	carla := m.scene.phone("Carla", true)
	lost := m.startChat(carla)
	m.toMatrix(lost, carla, "in a room that the bot leaves")
	m.exchange("before", 5)

	if said, err := m.moves(in, postern); err == nil || !strings.Contains(said, "stop both instances first") {
		t.Errorf("a user is moved from a running instance: %s, %v", said, err)
	}
	in.stop()
	in.check(m.Homeserver.Call(m.ctx, http.MethodPost, "/_matrix/client/v3/rooms/"+url.PathEscape(lost)+"/leave?user_id="+url.QueryEscape(m.Bot), m.bridgeToken(), map[string]any{}, nil))
	orders := filepath.Join(t.TempDir(), "kill")
	for i, point := range killpoint.Moving {
		marker := fmt.Sprintf("step %d", i)
		m.both(marker)
		in.check(os.WriteFile(orders, []byte(point+" 1\n"), 0o600))
		said, err := m.moves(in, armed, "POSTERN_KILL="+orders)
		if err == nil {
			t.Fatalf("it was not killed at %s: %s", point, said)
		}
		if _, err := os.Stat(orders); err == nil {
			t.Fatalf("it ended, and not at %s: %s", point, said)
		}
		if point == killpoint.MoveEntered { // nothing has moved, and the other bot in the room changes nothing
			in.start()
			m.arrived(marker)
			in.stop()
		}
	}
	if said := must(m.moves(in, postern))(t); !strings.Contains(said, "already") {
		t.Errorf("when all was done: %s", said)
	}
	if said := must(in.operate("where", "@anna:postern.localhost"))(t); !strings.Contains(said, "belongs to "+[]string{"east", "west"}[1-m.instance]) {
		t.Errorf("after the move: %s", said)
	}
	in.start()
	old := m.World
	m.instance, m.World = 1-m.instance, in.worlds[1-m.instance]
	for i := range killpoint.Moving {
		m.arrived(fmt.Sprintf("step %d", i))
		m.complete(fmt.Sprintf("step %d", i), 1)
	}
	in.worlds[m.instance].Bridge.Kill()
	<-in.worlds[m.instance].Bridge.Done()
	in.check(in.worlds[m.instance].Bridge.Start(in.ctx))
	m.exchange("after", 5)
	m.complete("before", 5)
	m.complete("after", 5)
	m.file("after the move")
	stays.exchange("of the other", 3)
	stays.complete("of the other", 3)

	ghosts := m.membersAre()
	must(m.person.Expect(m.ctx, "the word which bot is theirs", func(e *parts.Event) bool {
		return e.RoomID == m.management && e.Sender == old.Bot && strings.Contains(e.Message().Body, "moved you")
	}))(t)
	since := time.Now().Add(-time.Second)
	m.management = must(m.person.CreateDM(m.ctx, m.Bot))(t)
	must(m.BotSays(m.ctx, m.person, m.management, since, "hello"))(t)
	stays.toMatrix(shared, m.phone, "to ben")
	if in := stays.members(stays.person, shared); in[ghosts] != "join" {
		t.Errorf("one person has two ghosts at one instance: %v and %s", in, ghosts)
	}

	// What was said before can still be changed.
	m.phoneSends(m.phone, parts.Content{Kind: "edit", Target: id, Text: "was edited"})
	m.roomShows(m.room, "the new form of a text", func(e *parts.Event) bool { return strings.HasSuffix(e.Message().Body, "was edited") })
	m.phoneSends(m.phone, parts.Content{Kind: "revoke", Target: gone})
	m.roomShows(m.room, "the redaction", func(e *parts.Event) bool { return e.Type == "m.room.redaction" && e.Sender == m.Bot })

	// The chat whose room the old bot had left has a new one.
	must(m.Gatekeeper.Say(m.ctx, carla.Phone, m.identifier, "where are you?"))(t)
	m.inRoom(m.enter(carla), "where are you?")
	in.noOldCopies()

	known := map[string]int{}
	for _, p := range must(m.Gatekeeper.Partners(in.ctx))(t) {
		known[p.Identifier]++
	}
	if known["anna"] != 1 || known["ben"] != 1 {
		t.Errorf("enlisted: %v", known)
	}
	// What was written before the other bot came, and was told to nobody, is not lost either.
	in.stop()
	stays.both("ben moves")
	must(stays.moves(in, postern))(t)
	in.start()
	stays.instance, stays.World = 1-stays.instance, in.worlds[1-stays.instance]
	stays.arrived("ben moves")
	stays.complete("ben moves", 1)
	stays.complete("of the other", 3)
	stays.membersAre()

	// Who leaves has left both: the files are gone that the old instance still had.
	files := func() (n int) {
		for object := range in.bucket.ListObjects(in.ctx, "both", minio.ListObjectsOptions{Recursive: true}) {
			in.check(object.Err)
			n++
		}
		return n
	}
	if n := files(); n != 2 {
		t.Errorf("%d files before they leave", n)
	}
	m.command("logout")
	must(m.BotSays(m.ctx, m.person, m.management, since, "has deleted your account"))(t)
	for files() > 0 {
		select {
		case <-in.ctx.Done():
			t.Fatal("the files are still there")
		case <-time.After(50 * time.Millisecond):
		}
	}
	if complaints := must(m.Gatekeeper.Complaints(in.ctx))(t); len(complaints) > 0 {
		t.Errorf("the gatekeeper complains: %s", complaints)
	}
}

// noOldCopies looks that neither database was taken for an old copy of itself.
func (in *instances) noOldCopies() {
	in.t.Helper()
	db := must(sql.Open("postgres", in.uri))(in.t)
	defer db.Close()
	for _, name := range []string{"east", "west"} {
		var generation, renewals int
		in.check(db.QueryRowContext(in.ctx, "SELECT generation, (SELECT COUNT(*) FROM "+name+".postern_signal_counter WHERE renewal<>'' OR untold<>'') FROM "+
			name+".postern_epoch").Scan(&generation, &renewals))
		if generation != 0 || renewals != 0 {
			in.t.Errorf("%s was taken for an old copy: %d, %d", name, generation, renewals)
		}
	}
}

// TestAUserWithEncryptedRoomsIsMovedAndReadsAndWritesInThem: with a client that really encrypts. What only the old instance can read is not moved.
func TestAUserWithEncryptedRoomsIsMovedAndReadsAndWritesInThem(t *testing.T) {
	t.Parallel()
	encrypted := map[string]any{}
	for k, v := range map[string]any{"allow": true, "default": true, "appservice": true, "self_sign": false} {
		encrypted["encryption."+k] = v
	}
	in := openInstances(t, encrypted)
	m := in.join("anna", func(person *parts.Person) matrixUser { return must(newCryptUser(in.ctx, t, person))(t) })
	m.toPhone(m.room, m.phone, "before, says anna")
	m.toMatrix(m.room, m.phone, "before, says the phone")
	in.stop()
	must(m.alice.SendText(m.ctx, m.room, "for the old one's eyes"))(t)
	must(m.Gatekeeper.Say(m.ctx, m.phone.Phone, m.identifier, "meanwhile"))(t)
	if said, err := m.moves(in, postern); err == nil || !strings.Contains(said, "1 encrypted messages") {
		t.Fatalf("what nobody else can read is moved: %s, %v", said, err)
	}
	in.start()
	m.onPhone(m.phone, "for the old one's eyes")
	m.inRoom(m.room, "meanwhile")
	in.stop()
	must(m.Gatekeeper.Say(m.ctx, m.phone.Phone, m.identifier, "in between"))(t)
	must(m.moves(in, postern))(t)
	in.start()
	m.instance, m.World = 1-m.instance, in.worlds[1-m.instance]
	m.inRoom(m.room, "in between")
	m.toPhone(m.room, m.phone, "after, says anna")
	m.toMatrix(m.room, m.phone, "after, says the phone")
	for _, e := range must(m.person.Messages(m.ctx, m.room))(t) {
		if e.Type == "m.room.message" {
			t.Errorf("%s has said something that is not encrypted", e.Sender)
		}
	}
	m.membersAre()
	in.noOldCopies()
}

// membersAre looks that the user, their instance's bot and its ghost are in the room, and nobody else, and returns the ghost.
func (m *member) membersAre() (ghost string) {
	m.t.Helper()
	var in []string
	for who, membership := range m.members(m.person, m.room) {
		if membership != "leave" {
			in = append(in, who+" "+membership)
		}
		if membership == "join" && strings.HasPrefix(who, m.Bot[:len("@postern_east")]+"_") {
			ghost = who
		}
	}
	slices.Sort(in)
	if len(in) != 3 || ghost == "" || !slices.Contains(in, m.Bot+" join") {
		m.t.Errorf("in the room are %q", in)
	}
	return ghost
}
