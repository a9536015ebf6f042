package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "postern"

// row says what one package may import, besides the standard library and
// everywhere.
type row struct {
	pkg      string   // below the module
	internal []string // packages of this module; a name ending in /... stands for all below
	external []string // other modules' packages, by the beginning of their path
}

// everywhere is what every package may import.
var everywhere = []string{"github.com/rs/zerolog", "go.mau.fi/util/", "google.golang.org/protobuf/"}

// Outside libraries that several rows name.
const (
	mautrix   = "maunium.net/go/mautrix"
	payloads  = "go.mau.fi/whatsmeow/proto/"
	tokens    = "go.mau.fi/whatsmeow/binary/token"
	signal    = "go.mau.fi/libsignal/"
	websocket = "github.com/coder/websocket"
	jose      = "github.com/go-jose/go-jose/v4"
	s3        = "github.com/minio/minio-go/v7"
	yaml      = "gopkg.in/yaml.v3"
	images    = "golang.org/x/image/"
	blurhash  = "github.com/buckket/go-blurhash"
)

// table has every package of the product, lowest first. The section "Folders
// and imports" of ARCHITECTURE.md shows it. A new arrow needs a reason there.
var table = []row{
	{"connector/jid", nil, nil},
	{"connector/killpoint", nil, nil},
	{"connector/words", nil, []string{yaml}},
	{"connector/email", nil, nil},
	{"connector/binxml", []string{"connector/jid"}, []string{tokens}},
	{"connector/noise", nil, []string{"golang.org/x/crypto/", "filippo.io/edwards25519"}},
	{"connector/media", nil, nil},
	{"connector/issuer", nil, []string{jose}},
	{"connector/push", []string{"connector/issuer"}, nil},
	{"connector/stanza", []string{"connector/binxml", "connector/jid"}, nil},
	{"connector/e2ee", []string{"connector/jid"}, []string{signal}},
	{"connector/profile", []string{"connector/jid", "connector/binxml", "connector/noise"}, []string{payloads}},
	{"connector/transcode", []string{"connector/profile"}, []string{images, blurhash}},
	{
		"connector/gatekeeper",
		[]string{"connector/profile", "connector/noise", "connector/binxml", "connector/stanza", "connector/jid"},
		[]string{payloads, websocket},
	},
	{
		"connector/interop",
		[]string{
			"connector/gatekeeper", "connector/profile", "connector/e2ee", "connector/stanza", "connector/binxml",
			"connector/jid", "connector/killpoint",
		},
		[]string{payloads},
	},
	{
		"connector/convert", []string{"connector/media", "connector/profile"},
		[]string{payloads, mautrix + "/event", mautrix + "/id", mautrix + "/format", "golang.org/x/net/html"},
	},
	{"connector/mediastore", []string{"connector/killpoint"}, []string{s3}},
	{"connector/matrixdurable", []string{"connector/killpoint", "connector/words"}, []string{mautrix}},
	{"connector/admin", nil, nil},
	{"connector/provisioning", nil, nil},
	{"connector/metrics", nil, []string{"github.com/prometheus/client_golang"}},
	{"database", nil, []string{"github.com/lib/pq", "github.com/mattn/go-sqlite3"}},
	{"database/transfer", []string{"database"}, nil},
	{
		"connector",
		[]string{
			"connector/jid", "connector/binxml", "connector/noise", "connector/issuer", "connector/push", "connector/stanza",
			"connector/e2ee", "connector/profile", "connector/gatekeeper", "connector/interop",
			"connector/convert", "connector/media", "connector/transcode", "connector/mediastore", "connector/matrixdurable",
			"connector/killpoint", "connector/words", "connector/email", "connector/admin", "connector/provisioning", "connector/metrics", "database",
		},
		[]string{mautrix, payloads, yaml, "github.com/skip2/go-qrcode"},
	},
	{
		"bridge/sandbox",
		[]string{
			"connector/jid", "connector/binxml", "connector/noise", "connector/media", "connector/stanza", "connector/profile",
			"connector/e2ee",
		},
		[]string{signal, payloads, jose, websocket},
	},
	{"bridge/parts", nil, []string{mautrix, yaml}},
	{"bridge/demo", []string{"bridge/parts", "bridge/sandbox"}, nil},
	{
		"bridge/doctor", []string{"connector", "connector/admin", "connector/issuer", "connector/mediastore", "database"},
		[]string{mautrix, yaml},
	},
	{
		"bridge",
		[]string{
			"connector", "connector/killpoint", "connector/profile", "connector/admin", "connector/provisioning", "connector/mediastore", "database", "database/transfer", "bridge/sandbox", "bridge/demo", "bridge/parts",
			"bridge/doctor",
		},
		[]string{mautrix, yaml, "go.mau.fi/zeroconfig", "github.com/tidwall/gjson"},
	},
}

