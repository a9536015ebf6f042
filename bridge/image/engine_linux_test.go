package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"postern/bridge/parts"
	"postern/database/databasetest"
)

// engine stands in for Docker where there is none: it does what the commands of a page ask for. Containers of our image are real; Synapse and
// PostgreSQL, whose images cannot be had here, are programs of this machine with the settings that the compose files give them.
type engine struct {
	t       *testing.T
	ctx     context.Context
	image   *image
	compose string         // the judge of compose files
	ports   map[string]int // those of this test, by those that the pages have
	hosts   string         // a file with the names of the services

	// Volumes by name, and what is done before a container is started for good.
	volumes map[string]string
	before  func(dir string) error

	mu       sync.Mutex
	up       map[string]bool
	running  map[string]*parts.Process // but for PostgreSQL, which the package for tests keeps
	postgres *databasetest.Server
	synapse  string // the folder of Synapse
}

// project is what the compose files come to.
type project struct {
	Services map[string]service `yaml:"services"`
}

type service struct {
	Image       string            `yaml:"image"`
	User        string            `yaml:"user"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	Command     []string          `yaml:"command"`
	Entrypoint  []string          `yaml:"entrypoint"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []struct {
		Type, Source, Target string
		ReadOnly             bool `yaml:"read_only"`
	} `yaml:"volumes"`
	Ports []struct {
		HostIP    string `yaml:"host_ip"`
		Target    int
		Published string
	} `yaml:"ports"`
}

// prelude makes `docker` of a shell ask the engine. What stands in the input goes along where a command takes it (-i).
const prelude = `docker() {
  local answer input=/dev/null word
  for word in "$@"; do if [ "$word" = -i ]; then input=/dev/stdin; fi; done
  answer=$({ printf '%s\n' "$PWD" "$#" "$@"; cat "$input"; } | curl -sS --data-binary @- "$ENGINE"; echo end)
  answer=${answer%end} # else the last line breaks would be lost
  printf '%s' "${answer#*$'\n'}"
  return "${answer%%$'\n'*}"
}
`

// serve answers the shell.
func (e *engine) serve() string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return // the shell has gone
		}
		status, said := e.answer(string(raw))
		fmt.Fprintf(w, "%d\n%s", status, said)
	}))
	e.t.Cleanup(server.Close)
	return server.URL
}

func (e *engine) answer(text string) (status int, said string) {
	lines := strings.SplitN(text, "\n", 3)
	count := 0
	if _, err := fmt.Sscan(lines[1], &count); err != nil {
		return 125, err.Error()
	}
	rest := strings.SplitN(lines[2], "\n", count+1)
	e.mu.Lock()
	defer e.mu.Unlock()
	status, said, err := e.docker(lines[0], rest[:count], strings.Join(rest[count:], ""))
	if err != nil {
		return 125, fmt.Sprintf("docker %s: %v\n%s", strings.Join(rest[:count], " "), err, said)
	}
	return status, said
}

var errUnknown = errors.New("the stand-in for Docker does not know this")

// docker is one command in a folder.
func (e *engine) docker(dir string, args []string, input string) (status int, said string, err error) {
	if slices.Equal(args, []string{"build", "-t", "postern", "."}) {
		_, err := os.Stat(filepath.Join(dir, "Dockerfile")) // it is built already
		return 0, "", err
	}
	if len(args) == 3 && args[0] == "volume" && args[1] == "create" {
		e.volumes[args[2]] = volume(e.t, 1337, 1337) // an engine gives a new volume what the image has there
		return 0, args[2] + "\n", nil
	}
	if args[0] == "run" {
		return e.alone(dir, args[1:], input)
	}
	if len(args) < 2 || args[0] != "compose" {
		return 0, "", errUnknown
	}
	p, err := e.load(dir)
	if err != nil {
		return 0, "", err
	}
	verb, words, flags := args[1], []string(nil), []string(nil)
	for i, arg := range args[2:] {
		if strings.HasPrefix(arg, "-") {
			flags = append(flags, arg)
			continue
		}
		words = args[2+i:]
		break
	}
	switch verb {
	case "up":
		return e.start(p, words)
	case "run":
		if !slices.Equal(flags, []string{"--rm", "--no-deps"}) || len(words) == 0 {
			return 0, "", errUnknown
		}
		return e.once(p, words[0], words[1:])
	case "exec":
		return e.exec(p, words[0], words[1:])
	case "stop":
		for _, name := range words {
			if err := e.running[name].Stop(); err != nil {
				return 0, "", err
			}
			delete(e.up, name)
		}
		return 0, "", nil
	case "logs":
		raw, err := os.ReadFile(e.running[args[len(args)-1]].LogPath())
		return 0, string(raw), err
	case "ps":
		return 0, strings.Join(slices.Sorted(maps.Keys(e.up)), "\n") + "\n", nil
	}
	return 0, "", errUnknown
}

