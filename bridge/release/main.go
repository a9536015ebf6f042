// Command release makes what is published: the program for each architecture with its documents, a bill of materials, the licences
// of everything in it, the sources, and checksums. The same commit gives the same bytes in every folder and on every day.
//
// Layer: a tool beside the bridge, for whoever publishes it. It reads sources and starts git and the go command; it must not import
// any package of this module. Of docs/PROTOCOL.md it implements nothing; docs/RELEASING.md describes what it makes.
//
// Usage, in the module's folder (./build.sh release does it, and brings the compilers):
//
//	release [-out DIR] [-commit REV] -cc ARCH=COMMAND [-cc ARCH=COMMAND]
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// compilers is the C compiler's command line for each architecture, in the order in which they were given.
type compilers []struct{ arch, command string }

// String shows the architectures.
func (c *compilers) String() string {
	var list []string
	for _, one := range *c {
		list = append(list, one.arch)
	}
	return strings.Join(list, " ")
}

// Set takes ARCH=COMMAND.
func (c *compilers) Set(text string) error {
	arch, command, found := strings.Cut(text, "=")
	if !found || arch == "" || command == "" {
		return fmt.Errorf("%q is not ARCH=COMMAND", text)
	}
	*c = append(*c, struct{ arch, command string }{arch, command})
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var with compilers
	out := flag.String("out", filepath.Join("build", "release"), "where the files go: a `folder` that is empty or not there yet")
	commit := flag.String("commit", "HEAD", "what is built: a `revision`")
	flag.Var(&with, "cc", "an architecture and its C compiler, as `ARCH=COMMAND`; once for each")
	flag.Parse()
	if err := run(ctx, *out, *commit, with, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// run makes the release of a commit of the repository in the working directory.
func run(ctx context.Context, out, commit string, with compilers, progress io.Writer) error {
	if len(with) == 0 {
		return fmt.Errorf("no architecture was named; use ./build.sh release")
	}
	if err := mustBeEmpty(out); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "postern-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	v, err := versionOf(ctx, ".", commit)
	if err != nil {
		return err
	}
	sources := filepath.Join(work, "src")
	if err = export(ctx, ".", v.commit, sources); err != nil {
		return err
	}
	fmt.Fprintf(progress, "==> %s, commit %s of %s\n", v.tag, v.commit, v.stamp())
	if err = tell(ctx, progress); err != nil {
		return err
	}
	var made []string
	for _, one := range with {
		fmt.Fprintf(progress, "==> linux/%s\n", one.arch)
		files, err := makeOne(ctx, sources, out, target{arch: one.arch, cc: one.command}, v)
		if err != nil {
			return fmt.Errorf("linux/%s: %w", one.arch, err)
		}
		made = append(made, files...)
	}
	archive := v.name("source") + ".tar.gz"
	if err = packTree(filepath.Join(out, archive), v.name("source"), sources, v.when); err != nil {
		return err
	}
	sums, err := writeSums(out, append(made, archive))
	if err == nil {
		_, err = fmt.Fprint(progress, sums)
	}
	return err
}

// tell says what is not in the release though it lies in the folder.
func tell(ctx context.Context, progress io.Writer) error {
	changed, err := output(ctx, ".", nil, "git", "status", "--porcelain", "--untracked-files=no")
	if err == nil && len(changed) > 0 {
		_, err = fmt.Fprintln(progress, "NOTE: there are changes that are not committed; they are not in it")
	}
	return err
}

// makeOne builds and packs one architecture, and returns the names of the files that it wrote to out.
func makeOne(ctx context.Context, sources, out string, t target, v version) ([]string, error) {
	work, err := os.MkdirTemp("", "postern-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	name := v.name("linux-" + t.arch)
	inside := filepath.Join(work, name)
	if err = os.Mkdir(inside, 0o755); err != nil {
		return nil, err
	}
	program := filepath.Join(inside, "postern")
	if err = compile(ctx, sources, program, t, v); err != nil {
		return nil, err
	}
	parts, err := inventory(ctx, sources, program, t)
	if err != nil {
		return nil, err
	}
	bill, err := parts.cycloneDX(program, v)
	if err != nil {
		return nil, err
	}
	billName := name + ".cdx.json"
	for _, path := range []string{filepath.Join(inside, "sbom.cdx.json"), filepath.Join(out, billName)} {
		if err = os.WriteFile(path, bill, 0o644); err != nil {
			return nil, err
		}
	}
	if err = os.WriteFile(filepath.Join(inside, "THIRD-PARTY-LICENCES.txt"), parts.licenceText(), 0o644); err != nil {
		return nil, err
	}
	for _, file := range documents {
		if err = copyTo(filepath.Join(sources, file), filepath.Join(inside, file)); err != nil {
			return nil, err
		}
	}
	archive := name + ".tar.gz"
	return []string{archive, billName}, packTree(filepath.Join(out, archive), name, inside, v.when)
}