// testHelpers are packages that are not of the product: tests import or run them.
var testHelpers = []row{
	{"connector/e2ee/e2eetest", []string{"connector/e2ee", "connector/jid"}, nil},
	{"connector/e2ee/oracle", nil, nil},
	{"connector/email/emailtest", nil, nil}, // runs a mail server
	{"connector/issuer/oracle", nil, nil},
	{"connector/interop/interoptest", []string{"connector/interop", "connector/e2ee", "connector/jid"}, nil},
	{"connector/mediastore/mediastoretest", []string{"connector/mediastore"}, nil},
	{"database/databasetest", []string{"database"}, []string{"github.com/lib/pq"}},
	{"database/diskshim", nil, nil},
	{"database/databasetest/disklog", []string{"database/diskshim"}, nil},
	{"database/diskfault", []string{"database/diskshim"}, nil}, // in the program only if that is built with the tag killpoints
	{"bridge/e2e", []string{"bridge/parts"}, nil},
	{"bridge/e2e/canary", []string{"bridge/parts"}, nil},
	{"bridge/e2e/faults", nil, nil},
	{"bridge/e2e/faults/homeserver", nil, []string{yaml}},
	{"bridge/e2e/faults/mutants", nil, nil}, // a program, run by ./build.sh mutants
	{"bridge/e2e/scale", nil, nil},
	{"bridge/fuzz", nil, nil},    // a program, run by ./build.sh fuzz
	{"bridge/release", nil, nil}, // a program, run by ./build.sh release
	{"bridge/image", []string{"bridge/parts", "database/databasetest"}, []string{yaml}},
	{"docs", nil, nil},
}

// listed is what the go command says about a package.
type listed struct {
	ImportPath   string
	Imports      []string
	Deps         []string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Standard     bool
	Module       *struct{ Path string }
}

// packages returns all packages of the module and all they need, by path.
func packages(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-tags", "goolm", "-deps",
		"-json=ImportPath,Imports,Deps,GoFiles,TestGoFiles,XTestGoFiles,Standard,Module", "./...")
	cmd.Dir = ".."
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	found := map[string]listed{}
	for decoder := json.NewDecoder(&out); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found[p.ImportPath] = p
	}
}

func (r row) allows(path string, standard bool) bool {
	if standard {
		return true
	}
	if inside, ok := strings.CutPrefix(path, module+"/"); ok {
		return slices.Contains(r.internal, inside)
	}
	for _, prefix := range append(slices.Clone(everywhere), r.external...) {
		if path == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/") {
			return true
		}
	}
	return false
}

// wrongArrows compares packages with rows and returns a sentence for each
// difference, and how many arrows it looked at.
func wrongArrows(rows []row, all map[string]listed) (wrong []string, arrows int) {
	byName := map[string]row{}
	for _, r := range rows {
		byName[r.pkg] = r
	}
	for path, p := range all {
		if p.Standard || p.Module == nil || p.Module.Path != module {
			continue
		}
		name := strings.TrimPrefix(path, module+"/")
		r, ok := byName[name]
		if !ok {
			wrong = append(wrong, name+" is not in the table of docs/imports_test.go")
			continue
		}
		for _, i := range p.Imports {
			if i == "C" || i == "unsafe" {
				continue
			}
			arrows++
			if !r.allows(i, all[i].Standard) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which the table does not allow", name, i))
			}
		}
	}
	slices.Sort(wrong)
	return wrong, arrows
}

func TestPackagesImportOnlyWhatTheTableAllows(t *testing.T) {
	wrong, arrows := wrongArrows(slices.Concat(table, testHelpers), packages(t))
	for _, sentence := range wrong {
		t.Error(sentence)
	}
	if arrows < 100 {
		t.Errorf("only %d imports were looked at", arrows)
	}
}

