// Package e2e_test holds the end-to-end stories: the whole program, as a
// process of its own, against a real homeserver and a gatekeeper that is
// driven through the control API alone.
//
// POSTERN_BINARY is the program to test (default: built from this tree).
// POSTERN_GATEKEEPER is the control address of a running gatekeeper to use in
// place of the built-in sandbox. POSTERN_KEEP is a folder in which the worlds of
// all stories are left behind.
package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/e2e/canary"
	"postern/bridge/parts"
	"postern/database/databasetest"
)

// bound is generous: only a story that hangs runs into it.
var bound = 10 * time.Minute

var postern string // the program under test

func TestMain(m *testing.M) {
	postern = os.Getenv("POSTERN_BINARY")
	if postern == "" {
		dir, err := os.MkdirTemp("", "postern-e2e-")
		if err != nil {
			panic(err)
		}
		postern = filepath.Join(dir, "postern")
		if err := parts.BuildPostern(postern); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		defer os.RemoveAll(dir)
	}
	os.Exit(m.Run())
}

// setting is on which real parts a story plays.
type setting struct {
	homeserver string         // "synapse" (default) or "dendrite"
	encrypted  bool           // the bridged rooms are encrypted
	postgres   bool           // the bridge's database is PostgreSQL
	sandbox    []string       // more flags for the sandbox
	config     map[string]any // more settings of the bridge
	puppets    bool           // the bridge may act as alice
	noLogin    bool           // alice does not log in yet
	user       string         // alice's localpart, if not alice
}

// scene is a running world with a logged-in Matrix user, alice.
type scene struct {
	*parts.World
	t          *testing.T
	ctx        context.Context
	alice      matrixUser
	person     *parts.Person // alice's plain device
	management string
	identifier string
}

// open starts a world and, unless the setting says otherwise, logs alice in.
// At the end of the story the gatekeeper must have nothing to complain about, and
// nothing that was said, typed or named in it may be in the bridge's log.
func open(t *testing.T, s setting) *scene {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	settings := map[string]any{"logging.min_level": "trace"}
	for k, v := range s.config {
		settings[k] = v
	}
	if s.encrypted {
		for k, v := range map[string]any{"allow": true, "default": true, "appservice": true, "self_sign": false, "pickle_key": "pickle key of a story"} {
			settings["encryption."+k] = v
		}
	}
	if s.postgres {
		settings["database.type"], settings["database.uri"] = "postgres", databasetest.PostgresConfig(t).URI
	}
	world, err := parts.StartWorld(ctx, parts.WorldConfig{
		Dir: worldDir(t), Postern: postern, Homeserver: s.homeserver, Gatekeeper: os.Getenv("POSTERN_GATEKEEPER"),
		Sandbox: s.sandbox, Settings: settings, Puppets: s.puppets,
	})
	if errors.Is(err, parts.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	sc := &scene{World: world, t: t, ctx: ctx}
	t.Cleanup(sc.close)
	sc.person = must(parts.NewPerson(ctx, world.Homeserver, cmp.Or(s.user, "alice"), "password-of-alice"))(t)
	t.Cleanup(sc.person.Close)
	sc.alice = plainUser{sc.person}
	if s.encrypted {
		sc.alice = must(newCryptUser(ctx, t, sc.person))(t)
	}
	if !s.noLogin {
		login := must(world.LogIn(ctx, sc.person))(t)
		sc.management, sc.identifier = login.Room, login.Identifier
	}
	return sc
}

// worldDir is a temporary folder, or with POSTERN_KEEP one below that folder which
// stays, to look at what a failed story has left.
func worldDir(t *testing.T) string {
	keep := os.Getenv("POSTERN_KEEP")
	if keep == "" {
		return t.TempDir()
	}
	return must(os.MkdirTemp(keep, "story-"))(t)
}

// close checks for complaints, stops everything and, if the story failed,
// shows the end of the bridge's log.
func (s *scene) close() {
	ctx := context.WithoutCancel(s.ctx)
	complaints, err := s.Gatekeeper.Complaints(ctx)
	if err != nil {
		s.t.Errorf("asking for complaints: %v", err)
	} else if len(complaints) > 0 {
		s.t.Errorf("the gatekeeper complains: %s", complaints)
	}
	if err := s.Stop(); err != nil {
		s.t.Errorf("stopping: %v", err)
	}
	s.searchLog(&canary.Search{})
	if !s.t.Failed() {
		return
	}
	for of, path := range map[string]string{"the bridge": s.Bridge.LogPath(), "the homeserver": s.Homeserver.LogPath()} {
		if raw, err := os.ReadFile(path); err == nil {
			s.t.Logf("the end of %s's log:\n%s", of, raw[max(0, len(raw)-6000):])
			s.showCrypto(of, raw)
		}
	}
}

// showCrypto shows what a log has about room keys and devices, which may be long before its end.
func (s *scene) showCrypto(of string, log []byte) {
	var lines []byte
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte(`"component":"crypto"`)) && !bytes.Contains(line, []byte(`"level":"trace"`)) {
			lines = append(lines, line...)
		}
	}
	if len(lines) > 0 {
		s.t.Logf("what %s's log has about keys:\n%s", of, lines[:min(len(lines), 20_000)])
	}
}

