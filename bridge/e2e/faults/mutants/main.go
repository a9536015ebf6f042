// Command mutants breaks the bridge on purpose, once for each rule of its two pipelines, and shows which test of the fault matrix
// notices. A mutant that no test notices is a hole in the tests.
//
// Layer: a tool beside bridge/e2e, for whoever works on the code. It reads sources and starts the go command; it must not import any
// package of this module. The product's sources stay as they are: a mutant is built with -overlay, from replacements that have to
// match exactly once. Of docs/PROTOCOL.md it implements nothing.
//
// Usage, in the module's folder:
//
//	mutants [-o FILE] [NAME]
//
// NAME is a regular expression for the mutants to try. FILE gets the table in Markdown. The exit status is 0 only if every mutant
// was noticed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// patience is how long one test may take with a mutant: most are noticed because something never arrives.
const patience = "20s"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	output := flag.String("o", "", "write the table to this `file`")
	flag.Parse()
	filter, err := regexp.Compile(flag.Arg(0))
	if err == nil {
		err = run(ctx, filter, *output, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run tries every mutant whose name filter matches.
func run(ctx context.Context, filter *regexp.Regexp, output string, out io.Writer) error {
	dir, err := os.MkdirTemp("", "postern-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tests := filepath.Join(dir, "faults.test")
	if err := command(ctx, "go", "test", "-c", "-tags", "goolm", "-o", tests, "./bridge/e2e/faults"); err != nil {
		return fmt.Errorf("building the tests: %w", err)
	}
	var table strings.Builder
	table.WriteString("| mutant | the rule it breaks | killed by |\n| --- | --- | --- |\n")
	alive := 0
	for _, m := range mutants {
		if !filter.MatchString(m.name) {
			continue
		}
		begin := time.Now()
		killer, err := m.try(ctx, dir, tests)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if killer == "" {
			alive++
			killer = "NOTHING"
		}
		fmt.Fprintf(out, "%-28s %-70s %s\n", m.name, killer, time.Since(begin).Round(time.Second))
		fmt.Fprintf(&table, "| `%s` | %s | `%s` |\n", m.name, m.rule, killer)
	}
	if output != "" {
		if err := os.WriteFile(output, []byte(table.String()), 0o644); err != nil {
			return err
		}
	}
	if alive > 0 {
		return fmt.Errorf("%d mutants were not noticed", alive)
	}
	return nil
}

// try builds a mutant and returns the first test that fails on it, "" if there is none.
func (m *mutant) try(ctx context.Context, dir, tests string) (string, error) {
	program := filepath.Join(dir, m.name)
	defer os.Remove(program)
	overlay, err := m.overlay(filepath.Join(dir, m.name+".src"))
	if err != nil {
		return "", err
	}
	err = command(ctx, "go", "build", "-tags", "goolm,killpoints,mutant_"+m.name, "-overlay", overlay, "-o", program, "./bridge")
	if err != nil {
		return "", fmt.Errorf("building: %w", err)
	}
	for _, which := range []string{m.first, "F[0-9]|Campaign"} {
		killer, err := firstFailure(ctx, tests, program, which)
		if killer != "" || err != nil {
			return killer, err
		}
	}
	return "", nil
}

// overlay writes the mutant's files into dir and returns the file that go build takes.
func (m *mutant) overlay(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	texts := map[string]string{}
	for _, c := range m.changes {
		text, ok := texts[c.file]
		if !ok {
			raw, err := os.ReadFile(c.file)
			if err != nil {
				return "", err
			}
			text = string(raw)
		}
		if n := strings.Count(text, c.old); n != 1 {
			return "", fmt.Errorf("%s has %d places for the replacement of %q, want 1", c.file, n, c.old)
		}
		texts[c.file] = strings.Replace(text, c.old, c.new, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		from, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		to := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[from] = to
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, raw, 0o600)
}

var failure = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)

// firstFailure runs tests on a program and returns the most exact name of the first that fails.
func firstFailure(ctx context.Context, tests, program, which string) (string, error) {
	cmd := exec.CommandContext(ctx, tests, "-test.run", which, "-test.failfast", "-test.timeout", "20m")
	cmd.Dir = filepath.Join("bridge", "e2e", "faults")
	cmd.Env = append(os.Environ(), "POSTERN_ARMED="+program, "POSTERN_BOUND="+patience)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case !errors.As(err, &exit):
		return "", err
	}
	killer := ""
	for _, found := range failure.FindAllStringSubmatch(out.String(), -1) {
		if killer == "" || strings.HasPrefix(found[1], killer+"/") {
			killer = found[1]
		}
	}
	if killer == "" {
		return "", fmt.Errorf("the tests ended without a failure: %w\n%s", err, out.Bytes()[max(0, out.Len()-2000):])
	}
	return killer, nil
}

// command runs a program; its output goes with the error.
func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
