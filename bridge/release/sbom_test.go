package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// billOf reads the bill of materials of the first release.
func billOf(t *testing.T) (bom, []byte) {
	t.Helper()
	made, program := firstRelease(t)
	var bill bom
	decoder := json.NewDecoder(bytes.NewReader(made.files["postern-0.1.2-linux-"+hostArch()+".cdx.json"]))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&bill); err != nil {
		t.Fatal(err)
	}
	return bill, program
}

// TestTheBillHasExactlyTheModulesOfTheProgram, as the go command reads them out of it, with the checksums that go.sum has.
func TestTheBillHasExactlyTheModulesOfTheProgram(t *testing.T) {
	bill, program := billOf(t)
	path := filepath.Join(t.TempDir(), "postern")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	said, err := doWith(nil, ".", "go", "version", "-m", path)
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(said)) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[0] == "dep" {
			want[fields[1]+" "+fields[2]] = fields[3]
		} else if len(fields) > 0 && fields[0] == "=>" {
			t.Errorf("a module is replaced: %q", line)
		}
	}
	others := map[string]bomPart{}
	for _, part := range bill.Components {
		key := part.Name + " " + part.Version
		sum, found := want[key]
		if !found {
			others[part.Name] = part
			continue
		}
		delete(want, key)
		if !strings.Contains(string(sums), key+" "+sum+"\n") {
			t.Errorf("%s: go.sum does not have %s", key, sum)
		}
		digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:"))
		if err != nil || len(part.Hashes) != 1 || part.Hashes[0].Content != hex.EncodeToString(digest) || part.Properties[0] != (bomProperty{sumProperty, sum}) {
			t.Errorf("%s has %v and %v, want %s (%v)", key, part.Hashes, part.Properties, sum, err)
		}
		if part.PURL != "pkg:golang/"+part.Name+"@"+part.Version || part.Ref != part.PURL || part.Type != "library" {
			t.Errorf("%s is called %+v", key, part)
		}
	}
	for key := range want {
		t.Errorf("%s is in the program and not in the bill", key)
	}
	if len(bill.Components) < 40 || len(others) != 2 {
		t.Errorf("%d components, and besides modules %v", len(bill.Components), others)
	}
	goVersion, _, _ := strings.Cut(strings.TrimSpace(string(said[bytes.Index(said, []byte(": go"))+4:])), "\n")
	if others[standard].Version != goVersion {
		t.Errorf("the standard library is %+v, want %s", others[standard], goVersion)
	}
	if v := others[sqlite].Version; v == "" || !bytes.Contains(program, []byte(v+"\x00")) {
		t.Errorf("SQLite is %+v, which the program does not have", others[sqlite])
	}
}

// TestTheBillBelongsToItsProgram, and is of the commit's time.
func TestTheBillBelongsToItsProgram(t *testing.T) {
	bill, program := billOf(t)
	path := filepath.Join(t.TempDir(), "postern")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	digest, err := digestOf(path)
	if err != nil {
		t.Fatal(err)
	}
	own := bill.Metadata.Component
	if own.Name != "postern" || own.Version != "v0.1.2" || own.Hashes[0].Content != hex.EncodeToString(digest) || own.Licences[0].Expression != "AGPL-3.0-or-later" {
		t.Errorf("it is about %+v", own)
	}
	if bill.Serial != "urn:uuid:"+serial(digest) || bill.Metadata.Timestamp != "2024-02-29T18:59:58Z" {
		t.Errorf("serial number %s of %s", bill.Serial, bill.Metadata.Timestamp)
	}
	properties := map[string]string{}
	for _, property := range bill.Metadata.Properties {
		properties[property.Name] = property.Value
	}
	for _, key := range []string{"postern:commit", "postern:build:go", "postern:build:c", "postern:build:GOARCH", "postern:build:-tags"} {
		if properties[key] == "" {
			t.Errorf("it does not say %s", key)
		}
	}
}

// TestEverythingInTheBillIsThereForAReason: following what imports what leads from the program to each component.
func TestEverythingInTheBillIsThereForAReason(t *testing.T) {
	bill, _ := billOf(t)
	edges := map[string][]string{}
	for _, one := range bill.Dependencies {
		edges[one.Ref] = one.DependsOn
	}
	reached := map[string]bool{}
	var follow func(ref string)
	follow = func(ref string) {
		if _, known := edges[ref]; !known {
			t.Errorf("%s is needed and not listed", ref)
		}
		if !reached[ref] {
			reached[ref] = true
			for _, next := range edges[ref] {
				follow(next)
			}
		}
	}
	follow(bill.Metadata.Component.Ref)
	for _, part := range bill.Components {
		if !reached[part.Ref] {
			t.Errorf("nothing needs %s", part.Ref)
		}
	}
	if len(reached) != len(bill.Components)+1 {
		t.Errorf("%d are needed, %d listed", len(reached), len(bill.Components)+1)
	}
}

// judge holds a document against the published schema, formats and all, and refuses one that is broken.
const judge = `
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = open(sys.argv[1]).read()
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
assert wrong is None, wrong
assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"library"', '"librarian"')) is not None
print("good")
`

// TestTheBillFollowsThePublishedSchema: cyclonedx-python-lib, from PyPI, brings it.
func TestTheBillFollowsThePublishedSchema(t *testing.T) {
	python := cacheFolder(t, "cyclonedx-*/bin/python", "cyclonedx-python-lib, from PyPI,")
	made, _ := firstRelease(t)
	out, err := doWith(nil, ".", python, "-c", judge, filepath.Join(made.dir, "postern-0.1.2-linux-"+hostArch()+".cdx.json"))
	if err != nil || !strings.HasSuffix(string(out), "good\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestAChecksumOfAnotherKindIsRefused, since it would be written down as something that it is not.
func TestAChecksumOfAnotherKindIsRefused(t *testing.T) {
	for _, bad := range []string{"", "h1:", "h2:" + strings.Repeat("A", 43) + "=", "h1:" + strings.Repeat("A", 44), "h1:%%%"} {
		if hashes, err := moduleHash(bad); err == nil {
			t.Errorf("%q became %v", bad, hashes)
		}
	}
}
