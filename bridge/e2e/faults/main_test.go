package faults_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"postern/bridge/parts"
)

// bound is generous: only a test that hangs runs into it. Whoever expects that, as the run of the mutants, sets another one.
var bound = 3 * time.Minute

// armed is the program under test.
var armed string

// scratch is a folder that lives as long as this process.
var scratch string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if text := os.Getenv("POSTERN_BOUND"); text != "" {
		if bound, err = time.ParseDuration(text); err != nil {
			fmt.Fprintln(os.Stderr, "POSTERN_BOUND:", err)
			return 1
		}
	}
	keep := os.Getenv("POSTERN_KEEP")
	if scratch, err = os.MkdirTemp(keep, "postern-faults-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if keep == "" {
		defer os.RemoveAll(scratch)
	}
	if armed = os.Getenv("POSTERN_ARMED"); armed == "" {
		armed = filepath.Join(scratch, "postern")
		if err := parts.BuildPostern(armed, "killpoints"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	code := m.Run()
	closeRigs()
	for _, err := range leaks.found {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// lasting stands in for a test where something is to outlive it: what it is to clean up is done at the end of the process.
type lasting struct{ testing.TB }

func (lasting) Helper() {}
func (lasting) Cleanup(fn func()) {
	atEnd.Lock()
	defer atEnd.Unlock()
	atEnd.todo = append(atEnd.todo, fn)
}
func (lasting) Error(args ...any)                 { fmt.Fprintln(os.Stderr, args...) }
func (lasting) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (lasting) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }

var atEnd struct {
	sync.Mutex
	todo []func()
}

func closeRigs() {
	rigs.Lock()
	for _, r := range rigs.open {
		if err := r.close(); err != nil {
			fmt.Fprintln(os.Stderr, "closing a world:", err)
		}
	}
	rigs.Unlock()
	atEnd.Lock()
	defer atEnd.Unlock()
	for i := len(atEnd.todo) - 1; i >= 0; i-- {
		atEnd.todo[i]()
	}
}
