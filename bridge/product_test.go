package main

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// TestTheProductHasNeitherKillPointsNorAFailingDisk: what tests break the program with is in it only when it is built with the tag killpoints.
func TestTheProductHasNeitherKillPointsNorAFailingDisk(t *testing.T) {
	parts := []string{"postern/database/diskfault", "postern/connector/killpoint/on.go", "postern/connector/killpoint/goroutines.go", "postern/bridge/armed.go"}
	files := func(tags string) string {
		const format = `{{.ImportPath}}{{$p := .ImportPath}}{{range .GoFiles}} {{$p}}/{{.}}{{end}}{{range .CgoFiles}} {{$p}}/{{.}}{{end}}`
		out, err := exec.Command("go", "list", "-deps", "-tags", tags, "-f", format, "postern/bridge").Output()
		if err != nil {
			t.Fatalf("listing what the program is made of: %v", err)
		}
		return string(out)
	}
	product, armed := files("goolm"), files("goolm,killpoints")
	if !strings.Contains(product, "postern/connector/killpoint/off.go") {
		t.Error("the product has no empty kill points")
	}
	for _, part := range parts {
		if strings.Contains(product, part) {
			t.Errorf("the product has %s", part)
		}
		if runtime.GOOS == "linux" && !strings.Contains(armed, part) {
			t.Errorf("the program that tests break has no %s, so that this test shows nothing", part)
		}
	}
}

// maxModules is how many modules of others the program may be made of.
const maxModules = 60

// TestTheProductIsMadeOfFewModules: each one is somebody else's code that has to be watched.
func TestTheProductIsMadeOfFewModules(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-tags", "goolm", "-f", "{{with .Module}}{{.Path}}{{end}}", "postern/bridge").Output()
	if err != nil {
		t.Fatalf("listing what the program is made of: %v", err)
	}
	modules := map[string]bool{}
	for _, path := range strings.Fields(string(out)) {
		modules[path] = path != "postern"
	}
	if n := len(modules) - 1; n > maxModules || n < 20 {
		t.Errorf("the program is made of %d modules of others, want at most %d", n, maxModules)
	} else {
		t.Logf("%d modules", n)
	}
}
