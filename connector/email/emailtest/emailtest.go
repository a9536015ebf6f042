// Package emailtest runs a mail server on loopback for tests: aiosmtpd, which shares no code with the bridge and which
// `./build.sh setup` installs. It is for tests alone.
package emailtest

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// version is the version of aiosmtpd that build.sh installs from PyPI.
const version = "1.4.6"

//go:embed server.py
var script string

// bound is generous: only a test that hangs runs into it.
const bound = 2 * time.Minute

// Letter is one letter that the server has taken.
type Letter struct {
	MailFrom string            `json:"mail_from"`
	To       []string          `json:"to"`
	Headers  map[string]string `json:"headers"`
	Defects  []string          `json:"defects"`
	Text     string            `json:"text"`
	TLS      bool              `json:"tls"`
	Login    string            `json:"login"`
}

// Server is a running mail server.
type Server struct {
	// Address is its host:port.
	Address string

	mu      sync.Mutex
	letters []Letter
	came    chan struct{}
}

// Start starts a server with arguments of server.py, and stops it at the end of the test. Where it is not installed the test is
// skipped, and fails with CI=true.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(cache, "postern", "aiosmtpd-"+version, "bin", "python")
	if _, err := os.Stat(python); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: aiosmtpd %s is not installed; run `./build.sh setup`", version)
	}
	path := filepath.Join(t.TempDir(), "server.py")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, append([]string{path}, args...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var port struct{ Port int }
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &port) != nil || port.Port == 0 {
		t.Fatalf("the mail server says %q", lines.Text())
	}
	s := &Server{Address: fmt.Sprintf("127.0.0.1:%d", port.Port), came: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
			s.take(lines.Bytes())
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the mail server says:\n%s", complaints.Bytes())
		}
	})
	return s
}

func (s *Server) take(line []byte) {
	var l Letter
	if err := json.Unmarshal(line, &l); err != nil {
		l.Defects = []string{err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letters = append(s.letters, l)
	close(s.came)
	s.came = make(chan struct{})
}

// Letters are the letters that have come, oldest first.
func (s *Server) Letters() []Letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.letters)
}

// Wait waits for the n-th letter, counted from one.
func (s *Server) Wait(ctx context.Context, t testing.TB, n int) Letter {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for {
		s.mu.Lock()
		letters, came := s.letters, s.came
		s.mu.Unlock()
		if len(letters) >= n {
			return letters[n-1]
		}
		select {
		case <-came:
		case <-ctx.Done():
			t.Fatalf("letter %d did not come", n)
		}
	}
}
