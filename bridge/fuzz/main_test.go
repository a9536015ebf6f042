package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestArgumentsComeInAnyOrder(t *testing.T) {
	for _, c := range []struct {
		args     string
		duration string
		parallel int
		filter   string
		output   string
	}{
		{"", "60s", 0, "", document},
		{"10s", "10s", 0, "", ""},
		{"2m -parallel 1", "2m", 1, "", document},
		{"-parallel 2 61s binxml", "61s", 2, "binxml", document},
		{"binxml|jid", "60s", 0, "binxml|jid", document},
		{"5x -o x.md stanza -parallel 3", "5x", 3, "stanza", "x.md"},
	} {
		o, err := parseArguments(strings.Fields(c.args))
		filter := ""
		if o.filter != nil {
			filter = o.filter.String()
		}
		if err != nil || o.duration != c.duration || o.parallel != c.parallel || filter != c.filter || o.output != c.output {
			t.Errorf("%q: %+v, %q, %v", c.args, o, filter, err)
		}
	}
	for _, args := range []string{"-parallel", "-parallel x", "-parallel -1", "10s a b", "a[", "-nothing"} {
		if o, err := parseArguments(strings.Fields(args)); err == nil {
			t.Errorf("%q was taken as %+v", args, o)
		}
	}
}

// inModule makes a module of its own with the files, and returns its folder. What fuzzing it leaves in the go command's
// cache is removed in the end.
func inModule(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	module := fmt.Sprintf("postern-fuzz-trial-%d", os.Getpid())
	files["go.mod"] = "module " + module + "\n\ngo 1.26\n"
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tools, err := newToolchain(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if tools.module != module {
		t.Fatalf("the module is %s", tools.module)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(filepath.Join(tools.cache, module)); err != nil {
			t.Error(err)
		}
	})
	return root
}

const (
	decoderSource = `package thing

import "errors"

// Decode takes "ab" and "ac".
func Decode(b []byte) (int, error) {
	if len(b) != 2 {
		return 0, errors.New("length")
	}
	if b[0] != 'a' {
		return 0, errors.New("head")
	}
	return tail(b[1])
}

func tail(c byte) (int, error) {
	switch c {
	case 'b':
		return 1, nil
	case 'c':
		return 2, nil
	}
	return 0, errors.New("tail")
}

func never() int {
	n := 1
	n++
	return n
}
`
	targetSource = `package thing

import "testing"

// FuzzGood checks
// the number.
//
// decoder: thing.go:Decode,tail
func FuzzGood(f *testing.F) {
	for _, s := range []string{"", "ab", "ac", "ad", "b "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := Decode(b); err == nil && n == 0 {
			t.Error("nothing")
		}
	})
}

// decoder: thing.go
func FuzzWide(f *testing.F) {
	f.Add([]byte("ab"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = Decode(b[:min(len(b), 1)]) })
}

func FuzzUnnamed(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {})
}

// decoder: thing.go:Decode
func FuzzBad(f *testing.F) {
	f.Add([]byte("a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 40 {
			t.Error("too long")
		}
	})
}
`
)

