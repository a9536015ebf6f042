package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// share counts statements: those of a decoder, and those of them that ran.
type share struct {
	ran, all int
	gaps     []string // functions of which not all ran, with both numbers
}

func (s share) percent() float64 {
	if s.all == 0 {
		return 0
	}
	return 100 * float64(s.ran) / float64(s.all)
}

// built is a package's test program, compiled with counters once.
type built struct {
	file string
	err  error
}

// measurer runs targets over their corpora and reads the counters.
type measurer struct {
	tools *toolchain
	dir   string // its own, for programs and corpora
	built map[string]built
	runs  int
}

var errNoDecoder = errors.New("its comment has no line \"decoder: FILE[:FUNCTION,...]\"")

// corpusError says that a target failed, or could not be run, on the inputs there are.
type corpusError struct {
	Err    error
	Output string // of the test program
}

func (e *corpusError) Error() string { return "run the corpus: " + e.Err.Error() }

func (e *corpusError) Unwrap() error { return e.Err }

// cover returns how much of the target's decoder runs over the seeds and the
// stored corpus, with what fuzzing has generated on this machine or without it.
// The error is a *corpusError if the target fails on one of these inputs.
func (m *measurer) cover(ctx context.Context, t target, generated bool) (share, error) {
	if len(t.decoder) == 0 {
		return share{}, errNoDecoder
	}
	areas, err := decoderAreas(t)
	if err != nil {
		return share{}, err
	}
	program, err := m.build(ctx, t)
	if err != nil {
		return share{}, err
	}
	m.runs++
	dir := filepath.Join(m.dir, strconv.Itoa(m.runs))
	defer os.RemoveAll(dir)
	if err = m.layCorpora(dir, t, generated); err != nil {
		return share{}, err
	}
	profile := filepath.Join(m.dir, "profile")
	cmd := exec.CommandContext(ctx, program, "-test.run", "^"+t.name+"$", "-test.coverprofile", profile, "-test.timeout", "30m")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return share{}, &corpusError{Err: err, Output: string(out)}
	}
	counters, err := os.ReadFile(profile)
	if err != nil {
		return share{}, fmt.Errorf("read cover profile: %w", err)
	}
	return count(counters, t.pkg, areas)
}

func (m *measurer) build(ctx context.Context, t target) (string, error) {
	b, ok := m.built[t.pkg]
	if !ok {
		b.file = filepath.Join(m.dir, strconv.Itoa(len(m.built))+".test")
		_, b.err = m.tools.output(ctx, "test", "-tags", buildTags, "-c", "-cover", "-coverpkg", t.pkg, "-o", b.file, t.pkg)
		m.built[t.pkg] = b
	}
	return b.file, b.err
}

// layCorpora makes dir look like the package's folder to the target, except
// that testdata/fuzz has the target's corpora and no other.
func (m *measurer) layCorpora(dir string, t target, generated bool) error {
	corpus := filepath.Join(dir, "testdata", "fuzz", t.name)
	if err := os.MkdirAll(corpus, 0o755); err != nil {
		return fmt.Errorf("lay corpora: %w", err)
	}
	for _, link := range [][2]string{{t.dir, dir}, {filepath.Join(t.dir, "testdata"), filepath.Join(dir, "testdata")}} {
		if err := linkAll(link[0], link[1], nil); err != nil {
			return err
		}
	}
	if err := linkAll(filepath.Join(t.dir, "testdata", "fuzz", t.name), corpus, nil); err != nil {
		return err
	}
	if !generated {
		return nil
	}
	return linkAll(filepath.Join(m.tools.cache, filepath.FromSlash(t.pkg), t.name), corpus, func(file string) bool {
		return fits(file, t.parameters)
	})
}

// linkAll links what is in a folder, if there is such a folder, into another
// one, except what that has already and files that choose refuses.
func linkAll(from, to string, choose func(file string) bool) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("lay corpora: %w", err)
	}
	for _, e := range entries {
		source := filepath.Join(from, e.Name())
		if choose != nil && !choose(source) {
			continue
		}
		if err = os.Symlink(source, filepath.Join(to, e.Name())); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("lay corpora: %w", err)
		}
	}
	return nil
}

