package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tags are the build tags of the product.
const tags = "goolm"

// target is one architecture of Linux, and the command line of the C compiler for it (SQLite is written in C).
type target struct{ arch, cc string }

// settled are the settings of the go command that change what it makes. What the environment says of them does not count.
func (t target) settled() []string {
	return []string{
		"CGO_ENABLED=1", "GOOS=linux", "GOARCH=" + t.arch, "CC=" + t.cc,
		"GOAMD64=v1", "GOARM64=v8.0",
		"CGO_CFLAGS=-O2 -g", "CGO_LDFLAGS=-O2 -g",
		// Not empty, or the user's own setting would take its place.
		"GOFLAGS=-trimpath", "GOWORK=off", "GOTOOLCHAIN=local",
	}
}

// environment is the one that the go command runs in: this process's, with what is settled.
func (t target) environment() []string {
	return append(slices.DeleteFunc(os.Environ(), func(entry string) bool {
		key, _, _ := strings.Cut(entry, "=")
		return slices.ContainsFunc(t.settled(), func(own string) bool { return strings.HasPrefix(own, key+"=") })
	}), t.settled()...)
}

// unsettled are settings that change the program too, and for which there is no value that means "the default".
var unsettled = map[string]string{"GOEXPERIMENT": "", "GODEBUG": "", "GOFIPS140": "off", "CGO_CPPFLAGS": ""}

// refuse finds settings that would make a program that nobody else gets.
func refuse(ctx context.Context, t target) error {
	text, err := output(ctx, ".", t.environment(), "go", "env", "-json", "GOEXPERIMENT", "GODEBUG", "GOFIPS140", "CGO_CPPFLAGS")
	if err != nil {
		return err
	}
	var now map[string]string
	if err = json.Unmarshal(text, &now); err != nil {
		return err
	}
	for key, want := range unsettled {
		if now[key] != want {
			return fmt.Errorf("%s is set; a release is built without it", key)
		}
	}
	return nil
}

// -extldflags=-s stands after the -g that C compilers are told, of which Zig takes the later one.
//
// arguments are those of `go build`. The linker's build ids go: they are made from the compiler's path, too, and the file's
// checksum says the same. So does what Go finds out about a repository: sources without one give the same program.
func arguments(v version, to string) []string {
	stamps := fmt.Sprintf("-X main.Tag=%s -X main.Commit=%s -X main.BuildTime=%s", v.tag, v.commit, v.stamp())
	return []string{
		"build", "-tags", tags, "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags", "-s -w -buildid= -B none -extldflags=-s " + stamps, "-o", to, "./bridge",
	}
}

// compile builds the program of the module in dir.
func compile(ctx context.Context, dir, to string, t target, v version) error {
	if err := refuse(ctx, t); err != nil {
		return err
	}
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	_, err = output(ctx, dir, t.environment(), "go", arguments(v, to)...)
	return err
}

// compilerName is how the C compiler calls itself: whoever wants the same bytes needs the same one.
func compilerName(ctx context.Context, t target) (string, error) {
	text, err := output(ctx, ".", nil, "sh", "-c", t.cc+" --version")
	line, _, _ := strings.Cut(string(text), "\n")
	return line, err
}
