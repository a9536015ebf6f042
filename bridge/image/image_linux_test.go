// Package image_test builds the image of the Dockerfile with no engine for containers, and starts it: a changed root that cannot be written, as the
// image's user, with the image's own command, environment and health check.
//
// build.sh beside it builds. It needs root, Debian's tools buildah and mmdebstrap (which it installs), and the kernel's leave for mounts.
package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	if orders := os.Getenv(enterEnv); orders != "" {
		fmt.Fprintln(os.Stderr, enter(orders))
		os.Exit(125)
	}
	code := m.Run()
	if opened != nil {
		opened.remove()
	}
	os.Exit(code)
}

// opened is the image, if any test has asked for it.
var opened *image

// image is what buildah has built, and its root.
type image struct {
	buildah []string
	working string // buildah's name for the root
	root    string
	config  imageConfig
}

type imageConfig struct {
	User         string
	Env          []string
	Entrypoint   []string
	Cmd          []string
	WorkingDir   string
	Volumes      map[string]struct{}
	ExposedPorts map[string]struct{}
	Healthcheck  struct{ Test []string }
}

// errNoImage: this machine cannot build images, for a reason that is not the Dockerfile's.
var errNoImage = errors.New("no image can be built here")

// built builds the image, once for all tests.
var built = sync.OnceValues(func() (*image, error) {
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: it takes root (./build.sh image)", errNoImage)
	}
	for _, tool := range []string{"buildah", "mmdebstrap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w: %s is not installed (./build.sh setup)", errNoImage, tool)
		}
	}
	name, err := lastLine("./build.sh")
	if err != nil {
		return nil, err
	}
	where, err := exec.Command("./build.sh", "--environment").Output()
	if err != nil {
		return nil, err
	}
	i := &image{}
	for line := range strings.Lines(string(where)) {
		i.buildah = append(i.buildah, "--"+strings.TrimSpace(line))
	}
	opened = i
	return i, i.open(name)
})

// lastLine runs a program and returns the last line of its output.
func lastLine(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &problems)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return lines[len(lines)-1], nil
}

func (i *image) ask(args ...string) (string, error) {
	return lastLine("buildah", append(slices.Clone(i.buildah), args...)...)
}

// open unpacks the image and reads its configuration.
func (i *image) open(name string) (err error) {
	cmd := exec.Command("buildah", append(slices.Clone(i.buildah), "inspect", "--type", "image", name)...)
	raw, err := cmd.Output()
	if err != nil {
		return err
	}
	var said struct {
		Docker struct {
			Config imageConfig `json:"config"`
		}
	}
	if err = json.Unmarshal(raw, &said); err != nil {
		return err
	}
	i.config = said.Docker.Config
	if i.working, err = i.ask("from", "--pull-never", name); err != nil {
		return err
	}
	if i.root, err = i.ask("mount", i.working); err != nil {
		return err
	}
	// What engines lay their own files over.
	for _, file := range []string{"hosts", "resolv.conf"} {
		f, err := os.OpenFile(filepath.Join(i.root, "etc", file), os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		if err = f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// remove forgets what was unpacked; what was built stays.
func (i *image) remove() {
	if i.working == "" {
		return
	}
	for _, args := range [][]string{{"umount", i.working}, {"rm", i.working}} {
		if _, err := i.ask(args...); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// theImage is the image, or the reason why there is none.
func theImage(t *testing.T) *image {
	t.Helper()
	i, err := built()
	if errors.Is(err, errNoImage) && os.Getenv("CI") != "true" {
		t.Skip("SKIPPED:", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return i
}

// container is one of the image's, with a folder of this machine as its volume; args take the place of the image's command.
func (i *image) container(data string, args ...string) *container {
	if len(args) == 0 {
		args = i.config.Cmd
	}
	return &container{
		Root: i.root, User: i.config.User, Env: slices.Clone(i.config.Env), Dir: i.config.WorkingDir, Args: slices.Concat(i.config.Entrypoint, args),
		Mounts: map[string]mount{
			"/data": {From: data}, "/etc/hosts": {From: "/etc/hosts", ReadOnly: true}, "/etc/resolv.conf": {From: "/etc/resolv.conf", ReadOnly: true},
		},
	}
}

// inside is another program in a container that is there already, as `docker exec` starts it.
func (c *container) inside(args ...string) *container {
	other := *c
	other.Args = args
	return &other
}

// healthCheck is the image's own check.
func (i *image) healthCheck(t *testing.T) []string {
	t.Helper()
	test := i.config.Healthcheck.Test
	if len(test) < 2 || test[0] != "CMD" {
		t.Fatalf("the health check is %q", test)
	}
	return test[1:]
}

// volume is a new folder for /data that belongs to a user.
func volume(t *testing.T, uid, gid int) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	return dir
}
