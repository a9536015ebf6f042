package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the tests look at is made once, by the tool itself: building takes most of the time.
var (
	workshop string // a folder for all tests
	tool     = sync.OnceValues(func() (string, error) {
		path := filepath.Join(workshop, "tool")
		_, err := doWith(nil, ".", "go", "build", "-o", path, ".")
		return path, err
	})
	// first is a release of a repository that has the files as they are here now, for the machine's own architecture and compiler.
	first = sync.OnceValues(func() (madeRelease, error) {
		sources := filepath.Join(workshop, "one")
		if err := snapshot(sources); err != nil {
			return madeRelease{}, err
		}
		return makeRelease(sources, filepath.Join(workshop, "first"), nil, "-cc", hostArch()+"="+hostCC)
	})
)

// hostCC is the compiler that everything else here is built with, so that the build cache has SQLite.
var hostCC = "cc"

// commitTime is when the tests' commit was made: not today.
const commitTime = "2024-02-29T23:59:58+05:00"

func TestMain(m *testing.M) {
	var err error
	if workshop, err = os.MkdirTemp("", "postern-release-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if out, err := doWith(nil, ".", "go", "env", "CC"); err == nil && len(bytes.TrimSpace(out)) > 0 {
		hostCC = string(bytes.TrimSpace(out))
	}
	code := m.Run()
	_ = os.RemoveAll(workshop)
	os.Exit(code)
}

// madeRelease is what the tool made, by the files' names.
type madeRelease struct {
	dir   string
	files map[string][]byte
}

// doWith runs a command with additions to the environment, and returns what it prints.
func doWith(env []string, dir, name string, args ...string) ([]byte, error) {
	command := exec.Command(name, args...)
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return out, err
}

// snapshot makes a repository with one commit, of the files as they are in this one now, committed or not.
func snapshot(to string) error {
	list, err := doWith(nil, "../..", "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	for path := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		from, into := filepath.Join("../..", path), filepath.Join(to, path)
		info, err := os.Lstat(from)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed
		} else if err != nil {
			return err
		}
		if err = os.MkdirAll(filepath.Dir(into), 0o755); err != nil {
			return err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			var leads string
			if leads, err = os.Readlink(from); err == nil {
				err = os.Symlink(leads, into)
			}
		} else {
			err = copyTo(from, into)
		}
		if err != nil {
			return err
		}
	}
	who := []string{
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b.example", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b.example",
		"GIT_AUTHOR_DATE=" + commitTime, "GIT_COMMITTER_DATE=" + commitTime,
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"commit", "-q", "--no-gpg-sign", "--no-verify", "-m", "all"}, {"tag", "v0.1.2"}} {
		if _, err = doWith(who, to, "git", args...); err != nil {
			return err
		}
	}
	return nil
}

// makeRelease runs the tool in the repository in sources.
func makeRelease(sources, out string, env []string, args ...string) (madeRelease, error) {
	program, err := tool()
	if err != nil {
		return madeRelease{}, err
	}
	if _, err = doWith(env, sources, program, append([]string{"-out", out}, args...)...); err != nil {
		return madeRelease{}, err
	}
	made := madeRelease{dir: out, files: map[string][]byte{}}
	entries, err := os.ReadDir(out)
	if err != nil {
		return made, err
	}
	for _, entry := range entries {
		if made.files[entry.Name()], err = os.ReadFile(filepath.Join(out, entry.Name())); err != nil {
			return made, err
		}
	}
	return made, nil
}

// packed is a file in an archive.
type packed struct {
	header *tar.Header
	text   []byte
}

// open unpacks an archive of the release.
func (m madeRelease) open(t *testing.T, name string) map[string]packed {
	t.Helper()
	squeezed, err := gzip.NewReader(bytes.NewReader(m.files[name]))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	content := map[string]packed{}
	for reader := tar.NewReader(squeezed); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return content
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		content[header.Name] = packed{header, text}
	}
}

// firstRelease is the release that most tests look at, and its program.
func firstRelease(t *testing.T) (made madeRelease, program []byte) {
	t.Helper()
	made, err := first()
	if err != nil {
		t.Fatal(err)
	}
	name := "postern-0.1.2-linux-" + hostArch()
	return made, made.open(t, name+".tar.gz")[name+"/postern"].text
}

// when is commitTime.
func when(t *testing.T) time.Time {
	t.Helper()
	then, err := time.Parse(time.RFC3339, commitTime)
	if err != nil {
		t.Fatal(err)
	}
	return then.UTC()
}

// cacheFolder finds what build.sh has installed, or says why a test cannot be.
func cacheFolder(t *testing.T, pattern, what string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(cache, "postern", pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", what)
		}
		t.Skipf("SKIPPED: %s is not installed; run `./build.sh setup`", what)
	}
	return found[0]
}
