package main

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func hostArch() string { return runtime.GOARCH }

// same compares two releases byte for byte.
func same(t *testing.T, one, other madeRelease) {
	t.Helper()
	for name, text := range one.files {
		if !bytes.Equal(text, other.files[name]) {
			t.Errorf("%s is not the same: %d and %d bytes", name, len(text), len(other.files[name]))
		}
	}
	if len(one.files) != len(other.files) || len(one.files) < 4 {
		t.Errorf("%d files and %d", len(one.files), len(other.files))
	}
}

// noise are settings of a user that must not matter.
var noise = []string{
	"GOFLAGS=-tags=somethingelse -ldflags=-X=main.Tag=other", "GOAMD64=v3", "GOARM64=v8.2", "CGO_CFLAGS=-O1 -g -DNOISE", "CGO_LDFLAGS=-O1",
	"CC=nothing-of-this-name", "GOWORK=auto", "TZ=Asia/Tokyo", "LC_ALL=C", "SOURCE_DATE_EPOCH=1",
}

// TestTwoFoldersGiveTheSameBytes: a clone in a folder of another name and depth, with other settings, as somebody else would have it.
// Go's build cache is shared, so that this takes seconds; TestTwoMachinesGiveTheSameBytes compiles everything twice.
func TestTwoFoldersGiveTheSameBytes(t *testing.T) {
	made, program := firstRelease(t)
	clone := filepath.Join(t.TempDir(), "another", "name altogether")
	if _, err := doWith(nil, ".", "git", "clone", "-q", "--no-hardlinks", filepath.Join(workshop, "one"), clone); err != nil {
		t.Fatal(err)
	}
	// What is not committed is not in it.
	if err := os.WriteFile(filepath.Join(clone, "bridge", "zzz.go"), []byte("package main\n\nfunc init() { println(1) }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := makeRelease(clone, filepath.Join(t.TempDir(), "out"), noise, "-cc", hostArch()+"="+hostCC)
	if err != nil {
		t.Fatal(err)
	}
	same(t, made, again)
	noTraces(t, program)
}

// noTraces fails if a program says where it was built.
func noTraces(t *testing.T, program []byte) {
	t.Helper()
	for _, key := range []string{"GOROOT", "GOMODCACHE", "GOCACHE"} {
		out, err := doWith(nil, ".", "go", "env", key)
		if err != nil {
			t.Fatal(err)
		}
		if path := bytes.TrimSpace(out); bytes.Contains(program, path) {
			t.Errorf("the program contains the path in %s", key)
		}
	}
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{here, workshop, "postern-release-", "site-packages"} {
		if bytes.Contains(program, []byte(path)) {
			t.Errorf("the program contains %q", path)
		}
	}
}

// TestASettingThatCannotBeUndoneIsRefused instead of making a program that nobody else gets.
func TestASettingThatCannotBeUndoneIsRefused(t *testing.T) {
	for _, setting := range []string{"CGO_CPPFLAGS=-DNOISE", "GOFIPS140=latest", "GOEXPERIMENT=nodwarf5"} {
		key, value, _ := strings.Cut(setting, "=")
		t.Setenv(key, value)
		err := refuse(t.Context(), target{arch: hostArch(), cc: hostCC})
		if err == nil || !strings.Contains(err.Error(), key+" is set") {
			t.Errorf("%s: %v", setting, err)
		}
		if err := os.Unsetenv(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := refuse(t.Context(), target{arch: hostArch(), cc: hostCC}); err != nil {
		t.Errorf("without settings: %v", err)
	}
}

// TestTheArchiveHasAllThatGoesAlong with the program, in one folder, of the commit's time and nobody's.
func TestTheArchiveHasAllThatGoesAlong(t *testing.T) {
	made, _ := firstRelease(t)
	root := "postern-0.1.2-linux-" + hostArch()
	content := made.open(t, root+".tar.gz")
	for _, name := range []string{"postern", "LICENSE", "README.md", "CHANGELOG.md", "example-config.yaml", "sbom.cdx.json", "THIRD-PARTY-LICENCES.txt", "docs/CONFIG.md", "docs/RELEASING.md", "docs/ops/alerts.yaml"} {
		if one, found := content[root+"/"+name]; !found || len(one.text) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
	for name, one := range content {
		h := one.header
		wrong := !h.ModTime.Equal(when(t)) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !strings.HasPrefix(name, root+"/") || strings.HasSuffix(name, ".go")
		executable := strings.HasSuffix(name, "/") || name == root+"/postern"
		if wrong || (h.Mode == 0o755) != executable || (h.Mode == 0o644) == executable {
			t.Errorf("%s: %+v", name, h)
		}
	}
	if !bytes.Equal(content[root+"/sbom.cdx.json"].text, made.files[root+".cdx.json"]) {
		t.Error("the two bills of materials differ")
	}
}

// TestTheSourcesGoAlong as they are in the repository, and nothing else.
func TestTheSourcesGoAlong(t *testing.T) {
	made, _ := firstRelease(t)
	out, err := doWith(nil, filepath.Join(workshop, "one"), "git", "ls-files")
	if err != nil {
		t.Fatal(err)
	}
	content, files := made.open(t, "postern-0.1.2-source.tar.gz"), strings.Fields(string(out))
	for _, path := range files {
		one, found := content["postern-0.1.2-source/"+path]
		if !found {
			t.Errorf("%s is missing", path)
			continue
		}
		text, err := os.ReadFile(filepath.Join(workshop, "one", path))
		if one.header.Linkname == "" && (err != nil || !bytes.Equal(text, one.text)) {
			t.Errorf("%s is another: %v", path, err)
		}
		delete(content, "postern-0.1.2-source/"+path)
	}
	for name, one := range content {
		if !one.header.FileInfo().IsDir() {
			t.Errorf("%s is not in the repository", name)
		}
	}
	if len(files) < 500 {
		t.Errorf("only %d files", len(files))
	}
}

// TestTheChecksumsAreThoseOfAllFiles, as sha256sum reads them.
func TestTheChecksumsAreThoseOfAllFiles(t *testing.T) {
	made, _ := firstRelease(t)
	lines := strings.Split(strings.TrimSpace(string(made.files[sumsName])), "\n")
	if len(lines) != len(made.files)-1 {
		t.Errorf("%d lines for %d files", len(lines), len(made.files)-1)
	}
	for _, line := range lines {
		sum, name, _ := strings.Cut(line, "  ")
		if digest, err := digestOf(filepath.Join(made.dir, name)); err != nil || hex.EncodeToString(digest) != sum {
			t.Errorf("%s: %v", line, err)
		}
	}
	if out, err := doWith(nil, made.dir, "sha256sum", "--check", "--strict", sumsName); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTheProgramSaysWhichCommitItIs, and of when, whatever the clock says.
func TestTheProgramSaysWhichCommitItIs(t *testing.T) {
	_, program := firstRelease(t)
	path := filepath.Join(t.TempDir(), "postern")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	head, err := doWith(nil, filepath.Join(workshop, "one"), "git", "rev-parse", "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	out, err := doWith(nil, ".", path, "version")
	want := fmt.Sprintf("postern v0.1.2 (commit %s, built 2024-02-29T18:59:58Z)\n", bytes.TrimSpace(head))
	if err != nil || string(out) != want {
		t.Errorf("it says %q (%v), want %q", out, err, want)
	}
}

// TestAFolderWithSomethingInItIsLeftAlone: what lies there from before would be published, too.
func TestAFolderWithSomethingInItIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := mustBeEmpty(dir); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "old"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var with compilers
	if err := with.Set("amd64=cc"); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), dir, "HEAD", with, t.Output()); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"amd64", "=cc", "amd64="} {
		if with.Set(bad) == nil {
			t.Errorf("%q was taken for a compiler", bad)
		}
	}
}

// zigTargets are those of build.sh.
var zigTargets = regexp.MustCompile(`-cc "([a-z0-9]+)=\$\(zig_cc ([a-z0-9_.-]+)\)"`)

// TestTwoMachinesGiveTheSameBytes compiles everything twice for every architecture that is published, with the compiler that is used
// for that: in two folders, with a build cache and a module cache of their own the second time.
// Without POSTERN_ALL it only looks whether build.sh names those compilers.
func TestTwoMachinesGiveTheSameBytes(t *testing.T) {
	script, err := os.ReadFile("../../build.sh")
	if err != nil {
		t.Fatal(err)
	}
	targets := zigTargets.FindAllStringSubmatch(string(script), -1)
	if len(targets) != 2 || targets[0][2] != "x86_64-linux-gnu.2.28" || targets[1][2] != "aarch64-linux-gnu.2.28" {
		t.Fatalf("build.sh names the compilers %q", targets)
	}
	if os.Getenv("POSTERN_ALL") == "" {
		return // TestTwoFoldersGiveTheSameBytes is the quick form
	}
	zig := cacheFolder(t, "zig-*/lib/python*/site-packages/ziglang/zig", "Zig, from PyPI,")
	var with []string
	for _, found := range targets {
		with = append(with, "-cc", fmt.Sprintf("%s='%s' cc -target %s", found[1], zig, found[2]))
	}
	if _, err = first(); err != nil {
		t.Fatal(err)
	}
	own := func(name string) string { return filepath.Join(t.TempDir(), name) }
	one, err := makeRelease(filepath.Join(workshop, "one"), own("out"), []string{"ZIG_GLOBAL_CACHE_DIR=" + own("z"), "ZIG_LOCAL_CACHE_DIR=" + own("z")}, with...)
	if err != nil {
		t.Fatal(err)
	}
	modules, err := doWith(nil, ".", "go", "env", "GOMODCACHE")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := own("modules")
	t.Cleanup(func() {
		if _, err := doWith([]string{"GOMODCACHE=" + elsewhere}, ".", "go", "clean", "-modcache"); err != nil {
			t.Error(err)
		}
	})
	clone := own("other folder")
	if _, err = doWith(nil, ".", "git", "clone", "-q", filepath.Join(workshop, "one"), clone); err != nil {
		t.Fatal(err)
	}
	env := append([]string{
		"GOMODCACHE=" + elsewhere, "GOPROXY=file://" + string(bytes.TrimSpace(modules)) + "/cache/download", "GOCACHE=" + own("cache"),
		"ZIG_GLOBAL_CACHE_DIR=" + own("zz"), "ZIG_LOCAL_CACHE_DIR=" + own("zz"),
	}, noise...)
	other, err := makeRelease(clone, own("out"), env, with...)
	if err != nil {
		t.Fatal(err)
	}
	same(t, one, other)
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		name := "postern-0.1.2-linux-" + arch
		runsOnOldSystems(t, one.open(t, name+".tar.gz")[name+"/postern"].text, machine)
	}
}

// runsOnOldSystems looks at what a program asks of the system it runs on.
func runsOnOldSystems(t *testing.T, program []byte, machine elf.Machine) {
	t.Helper()
	noTraces(t, program)
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.ImportedSymbols()
	if err != nil || file.Machine != machine || len(symbols) < 20 {
		t.Fatalf("a program for %v with %d symbols of libraries (%v)", file.Machine, len(symbols), err)
	}
	if file.Section(".debug_info") != nil || file.Section(".symtab") != nil {
		t.Errorf("%v: it is not stripped", machine)
	}
	for _, symbol := range symbols {
		var minor int
		if _, err := fmt.Sscanf(symbol.Version, "GLIBC_2.%d", &minor); err == nil && minor > 28 {
			t.Errorf("%v: %s needs %s", machine, symbol.Name, symbol.Version)
		}
	}
}
