package databasetest

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startBound fails a server that does not come up.
const startBound = 90 * time.Second

// Server is a private Postgres server with fsync on. It listens on a socket in its own folder
// and on no port, and ends when the test process ends, however that goes.
type Server struct {
	// DSN connects to it as its superuser, to the database "postgres".
	DSN string

	bin  string
	dir  string
	cred *syscall.Credential // nil: run as ourselves
	cmd  *exec.Cmd
	in   io.WriteCloser
	pid  int // of the postmaster

	ended chan struct{} // closed when the postmaster has ended
}

// StartPostgres starts a server for this test alone, for tests that stop or kill it. Skips loudly, or
// fails if CI=true, where Postgres is not installed.
func StartPostgres(t testing.TB) *Server {
	t.Helper()
	s, err := startServer()
	if err != nil {
		Missing(t, err)
	}
	t.Cleanup(s.Stop)
	return s
}

func startServer() (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if os.Geteuid() == 0 { // the server refuses to run as root
		if s.cred, err = otherUser(); err != nil {
			return nil, err
		}
	}
	// Socket paths are short by law, and another user must get in: not under the test's folder.
	if s.dir, err = os.MkdirTemp("/tmp", "postern-pg-"); err != nil {
		return nil, err
	}
	if s.cred != nil {
		if err = os.Chown(s.dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := s.command(filepath.Join(bin, "initdb"), "--pgdata", filepath.Join(s.dir, "data"), "--username=postern",
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(s.dir))
	}
	s.DSN = "host=" + s.dir + " user=postern dbname=postgres sslmode=disable"
	if err = s.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	return cmd
}

// keeper starts the server, names its process, says when it has ended, waits until its own input ends,
// which is when this process does, stops the server and, unless told to keep it, removes the folder.
const keeper = `
(
	"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=on -c full_page_writes=on \
		-c max_connections=200 -c shared_buffers=32MB >>"$2/log" 2>&1 &
	pid=$!
	trap 'kill -INT $pid 2>/dev/null' TERM
	echo $pid
	wait $pid # ends early when the trap runs
	wait $pid
	echo ended
) &
server=$!
trap '' INT TERM HUP
verdict=remove
while read -r line; do verdict=$line; done
kill -TERM $server 2>/dev/null
wait $server
[ "$verdict" = keep ] || rm -rf "$2"
`

// Start starts the server, after Kill or Shutdown again on the same data, and waits until it answers.
func (s *Server) Start() error {
	deadline := time.Now().Add(startBound)
	for {
		err := s.startOnce(deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		s.end("keep") // after a kill the old processes may still hold the memory: again
	}
}

func (s *Server) startOnce(deadline time.Time) error {
	s.cmd = s.command("/bin/sh", "-c", keeper, "sh", s.bin, s.dir)
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err = s.cmd.Start(); err != nil {
		return err
	}
	s.in = in
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		return err
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		_, _ = lines.ReadString('\n') // the keeper's "ended", or its own end
	}()
	if s.pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return err
	}
	db, err := sql.Open("postgres", s.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	for {
		if err = db.Ping(); err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("postgres ended: %w", err)
		case <-time.After(20 * time.Millisecond): // until the next look at the condition
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("postgres does not come up: %w", err)
		}
	}
}

// Shutdown stops the server in order and keeps its data.
func (s *Server) Shutdown() { s.end("keep") }

// Kill ends the server with SIGKILL, as a crash would, and keeps its data.
func (s *Server) Kill() {
	_ = syscall.Kill(s.pid, syscall.SIGKILL)
	s.end("keep")
}

// Stop stops the server and removes its data.
func (s *Server) Stop() { s.end("remove") }

func (s *Server) end(verdict string) {
	if s.cmd == nil {
		return
	}
	_, _ = io.WriteString(s.in, verdict+"\n")
	_ = s.in.Close()
	if s.ended != nil {
		<-s.ended
	}
	_ = s.cmd.Wait() // the server's own exit code says nothing we need
	s.cmd, s.ended = nil, nil
	if verdict == "remove" {
		_ = os.RemoveAll(s.dir)
	}
}

// findBinaries returns the folder with initdb and postgres in it.
func findBinaries() (string, error) {
	var dirs []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is valid
	sort.Sort(sort.Reverse(sort.StringSlice(installed)))
	for _, dir := range append(dirs, installed...) {
		_, err1 := os.Stat(filepath.Join(dir, "initdb"))
		_, err2 := os.Stat(filepath.Join(dir, "postgres"))
		if err1 == nil && err2 == nil {
			return dir, nil
		}
	}
	return "", errors.New("no folder with initdb and postgres found")
}

func otherUser() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("running as root, and there is no user postgres or nobody to run the server as")
}
