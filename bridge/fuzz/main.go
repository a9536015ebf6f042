// Command fuzz runs the module's fuzz targets one after the other, measures
// how much of each one's decoder its corpus reaches, and keeps the table in
// docs/FUZZING.md.
//
// Layer: a tool beside bridge, for whoever works on the code. It reads sources
// and starts the go command; it must not import any package of this module.
// Of docs/PROTOCOL.md it implements nothing.
//
// Usage:
//
//	fuzz [TIME] [-parallel N] [-o FILE] [TARGET]
//
// TIME is what `go test -fuzztime` takes (default 60s; "500x" counts
// executions). TARGET is a regular expression, matched against names such as
// binxml.FuzzDecode. The exit status is 0 only if no target has a finding,
// every target names its decoder, and every one of them reaches 80 % of it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	buildTags    = "goolm"
	document     = "docs/FUZZING.md"
	leastReached = 80 // per cent of a decoder's statements
	// A run as long as this replaces what the document says; a shorter one only
	// prints.
	recorded = 60 * time.Second
)

// searched are the folders, below the module, whose packages are looked at.
var searched = []string{"connector", "database", "bridge"}

// options is what the command line says.
type options struct {
	duration string // for go test -fuzztime
	parallel int    // workers of one target; 0: the go command's own choice
	output   string // the document to write; "" for none
	filter   *regexp.Regexp
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parseArguments(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(2)
	}
	if err = campaign(ctx, ".", o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		stop()
		os.Exit(1)
	}
}

// parseArguments reads flags and words in any order, which the flag package
// alone does not.
func parseArguments(args []string) (options, error) {
	o := options{duration: "60s"}
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&o.parallel, "parallel", 0, "workers of one target")
	flags.StringVar(&o.output, "o", "", "the document to write")
	for words := 0; len(args) > 0; {
		if err := flags.Parse(args); err != nil {
			return o, fmt.Errorf("read arguments: %w", err)
		}
		args = flags.Args()
		if len(args) == 0 {
			break
		}
		word := args[0]
		args = args[1:]
		switch {
		case words == 0 && isDuration(word):
			o.duration = word
		case o.filter == nil:
			filter, err := regexp.Compile(word)
			if err != nil {
				return o, fmt.Errorf("read target pattern: %w", err)
			}
			o.filter = filter
		default:
			return o, fmt.Errorf("read arguments: %q is one too many", word)
		}
		words++
	}
	if o.parallel < 0 {
		return o, errors.New("read arguments: -parallel must not be negative")
	}
	if d, err := time.ParseDuration(o.duration); o.output == "" && err == nil && d >= recorded {
		o.output = document
	}
	return o, nil
}

func isDuration(word string) bool {
	if times, ok := strings.CutSuffix(word, "x"); ok {
		n, err := strconv.ParseUint(times, 10, 62)
		return err == nil && n > 0
	}
	d, err := time.ParseDuration(word)
	return err == nil && d > 0
}

// campaign runs the targets of the module in folder root and prints a row for
// each. Its error names every target that is not as it should be.
func campaign(ctx context.Context, root string, o options, out io.Writer) error {
	goCommand, err := newToolchain(ctx, root)
	if err != nil {
		return err
	}
	all, err := goCommand.targets(ctx)
	if err != nil {
		return err
	}
	binaries, err := os.MkdirTemp("", "postern-fuzz-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(binaries)
	coverage := &measurer{tools: goCommand, dir: binaries, built: map[string]built{}}
	results := map[string]result{}
	fmt.Fprint(out, tableHead)
	for _, t := range all {
		if o.filter != nil && !o.filter.MatchString(t.title()) {
			continue
		}
		r := goCommand.fuzz(ctx, t, o)
		if ctx.Err() == nil {
			r.measure(ctx, coverage)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("fuzz %s: %w", t.title(), context.Cause(ctx))
		}
		results[t.title()] = r
		fmt.Fprint(out, r.row())
		r.explain(out)
	}
	if len(results) == 0 {
		return errors.New("no fuzz target has such a name")
	}
	if o.output != "" {
		if err = record(filepath.Join(root, o.output), all, results, runtime.NumCPU()); err != nil {
			return err
		}
	}
	return verdict(all, results)
}

// verdict joins what is wrong with the targets that ran.
func verdict(all []target, results map[string]result) error {
	var wrong []error
	for _, t := range all {
		r, ok := results[t.title()]
		if !ok {
			continue
		}
		if r.finding != "" {
			wrong = append(wrong, fmt.Errorf("%s: finding: %s", t.title(), r.finding))
		}
		if r.err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", t.title(), r.err))
		} else if r.reached.percent() < leastReached {
			wrong = append(wrong, fmt.Errorf("%s: reaches %.1f %% of its decoder, less than %d %%",
				t.title(), r.reached.percent(), leastReached))
		}
	}
	return errors.Join(wrong...)
}
