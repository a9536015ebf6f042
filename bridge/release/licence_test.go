package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// packagesOf asks the go command about the packages of the product.
func packagesOf(t *testing.T) []listed {
	t.Helper()
	text, err := doWith(nil, "../..", "go", "list", "-deps", "-tags", tags, "-json=ImportPath,Dir,Standard,Imports,Module", "./bridge")
	if err != nil {
		t.Fatal(err)
	}
	packages, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// TestEveryComponentHasACompatibleLicence that somebody has entered and that its files say, and the list has no others. It needs no
// release, so that a new module is judged in seconds.
func TestEveryComponentHasACompatibleLicence(t *testing.T) {
	known := map[string]bool{sqlite: true, standard: true}
	for path, folders := range foldersOf(packagesOf(t)) {
		known[path] = true
		if path == "" || path == standard {
			continue
		}
		one := component{path: path}
		var err error
		if one.texts, err = licenceFiles(folders); err != nil {
			t.Fatal(err)
		}
		if err = one.decide(licences); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if len(known) < 40 {
		t.Errorf("only %d components", len(known))
	}
	for path, expression := range licences {
		if !known[path] {
			t.Errorf("%s is entered and not in the program", path)
		}
		for id := range strings.SplitSeq(expression, " AND ") {
			if compatible[id] == "" {
				t.Errorf("%s: %s is not compatible", path, id)
			}
		}
	}
}

// TestNoFileUnderTheMozillaLicenceExcludesOurs: its files may say that they do not go together with the GNU licences.
func TestNoFileUnderTheMozillaLicenceExcludesOurs(t *testing.T) {
	read := 0
	for _, one := range packagesOf(t) {
		if !strings.Contains(licences[one.key()], "MPL") {
			continue
		}
		entries, err := os.ReadDir(one.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !strings.HasSuffix(entry.Name(), ".go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(one.Dir, entry.Name()))
			if err != nil {
				t.Fatal(err)
			}
			read++
			if bytes.Contains(text, []byte("Incompatible With Secondary")) {
				t.Errorf("%s: %s may not be combined with AGPL code", one.ImportPath, entry.Name())
			}
		}
	}
	if read < 200 {
		t.Errorf("only %d files were read", read)
	}
}

// TestWhatNobodyKnowsOrMayUseIsRefused, each for its reason.
func TestWhatNobodyKnowsOrMayUseIsRefused(t *testing.T) {
	const mit = "Permission is hereby granted,\n  free of charge, to any person"
	file := func(name, text string) []licenceFile { return []licenceFile{{name, text}} }
	for _, row := range []struct {
		name  string
		texts []licenceFile
		want  string // in the error; none if empty
	}{
		{"example.org/good", file("LICENSE", mit), ""},
		{"example.org/good", append(file("LICENSE", mit), licenceFile{"NOTICE", "Copyright"}, licenceFile{"PATENTS", "a grant"}), ""},
		{"example.org/good", nil, "no licence"},
		{"example.org/good", file("NOTICE", mit), "no licence"},
		{"example.org/good", file("LICENSE", "All rights reserved."), "nobody knows"},
		{"example.org/good", append(file("LICENSE", mit), licenceFile{"sub/LICENSE", "mine"}), "nobody knows the licence in sub/LICENSE"},
		{"example.org/good", file("LICENSE", "Apache License\n Version 2.0, January 2004"), "MIT is entered"},
		{"example.org/good", file("LICENSE", mit+" Commons Clause"), "LicenseRef-with-conditions"},
		{"example.org/good", append(file("LICENSE", mit), licenceFile{"sub/COPYING", "GNU GENERAL PUBLIC LICENSE\nVersion 2, June 1991"}), "GPL-2.0-only is not"},
		{"example.org/good", file("LICENSE", "Redistributions in binary form must reproduce; all advertising materials mentioning features; neither the name"), "BSD-4-Clause is not"},
		{"example.org/new", file("LICENSE", mit), "nobody has entered it"},
		{"example.org/worse", file("LICENSE", "Business Source License 1.1"), "BUSL-1.1 is not"},
	} {
		one := component{path: row.name, texts: row.texts}
		err := one.decide(map[string]string{"example.org/good": "MIT", "example.org/worse": "BUSL-1.1"})
		if row.want == "" && (err != nil || one.licence != "MIT") || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%+v: %v, want %q", row.texts, err, row.want)
		}
	}
}

// TestTextsAreRecognisedWhateverTheirLinesAre, by what they are and not by what they mention.
func TestTextsAreRecognisedWhateverTheirLinesAre(t *testing.T) {
	own, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{
		string(own): {"AGPL-3.0-only"}, // a text does not say "or later"; that is said where it is used
		"Redistributions in binary form must reproduce":                                            {"BSD-2-Clause"},
		"Redistributions in binary form must reproduce. Neither the name":                          {"BSD-3-Clause"},
		"Permission to use, copy, modify, and/or\n distribute this software for any purpose":       {"ISC"},
		"Permission is hereby granted, free of charge. Apache License\nVersion 2.0, January 2004.": {"Apache-2.0", "MIT"},
		"The GNU General Public License, version 2":                                                {},
	} {
		if got := recognise(text); !slices.Equal(got, want) {
			t.Errorf("%.60q is %q, want %q", text, got, want)
		}
	}
}

// TestTheListOfLicencesIsComplete: each module's line, and each licence and notice word for word.
func TestTheListOfLicencesIsComplete(t *testing.T) {
	made, _ := firstRelease(t)
	root := "postern-0.1.2-linux-" + hostArch()
	list := string(made.open(t, root+".tar.gz")[root+"/THIRD-PARTY-LICENCES.txt"].text)
	var bill bom
	if err := json.Unmarshal(made.files[root+".cdx.json"], &bill); err != nil {
		t.Fatal(err)
	}
	folders := foldersOf(packagesOf(t))
	texts := 0
	for _, part := range bill.Components {
		name := part.Name
		if name == standard {
			name = "Go's standard library"
		}
		if !strings.Contains(list, "\n"+name+", ") {
			t.Errorf("there is no text for %s", name)
		}
		at := strings.Index(list, "\n"+name+" ")
		if line, _, _ := strings.Cut(list[at+1:], "\n"); at < 0 || !strings.Contains(line, " "+part.Version+" ") || !strings.HasSuffix(line, " "+part.Licences[0].Expression) {
			t.Errorf("the line of %s is %q", name, line)
		}
		for _, dir := range folders[part.Name] {
			for _, file := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENSE.Golang", "COPYING", "NOTICE", "PATENTS"} {
				if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
					texts++
					if !strings.Contains(list, strings.Trim(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")) {
						t.Errorf("%s in %s is not in it", file, name)
					}
				}
			}
		}
	}
	if texts < 60 || !strings.Contains(list, "May you do good and not evil.") || !strings.Contains(list, "Google LLC") {
		t.Errorf("only %d texts", texts)
	}
}
