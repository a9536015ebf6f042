package main

import (
	"os"
	"testing"
)

// TestEveryMutantStillFitsTheSources fails when a line that a mutant breaks is another one by now, long before ./build.sh mutants is run.
func TestEveryMutantStillFitsTheSources(t *testing.T) {
	t.Chdir("../../../..")
	if _, err := os.Stat("go.mod"); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.name] || m.rule == "" || m.first == "" || len(m.changes) == 0 {
			t.Errorf("%s is there twice, or says too little", m.name)
		}
		names[m.name] = true
		if _, err := m.overlay(t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	if len(names) < 12 {
		t.Errorf("there are %d mutants, want 12 at least", len(names))
	}
	wrong := mutant{changes: []replacement{{"go.mod", "no such line", ""}}}
	if _, err := wrong.overlay(t.TempDir()); err == nil {
		t.Error("a replacement without a place is made")
	}
}
