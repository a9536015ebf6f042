package transfer

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/database"
)

var forgersKey = [database.KeySize]byte{1, 2, 3}

func forgers([]byte) ([database.KeySize]byte, error) { return forgersKey, nil }

// entry is a part of an archive that somebody made by hand.
type entry struct{ name, content string }

// forge makes an archive under a key that its maker has, with whatever manifest and whatever parts. A nil manifest is one that is right but for what change does to it.
func forge(t testing.TB, change func(m *Manifest), raw []byte, lines map[string]string, more ...entry) []byte {
	t.Helper()
	m := Manifest{
		Format: archiveFormat, Salt: bytes.Repeat([]byte{7}, saltSize), Dialect: "sqlite3", FilesLeftOut: true,
		Versions: map[string]Version{database.VersionTable: {Version: 1, Compatible: 1}},
	}
	if change != nil {
		change(&m)
	}
	if raw == nil {
		var err error
		if raw, err = json.Marshal(&m); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	put := func(name string, content []byte) {
		part, err := w.Create(name)
		if err == nil {
			_, err = part.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := lines[fileList]; !ok {
		put(fileList, sealedLines(t, m.Salt, fileList, ""))
	}
	for name, text := range lines {
		put(name, sealedLines(t, m.Salt, name, text))
	}
	for _, e := range more {
		put(e.name, []byte(e.content))
	}
	put(manifestName, raw)
	put(macName, []byte(manifestMAC(forgersKey, raw)))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func sealedLines(t testing.TB, salt []byte, name, text string) []byte {
	t.Helper()
	aead, err := partCipher(forgersKey, salt, name)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := sealTo(&out, aead, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// examine opens an archive and reads all of it.
func examine(t testing.TB, content []byte) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.zip")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := OpenArchive(path, forgers)
	if err != nil {
		return err
	}
	return errors.Join(a.Check(t.Context()), a.Close())
}

func people(m *Manifest) {
	m.Tables = []TablePart{{Table: Table{Name: "postern_person", Columns: []Column{{Name: "mxid", Type: "TEXT"}}}}}
}

func TestWhatWhoeverHasTheKeyPutsIntoAnArchiveIsBounded(t *testing.T) {
	if err := examine(t, forge(t, nil, nil, nil)); err != nil {
		t.Fatalf("an archive with nothing in it: %v", err)
	}
	one := map[string]string{"tables/postern_person.sealed": ""}
	sum := strings.Repeat("ab", 32)
	withFile := func(m *Manifest) { m.Files, m.FilesLeftOut = 1, false }
	for name, c := range map[string]struct {
		change func(m *Manifest)
		raw    []byte
		lines  map[string]string
		more   []entry
	}{
		"two parts of one name":         {more: []entry{{"x", ""}, {"x", ""}}},
		"two manifests":                 {more: []entry{{manifestName, "{}"}}},
		"a part that is not listed":     {more: []entry{{"tables/other.sealed", ""}}},
		"an attachment more":            {more: []entry{{fileFolder + sum, "x"}}},
		"a key that is not listed":      {more: []entry{{keyName, "x"}}},
		"an earlier format":             {change: func(m *Manifest) { m.Format = 1 }},
		"no salt":                       {change: func(m *Manifest) { m.Salt = nil }},
		"another kind of database":      {change: func(m *Manifest) { m.Dialect = "oracle" }},
		"fewer than no attachments":     {change: func(m *Manifest) { m.Files = -1 }},
		"a manifest that is too long":   {raw: bytes.Repeat([]byte(" "), maxManifest+1)},
		"a manifest that is none":       {raw: []byte("[]")},
		"too many tables":               {change: func(m *Manifest) { m.Tables = make([]TablePart, maxTables+1) }},
		"too many statements":           {change: func(m *Manifest) { m.Setup = make([]string, maxStatements+1) }},
		"a table twice":                 {change: func(m *Manifest) { people(m); people(m); m.Tables = append(m.Tables, m.Tables[0]) }, lines: one},
		"a table of the database's own": {change: func(m *Manifest) { people(m); m.Tables[0].Name = "sqlite_master" }},
		"a table in another folder":     {change: func(m *Manifest) { people(m); m.Tables[0].Name = "postern_/../x" }},
		"a table without columns":       {change: func(m *Manifest) { people(m); m.Tables[0].Columns = nil }},
		"a column of no known type":     {change: func(m *Manifest) { people(m); m.Tables[0].Columns[0].Type = "xml" }},
		"another statement":             {change: func(m *Manifest) { m.Finish = []string{"DROP TABLE postern_person"} }},
		"a row more":                    {change: people, lines: map[string]string{"tables/postern_person.sealed": "[\"x\"]\n"}},
		"a row without an end":          {change: people, lines: map[string]string{"tables/postern_person.sealed": "[\"x\"]"}},
		"a row that is too long":        {change: people, lines: map[string]string{"tables/postern_person.sealed": strings.Repeat(" ", maxLine+1)}},
		"an attachment with a long name": {change: withFile, more: []entry{{fileFolder + sum, "x"}},
			lines: map[string]string{fileList: `{"name":"` + sum + sum + `","size":1,"sha256":"` + sum + `"}` + "\n"}},
		"an attachment that is another": {change: withFile, more: []entry{{fileFolder + sum, "x"}},
			lines: map[string]string{fileList: `{"name":"` + sum + `","size":1,"sha256":"` + sum + `"}` + "\n"}},
		"an attachment that is longer": {change: withFile, more: []entry{{fileFolder + sum, "xyz"}},
			lines: map[string]string{fileList: `{"name":"` + sum + `","size":1,"sha256":"` + sum + `"}` + "\n"}},
		"no attachment": {change: withFile, more: []entry{{fileFolder + sum, "x"}}},
	} {
		if err := examine(t, forge(t, c.change, c.raw, c.lines, c.more...)); !errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAManifestIsNotReadBeforeItIsKnownWhoMadeIt: one that is no JSON is refused for its key, and not for that.
func TestAManifestIsNotReadBeforeItIsKnownWhoMadeIt(t *testing.T) {
	content := forge(t, nil, []byte(`{"format":2,"tables":[{},{},{},`), nil)
	path := filepath.Join(t.TempDir(), "x.zip")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenArchive(path, func([]byte) (key [database.KeySize]byte, _ error) { return key, nil })
	if !errors.Is(err, ErrKey) {
		t.Errorf("%v", err)
	}
}

// TestAnArchiveOfAnotherFormatIsRefusedByItsFormat: also where that has other kinds of values.
func TestAnArchiveOfAnotherFormatIsRefusedByItsFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.zip")
	if err := os.WriteFile(path, forge(t, nil, []byte(`{"format":1,"files":["a","b"]}`), nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenArchive(path, forgers); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "its format is 1") {
		t.Errorf("%v", err)
	}
}

// TestSealedPartsCannotBeCutOffOrChangePlaces: neither chunks within one, nor one with another, nor with one of another archive.
func TestSealedPartsCannotBeCutOffOrChangePlaces(t *testing.T) {
	salt, other := make([]byte, saltSize), bytes.Repeat([]byte{1}, saltSize)
	var text strings.Builder
	for i := range 40_000 { // which do not become less when they are compressed
		text.WriteString(manifestMAC(forgersKey, []byte{byte(i), byte(i >> 8)}) + "\n")
	}
	sealed := sealedLines(t, salt, "a", text.String())
	const whole = sealChunk + 16
	if len(sealed) < 3*whole {
		t.Fatal("there are too few chunks")
	}
	read := func(content, salt []byte, name string) (string, error) {
		aead, err := partCipher(forgersKey, salt, name)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		err = lines(bytes.NewReader(content), aead, func(line []byte) error { got.Write(append(line, '\n')); return nil })
		return got.String(), err
	}
	if got, err := read(sealed, salt, "a"); err != nil || got != text.String() {
		t.Fatalf("%d bytes of %d (%v)", len(got), text.Len(), err)
	}
	swapped := append(append(append([]byte(nil), sealed[whole:2*whole]...), sealed[:whole]...), sealed[2*whole:]...)
	flipped := append([]byte(nil), sealed...)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		content, salt []byte
		name          string
	}{
		"another part's": {sealed, salt, "b"}, "another archive's": {sealed, other, "a"}, "swapped": {swapped, salt, "a"}, "a bit": {flipped, salt, "a"},
		"cut off after a chunk": {sealed[:2*whole], salt, "a"}, "cut off": {sealed[:len(sealed)-1], salt, "a"}, "nothing": {nil, salt, "a"},
		"more": {append(append([]byte(nil), sealed...), 0), salt, "a"}, "twice": {append(append([]byte(nil), sealed...), sealed...), salt, "a"},
	} {
		if _, err := read(c.content, c.salt, c.name); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func TestAnArchiveRunsNoStatementsButThoseThatMakeTables(t *testing.T) {
	for _, good := range []string{
		`CREATE TABLE "user" (a TEXT NOT NULL DEFAULT 'it''s', b BIGINT DEFAULT -1, -- a comment (with; everything)` + "\n" + `CHECK (a <> '' AND (b >= 0 OR b = -1)), FOREIGN KEY (a) REFERENCES portal (id) ON DELETE CASCADE)`,
		`CREATE TYPE membership AS ENUM ('join', 'leave')`,
		`CREATE UNIQUE INDEX x ON message USING btree (a, "timestamp") WHERE a <> ''::text`,
		`ALTER TABLE "reaction" ADD CONSTRAINT "x" FOREIGN KEY (a) REFERENCES message(a) ON UPDATE CASCADE`,
		`CREATE TABLE mx_room_state (room_id CHAR(43) PRIMARY KEY, n bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY)`,
	} {
		plain, err := plainStatement(good)
		if err != nil || strings.Contains(plain, "--") {
			t.Errorf("%s: %q (%v)", good, plain, err)
		}
	}
	for _, bad := range []string{
		"", ";", "DROP TABLE message", "ATTACH DATABASE 'x' AS a", "CREATE TABLE message (a TEXT); DROP TABLE portal", "CREATE TABLE message (a TEXT) AS SELECT 1",
		"CREATE TABLE message AS SELECT 1", "CREATE TABLE other (a TEXT)", "CREATE TABLE 'message' (a TEXT)", "CREATE TABLE a.message (a TEXT)", "CREATE TABLE message (a TEXT",
		"CREATE TABLE message (a TEXT))", "CREATE TABLE message (a TEXT) (b)", "CREATE TABLE message (a TEXT DEFAULT (load_extension('x')))", "CREATE TABLE message (a TEXT DEFAULT f ('x'))",
		`CREATE TABLE message (a TEXT DEFAULT "pg_sleep"(1))`, "CREATE TABLE message (a TEXT CHECK (a = (SELECT 1)))", "CREATE TABLE message (a TEXT GENERATED ALWAYS AS (f(a)) STORED)",
		"CREATE TEMP TABLE message (a TEXT)", "CREATE VIEW message AS SELECT 1", "CREATE TRIGGER x AFTER INSERT ON message BEGIN DELETE FROM portal; END", "CREATE INDEX x ON message (lower(a))",
		"CREATE INDEX x ON other (a)", "CREATE TYPE other AS ENUM ('a')", "ALTER TABLE message OWNER TO x", "ALTER TABLE message ADD CONSTRAINT x CHECK (f(a))",
		"ALTER TABLE message ADD COLUMN x TEXT", "CREATE VIRTUAL TABLE message USING fts5(a)", "CREATE TABLE message (a TEXT) /* x */", "CREATE TABLE message (a TEXT DEFAULT E'\\'')",
		"CREATE TABLE message (a TEXT DEFAULT $$x$$)", "PRAGMA writable_schema=ON", "CREATE TABLE message (a text) INHERITS (other)", "CREATE TABLE", "CREATE", "CREATE INDEX x ON",
		"CREATE TYPE membership AS", "ALTER TABLE message ADD CONSTRAINT x FOREIGN KEY", "CREATE TABLE message", "CREATE TABLE message (a TEXT) WITHOUT ROWID",
	} {
		if plain, err := plainStatement(bad); err == nil {
			t.Errorf("%q is taken as %q", bad, plain)
		}
	}
}

func TestEscapesThatPostgresDoesNotTakeAreReplaced(t *testing.T) {
	for text, want := range map[string]string{
		`"plain"`: `"plain"`, `"\u0000"`: `"\ufffd"`, `"\\u0000"`: `"\\u0000"`, `"\\\u0000"`: `"\\\ufffd"`, `"\ud83d\ude00"`: `"\ud83d\ude00"`, `"\uD83Dx"`: `"\ufffdx"`,
		`"\ude00"`: `"\ufffd"`, `"\ud83d\ud83d\ude00"`: `"\ufffd\ud83d\ude00"`, `"\ud83d`: `"\ufffd`, `"\u00e9\n"`: `"\u00e9\n"`, `\`: `\`, `\u12`: `\u12`, `\ud83d\u`: `\ufffd\u`,
	} {
		if got := plainEscapes(text); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

// FuzzArchive: whoever has the key puts whatever into a manifest, the rows of a table, and the list of attachments.
//
// decoder: archive.go:hash,Manifest.sound
// decoder: archive_read.go:-OpenArchive,-Archive.Close,-checkedReader.Read,-passed.Unwrap,-readerFunc.Read
// decoder: seal.go:opener.Read,opener.next,lines,wholeLines
// decoder: statements.go
// decoder: values.go:decodeRow,decodeValue
func FuzzArchive(f *testing.F) {
	name := strings.Repeat("ab", 32)
	seed := func(rows string, change func(m *Manifest)) {
		sum, x := sha256.Sum256([]byte(rows)), sha256.Sum256([]byte("x"))
		m := &Manifest{
			Format: archiveFormat, Salt: bytes.Repeat([]byte{7}, saltSize), Dialect: "postgres", Files: 1,
			Tables: []TablePart{{
				Table: Table{Name: "postern_person", Columns: []Column{{Name: "mxid", Type: "TEXT"}, {Name: "n", Type: "BIGINT"}}},
				Rows:  int64(strings.Count(rows, "\n")), SHA256: hex.EncodeToString(sum[:]),
			}},
			Setup: []string{`CREATE TYPE membership AS ENUM ('join')`, `CREATE TABLE "postern_person" (mxid TEXT REFERENCES "user"(mxid), n BIGINT CHECK (n <> 1))`},
			Finish: []string{
				"CREATE UNIQUE INDEX x ON postern_person USING btree (n) WHERE n > 0", `ALTER TABLE "reaction" ADD CONSTRAINT "x" FOREIGN KEY (a) REFERENCES message(a)`,
			},
		}
		if change != nil {
			change(m)
		}
		raw, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, rows, `{"name":"`+name+`","size":1,"sha256":"`+hex.EncodeToString(x[:])+`"}`+"\n")
	}
	seed("[\"x\",1]\n[{\"b\":\"AA==\"},{\"f\":\"1.5\"}]\n[null,true]\n[{\"x\":\"/w==\"},false]\n", nil)
	for _, rows := range []string{"[{},1]\n", "[1]\n", "{}\n", "[{\"b\":1},1]\n", "[\"x\",1]"} {
		seed(rows, nil)
	}
	for _, statement := range []string{"DROP TABLE message", "CREATE TYPE x", "ALTER TABLE message DROP x", "CREATE INDEX", "CREATE TABLE message ((", "CREATE TABLE message )", "CREATE TABLE message (f(SELECT))"} {
		seed("", func(m *Manifest) { m.Setup[0] = statement })
	}
	f.Add([]byte(`{"format":2}`), "", "{}\n")
	f.Fuzz(func(t *testing.T, manifest []byte, rows, files string) {
		if len(manifest) > 1<<16 || len(rows) > 1<<16 || len(files) > 1<<16 {
			return
		}
		content := forge(t, nil, manifest, map[string]string{"tables/postern_person.sealed": rows, fileList: files}, entry{fileFolder + name, "x"})
		reader, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		a := &Archive{file: io.NopCloser(nil)}
		if err := a.read(reader, forgers); err != nil {
			if !errors.Is(err, ErrArchive) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		if err := a.Check(t.Context()); err != nil && !errors.Is(err, ErrArchive) {
			t.Errorf("refused with %v", err)
		}
		err = a.files(t.Context(), func(*FilePart, [sha256.Size]byte, io.Reader) error { return nil })
		if err != nil && !errors.Is(err, ErrArchive) {
			t.Errorf("attachments are refused with %v", err)
		}
		for _, statement := range append(a.Setup, a.Finish...) {
			if again, err := plainStatement(statement); err != nil || again != statement || strings.ContainsAny(statement, ";\n") && !strings.ContainsAny(statement, `'"`) {
				t.Errorf("a statement is another when it is looked through again: %q", statement)
			}
		}
	})
}
