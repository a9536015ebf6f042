package main

import (
	"os"
	"testing"
)

// TestEveryTargetOfThisModuleNamesItsDecoder and stands in docs/FUZZING.md.
func TestEveryTargetOfThisModuleNamesItsDecoder(t *testing.T) {
	tools, err := newToolchain(t.Context(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	all, err := tools.targets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../" + document)
	if err != nil {
		t.Fatal(err)
	}
	rows := oldRows(string(page))
	for _, one := range all {
		if len(one.decoder) == 0 {
			t.Errorf("%s: %v", one.title(), errNoDecoder)
		} else if _, err := decoderAreas(one); err != nil {
			t.Errorf("%s: %v", one.title(), err)
		}
		if one.text == "" {
			t.Errorf("%s: its comment does not say what it checks", one.title())
		}
		if rows[one.title()] == "" {
			t.Errorf("%s is not in %s: run ./build.sh fuzz 60s '%s$'", one.title(), document, one.title())
		}
	}
	if len(all) < 20 {
		t.Errorf("only %d targets were found", len(all))
	}
}
