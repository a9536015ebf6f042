package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// matrixRows are the rows of the fault matrix. F-19, F-38 and F-39 do not exist.
func matrixRows() []string {
	var rows []string
	for _, span := range [][2]int{{1, 18}, {20, 37}, {40, 46}} {
		for n := span[0]; n <= span[1]; n++ {
			rows = append(rows, fmt.Sprintf("F-%02d", n))
		}
	}
	return rows
}

var testFunc = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)

// testsBelow lists the tests of all packages below a folder.
func testsBelow(t *testing.T, folder string) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, found := range testFunc.FindAllStringSubmatch(string(raw), -1) {
			tests[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// TestEachRowOfTheFaultMatrixSaysWhatHoldsItAndThatTestIsThere: what is held by the whole program is held by a test of bridge/e2e/faults
// that carries the row's id.
func TestEachRowOfTheFaultMatrixSaysWhatHoldsItAndThatTestIsThere(t *testing.T) {
	raw, err := os.ReadFile("RELIABILITY.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	whole, all := testsBelow(t, "../bridge/e2e/faults"), testsBelow(t, "..")
	var rows []string
	held := 0
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || !strings.HasPrefix(strings.TrimSpace(cells[0]), "F-") {
			continue
		}
		id, state := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[2])
		rows = append(rows, id)
		var named []string
		for _, found := range testName.FindAllStringSubmatch(cells[3], -1) {
			named = append(named, found[1])
			if !all[found[1]] {
				t.Errorf("%s names %s, which is not there", id, found[1])
			}
		}
		prefix := "Test" + strings.ReplaceAll(id, "-", "")
		own := slices.ContainsFunc(named, func(name string) bool { return strings.HasPrefix(name, prefix) && whole[name] })
		switch {
		case state == "held" && !own:
			t.Errorf("%s is held, and no test of bridge/e2e/faults begins with %s", id, prefix)
		case state == "in parts" && len(named) == 0:
			t.Errorf("%s is held in parts, and no test is named", id)
		case state == "not yet" && len(named) > 0:
			t.Errorf("%s is not tested, and names tests", id)
		case !slices.Contains([]string{"held", "in parts", "not yet"}, state):
			t.Errorf("%s has the state %q", id, state)
		}
		if state == "held" {
			held++
		}
	}
	if !slices.Equal(rows, matrixRows()) {
		t.Errorf("the rows are %v, want %v", rows, matrixRows())
	}
	if held < 18 {
		t.Errorf("%d rows are held, and there were more once", held)
	}
}
