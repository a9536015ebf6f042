package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// obligations is how many rows COMPLIANCE.md has: M1 to M47.
const obligations = 47

// duty is a row of the table in COMPLIANCE.md.
type duty struct {
	id, state string
	tests     []string
}

func duties(t *testing.T) map[string]duty {
	t.Helper()
	rows := map[string]duty{}
	for line := range strings.Lines(page(t, "COMPLIANCE.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || !strings.HasPrefix(line, "| M") {
			continue
		}
		row := duty{id: strings.TrimSpace(cells[0]), state: strings.TrimSpace(cells[2])}
		for _, name := range testName.FindAllStringSubmatch(cells[4], -1) {
			row.tests = append(row.tests, name[1])
		}
		if _, twice := rows[row.id]; twice {
			t.Errorf("%s stands there twice", row.id)
		}
		rows[row.id] = row
	}
	return rows
}

// allTests are the names of the tests of this module.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				names[f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestEveryObligationHasARowAndEveryTestItNamesExists(t *testing.T) {
	rows, tests, stories := duties(t), allTests(t), parseStories(t)
	whole := testsBelow(t, "../bridge/e2e/faults")
	for i := 1; i <= obligations; i++ {
		if _, ok := rows[fmt.Sprintf("M%d", i)]; !ok {
			t.Errorf("M%d has no row", i)
		}
	}
	if len(rows) > obligations {
		t.Errorf("%d rows, but there are %d obligations", len(rows), obligations)
	}
	for id, row := range rows {
		switch row.state {
		case "met", "in parts":
			if len(row.tests) == 0 {
				t.Errorf("%s: %s, but no test shows it", id, row.state)
			}
		case "not yet":
		default:
			t.Errorf("%s: no such state: %s", id, row.state)
		}
		through := false
		for _, name := range row.tests {
			top, _, _ := strings.Cut(name, "/")
			if !tests[top] {
				t.Errorf("%s: there is no test %s", id, top)
			}
			through = through || stories.tests[top] != nil || whole[top]
		}
		if row.state == "met" && !through {
			t.Errorf("%s: met, but no test shows it with the whole program", id)
		}
	}
}