// TestACampaign runs the whole program over a small module: a target that is as it should be, one that reaches too
// little, one that names nothing, and one with a finding.
func TestACampaign(t *testing.T) {
	root := inModule(t, map[string]string{
		"connector/thing/thing.go": decoderSource, "connector/thing/thing_test.go": targetSource, "docs/x": "",
	})
	var out strings.Builder
	o, err := parseArguments([]string{"2000x", "-parallel", "1", "-o", "docs/F.md", "Good|Wide|Unnamed"})
	if err != nil {
		t.Fatal(err)
	}
	err = campaign(t.Context(), root, o, &out)
	if err == nil || strings.Contains(err.Error(), "FuzzGood") ||
		!strings.Contains(err.Error(), "connector/thing.FuzzWide: reaches 16.7 % of its decoder, less than 80 %") ||
		!strings.Contains(err.Error(), "connector/thing.FuzzUnnamed: "+errNoDecoder.Error()) {
		t.Errorf("the verdict is %v", err)
	}
	for _, want := range []string{"Good` | 2000x | ", "| 100.0 % | 100.0 % | 0 |", "thing.go never: 0 of 3", "Unnamed` | 2000x | "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q was not printed:\n%s", want, out.String())
		}
	}
	before, err := os.ReadFile(filepath.Join(root, "docs/F.md"))
	if err != nil {
		t.Fatal(err)
	}

	// The one with a finding, alone: rows of the others stay.
	out.Reset()
	if o, err = parseArguments([]string{"50000x", "-o", "docs/F.md", "Bad$"}); err != nil {
		t.Fatal(err)
	}
	err = campaign(t.Context(), root, o, &out)
	if err == nil || !strings.Contains(err.Error(), "FuzzBad: finding: connector/thing/testdata/fuzz/FuzzBad/") {
		t.Fatalf("the verdict is %v\n%s", err, out.String())
	}
	_, file, _ := strings.Cut(err.Error(), "finding: ")
	file, _, _ = strings.Cut(file, "\n")
	if _, err = os.Stat(filepath.Join(root, file)); err != nil {
		t.Errorf("the failing input: %v", err)
	}
	after, err := os.ReadFile(filepath.Join(root, "docs/F.md"))
	if err != nil {
		t.Fatal(err)
	}
	old, now := oldRows(string(before)), oldRows(string(after))
	if len(old) != 3 || len(now) != 4 || now["connector/thing.FuzzGood"] != old["connector/thing.FuzzGood"] ||
		!strings.HasSuffix(now["connector/thing.FuzzBad"], "| 1 |\n") {
		t.Errorf("rows:\n%v\n%v", old, now)
	}
	if !strings.Contains(string(after), "FuzzGood checks the number.\n\nDecoder: `thing.go` (`Decode`, `tail`).\n") {
		t.Errorf("the document is\n%s", after)
	}

	// The same input is known from now on.
	if err = campaign(t.Context(), root, o, &out); err == nil || !strings.Contains(err.Error(), "FuzzBad: finding: known input FuzzBad/") {
		t.Errorf("the second verdict is %v", err)
	}
	nothing, err := parseArguments([]string{"1x", "Nobody"})
	if err != nil {
		t.Fatal(err)
	}
	if err = campaign(t.Context(), root, nothing, &out); err == nil {
		t.Error("a pattern without targets is no error")
	}
}

