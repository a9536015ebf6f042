package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// target is one fuzz target of the module.
type target struct {
	pkg        string // import path
	folder     string // the same below the module: connector/binxml
	dir        string // the package's folder on this machine
	name       string // FuzzDecode
	text       string // its comment without the lines that name the decoder
	decoder    []part
	parameters []string // the types of what it is fuzzed with; nil if unknown
}

// part names functions of a decoder: one of a file, or all of it but some.
type part struct {
	file     string   // base name
	function string   // "Parse", "Codec.Decode", or "" for every function of the file
	but      []string // with "": those that are not the decoder's
}

// title is the target's name in tables: connector/binxml.FuzzDecode.
func (t target) title() string { return t.folder + "." + t.name }

// toolchain calls the go command for one module.
type toolchain struct {
	root   string // the module's folder
	module string // its import path
	cache  string // where the go command keeps what fuzzing generated, a folder per package
}

func newToolchain(ctx context.Context, root string) (*toolchain, error) {
	t := &toolchain{root: root}
	out, err := t.output(ctx, "env", "GOCACHE")
	if err != nil {
		return nil, err
	}
	t.cache = filepath.Join(strings.TrimSpace(string(out)), "fuzz")
	if out, err = t.output(ctx, "list", "-m"); err != nil {
		return nil, err
	}
	t.module = strings.TrimSpace(string(out))
	return t, nil
}

// command prepares the go command. When ctx ends it is interrupted, not
// killed, so that it stops the processes it has started.
func (t *toolchain) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = t.root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd
}

func (t *toolchain) output(ctx context.Context, args ...string) ([]byte, error) {
	cmd := t.command(ctx, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, complaint.String())
	}
	return out.Bytes(), nil
}

// targets finds all fuzz targets, in the order of packages, files and places.
func (t *toolchain) targets(ctx context.Context) ([]target, error) {
	args := []string{"list", "-tags", buildTags, "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles"}
	for _, folder := range searched {
		if _, err := os.Stat(filepath.Join(t.root, folder)); err == nil {
			args = append(args, "./"+folder+"/...")
		}
	}
	out, err := t.output(ctx, args...)
	if err != nil {
		return nil, err
	}
	var found []target
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir           string
			TestGoFiles, XTestGoFiles []string
		}
		if err = decoder.Decode(&p); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		for _, name := range slices.Sorted(slices.Values(slices.Concat(p.TestGoFiles, p.XTestGoFiles))) {
			here, err := readTargets(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			for _, one := range here {
				one.pkg, one.dir = p.ImportPath, p.Dir
				one.folder = strings.TrimPrefix(p.ImportPath, t.module+"/")
				found = append(found, one)
			}
		}
	}
}

// readTargets returns the fuzz targets that a test file declares.
func readTargets(file string) ([]target, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("read fuzz targets: %w", err)
	}
	var found []target
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") || !takesF(f) {
			continue
		}
		t := target{name: f.Name.Name, parameters: fuzzParameters(f)}
		t.text, t.decoder = readComment(f.Doc.Text())
		found = append(found, t)
	}
	return found, nil
}

// takesF reports whether the one parameter is a *testing.F.
func takesF(f *ast.FuncDecl) bool {
	if f.Type.Params.NumFields() != 1 {
		return false
	}
	pointer, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	selector, ok := pointer.X.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "F"
}

// readComment parts a target's comment in sentences and the decoder's parts. A
// word of a line "decoder:" is a file, a file and functions of it
// (file.go:F,T.M), or a file and functions that do not belong (file.go:-F,-T.M).
func readComment(comment string) (text string, parts []part) {
	var kept []string
	for line := range strings.Lines(comment) {
		names, ok := strings.CutPrefix(line, "decoder:")
		if !ok {
			kept = append(kept, line)
			continue
		}
		for _, word := range strings.Fields(names) {
			file, functions, some := strings.Cut(word, ":")
			if !some {
				parts = append(parts, part{file: file})
				continue
			}
			var but []string
			for name := range strings.SplitSeq(functions, ",") {
				if other, not := strings.CutPrefix(name, "-"); not {
					but = append(but, other)
				} else {
					parts = append(parts, part{file: file, function: name})
				}
			}
			if but != nil {
				parts = append(parts, part{file: file, but: but})
			}
		}
	}
	return strings.Join(strings.Fields(strings.Join(kept, "")), " "), parts
}

// fuzzParameters returns the types of the parameters, after *testing.T, of the
// function literal given to f.Fuzz.
func fuzzParameters(f *ast.FuncDecl) (types []string) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || selector.Sel.Name != "Fuzz" {
			return true
		}
		literal, ok := call.Args[0].(*ast.FuncLit)
		if !ok || types != nil {
			return true
		}
		for _, field := range literal.Type.Params.List[1:] {
			name := typeName(field.Type)
			for range max(1, len(field.Names)) {
				types = append(types, name)
			}
		}
		return false
	})
	return types
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		switch e.Name {
		case "uint8":
			return "byte"
		case "int32":
			return "rune"
		}
		return e.Name
	case *ast.ArrayType:
		return "[]" + typeName(e.Elt)
	}
	return ""
}
