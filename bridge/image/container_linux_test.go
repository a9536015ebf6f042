package image_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postern/bridge/parts"
)

// container is how a container is started: what an engine takes from the image and from its command line.
type container struct {
	Root string // of the image; read-only in the container. Empty: this machine's own, as it is
	User string // uid:gid
	Env  []string
	Dir  string
	Args []string
	// Stdin is a file of this machine with what the program reads; empty: nothing.
	Stdin string
	// Mounts are folders and files of this machine by where they are in the container.
	Mounts map[string]mount
}

type mount struct {
	From     string
	ReadOnly bool
}

// set adds to the environment, or replaces what has the same name.
func (c *container) set(entries ...string) {
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry, "=")
		c.Env = append(slices.DeleteFunc(c.Env, func(other string) bool { return strings.HasPrefix(other, name+"=") }), entry)
	}
}

// enterEnv tells this program's own process that it is to become a container.
const enterEnv = "POSTERN_TEST_CONTAINER"

// refused begins what is said when the kernel does not let us make a container.
const refused = "THE KERNEL REFUSES"

// start starts the container. It has mounts of its own, the machine's network and processes, no capabilities, and ends with whoever has started it.
func (c *container) start(name, log string) (*parts.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	orders, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return parts.Start(parts.ProcessConfig{Name: name, Path: self, Env: []string{enterEnv + "=" + string(orders)}, LogPath: log})
}

// run waits for the container's end, and returns what it has said and its exit status, -1 if a signal has ended it.
func (c *container) run(t *testing.T) (said string, status int) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "said")
	p, err := c.start("the container", log)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), refused) {
		t.Fatalf("%s", raw)
	}
	var exit *exec.ExitError
	if err := p.Stop(); errors.As(err, &exit) {
		return string(raw), exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return string(raw), 0
}

// enter becomes the container's program. It returns only if it cannot.
func enter(orders string) error {
	var c container
	if err := json.Unmarshal([]byte(orders), &c); err != nil {
		return err
	}
	runtime.LockOSThread() // what follows is this thread's alone, up to the start of the program
	for _, step := range []func(*container) error{openInput, mountAll, changeRoot, becomeUser} {
		if err := step(&c); err != nil {
			return err
		}
	}
	path := c.Args[0]
	if !strings.Contains(path, "/") {
		for _, entry := range c.Env {
			if list, ok := strings.CutPrefix(entry, "PATH="); ok {
				path = findIn(list, path)
			}
		}
	}
	return fmt.Errorf("starting %s: %w", path, syscall.Exec(path, c.Args, c.Env))
}

func findIn(list, name string) string {
	for dir := range strings.SplitSeq(list, ":") {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			return filepath.Join(dir, name)
		}
	}
	return name
}

func openInput(c *container) error {
	if c.Stdin == "" {
		return nil
	}
	file, err := os.Open(c.Stdin)
	if err != nil {
		return err
	}
	defer file.Close()
	return syscall.Dup3(int(file.Fd()), 0, 0)
}

func mountAll(c *container) error {
	bind := func(from, to string, flags uintptr) error {
		if err := syscall.Mount(from, to, "", syscall.MS_BIND|flags, ""); err != nil {
			return fmt.Errorf("%s: mounting %s: %w", refused, to, err)
		}
		return nil
	}
	readOnly := func(to string) error {
		if err := syscall.Mount("", to, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("%s: making %s read-only: %w", refused, to, err)
		}
		return nil
	}
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("%s: mounts of one's own (unshare --mount): %w", refused, err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("%s: mounts of one's own: %w", refused, err)
	}
	if c.Root != "" {
		if err := errors.Join(bind(c.Root, c.Root, 0), readOnly(c.Root)); err != nil {
			return err
		}
		if err := errors.Join(bind("/proc", c.Root+"/proc", syscall.MS_REC), bind("/dev", c.Root+"/dev", syscall.MS_REC)); err != nil {
			return err
		}
	}
	for to, m := range c.Mounts {
		if err := bind(m.From, c.Root+to, 0); err != nil {
			return err
		}
		if m.ReadOnly {
			if err := readOnly(c.Root + to); err != nil {
				return err
			}
		}
	}
	return nil
}

func changeRoot(c *container) error {
	if c.Root != "" {
		if err := syscall.Chroot(c.Root); err != nil {
			return fmt.Errorf("%s: changing the root: %w", refused, err)
		}
	}
	return os.Chdir(c.Dir)
}

// becomeUser gives everything up that the image's user does not have.
func becomeUser(c *container) error {
	user, group, _ := strings.Cut(c.User, ":")
	uid, err := strconv.Atoi(user)
	if err != nil {
		return fmt.Errorf("the image's user is %q, not a number", c.User)
	}
	gid, err := strconv.Atoi(group)
	if err != nil {
		return fmt.Errorf("the image's user is %q, with no number for the group", c.User)
	}
	for _, err := range []error{syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid)} {
		if err != nil {
			return fmt.Errorf("%s: becoming user %s: %w", refused, c.User, err)
		}
	}
	const dieWithParent, noNewPrivileges = 1, 38 // the kernel has forgotten the first with the change of user
	for _, order := range [][2]uintptr{{dieWithParent, uintptr(syscall.SIGKILL)}, {noNewPrivileges, 1}} {
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, order[0], order[1], 0, 0, 0, 0); errno != 0 {
			return fmt.Errorf("%s: prctl %d: %w", refused, order[0], errno)
		}
	}
	return nil
}
