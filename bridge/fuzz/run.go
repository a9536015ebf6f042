package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// result is what one run of one target showed.
type result struct {
	target     target
	duration   string
	executions uint64
	finding    string // the failing input's file, or words if none was written; "" for none
	output     string // what the go command printed, if there is a finding
	reached    share  // with all inputs
	seeds      share  // with those that are in the repository
	err        error  // why there is no coverage, or why the target did not run
}

var (
	progress = regexp.MustCompile(`(?m)^fuzz: elapsed: .*\bexecs: (\d+)`)
	written  = regexp.MustCompile(`(?m)^\s*Failing input written to (\S+)`)
	replayed = regexp.MustCompile(`(?m)failure while testing seed corpus entry: (\S+)`)
	// When the time is up while a worker is busy, the go command may report its own deadline as the failure.
	timeIsUp = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \([\d.]+s\)\n    context deadline exceeded\nFAIL$`)
)

// minimising bounds what the go command spends on shortening one input, in executions. Its own bound is a minute, in
// which nothing else is tried: with one worker that can be the whole run.
const minimising = "500x"

// fuzz runs one target. The go command ends at the first finding.
func (t *toolchain) fuzz(ctx context.Context, one target, o options) result {
	args := []string{
		"test", "-tags", buildTags, "-run", "^$", "-fuzz", "^" + one.name + "$", "-fuzztime", o.duration,
		"-fuzzminimizetime", minimising,
	}
	if o.parallel > 0 {
		args = append(args, "-parallel", strconv.Itoa(o.parallel))
	}
	cmd := t.command(ctx, append(args, one.pkg)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	r := result{target: one, duration: o.duration}
	r.read(out.String(), err)
	return r
}

// read takes the figures from what the go command printed.
func (r *result) read(output string, failure error) {
	if all := progress.FindAllStringSubmatch(output, -1); len(all) > 0 {
		// The expression has digits only; too many of them are no number.
		r.executions, _ = strconv.ParseUint(all[len(all)-1][1], 10, 64)
	}
	if failure == nil || timeIsUp.MatchString(output) && !written.MatchString(output) {
		return
	}
	r.output = output
	var exit *exec.ExitError
	switch m := written.FindStringSubmatch(output); {
	case !errors.As(failure, &exit):
		r.err = fmt.Errorf("go test: %w", failure)
	case m != nil:
		r.finding = filepath.ToSlash(filepath.Join(r.target.folder, m[1]))
	case strings.Contains(output, "testing: will not fuzz"):
		r.err = errors.New("two targets of the package have this name")
	case strings.Contains(output, "[build failed]") || strings.Contains(output, "[setup failed]"):
		r.err = errors.New("does not build")
	default:
		r.finding = "no input written"
		if m = replayed.FindStringSubmatch(output); m != nil {
			r.finding = "known input " + m[1]
		}
	}
}

// measure adds the coverage. An input that fails only here is a finding too.
func (r *result) measure(ctx context.Context, m *measurer) {
	if r.err != nil {
		return
	}
	if r.seeds, r.err = m.cover(ctx, r.target, false); r.err == nil {
		r.reached, r.err = m.cover(ctx, r.target, true)
	}
	var fails *corpusError
	if errors.As(r.err, &fails) && r.finding == "" {
		r.finding = "an input of the corpus fails when it is run again"
		r.output = fails.Output
	}
}

// row is the target's line of the table.
func (r *result) row() string {
	reached, seeds, findings := "?", "?", "0"
	if r.reached.all > 0 {
		reached = fmt.Sprintf("%.1f %%", r.reached.percent())
		seeds = fmt.Sprintf("%.1f %%", r.seeds.percent())
	}
	if r.finding != "" {
		findings = "1"
	}
	return fmt.Sprintf("| `%s` | %s | %d | %s | %s | %s |\n", r.target.title(), r.duration, r.executions, reached, seeds, findings)
}

// explain prints, below the row, what the row cannot say.
func (r *result) explain(out io.Writer) {
	if r.finding != "" {
		fmt.Fprintf(out, "\nFINDING in %s: %s\n%s\n", r.target.title(), r.finding, r.output)
	} else if r.err != nil {
		fmt.Fprintf(out, "\n%s: %v\n%s\n", r.target.title(), r.err, r.output)
	}
	if r.err == nil && r.reached.percent() < leastReached {
		fmt.Fprintf(out, "\nNot reached in %s (statements that ran, of all):\n  %s\n\n",
			r.target.title(), strings.Join(r.reached.gaps, "\n  "))
	}
}
