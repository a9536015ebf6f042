// Package docs has no code: its tests hold the pages in this folder and the
// code to each other.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	sectionHeading   = regexp.MustCompile(`(?m)^## (\d+)\. \S`)
	paragraphHeading = regexp.MustCompile(`(?m)^### (\d+\.\d+) \S`)
	// A reference is the page's name and one or several numbers: "PROTOCOL.md
	// 4.4", "PROTOCOL.md 6.1, 6.8 and 7.2", "PROTOCOL.md: sections 1.2–1.4, 2".
	reference  = regexp.MustCompile(`PROTOCOL\.md:?\s+(?:sections?\s+|§§?\s*)?(\d+(?:\.\d+)?)((?:(?:\s*[,;–-]|\s+and|\s+to|\s+or)\s*\d+\.\d+)*)`)
	mentioned  = regexp.MustCompile(`PROTOCOL\.md:?\s+(?:sections?\s+|§§?\s*)?\d`)
	furtherRef = regexp.MustCompile(`\d+\.\d+`)
)

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sections returns the numbers that a reference may have.
func sections(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	text := page(t, "PROTOCOL.md")
	for _, headings := range []*regexp.Regexp{sectionHeading, paragraphHeading} {
		for _, m := range headings.FindAllStringSubmatch(text, -1) {
			if found[m[1]] {
				t.Errorf("PROTOCOL.md has two sections %s", m[1])
			}
			found[m[1]] = true
		}
	}
	if len(found) < 50 {
		t.Fatalf("only %d numbered headings in PROTOCOL.md", len(found))
	}
	return found
}

// walkSources calls f with the text that may refer to the page: the comments of
// Go files, all of other text files.
func walkSources(t *testing.T, f func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != ".." && strings.HasPrefix(name, ".") || name == "build" || name == "node_modules" || name == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(name) {
		case ".go":
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			f(path, comments(file))
		case ".md", ".sql", ".sh", ".yaml", ".yml", ".py":
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f(path, string(text))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func comments(file *ast.File) string {
	var b strings.Builder
	for _, group := range file.Comments {
		b.WriteString(group.Text())
		b.WriteByte('\n')
	}
	return b.String()
}

func TestEveryReferenceToTheProtocolLeadsSomewhere(t *testing.T) {
	known := sections(t)
	checked := 0
	walkSources(t, func(path, text string) {
		// Something like "PROTOCOL.md: 4" that the pattern cannot read would go
		// unchecked.
		matches := reference.FindAllStringSubmatch(text, -1)
		if n := len(mentioned.FindAllString(text, -1)); n != len(matches) {
			t.Errorf("%s: %d references, of which %d can be read", path, n, len(matches))
		}
		for _, m := range matches {
			for _, number := range append([]string{m[1]}, furtherRef.FindAllString(m[2], -1)...) {
				checked++
				if !known[number] {
					t.Errorf("%s: PROTOCOL.md has no section %s", path, number)
				}
			}
		}
	})
	if checked < 100 {
		t.Errorf("only %d references were checked", checked)
	}
}

func TestSectionsOfTheProtocolAreInOrder(t *testing.T) {
	text := page(t, "PROTOCOL.md")
	heading := regexp.MustCompile(`(?m)^(?:## (\d+)\.|### (\d+)\.(\d+)) \S`)
	section, paragraph := "", -1
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		if m[1] != "" {
			section, paragraph = m[1], -1
			continue
		}
		next := 0
		for _, c := range m[3] {
			next = 10*next + int(c-'0')
		}
		if m[2] != section || next != paragraph+1 && !(paragraph == -1 && next == 1) {
			t.Errorf("%s.%s comes after %s.%d", m[2], m[3], section, paragraph)
		}
		paragraph = next
	}
}

var mark = regexp.MustCompile(`\*\*(paper|observed|assumed)\*\*`)

// TestEveryStatementOfTheProtocolIsMarked holds the page to its promise: every
// paragraph, list item and table of the numbered sections says where it is
// from.
func TestEveryStatementOfTheProtocolIsMarked(t *testing.T) {
	text := page(t, "PROTOCOL.md")
	text = text[strings.Index(text, "\n## 1. "):]
	marked := 0
	var before string // the paragraph that leads in what follows
	for block := range strings.SplitSeq(text, "\n\n") {
		block = strings.TrimSpace(block)
		switch {
		case block == "" || strings.HasPrefix(block, "#"):
		case strings.HasPrefix(block, "|"):
			if !mark.MatchString(block) && !mark.MatchString(before) {
				t.Errorf("a table without a mark:\n%s", block)
			}
		case strings.HasPrefix(block, "- "):
			for item := range strings.SplitSeq("\n"+block, "\n- ") {
				if item != "" && !mark.MatchString(item) && !mark.MatchString(before) {
					t.Errorf("a list item without a mark:\n%s", item)
				}
			}
		default:
			before = block
			leadsIn := strings.HasSuffix(block, ":")
			if marks := mark.FindAllStringIndex(block, -1); len(marks) > 0 {
				marked += len(marks)
				// What follows the last mark would be covered by none.
				rest := block[marks[len(marks)-1][1]:]
				if end := strings.IndexByte(rest, ')'); !leadsIn && (end < 0 || strings.Contains(strings.TrimRight(rest[end:], ").:; \n"), ".")) {
					t.Errorf("a statement behind the last mark:\n%s", block)
				}
			} else if !leadsIn && !pointer.MatchString(block) {
				t.Errorf("a paragraph without a mark:\n%s", block)
			}
		}
	}
	if marked < 100 {
		t.Errorf("only %d marks", marked)
	}
}

// pointer is a paragraph that says nothing but where something is.
var pointer = regexp.MustCompile(`^How [^.]* is in (\d+\.\d+|\[[A-Z]+\.md\]\([A-Z]+\.md\))\.$`)

func TestPagesSpeakOfNothingOutsideTheProject(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages", err)
	}
	for _, name := range append(pages, "../README.md", "../CHANGELOG.md") {
		text, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		for _, foreign := range []string{"facts/", "design/", "/root/", "/home/", "fact sheet"} {
			if strings.Contains(string(text), foreign) {
				t.Errorf("%s contains %q", name, foreign)
			}
		}
		// Links between pages and to files of the project lead somewhere.
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
}
