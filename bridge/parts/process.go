package parts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// StopGrace is how long Stop waits after SIGTERM before it kills.
const StopGrace = 20 * time.Second

// ProcessConfig says what to run.
type ProcessConfig struct {
	Name    string   // for messages
	Path    string   // program
	Args    []string // without the program
	Env     []string // added to this process's environment
	Dir     string   // working folder; empty: this process's
	LogPath string   // stdout and stderr are appended here
	// FirstLine sends the first line of stdout to Process.FirstLine and the
	// rest, with stderr, to the log.
	FirstLine bool
}

// Process is a running child that ends when this process ends.
type Process struct {
	cfg   ProcessConfig
	cmd   *exec.Cmd
	first chan string
	done  chan struct{}
	err   error // valid after done
}

// Start runs a program. The child dies with this process on Linux, even when
// this process is killed.
func Start(cfg ProcessConfig) (*Process, error) {
	log, err := os.OpenFile(cfg.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", cfg.Name, err)
	}
	cmd := exec.Command(cfg.Path, cfg.Args...)
	cmd.Env = append(os.Environ(), cfg.Env...)
	cmd.Dir = cfg.Dir
	cmd.Stderr = log
	p := &Process{cfg: cfg, cmd: cmd, first: make(chan string, 1), done: make(chan struct{})}
	var out io.ReadCloser
	if cfg.FirstLine {
		if out, err = cmd.StdoutPipe(); err != nil {
			log.Close()
			return nil, fmt.Errorf("starting %s: %w", cfg.Name, err)
		}
	} else {
		cmd.Stdout = log
	}
	cmd.SysProcAttr = childAttributes()
	started := make(chan error)
	// The kernel ties the death signal to the thread that forked, so that
	// thread has to live as long as the child does.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		if out != nil {
			p.copyOutput(out, log)
		}
		p.err = cmd.Wait()
		log.Close()
		close(p.done)
	}()
	if err := <-started; err != nil {
		log.Close()
		return nil, fmt.Errorf("starting %s: %w", cfg.Name, err)
	}
	return p, nil
}

// copyOutput hands over the first line and appends the rest to the log.
func (p *Process) copyOutput(out io.Reader, log io.Writer) {
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err == nil {
		p.first <- line
	}
	close(p.first)
	_, _ = io.Copy(log, r) // ends with the child; what it wrote is in the log
}

// FirstLine waits for the child's first line of output.
func (p *Process) FirstLine(ctx context.Context) (string, error) {
	select {
	case line, ok := <-p.first:
		if ok {
			return line, nil
		}
		return "", fmt.Errorf("%s ended before it said where it listens; its log is %s", p.cfg.Name, p.cfg.LogPath)
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for %s: %w; its log is %s", p.cfg.Name, ctx.Err(), p.cfg.LogPath)
	}
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// LogPath is the file that holds the child's output.
func (p *Process) LogPath() string { return p.cfg.LogPath }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop asks the child to end with SIGTERM, waits at most StopGrace, then
// kills it. The error tells of a child that did not end cleanly by itself.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", p.cfg.Name, err)
	}
	timer := time.NewTimer(StopGrace)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.exitError()
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("stopping %s: still running after %s; killed", p.cfg.Name, StopGrace)
	}
}

// Kill ends the child with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // the only failure is that it has ended already
	<-p.done
}

// exitError is nil for exit status 0 and for an end by SIGTERM.
func (p *Process) exitError() error {
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
			return nil
		}
	}
	if p.err != nil {
		return fmt.Errorf("%s ended with %w; its log is %s", p.cfg.Name, p.err, p.cfg.LogPath)
	}
	return nil
}
