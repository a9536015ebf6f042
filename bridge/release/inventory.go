package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

// component is something of others that the program is made of.
type component struct {
	path, version string // of a module: as in go.mod
	sum           string // of a module: "h1:…", as in go.sum
	purl          string
	licence       string // an SPDX expression
	texts         []licenceFile
	imports       []string // purls of the components whose packages it imports
}

// licenceFile is a licence, or a notice that goes with one, as its authors wrote it.
type licenceFile struct{ name, text string }

// materials is everything in the program, sorted by purl.
type materials struct {
	arch       string
	goVersion  string
	compiler   string // of C
	settings   []debug.BuildSetting
	components []component
	direct     []string // purls of the components that the program's own packages import
}

// listed is what `go list -json` says about a package.
type listed struct {
	ImportPath, Dir string
	Standard        bool
	Imports         []string
	Module          *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path string }
	}
}

// key says to which component a package belongs.
func (l listed) key() string {
	switch {
	case l.Standard:
		return standard
	case l.Module == nil || l.Module.Main:
		return ""
	}
	return l.Module.Path
}

const (
	standard = "std"
	sqlite   = "sqlite"
	// sqliteModule carries SQLite's sources and compiles them into the program.
	sqliteModule = "github.com/mattn/go-sqlite3"
)

// inventory finds out what the built program is made of. The program itself says which modules it has; go list says where their
// files are and which imports which. If the two differ, it is not the program of these sources.
func inventory(ctx context.Context, dir, program string, t target) (*materials, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	text, err := output(ctx, dir, t.environment(), "go", "list", "-deps", "-mod=readonly", "-tags", tags, "-json=ImportPath,Dir,Standard,Imports,Module", "./bridge")
	if err != nil {
		return nil, err
	}
	packages, err := decode(text)
	if err != nil {
		return nil, err
	}
	m := &materials{arch: t.arch, goVersion: strings.TrimPrefix(info.GoVersion, "go"), settings: info.Settings}
	if m.compiler, err = compilerName(ctx, t); err != nil {
		return nil, err
	}
	folders := foldersOf(packages)
	for _, module := range info.Deps {
		if module.Replace != nil || module.Sum == "" {
			return nil, fmt.Errorf("module %s is replaced or has no checksum; a release has neither", module.Path)
		}
		one := component{path: module.Path, version: module.Version, sum: module.Sum, purl: "pkg:golang/" + module.Path + "@" + module.Version}
		if one.texts, err = licenceFiles(folders[module.Path]); err != nil {
			return nil, err
		}
		delete(folders, module.Path)
		m.components = append(m.components, one)
		if module.Path == sqliteModule {
			if err = m.addSQLite(one, packages); err != nil {
				return nil, err
			}
		}
	}
	goRoot, err := output(ctx, dir, t.environment(), "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	own := component{path: standard, version: m.goVersion, purl: "pkg:golang/std@" + m.goVersion}
	if own.texts, err = licenceFiles([]string{strings.TrimSpace(string(goRoot))}); err != nil {
		return nil, err
	}
	m.components = append(m.components, own)
	delete(folders, standard)
	delete(folders, "")
	for path := range folders {
		return nil, fmt.Errorf("the sources need module %s, which the program does not have", path)
	}
	if err = m.decide(); err != nil {
		return nil, err
	}
	m.connect(packages)
	slices.SortFunc(m.components, func(a, b component) int { return strings.Compare(a.purl, b.purl) })
	return m, nil
}

func decode(text []byte) (packages []listed, err error) {
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var one listed
		if err = decoder.Decode(&one); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, one)
	}
}

// foldersOf lists for each module its own folder and those on the way to each of its packages that is in the program: other
// people's code inside a module has its licence beside it.
func foldersOf(packages []listed) map[string][]string {
	folders := map[string][]string{}
	for _, one := range packages {
		key := one.key()
		list := folders[key]
		if one.Module != nil {
			for dir := one.Dir; ; dir = filepath.Dir(dir) {
				if !slices.Contains(list, dir) {
					list = append(list, dir)
				}
				if dir == one.Module.Dir || len(dir) <= len(one.Module.Dir) {
					break
				}
			}
		}
		folders[key] = list
	}
	for key := range folders {
		slices.Sort(folders[key]) // the module's own first
	}
	return folders
}

// licenceName is what files with licences and notices are called.
var licenceName = regexp.MustCompile(`(?i)^(un)?(licen[sc]e|copying|notice|patents)([.-][a-z0-9.-]*)?$`)

// licenceFiles reads the licences in folders, of which the first is the component's own. Names are relative to that.
func licenceFiles(folders []string) (found []licenceFile, err error) {
	for _, dir := range folders {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if !entry.Type().IsRegular() || !licenceName.MatchString(entry.Name()) || strings.HasSuffix(entry.Name(), ".go") {
				continue
			}
			path := filepath.Join(dir, entry.Name())
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(folders[0], path)
			if err != nil {
				return nil, err
			}
			found = append(found, licenceFile{filepath.ToSlash(name), strings.ReplaceAll(string(text), "\r\n", "\n")})
		}
	}
	return found, nil
}

// sqliteVersion and sqliteNotice are how SQLite's one source file says which it is, and that nobody owns it.
var (
	sqliteVersion = regexp.MustCompile(`(?m)^#define SQLITE_VERSION +"([0-9.]+)"`)
	sqliteNotice  = regexp.MustCompile(`(?s)The author disclaims copyright to this source code.*?taking more than you give\.`)
)

// addSQLite adds the library that a module carries: Go's own list does not know it.
func (m *materials) addSQLite(carrier component, packages []listed) error {
	at := slices.IndexFunc(packages, func(one listed) bool { return one.ImportPath == sqliteModule })
	if at < 0 {
		return fmt.Errorf("the sources do not need %s, and the program does", carrier.path)
	}
	text, err := os.ReadFile(filepath.Join(packages[at].Dir, "sqlite3-binding.h"))
	if err != nil {
		return err
	}
	found, notice := sqliteVersion.FindSubmatch(text), sqliteNotice.Find(text)
	if found == nil || notice == nil {
		return fmt.Errorf("%s does not say which SQLite it carries", carrier.path)
	}
	lines := strings.Split(string(notice), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(strings.TrimPrefix(lines[i], "**"))
	}
	v := string(found[1])
	m.components = append(m.components, component{
		path: sqlite, version: v, purl: "pkg:generic/sqlite@" + v,
		texts: []licenceFile{{"sqlite3.h", strings.Join(lines, "\n") + "\n"}},
	})
	return nil
}

// connect notes which component imports which.
func (m *materials) connect(packages []listed) {
	owner, purls := map[string]string{}, map[string]string{}
	for _, one := range m.components {
		purls[one.path] = one.purl
	}
	for _, one := range packages {
		owner[one.ImportPath] = one.key()
	}
	edges := map[string]map[string]bool{sqliteModule: {purls[sqlite]: true}}
	for _, one := range packages {
		from := one.key()
		if edges[from] == nil {
			edges[from] = map[string]bool{}
		}
		for _, path := range one.Imports {
			to := owner[path]
			if path == "C" {
				to = standard
			}
			if purl := purls[to]; to != from && purl != "" {
				edges[from][purl] = true
			}
		}
	}
	for i := range m.components {
		m.components[i].imports = sorted(edges[m.components[i].path])
	}
	m.direct = sorted(edges[""])
}

func sorted(set map[string]bool) []string {
	list := make([]string, 0, len(set))
	for one := range set {
		list = append(list, one)
	}
	slices.Sort(list)
	return list
}
