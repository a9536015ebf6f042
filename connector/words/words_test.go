package words

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var placeholder = regexp.MustCompile(`\{([a-z_]+)\}`)

func placeholders(text string) []string {
	var names []string
	for _, match := range placeholder.FindAllStringSubmatch(text, -1) {
		names = append(names, match[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestEveryLanguageSaysEverythingWithTheSamePlaceholders(t *testing.T) {
	all, err := tables()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 || all[Default] == nil || all["de"] == nil {
		t.Fatalf("languages are %v", Languages())
	}
	for language, table := range all {
		for key, text := range all[Default] {
			switch other, ok := table[key]; {
			case !ok:
				t.Errorf("%s.yaml lacks %s", language, key)
			case other == "":
				t.Errorf("%s.yaml: %s is empty", language, key)
			case !slices.Equal(placeholders(text), placeholders(other)):
				t.Errorf("%s.yaml: %s has the placeholders %v, in English it has %v", language, key, placeholders(other), placeholders(text))
			case strings.Count(other, "`")%2 != 0:
				t.Errorf("%s.yaml: %s has code that does not end", language, key)
			}
		}
		for key := range table {
			if _, ok := all[Default][key]; !ok {
				t.Errorf("%s.yaml has %s, which the others lack", language, key)
			}
		}
	}
}

func TestNoKeyStandsTwiceInAFile(t *testing.T) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		raw, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var document yaml.Node
		if err := yaml.Unmarshal(raw, &document); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		seen := map[string]bool{}
		for i := 0; i < len(document.Content[0].Content); i += 2 {
			key := document.Content[0].Content[i].Value
			if seen[key] {
				t.Errorf("%s: %s stands there twice", name, key)
			}
			seen[key] = true
			if !keyShape.MatchString(key) {
				t.Errorf("%s: %s is not the shape of a key", name, key)
			}
		}
	}
}

func TestWhatIsFilledInIsNotFilledInAgain(t *testing.T) {
	for _, c := range []struct {
		text  string
		pairs []any
		want  string
	}{
		{"a {x} b {y}", []any{"x", "{y}", "y", 2}, "a {y} b 2"},
		{"{x}{x}", []any{"x", "1"}, "11"},
		{"{unknown} {", []any{"x", "1"}, "{unknown} {"},
		{"none", nil, "none"},
		{"{x}", []any{"x"}, "{x}"},
		{"{{x}}", []any{"x", "1"}, "{1}"},
	} {
		if got := Fill(c.text, c.pairs...); got != c.want {
			t.Errorf("%q with %v is %q, not %q", c.text, c.pairs, got, c.want)
		}
	}
}

func TestALanguageIsKnownWithItsCountryAndAnyOtherIsEnglish(t *testing.T) {
	for code, want := range map[string]string{"de": "de", "de-AT": "de", " DE_ch ": "de", "en": "en", "xx": "", "": "", "../en": ""} {
		if got := Known(code); got != want {
			t.Errorf("%q is known as %q", code, got)
		}
	}
	if For("xx").Language() != Default || For("xx").Text("language.name") != "English" || For("de").Text("language.name") != "Deutsch" {
		t.Error("the wrong words")
	}
	if got := For("de").Text("no.such-key"); got != "no.such-key" {
		t.Errorf("a key that is not there says %q", got)
	}
	if got := For("en").Error("error.wrong").Error(); got != For("en").Text("error.wrong") {
		t.Errorf("the error says %q", got)
	}
}

// keyShape is what a key looks like, and keyBegins the literal beginning of one that is put together.
var (
	keyShape  = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9_]+(-[a-z0-9_]+)*)+$`)
	keyBegins = regexp.MustCompile(`^[a-z0-9-]+\.([a-z0-9_-]+\.)*([a-z0-9_]+-)?$`)
)

// speakers are the functions that take a key, with its place among their arguments.
var speakers = map[string]int{"Text": 0, "Error": 0, "reply": 1}

// use is what the code names.
type use struct {
	t        *testing.T
	fset     *token.FileSet
	english  map[string]string
	topics   map[string]bool // first parts of keys
	used     map[string]bool
	begins   map[string]bool
	speaking int
}

func literal(e ast.Expr) (string, bool) {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		text, err := strconv.Unquote(l.Value)
		return text, err == nil
	}
	return "", false
}

// look notes the literals that are keys or begin one, and checks the calls that say something.
func (u *use) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ImportSpec:
		return false
	case *ast.BasicLit:
		text, ok := literal(n)
		if !ok {
			break
		}
		topic, _, _ := strings.Cut(text, ".")
		if _, exists := u.english[text]; exists {
			u.used[text] = true
		} else if u.topics[topic] && keyBegins.MatchString(text) {
			u.begins[text] = true
		}
	case *ast.CallExpr:
		u.call(n)
	}
	return true
}

func (u *use) call(call *ast.CallExpr) {
	var name string
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		name = f.Sel.Name
	case *ast.Ident:
		name = f.Name
	}
	at, speaks := speakers[name]
	if !speaks || len(call.Args) <= at {
		return
	}
	key, ok := literal(call.Args[at])
	if !ok {
		return
	}
	where := u.fset.Position(call.Pos())
	text, exists := u.english[key]
	if !exists && !keyShape.MatchString(key) && name != "reply" {
		return // another function of that name
	}
	if !exists {
		u.t.Errorf("%s: there are no words for %q", where, key)
		return
	}
	u.speaking++
	if call.Ellipsis != token.NoPos {
		return
	}
	var given []string
	for i := at + 1; i < len(call.Args); i += 2 {
		arg, ok := literal(call.Args[i])
		if !ok {
			u.t.Errorf("%s: the name of a placeholder is not a literal", where)
			return
		}
		given = append(given, arg)
	}
	slices.Sort(given)
	if want := placeholders(text); !slices.Equal(given, want) || (len(call.Args)-at-1)%2 != 0 {
		u.t.Errorf("%s: %s has the placeholders %v and gets %v", where, key, want, given)
	}
}

func TestTheCodeNamesTheKeysThatThereAreAndFillsThemIn(t *testing.T) {
	u := &use{
		t: t, fset: token.NewFileSet(), english: For(Default).table,
		topics: map[string]bool{}, used: map[string]bool{}, begins: map[string]bool{},
	}
	for key := range u.english {
		topic, _, _ := strings.Cut(key, ".")
		u.topics[topic] = true
	}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(u.fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, u.look)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if u.speaking < 10 {
		t.Errorf("only %d places say something", u.speaking)
	}
	for _, key := range slices.Sorted(maps.Keys(u.english)) {
		begun := key == "language.name"
		for prefix := range u.begins {
			begun = begun || strings.HasPrefix(key, prefix)
		}
		if !u.used[key] && !begun {
			t.Errorf("no code says %s", key)
		}
	}
}