func TestAnArrowOutsideTheTableIsSeen(t *testing.T) {
	inModule := &struct{ Path string }{module}
	all := map[string]listed{
		"fmt":                 {ImportPath: "fmt", Standard: true},
		module + "/database":  {Module: inModule, Imports: []string{"fmt", module + "/connector", "maunium.net/go/mautrix/id"}},
		module + "/connector": {Module: inModule, Imports: []string{"fmt", module + "/bridge/sandbox", mautrix, "maunium.net/go/mautrixx"}},
		module + "/new":       {Module: inModule},
		"example.org/other":   {Imports: []string{module + "/connector"}},
	}
	wrong, arrows := wrongArrows(table, all)
	if len(wrong) != 5 || arrows != 7 {
		t.Errorf("%d arrows, found wrong:\n%s", arrows, strings.Join(wrong, "\n"))
	}
}

// TestTheTableHasNoCircles also holds the three boxes to their one direction.
func TestTheTableHasNoCircles(t *testing.T) {
	seen := map[string]bool{}
	box := func(pkg string) string { first, _, _ := strings.Cut(pkg, "/"); return first }
	rank := map[string]int{"database": 0, "connector": 1, "bridge": 2}
	for _, r := range table {
		for _, i := range r.internal {
			if !seen[i] && !(r.pkg == "connector" && i == "database") {
				t.Errorf("%s may import %s, which stands below it in the table", r.pkg, i)
			}
			if rank[box(r.pkg)] < rank[box(i)] {
				t.Errorf("%s may import %s: that arrow runs the wrong way", r.pkg, i)
			}
		}
		seen[r.pkg] = true
	}
}

// TestWhatMustStayApartIsApart looks at everything a package needs, however
// far down.
func TestWhatMustStayApartIsApart(t *testing.T) {
	all := packages(t)
	apart := []struct {
		pkg    string
		deps   []string
		reason string
	}{
		{"bridge/sandbox", []string{module + "/connector/interop", module + "/connector/gatekeeper", module + "/database", mautrix},
			"the sandbox shares the codecs with the bridge and nothing else"},
		{"connector/interop", []string{mautrix}, "the core knows no Matrix"},
		{"connector/gatekeeper", []string{mautrix, "go.mau.fi/libsignal"}, "the stream knows neither Matrix nor Signal"},
		{"connector/convert", []string{mautrix + "/bridgev2"}, "conversion does not need the framework"},
		{"database", []string{mautrix, "go.mau.fi/whatsmeow"}, "rows are plain values"},
	}
	for _, a := range apart {
		p, ok := all[module+"/"+a.pkg]
		if !ok {
			t.Errorf("%s is not there", a.pkg)
			continue
		}
		for _, dep := range p.Deps {
			for _, prefix := range a.deps {
				if dep == prefix || strings.HasPrefix(dep, prefix+"/") {
					t.Errorf("%s needs %s: %s", a.pkg, dep, a.reason)
				}
			}
		}
		if slices.Contains(p.Deps, module+"/connector") {
			t.Errorf("%s needs the connector", a.pkg)
		}
	}
	// Of whatsmeow the product has schemas and the dictionary, nothing that runs.
	for path := range all {
		rest, ok := strings.CutPrefix(path, "go.mau.fi/whatsmeow")
		if ok && !strings.HasPrefix(rest, "/proto/") && rest != "/binary/token" {
			t.Errorf("%s is in the product", path)
		}
	}
}

// markdown writes the table as ARCHITECTURE.md shows it.
func markdown(rows []row) string {
	var b strings.Builder
	b.WriteString("| package | of this module | of other modules |\n| --- | --- | --- |\n")
	cell := func(names []string) string {
		if len(names) == 0 {
			return "-"
		}
		quoted := make([]string, len(names))
		for i, n := range names {
			quoted[i] = "`" + strings.TrimPrefix(strings.TrimSuffix(n, "/"), "connector/") + "`"
		}
		return strings.Join(quoted, ", ")
	}
	for _, r := range rows {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.pkg, cell(r.internal), cell(r.external))
	}
	return b.String()
}

func TestArchitectureShowsTheTable(t *testing.T) {
	const heading = "Folders and imports"
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	want := markdown(table)
	_, section, ok := strings.Cut(string(text), heading)
	switch {
	case !ok:
		t.Skipf("ARCHITECTURE.md has no section %q; its table would be\n\n%s", heading, want)
	case !strings.Contains(section, want):
		t.Errorf("the table in ARCHITECTURE.md, %q, should be\n\n%s", heading, want)
	}
}