// fits reports whether a generated input has the types the target takes now.
// The go command passes over the others in its cache, and so do we.
func fits(file string, types []string) bool {
	content, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	if string(lines[0]) != "go test fuzz v1" {
		return false
	}
	if types == nil {
		return true
	}
	if len(lines)-1 != len(types) {
		return false
	}
	for i, line := range lines[1:] {
		name, _, _ := bytes.Cut(line, []byte("("))
		written := string(name)
		if written != types[i] && !(strings.HasPrefix(types[i], "float") && strings.HasPrefix(written, "math.Float")) {
			return false
		}
	}
	return true
}

// area is the place of one function of a decoder.
type area struct {
	file       string // base name
	function   string
	start, end position
}

type position struct{ line, column int }

func (p position) before(q position) bool {
	return p.line < q.line || p.line == q.line && p.column < q.column
}

// decoderAreas finds the functions that a target names. Every name must be
// there, and no part may be named twice.
func decoderAreas(t target) ([]area, error) {
	var areas []area
	seen := map[[2]string]bool{}
	for _, want := range t.decoder {
		if path.Base(want.file) != want.file || strings.HasSuffix(want.file, "_test.go") {
			return nil, fmt.Errorf("find decoder: %s is not a file of the package", want.file)
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, filepath.Join(t.dir, want.file), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("find decoder: %w", err)
		}
		matched, left := false, slices.Clone(want.but)
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil || want.function != "" && want.function != functionName(f) {
				continue
			}
			matched = true
			name := functionName(f)
			if slices.Contains(want.but, name) {
				left = slices.DeleteFunc(left, func(other string) bool { return other == name })
				continue
			}
			here := [2]string{want.file, name}
			if name != "init" && seen[here] {
				return nil, fmt.Errorf("find decoder: %s of %s is named twice", name, want.file)
			}
			seen[here] = true
			start, end := set.Position(f.Pos()), set.Position(f.End())
			areas = append(areas, area{want.file, name, position{start.Line, start.Column}, position{end.Line, end.Column}})
		}
		if !matched || len(left) > 0 {
			return nil, fmt.Errorf("find decoder: no function %q in %s", strings.Join(append(left, want.function), " "), want.file)
		}
	}
	return areas, nil
}

// functionName is "Parse" for a function, "Codec.Decode" for a method.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	for {
		switch e := receiver.(type) {
		case *ast.StarExpr:
			receiver = e.X
		case *ast.IndexExpr:
			receiver = e.X
		case *ast.IndexListExpr:
			receiver = e.X
		case *ast.Ident:
			return e.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}

// count adds up the statements of a cover profile that lie in the areas.
func count(profile []byte, pkg string, areas []area) (share, error) {
	type block struct {
		file       string
		start, end position
		statements int
	}
	ran := map[block]bool{}
	lines := bufio.NewScanner(bytes.NewReader(profile))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		var b block
		var hits int
		place, numbers, ok := cutLast(line, ":")
		if !ok || path.Dir(place) != pkg {
			continue
		}
		b.file = path.Base(place)
		if _, err := fmt.Sscanf(numbers, "%d.%d,%d.%d %d %d", &b.start.line, &b.start.column, &b.end.line, &b.end.column,
			&b.statements, &hits); err != nil {
			return share{}, fmt.Errorf("read cover profile: %w", err)
		}
		ran[b] = ran[b] || hits > 0
	}
	if err := lines.Err(); err != nil {
		return share{}, fmt.Errorf("read cover profile: %w", err)
	}
	var s share
	for _, a := range areas {
		here := share{}
		for b, hit := range ran {
			if a.file != b.file || b.start.before(a.start) || a.end.before(b.end) {
				continue
			}
			here.all += b.statements
			if hit {
				here.ran += b.statements
			}
		}
		s.all += here.all
		s.ran += here.ran
		if here.ran < here.all {
			s.gaps = append(s.gaps, fmt.Sprintf("%s %s: %d of %d", a.file, a.function, here.ran, here.all))
		}
	}
	if s.all == 0 {
		return s, errors.New("read cover profile: the decoder has no statements")
	}
	return s, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
