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
	"net"
	"os"
	"path/filepath"
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

// FreePort returns a TCP port on loopback that was free a moment ago, for
// programs that cannot report the port they chose themselves.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

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
