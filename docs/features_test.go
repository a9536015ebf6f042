package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// stories is the package whose tests run the whole program against a real
// homeserver and the sandbox.
const stories = "../bridge/e2e"

// feature is a row of the table in FEATURES.md.
type feature struct {
	kind, direction, state string
	tests                  []string // as `go test -v` names them, but with spaces
}

var (
	testName   = regexp.MustCompile("`(Test[^`]+)`")
	directions = map[string]bool{"→": true, "←": true, "both": true, "room": true}
)

// features reads the rows of the table.
func features(t *testing.T) []feature {
	t.Helper()
	var rows []feature
	for line := range strings.Lines(page(t, "FEATURES.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || strings.HasPrefix(line, "| ---") || strings.TrimSpace(cells[0]) == "what" {
			continue
		}
		row := feature{kind: strings.TrimSpace(cells[0]), direction: strings.TrimSpace(cells[1]), state: strings.TrimSpace(cells[2])}
		for _, name := range testName.FindAllStringSubmatch(cells[4], -1) {
			row.tests = append(row.tests, name[1])
		}
		rows = append(rows, row)
	}
	if len(rows) < 50 {
		t.Fatalf("only %d rows in FEATURES.md", len(rows))
	}
	return rows
}

// storyPackage is the parsed test files of the stories.
type storyPackage struct {
	tests map[string]*ast.FuncDecl
	named map[string]ast.Node // everything declared at the top level, and methods, by name
}

func parseStories(t *testing.T) *storyPackage {
	t.Helper()
	files, err := filepath.Glob(stories + "/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files in %s, %v", len(files), stories, err)
	}
	p := &storyPackage{tests: map[string]*ast.FuncDecl{}, named: map[string]ast.Node{}}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			p.add(decl)
		}
	}
	return p
}

func (p *storyPackage) add(decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		p.named[d.Name.Name] = d
		if d.Recv == nil && strings.HasPrefix(d.Name.Name, "Test") {
			p.tests[d.Name.Name] = d
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if v, ok := spec.(*ast.ValueSpec); ok {
				for _, name := range v.Names {
					p.named[name.Name] = v
				}
			}
		}
	}
}

// literals are the string literals in a node and in everything it names, which is
// where the names of subtests come from.
func (p *storyPackage) literals(from ast.Node) map[string]bool {
	found, seen := map[string]bool{}, map[string]bool{}
	var visit func(ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
				found[text] = true
			}
		case *ast.Ident:
			if to, ok := p.named[n.Name]; ok && !seen[n.Name] {
				seen[n.Name] = true
				ast.Inspect(to, visit)
			}
		}
		return true
	}
	ast.Inspect(from, visit)
	return found
}

func TestEveryRowOfTheFeaturesNamesStoriesThatExist(t *testing.T) {
	p := parseStories(t)
	for _, row := range features(t) {
		where := row.kind + " " + row.direction
		if !directions[row.direction] {
			t.Errorf("%s: no such direction", where)
		}
		switch row.state {
		case "works", "degraded":
			if len(row.tests) == 0 {
				t.Errorf("%s: %s, but no test shows it", where, row.state)
			}
		case "impossible", "not yet":
		default:
			t.Errorf("%s: no such state: %s", where, row.state)
		}
		for _, name := range row.tests {
			top, sub, _ := strings.Cut(name, "/")
			test := p.tests[top]
			if test == nil {
				t.Errorf("%s: there is no story %s", where, top)
			} else if sub != "" && !p.literals(test)[sub] {
				t.Errorf("%s: %s has no part %q", where, top, sub)
			}
		}
	}
}

func TestEveryKindOfTheFeaturesIsThereInBothDirections(t *testing.T) {
	seen := map[string][]string{}
	for _, row := range features(t) {
		seen[row.kind] = append(seen[row.kind], row.direction)
	}
	for kind, found := range seen {
		switch all := strings.Join(found, " "); all {
		case "→ ←", "both", "room":
		default:
			t.Errorf("%s has the directions %q", kind, all)
		}
	}
}

// TestAPartOfAStoryIsFoundOnlyWhereItIs guards the guard.
func TestAPartOfAStoryIsFoundOnlyWhereItIs(t *testing.T) {
	p := parseStories(t)
	test := p.tests["TestAMatrixUserAndAWhatsAppUserTalk"]
	if test == nil {
		t.Fatal("the story is gone")
	}
	literals := p.literals(test)
	if !literals["Synapse, an encrypted room"] {
		t.Error("a part that is there is not found")
	}
	if literals["Synapse, on the moon"] || literals["start-chat to the moon"] {
		t.Error("a part that is not there is found")
	}
}
