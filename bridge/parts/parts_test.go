package parts_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/bridge/parts"
)

// bound is generous: it only fails a test that hangs.
const bound = 2 * time.Minute

// homeservers are the kinds that demo and tests run on.
var homeservers = map[string]func(context.Context, string) (*parts.Homeserver, error){
	"Synapse": func(ctx context.Context, dir string) (*parts.Homeserver, error) {
		return parts.StartSynapse(ctx, parts.SynapseConfig{Dir: dir})
	},
	"Dendrite": func(ctx context.Context, dir string) (*parts.Homeserver, error) {
		return parts.StartDendrite(ctx, parts.DendriteConfig{Dir: dir})
	},
}

// orSkip skips a test whose real part is not installed, loudly; in CI it fails.
func orSkip(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, parts.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAHomeserverKeepsItsUsersAndItsAddressOverAKillAndARestart(t *testing.T) {
	for kind, start := range homeservers {
		t.Run(kind, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			hs, err := start(ctx, t.TempDir())
			orSkip(t, err)
			defer func() { hs.Kill() }()
			if err := hs.Register(ctx, "alice", "secret-of-alice", false); err != nil {
				t.Fatal(err)
			}
			if err := hs.Register(ctx, "alice", "secret-of-alice", false); err != nil {
				t.Fatal("registering again:", err)
			}
			url := hs.URL
			hs.Kill()
			if err := hs.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			token, _, err := hs.Login(ctx, "alice", "secret-of-alice")
			if err != nil {
				t.Fatal(err)
			}
			var who struct {
				UserID string `json:"user_id"`
			}
			if err := hs.Call(ctx, http.MethodGet, "/_matrix/client/v3/account/whoami", token, nil, &who); err != nil {
				t.Fatal(err)
			}
			if want := "@alice:" + hs.ServerName; who.UserID != want || hs.URL != url {
				t.Fatalf("logged in as %s at %s, want %s at %s", who.UserID, hs.URL, want, url)
			}
			if _, _, err := hs.Login(ctx, "alice", "wrong"); err == nil {
				t.Fatal("a wrong password was taken")
			}
			if err := hs.Stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestTwoPeopleTalkAndReadTheirRoomInOrder(t *testing.T) {
	for kind, start := range homeservers {
		t.Run(kind, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			hs, err := start(ctx, t.TempDir())
			orSkip(t, err)
			defer hs.Kill()
			var people [2]*parts.Person
			for i, name := range []string{"alice", "bob"} {
				if people[i], err = parts.NewPerson(ctx, hs, name, "secret-of-"+name); err != nil {
					t.Fatal(err)
				}
				defer people[i].Close()
			}
			alice, bob := people[0], people[1]
			room, err := alice.CreateDM(ctx, bob.UserID)
			if err != nil {
				t.Fatal(err)
			}
			invite, err := bob.ExpectInvite(ctx, "a chat", func(i parts.Invite) bool { return !i.Space })
			if err != nil || invite.Room != room || invite.From != alice.UserID {
				t.Fatalf("invitation %+v, %v", invite, err)
			}
			if err := bob.Join(ctx, room); err != nil {
				t.Fatal(err)
			}
			for _, body := range []string{"one", "two"} {
				if _, err := alice.SendText(ctx, room, body); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := bob.Expect(ctx, "the second text", func(e *parts.Event) bool { return e.Message().Body == "two" }); err != nil {
				t.Fatal(err)
			}
			events, err := bob.Messages(ctx, room)
			if err != nil {
				t.Fatal(err)
			}
			var bodies []string
			for i := range events {
				if m := events[i].Message(); m.Body != "" {
					bodies = append(bodies, m.Body)
				}
			}
			if len(bodies) != 2 || bodies[0] != "one" || bodies[1] != "two" {
				t.Fatalf("the room reads %q", bodies)
			}
		})
	}
}

func TestAProcessThatEndsAtOnceIsReportedWithItsLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := parts.Start(parts.ProcessConfig{Name: "false", Path: "/bin/sh", Args: []string{"-c", "echo reason >&2; exit 3"}, LogPath: log, FirstLine: true})
	if err != nil {
		t.Fatal(err)
	}
	if line, err := p.FirstLine(t.Context()); err == nil {
		t.Fatalf("got the first line %q of a program that wrote none", line)
	}
	<-p.Done()
	if raw, err := os.ReadFile(log); err != nil || string(raw) != "reason\n" {
		t.Fatalf("log holds %q, %v", raw, err)
	}
}

func TestTheFirstLineIsHandedOverAndTheRestIsLogged(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := parts.Start(parts.ProcessConfig{Name: "echo", Path: "/bin/sh", Args: []string{"-c", "echo one; echo two"}, LogPath: log, FirstLine: true})
	if err != nil {
		t.Fatal(err)
	}
	line, err := p.FirstLine(t.Context())
	if err != nil || line != "one\n" {
		t.Fatalf("first line %q, %v", line, err)
	}
	<-p.Done()
	if raw, err := os.ReadFile(log); err != nil || string(raw) != "two\n" {
		t.Fatalf("log holds %q, %v", raw, err)
	}
}
