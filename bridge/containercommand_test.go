package main

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// typed runs a command as somebody types it.
func typed(t *testing.T, want int, args ...string) string {
	t.Helper()
	var out, problems bytes.Buffer
	if code := dispatch(t.Context(), args, &out, &problems); code != want {
		t.Fatalf("postern %v: exit status %d, want %d\n%s%s", args, code, want, &out, &problems)
	}
	return out.String() + problems.String()
}

// cleanEnvironment takes the tests' own variables away, which begin like those of a container.
func cleanEnvironment(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "POSTERN_") {
			t.Setenv(name, value) // puts it back at the end
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAContainerWritesItsFilesInTwoStartsAndSaysAllThatIsMissing(t *testing.T) {
	cleanEnvironment(t)
	config := filepath.Join(t.TempDir(), "config.yaml")
	registration := filepath.Join(filepath.Dir(config), "registration.yaml")
	again := []string{"container", "-c", config, "-r", registration}
	said := typed(t, 0, again...)
	if !strings.Contains(said, config) {
		t.Errorf("the first start: %s", said)
	}
	first, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	said = typed(t, exitInvalid, again...)
	for _, want := range []string{"homeserver.address", "homeserver.domain", "bridge.permissions", "network.public.base"} {
		if !strings.Contains(said, "\n  "+want+" is not ") {
			t.Errorf("no word of %s in\n%s", want, said)
		}
	}
	for name, value := range map[string]string{
		"HOMESERVER__ADDRESS": "http://synapse:8008", "HOMESERVER__DOMAIN": "example.org", "BRIDGE__PERMISSIONS": `{"example.org": "user"}`,
		"NETWORK__PUBLIC__BASE": "https://postern.example.org", "NETWORK__GATEKEEPERS__WHATSAPP__INTEGRATOR": "7",
	} {
		t.Setenv("POSTERN_"+name, value)
	}
	typed(t, 0, again...)
	var made struct {
		URL string
		AS  string `yaml:"as_token"`
	}
	raw, err := os.ReadFile(registration)
	if err == nil {
		err = yaml.Unmarshal(raw, &made)
	}
	if err != nil || made.URL != "http://postern:29340" {
		t.Errorf("the registration has %q, %v", made.URL, err)
	}
	second, err := os.ReadFile(config)
	if err != nil || !strings.Contains(string(second), made.AS) || strings.Count(string(first), "\n") != strings.Count(string(second), "\n") {
		t.Errorf("the configuration has not got the token, and nothing else: %v", err)
	}
	if !strings.Contains(string(second), "start the container a third time") {
		t.Error("its top does not say how to go on")
	}
}

func TestAContainerLeavesWhatItFindsAndRefusesOtherSteps(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte("homserver: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := typed(t, exitInvalid, "container", "-c", config); !strings.Contains(said, "there is no key homserver") {
		t.Error(said)
	}
	for _, args := range [][]string{{"container", "-g"}, {"container", "-e"}, {"container", "now"}} {
		if said := typed(t, exitUsage, args...); !strings.Contains(said, "postern container") {
			t.Error(said)
		}
	}
	missing := filepath.Join(filepath.Dir(config), "not", "there.yaml")
	if said := typed(t, exitRegistration, "container", "-c", missing); !strings.Contains(said, "cannot be written") {
		t.Error(said)
	}
}

func TestHealthTellsABridgeThatRunsFromOneThatDoesNot(t *testing.T) {
	answer := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_matrix/mau/ready" {
			t.Errorf("it asks for %s", r.URL.Path)
		}
		if strings.Contains(answer, "away") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(answer))
	}))
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte("appservice: {hostname: 0.0.0.0, port: "+port+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const waits = `{"ready":false,"reasons":["homeserver: away"],"checks":{"start":{"ok":true},"homeserver":{"ok":false}}}`
	for _, c := range []struct {
		answer, want  string
		status, ready int
	}{
		{`{"ready":true,"reasons":[],"checks":{"start":{"ok":true}}}`, "can take messages", 0, 0},
		{waits, "homeserver: away", 0, exitOther},
		{`{"ready":false,"reasons":["start: soon"],"checks":{"start":{"ok":false}}}`, "is starting or stopping: start: soon", exitOther, exitOther},
		{`<html>`, "is no bridge", exitOther, exitOther},
		{`{}`, "is no bridge", exitOther, exitOther},
	} {
		answer = c.answer
		for status, args := range map[string][]string{"": {"health", "-c", config}, "ready": {"health", "--ready", "-c", config}} {
			want := c.status
			if status != "" {
				want = c.ready
			}
			if said := typed(t, want, args...); !strings.Contains(said, c.want) {
				t.Errorf("%s: %s", c.answer, said)
			}
		}
	}
	server.Close()
	if said := typed(t, exitOther, "health", "-c", config); !strings.Contains(said, "no bridge answers on 0.0.0.0:"+port) {
		t.Error(said)
	}
	typed(t, exitUsage, "health", "now")
	typed(t, exitConfig, "health", "-c", config+".not")
}