// must fails the test on an error: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (s *scene) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

var numbers atomic.Int64

// phone makes a WhatsApp user with a number of their own.
func (s *scene) phone(name string, optedIn any) parts.Phone {
	s.t.Helper()
	number := fmt.Sprintf("+4915228%06d", 100000+time.Now().UnixMilli()%400000+numbers.Add(1))
	return must(s.Gatekeeper.AddUser(s.ctx, parts.Phone{Phone: number, Name: name, OptedIn: optedIn}))(s.t)
}

// startChat opens a chat by phone number and returns the joined room.
func (s *scene) startChat(p parts.Phone) string {
	s.t.Helper()
	s.command("start-chat " + p.Phone)
	return s.enter(p)
}

// command types a command in the management room.
func (s *scene) command(text string) {
	s.t.Helper()
	must(s.person.SendText(s.ctx, s.management, text))(s.t)
}

// enter joins the room that alice is invited to and that has the phone's name
// or, until that is known, its number.
func (s *scene) enter(p parts.Phone) string {
	s.t.Helper()
	invite := must(s.alice.ExpectInvite(s.ctx, "the chat with "+p.Name, func(i parts.Invite) bool {
		return i.Shows(p.Name, p.Phone)
	}))(s.t)
	s.ok(s.alice.Join(s.ctx, invite.Room))
	return invite.Room
}

// toPhone sends text into room and waits until the phone has read it once.
func (s *scene) toPhone(room string, p parts.Phone, text string) string {
	s.t.Helper()
	event := must(s.alice.SendText(s.ctx, room, text))(s.t)
	s.onPhone(p, text)
	return event
}

// onPhone waits for a text on the phone.
func (s *scene) onPhone(p parts.Phone, text string) *parts.PhoneEvent {
	s.t.Helper()
	return must(s.Gatekeeper.Expect(s.ctx, p.Phone, fmt.Sprintf("%q on the phone", text), func(e *parts.PhoneEvent) bool {
		return e.Kind == "message" && e.Text == text
	}))(s.t)
}

// toMatrix lets the phone write and waits until the room shows it from a ghost.
func (s *scene) toMatrix(room string, p parts.Phone, text string) *parts.Event {
	s.t.Helper()
	must(s.Gatekeeper.Say(s.ctx, p.Phone, s.identifier, text))(s.t)
	return s.inRoom(room, text)
}

// inRoom waits for a text in the room that does not come from alice or the bot.
func (s *scene) inRoom(room, text string) *parts.Event {
	s.t.Helper()
	e := must(s.alice.Expect(s.ctx, fmt.Sprintf("%q in the room", text), func(e *parts.Event) bool {
		return e.RoomID == room && e.Message().Body == text
	}))(s.t)
	if e.Sender == s.Bot || e.Sender == s.alice.ID() {
		s.t.Fatalf("%q came from %s and not from the ghost", text, e.Sender)
	}
	return e
}

// texts are the bodies that match in a room or on a phone, in order.
func (s *scene) texts(room, marker string) (fromAlice, fromPhone []string) {
	s.t.Helper()
	for _, e := range must(s.alice.Messages(s.ctx, room))(s.t) {
		switch body := e.Message().Body; {
		case !strings.Contains(body, marker):
		case e.Sender == s.alice.ID():
			fromAlice = append(fromAlice, body)
		case e.Sender != s.Bot:
			fromPhone = append(fromPhone, body)
		}
	}
	return fromAlice, fromPhone
}

// phoneTexts are the texts with marker that a phone has received, in order.
func (s *scene) phoneTexts(p parts.Phone, marker string) []string {
	s.t.Helper()
	var out []string
	var after int64
	for {
		events := must(s.Gatekeeper.Events(s.ctx, p.Phone, after, 0))(s.t)
		if len(events) == 0 {
			return out
		}
		for _, e := range events {
			after = e.Seq
			if e.Kind == "message" && strings.Contains(e.Text, marker) {
				out = append(out, e.Text)
			}
		}
	}
}