func TestAGeneratedCorpusCounts(t *testing.T) {
	root := inModule(t, map[string]string{"connector/thing/thing.go": decoderSource, "connector/thing/thing_test.go": `package thing

import "testing"

// decoder: thing.go:Decode,tail
func FuzzOne(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = Decode(b) })
}
`})
	tools, err := newToolchain(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	targets, err := tools.targets(t.Context())
	if err != nil || len(targets) != 1 {
		t.Fatalf("%v, %v", targets, err)
	}
	cache := filepath.Join(tools.cache, targets[0].pkg, "FuzzOne")
	if err = os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, input := range map[string]string{
		"1": "go test fuzz v1\n[]byte(\"ab\")\n", "2": "go test fuzz v1\n[]byte(\"b \")\n",
		"3": "go test fuzz v1\nstring(\"of another type\")\n", "4": "rubbish",
	} {
		if err = os.WriteFile(filepath.Join(cache, name), []byte(input), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := &measurer{tools: tools, dir: t.TempDir(), built: map[string]built{}}
	seeds, err := m.cover(t.Context(), targets[0], false)
	if err != nil || seeds.ran != 0 || seeds.all != 9 {
		t.Errorf("without generated inputs: %+v, %v", seeds, err)
	}
	reached, err := m.cover(t.Context(), targets[0], true)
	if err != nil || reached.ran != 6 || !slices.Equal(reached.gaps, []string{"thing.go Decode: 4 of 5", "thing.go tail: 2 of 4"}) {
		t.Errorf("with generated inputs: %+v, %v", reached, err)
	}
}

func TestWhatTheGoCommandSays(t *testing.T) {
	exit := exec.CommandContext(t.Context(), "go", "nothing-of-that-name").Run()
	for _, c := range []struct {
		name, output, finding string
		failure               error
		executions            uint64
		broken                bool
	}{
		{"all is well", "fuzz: elapsed: 3s, execs: 5 (1/sec), new\nfuzz: elapsed: 6s, execs: 12 (3/sec)\nPASS\n", "", nil, 12, false},
		{"time is up", "fuzz: elapsed: 9s, execs: 7 (1/sec)\n--- FAIL: FuzzX (10.32s)\n    context deadline exceeded\nFAIL\nexit status 1\n", "", exit, 7, false},
		{"a failing input", "--- FAIL: FuzzX (0.1s)\n    x\n    Failing input written to testdata/fuzz/FuzzX/ab12\n", "p/testdata/fuzz/FuzzX/ab12", exit, 0, false},
		{"a failing input at the end", "--- FAIL: FuzzX (9.1s)\n    context deadline exceeded\nFAIL\n    Failing input written to testdata/fuzz/FuzzX/ab12\n", "p/testdata/fuzz/FuzzX/ab12", exit, 0, false},
		{"a known input", "failure while testing seed corpus entry: FuzzX/ab12\n--- FAIL: FuzzX (0.1s)\n", "known input FuzzX/ab12", exit, 0, false},
		{"a process that died", "--- FAIL: FuzzX (0.1s)\n    fuzzing process hung or terminated unexpectedly\n", "no input written", exit, 0, false},
		{"no program", "x.go:1:1: syntax error\nFAIL\tp [build failed]\n", "", exit, 0, true},
		{"one name twice", "testing: will not fuzz, -fuzz matches more than one fuzz test: [FuzzX FuzzX]\nFAIL\n", "", exit, 0, true},
		{"no go command", "", "", errors.New("not found"), 0, true},
		{"a word of the input", "    x_test.go:1: context deadline exceeded\n--- FAIL: FuzzX (0.1s)\nFAIL\n", "no input written", exit, 0, false},
	} {
		r := result{target: target{folder: "p"}}
		r.read(c.output, c.failure)
		if r.finding != c.finding || r.executions != c.executions || (r.err != nil) != c.broken {
			t.Errorf("%s: %q, %d, %v", c.name, r.finding, r.executions, r.err)
		}
	}
}

func TestDecodersAreNamedExactly(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte(`package a

func F() {}

type T[K any] struct{}

func (*T[K]) F() { _ = func() { F() } }

func init() {}
func init() {}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line  string
		areas int // 0: refused
	}{
		{"a.go", 4}, {"a.go:F", 1}, {"a.go:T.F", 1}, {"a.go:F,T.F", 2}, {"a.go:F a.go:T.F", 2}, {"a.go:init", 2},
		{"a.go:-F", 3}, {"a.go:-T.F,-init", 1}, {"a.go:-G", 0}, {"a.go:F,-T.F", 0}, {"a.go:-F a.go:F", 4},
		{"a.go:G", 0}, {"b.go", 0}, {"a.go:F,F", 0}, {"a.go a.go:F", 0}, {"../a.go", 0}, {"a_test.go", 0},
	} {
		text, parts := readComment("FuzzX is\nthis.\n\ndecoder: " + c.line + "\n")
		areas, err := decoderAreas(target{dir: dir, decoder: parts})
		if text != "FuzzX is this." || len(areas) != c.areas || (err == nil) != (c.areas > 0) {
			t.Errorf("%s: %q, %d areas, %v", c.line, text, len(areas), err)
		}
	}
}
