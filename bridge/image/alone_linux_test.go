package image_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"postern/bridge/parts"
)

// alone is `docker run`.
func (e *engine) alone(dir string, args []string, input string) (int, string, error) {
	set := map[string]string{}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch flag := args[0]; flag {
		case "--rm", "-i", "-it", "-d", "--read-only":
			set[flag], args = "yes", args[1:]
		case "-v", "-p", "--entrypoint", "--name", "--network", "--restart", "--cap-drop", "--ulimit":
			set[flag], args = args[1], args[2:]
		default:
			return 0, "", errUnknown
		}
	}
	name, target, _ := strings.Cut(set["-v"], ":")
	if len(args) == 0 || args[0] != "postern" || e.volumes[name] == "" || target != "/data" {
		return 0, "", errUnknown
	}
	c := e.image.container(e.volumes[name], args[1:]...)
	if program := set["--entrypoint"]; program != "" {
		c = c.inside(append([]string{program}, args[1:]...)...)
	}
	if set["-i"] != "" {
		c.Stdin = filepath.Join(e.t.TempDir(), "input")
		if err := os.WriteFile(c.Stdin, []byte(input), 0o600); err != nil {
			return 0, "", err
		}
	}
	if set["-d"] == "" {
		said, status := c.run(e.t)
		return status, said, nil
	}
	if err := e.before(dir); err != nil {
		return 0, "", err
	}
	p, err := e.keep(set["--name"], func(log string) (*parts.Process, error) { return c.start(set["--name"], log) })
	if err != nil {
		return 0, "", err
	}
	check := c.inside(e.image.healthCheck(e.t)...)
	return 0, "", e.until(p, func() error {
		if said, status := check.run(e.t); status != 0 {
			return errors.New(said)
		}
		return nil
	})
}

// TestTheBridgeAloneStartsByThePage runs what docs/DOCKER.md says of `docker run`. Whoever follows it sets the five things in the file that they were
// given, and their homeserver is a real one.
func TestTheBridgeAloneStartsByThePage(t *testing.T) {
	t.Parallel()
	built := theImage(t)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	e := &engine{t: t, ctx: ctx, image: built, volumes: map[string]string{}, up: map[string]bool{}, running: map[string]*parts.Process{}}
	private, public, port := must(parts.FreePort())(t), must(parts.FreePort())(t), must(parts.FreePort())(t)
	_, text, found := strings.Cut(string(must(os.ReadFile("../../docs/DOCKER.md"))(t)), "\n## The bridge alone\n")
	steps := regexp.MustCompile("(?s)\n```\n(.*?)```").FindAllStringSubmatch(text, -1)
	if !found || len(steps) != 2 {
		t.Fatalf("%d blocks", len(steps))
	}
	homeserver := t.TempDir()
	state := fmt.Sprintf(`{"port": %d, "registration_secret": "one", "macaroon_secret": "two", "form_secret": "three"}`, port)
	if err := os.WriteFile(filepath.Join(homeserver, "state.json"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	e.before = func(dir string) error {
		s, err := parts.StartSynapse(ctx, parts.SynapseConfig{Dir: homeserver, Registrations: []string{filepath.Join(dir, "registration.yaml")}})
		if err != nil {
			t.Error(err)
			return err
		}
		t.Cleanup(func() {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
		return nil
	}
	dir, url := t.TempDir(), e.serve()
	follow := func(commands string) {
		t.Helper()
		cmd := exec.CommandContext(ctx, "bash", "-c", prelude+"set -eu\n"+commands)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "ENGINE=" + url}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	follow(steps[0][1])
	config := filepath.Join(dir, "config.yaml")
	given := string(must(os.ReadFile(config))(t))
	mine := strings.NewReplacer(
		"http://example.localhost:8008", fmt.Sprintf("http://127.0.0.1:%d", port), "domain: example.com", "domain: postern.localhost",
		"\n    permissions:\n", "\n    permissions:\n        postern.localhost: user\n", "https://postern.example.com", fmt.Sprintf("http://127.0.0.1:%d", public),
		"integrator: 0", "integrator: 7", "http://postern:29340", fmt.Sprintf("http://127.0.0.1:%d", private), "port: 29340", fmt.Sprintf("port: %d", private),
		"0.0.0.0:29341", fmt.Sprintf("0.0.0.0:%d", public),
	).Replace(given)
	if given == mine {
		t.Fatalf("the configuration is\n%s", given)
	}
	if err := os.WriteFile(config, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	follow(steps[1][1])
	registration := string(must(os.ReadFile(filepath.Join(dir, "registration.yaml")))(t))
	kept := string(must(os.ReadFile(filepath.Join(e.volumes["postern"], "config.yaml")))(t))
	token := regexp.MustCompile(`(?m)^as_token: (\S+)$`).FindStringSubmatch(registration)
	if len(token) != 2 || !strings.Contains(kept, token[1]) {
		t.Errorf("the registration is\n%s", registration)
	}
}
