// Package parts starts the real programs that the demo and the end-to-end
// tests run against: homeservers, PostgreSQL, and the postern binary itself.
//
// Layer: test and demo support beside bridge. It must not import connector,
// database or bridge/sandbox; it knows programs, files and HTTP only. The
// product never imports it. What is started listens on loopback and ends with
// the process that started it.
package parts

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// ErrMissing says that a real part is not installed. The text names the
// command that installs it.
var ErrMissing = errors.New("a real part is not installed")

// CacheDir is the folder that holds what is built or installed once:
// $XDG_CACHE_HOME/postern, or ~/.cache/postern.
func CacheDir() (string, error) {
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the cache folder: %w", err)
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "postern"), nil
}

// FreePort returns a TCP port on loopback that is free, for programs that cannot
// report the port they chose themselves. It gives out none twice, and none from
// the range in which systems choose ports for outgoing connections, so that
// nobody takes it before the program does.
func FreePort() (int, error) {
	const first, last = 15_000, 31_000
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		port := first + rand.IntN(last-first)
		if !ports.given[port] && portIsFree(port) {
			ports.given[port] = true
			return port, nil
		}
	}
	return 0, errors.New("finding a free port: all that were tried are taken")
}

// ports remembers what FreePort has given out.
var ports = struct {
	sync.Mutex
	given map[int]bool
}{given: map[int]bool{}}

// portIsFree reports whether port can be listened on right now.
func portIsFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// missing wraps ErrMissing for the file at path, naming the command to run.
func missing(what, path, install string) error {
	return fmt.Errorf("%w: %s is not at %s; run `%s`", ErrMissing, what, path, install)
}

// makeDir makes a private folder.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	return nil
}

// tail is the end of a log, for errors.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return "; it ends with:\n" + string(raw[max(0, len(raw)-800):])
}
