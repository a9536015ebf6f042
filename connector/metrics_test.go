package connector

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern/connector/metrics"
)

// TestTheListsOfFiguresHaveAllWordsThatAccountsUse reads the words out of the sources, so that a new one does not come to count as other.
func TestTheListsOfFiguresHaveAllWordsThatAccountsUse(t *testing.T) {
	files, err := filepath.Glob("interop/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	for _, words := range []struct {
		what, pattern string
		list          []string
		least         int
	}{
		{"the states of a stream", `\bConn\w+ +ConnKind = "(\w+)"`, metrics.States, 15},
		{"reasons of failures", `\bReason\w+ +Reason = "(\w+)"`, metrics.Reasons, 15},
		{"reasons of dead letters", `\bLetter\w+ = "(\w+)"`, metrics.Reasons, 2},
		{"where panics are caught", `(?:guard\(|laneKind\{)"([\w ]+)"`, metrics.Places, 10},
		{"what is tried again", `\bagain\w+ += "(\w+)"`, metrics.Retried, 3},
		{"legs", `\bleg\w+ += "(\w+)"`, metrics.Legs, 5},
		{"contents", `\bcontent\w+ += "(\w+)"`, metrics.Contents, 5},
	} {
		found := regexp.MustCompile(words.pattern).FindAllStringSubmatch(source.String(), -1)
		if len(found) < words.least {
			t.Errorf("%s: %d found, want %d at least", words.what, len(found), words.least)
		}
		for _, f := range found {
			if !slices.Contains(words.list, f[1]) {
				t.Errorf("%s: %q is on no list of package metrics", words.what, f[1])
			}
		}
	}
}
