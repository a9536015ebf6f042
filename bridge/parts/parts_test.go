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

func synapse(t *testing.T, dir string) *parts.Homeserver {
	t.Helper()
	if _, err := parts.SynapsePython(); errors.Is(err, parts.ErrMissing) {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	hs, err := parts.StartSynapse(ctx, parts.SynapseConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return hs
}

func TestSynapseKeepsItsUsersAndItsAddressOverAKillAndARestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	dir := t.TempDir()
	hs := synapse(t, dir)
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
	var apiErr *parts.APIError
	if _, _, err := hs.Login(ctx, "alice", "wrong"); !errors.As(err, &apiErr) || apiErr.Code != "M_FORBIDDEN" {
		t.Fatalf("a wrong password gave %v", err)
	}
	if err := hs.Stop(); err != nil {
		t.Fatal(err)
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
	p, err := parts.Start(parts.ProcessConfig{Name: "echo", Path: "/bin/sh", Args: []string{"-c", "echo one; echo two; exec cat"}, LogPath: log, FirstLine: true})
	if err != nil {
		t.Fatal(err)
	}
	line, err := p.FirstLine(t.Context())
	if err != nil || line != "one\n" {
		t.Fatalf("first line %q, %v", line, err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(log); err != nil || string(raw) != "two\n" {
		t.Fatalf("log holds %q, %v", raw, err)
	}
}
