package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"postern/bridge/parts"
)

var shellBlock = regexp.MustCompile("(?s)\n```sh\n(.*?)```")

// blocks are the commands of a page, from a heading on.
func blocks(t *testing.T, page, from string) string {
	t.Helper()
	_, text, found := strings.Cut(string(must(os.ReadFile(filepath.Join("../../docs", page)))(t)), "\n## "+from)
	if !found {
		t.Fatalf("%s has no heading %q", page, from)
	}
	var all []string
	for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
		all = append(all, block[1])
	}
	return strings.Join(all, "\n")
}

// composeTool finds the parser of compose files that build.sh has built.
func composeTool(t *testing.T) string {
	t.Helper()
	path := filepath.Join(must(parts.CacheDir())(t), "compose-"+composeVersion, "compose")
	if _, err := os.Stat(path); err != nil && os.Getenv("CI") != "true" {
		t.Skip("SKIPPED: the parser of compose files is not built; run `./build.sh setup`")
	} else if err != nil {
		t.Fatal(err)
	}
	return path
}

// composeVersion is the version that build.sh builds from its Go module.
const composeVersion = "2.9.1"

// somebody is who follows a page: not root, and not the image's own user.
const somebody = 4711

// clone is a folder with what the page needs of this repository, with other ports, that belongs to somebody.
func clone(t *testing.T, ports *strings.Replacer) string {
	t.Helper()
	top := must(os.MkdirTemp("", "postern-docker-"))(t)
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	from, to := "../../docs/ops/docker", filepath.Join(top, "clone", "docs", "ops", "docker")
	if err := errors.Join(os.MkdirAll(to, 0o755), os.WriteFile(filepath.Join(top, "clone", "Dockerfile"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, entry := range must(os.ReadDir(from))(t) {
		text := ports.Replace(string(must(os.ReadFile(filepath.Join(from, entry.Name())))(t)))
		if err := os.WriteFile(filepath.Join(to, entry.Name()), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{top, filepath.Join(top, "clone")} {
		if err := os.Chown(dir, somebody, somebody); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(top, "clone")
}

// TestThePageOnDockerLeadsToAMessageBothWays runs the commands of docs/DOCKER.md as they stand there, by somebody who is not root, in a folder of their
// own, and then those of the quick start from its seventh step on. Containers of the image are real; engine says what stands in for the rest.
func TestThePageOnDockerLeadsToAMessageBothWays(t *testing.T) {
	t.Parallel()
	built, compose := theImage(t), composeTool(t)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	e := &engine{
		t: t, ctx: ctx, image: built, compose: compose, ports: map[string]int{}, hosts: filepath.Join(t.TempDir(), "hosts"),
		up: map[string]bool{}, running: map[string]*parts.Process{},
	}
	names := "127.0.0.1 localhost postern synapse postgres sandbox\n"
	if err := os.WriteFile(e.hosts, []byte(names), 0o644); err != nil {
		t.Fatal(err)
	}
	var replaced []string
	for _, port := range []string{"8008", "5432", "29340", "29341", "29350", "29351", "29352"} {
		e.ports[port] = must(parts.FreePort())(t)
		replaced = append(replaced, port, fmt.Sprint(e.ports[port]))
	}
	ports := strings.NewReplacer(replaced...)
	day, quick := blocks(t, "DOCKER.md", "1. "), blocks(t, "QUICKSTART.md", "7. ")
	quick, _, found := strings.Cut(quick, "kill $(jobs -p)") // what runs here is stopped otherwise
	if !found {
		t.Error("the quick start has another end")
	}
	quick = strings.NewReplacer("quick.localhost", "try.localhost", "quick-password", "try-password").Replace(quick)
	cmd := exec.CommandContext(ctx, "bash", "-c", prelude+"set -eu\n"+ports.Replace(day+"\n"+quick))
	cmd.Dir, cmd.Env = clone(t, ports), []string{"PATH=" + os.Getenv("PATH"), "ENGINE=" + e.serve()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: somebody, Gid: somebody}}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, said := range []string{
		"Wrote a configuration to /data/config.yaml", "Wrote the registration to /data/registration.yaml", "ok       database", "ok       readiness",
		"can take messages", "hello from Matrix", "heard: hello from WhatsApp",
	} {
		if !strings.Contains(out.String(), said) {
			t.Errorf("%q is not in\n%s", said, &out)
		}
	}
	if strings.Contains(out.String(), "FAIL ") {
		t.Errorf("the doctor finds something:\n%s", &out)
	}
	copies := must(filepath.Glob(filepath.Join(cmd.Dir, "../postern-docker/postern/backup/*.zip")))(t)
	if len(copies) != 1 {
		t.Errorf("backups: %q", copies)
	}
	for _, name := range []string{"config.yaml", "registration.yaml", "postern.key", "epoch/postern.epoch"} {
		info := must(os.Stat(filepath.Join(cmd.Dir, "../postern-docker/postern", name)))(t)
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != somebody {
			t.Errorf("%s belongs to %d", name, owner)
		}
	}
}

// TestTheComposeFilesWithoutTheSandboxAreWhole: what stands in .env in earnest is enough, and what is left out of it is asked for.
func TestTheComposeFilesWithoutTheSandboxAreWhole(t *testing.T) {
	t.Parallel()
	e := &engine{t: t, compose: composeTool(t)}
	dir := clone(t, strings.NewReplacer())
	dir = filepath.Join(dir, "docs", "ops", "docker")
	lines := []string{
		"OWNER=1000:1000", "DOMAIN=example.org", "PUBLIC_BASE=https://postern.example.org", "INTEGRATOR=7", "OPERATOR_NAME=Example", "OPERATOR_CONTACT=a@example.org",
		"DATABASE_PASSWORD=word",
	}
	env := filepath.Join(dir, ".env")
	for i, left := range lines {
		if err := os.WriteFile(env, []byte(strings.Join(slices.Concat(lines[:i], lines[i+1:]), "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(left, "=")
		if _, err := e.load(dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if err := os.WriteFile(env, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	p := must(e.load(dir))(t)
	if _, there := p.Services["sandbox"]; there || len(p.Services) != 3 {
		t.Errorf("services: %v", p.Services)
	}
	environment := p.Services["postern"].Environment
	if got := environment["POSTERN_BRIDGE__PERMISSIONS"]; !strings.Contains(got, `"example.org": "user"`) {
		t.Errorf("permissions %s", got)
	}
	for name := range environment {
		if strings.Contains(name, "NOISE_ROOT_KEY") {
			t.Errorf("%s is set", name)
		}
	}
}
