package killpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/connector/killpoint"
)

// declared are the names of the constants of this package, with their values.
func declared(t *testing.T) map[string]string {
	t.Helper()
	points := map[string]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				if value, ok := spec.Values[0].(*ast.BasicLit); ok {
					text, err := strconv.Unquote(value.Value)
					if err != nil {
						t.Fatal(err)
					}
					points[spec.Names[0].Name] = text
				}
			}
			return true
		})
	}
	return points
}

// listed are the points of all lists.
func listed() []string {
	return slices.Concat(killpoint.All, killpoint.Files, killpoint.Repairs, killpoint.Setup, killpoint.Renewal, killpoint.Leaving, killpoint.Blocking, killpoint.Reporting, killpoint.Ignoring, killpoint.Beginning, killpoint.Safety, killpoint.Moving)
}

// TestEveryPointIsListedOnceAndHitSomewhereInTheProduct: a point that nothing comes to would never kill, and one that is not listed would
// never be chosen by the campaign.
func TestEveryPointIsListedOnceAndHitSomewhereInTheProduct(t *testing.T) {
	points := declared(t)
	if n := len(listed()); len(points) != n {
		t.Errorf("%d points are declared and %d listed", len(points), n)
	}
	var sources strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		sources.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range points {
		if !slices.Contains(listed(), value) {
			t.Errorf("%s is in no list", name)
		}
		if n := strings.Count(sources.String(), "killpoint.Hit(killpoint."+name+")"); n != 1 {
			t.Errorf("%s is hit at %d places, want 1", name, n)
		}
	}
}

func TestTheProductIsNotBuiltToBeKilled(t *testing.T) {
	if killpoint.Armed {
		t.Skip("this test was built with the tag killpoints")
	}
	t.Setenv("POSTERN_KILL", filepath.Join(t.TempDir(), "orders"))
	for _, point := range listed() {
		killpoint.Hit(point)
	}
}