// load lets the judge read the compose files of a folder, with what stands in .env there.
func (e *engine) load(dir string) (p project, err error) {
	cmd := exec.Command(e.compose)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil || problems.Len() > 0 {
		return p, fmt.Errorf("the compose files: %w: %s", err, &problems)
	}
	return p, yaml.Unmarshal(out.Bytes(), &p)
}

// ours is a container of our image.
func (e *engine) ours(s service, words []string) (*container, error) {
	if s.Image != "postern" || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
		return nil, fmt.Errorf("image %q, read-only %v, without %v", s.Image, s.ReadOnly, s.CapDrop)
	}
	if len(words) == 0 {
		words = s.Command
	}
	c := e.image.container("", words...)
	c.User = s.User
	for name, value := range s.Environment {
		c.set(name + "=" + value)
	}
	// What has no place in the compose files, since it is the same in every container: it is another here.
	c.set(fmt.Sprintf("POSTERN_APPSERVICE__PORT=%d", e.ports["29340"]), fmt.Sprintf("POSTERN_NETWORK__PUBLIC__ADDRESS=0.0.0.0:%d", e.ports["29341"]))
	delete(c.Mounts, "/data")
	c.Mounts["/etc/hosts"] = mount{From: e.hosts, ReadOnly: true}
	for _, v := range s.Volumes {
		c.Mounts[v.Target] = mount{From: v.Source, ReadOnly: v.ReadOnly}
	}
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" || fmt.Sprint(p.Target) != p.Published {
			return nil, fmt.Errorf("port %s:%s:%d", p.HostIP, p.Published, p.Target)
		}
	}
	return c, nil
}

// once runs a service to its end.
func (e *engine) once(p project, name string, words []string) (int, string, error) {
	if name == "synapse" && slices.Equal(words, []string{"generate"}) {
		return e.generateSynapse(p.Services[name])
	}
	c, err := e.ours(p.Services[name], words)
	if err != nil {
		return 0, "", err
	}
	said, status := c.run(e.t)
	return status, said, nil
}

func (e *engine) exec(p project, name string, words []string) (int, string, error) {
	if !e.up[name] {
		return 0, "", errors.New("it does not run")
	}
	if name == "synapse" {
		return e.inSynapse(words)
	}
	c, err := e.ours(p.Services[name], nil)
	if err != nil {
		return 0, "", err
	}
	said, status := c.inside(words...).run(e.t)
	return status, said, nil
}

// start starts services in the order in which they need each other, and waits until they are healthy.
func (e *engine) start(p project, names []string) (int, string, error) {
	for _, name := range []string{"postgres", "synapse", "sandbox", "postern"} {
		s, known := p.Services[name]
		if !known || e.up[name] || len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		var err error
		switch name {
		case "postgres":
			err = e.startPostgres(s)
		case "synapse":
			err = e.startSynapse(s)
		default:
			err = e.startOurs(name, s)
		}
		if err != nil {
			return 0, "", fmt.Errorf("%s: %w", name, err)
		}
		e.up[name] = true
	}
	return 0, "", nil
}

func (e *engine) startOurs(name string, s service) error {
	c, err := e.ours(s, nil)
	if err != nil {
		return err
	}
	p, err := e.keep(name, func(log string) (*parts.Process, error) { return c.start(name, log) })
	if err != nil || name != "postern" {
		return err
	}
	check := c.inside(e.image.healthCheck(e.t)...)
	return e.until(p, func() error {
		if said, status := check.run(e.t); status != 0 {
			return errors.New(said)
		}
		return nil
	})
}

// keep runs something until the test ends or somebody stops it.
func (e *engine) keep(name string, start func(log string) (*parts.Process, error)) (*parts.Process, error) {
	log := filepath.Join(e.t.TempDir(), name+".log")
	p, err := start(log)
	if err != nil {
		return nil, err
	}
	e.running[name] = p
	e.t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			e.t.Error(err)
		}
		if raw, err := os.ReadFile(log); e.t.Failed() && err == nil {
			e.t.Logf("%s said, at the end:\n%s", name, raw[max(0, len(raw)-3000):])
		}
	})
	return p, nil
}

// until asks again and again, while what is asked about runs.
func (e *engine) until(p *parts.Process, healthy func() error) error {
	for {
		err := healthy()
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return errors.New("it has ended")
		case <-e.ctx.Done():
			return errors.Join(e.ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// forward passes connections on to a socket file, for a server that has nothing else.
func forward(t *testing.T, port int, socket string) error {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			outer, err := listener.Accept()
			if err != nil {
				return // closed
			}
			inner, err := net.Dial("unix", socket)
			if err != nil {
				_ = outer.Close()
				continue
			}
			go func() { _, _ = io.Copy(inner, outer); _ = inner.Close() }()
			go func() { _, _ = io.Copy(outer, inner); _ = outer.Close() }()
		}
	}()
	return nil
}
