package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	anchored  = regexp.MustCompile(`\]\(([^)#:\s]*)#([^)\s]+)\)`)
	anyTitle  = regexp.MustCompile(`(?m)^#+ (.+)$`)
	codeBlock = regexp.MustCompile("(?ms)^```.*?^```")
	linked    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchorsOf are the anchors that a page's headings get where it is shown.
func anchorsOf(t *testing.T, name string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, m := range anyTitle.FindAllStringSubmatch(codeBlock.ReplaceAllString(page(t, name), ""), -1) {
		title := strings.ToLower(linked.ReplaceAllString(strings.TrimSpace(m[1]), "$1"))
		found[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return r
			}
			return -1
		}, title)] = true
	}
	return found
}

// TestEveryLinkToAHeadingLeadsToOne: within pages, and from one to another.
func TestEveryLinkToAHeadingLeadsToOne(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, name := range append(pages, "../README.md", "../CHANGELOG.md", "ops/helm/postern/README.md") {
		for _, m := range anchored.FindAllStringSubmatch(page(t, name), -1) {
			to := name
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(name), m[1])
			}
			if filepath.Ext(to) != ".md" {
				continue
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
				continue
			}
			checked++
			if !anchorsOf(t, to)[m[2]] {
				t.Errorf("%s links to %s#%s, and that page has no such heading", name, m[1], m[2])
			}
		}
	}
	if checked < 8 {
		t.Errorf("only %d links were looked at", checked)
	}
}
