package sandbox

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTheSandboxSharesTheCodecsWithTheBridgeAndNothingElse reads the import graph of the product code.
func TestTheSandboxSharesTheCodecsWithTheBridgeAndNothingElse(t *testing.T) {
	allowed := map[string]bool{
		"postern/bridge/sandbox":    true,
		"postern/connector/binxml":  true,
		"postern/connector/e2ee":    true,
		"postern/connector/jid":     true,
		"postern/connector/media":   true,
		"postern/connector/noise":   true,
		"postern/connector/profile": true,
		"postern/connector/stanza":  true,
	}
	out, err := exec.Command("go", "list", "-tags", "goolm", "-deps", "postern/bridge/sandbox").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, path := range strings.Fields(string(out)) {
		if strings.HasPrefix(path, "postern/") {
			seen++
			if !allowed[path] {
				t.Errorf("the sandbox imports %s", path)
			}
		}
		if strings.HasPrefix(path, "maunium.net/") || strings.HasPrefix(path, "go.mau.fi/whatsmeow/") && !strings.Contains(path, "/proto/") && !strings.HasSuffix(path, "/binary/token") && !strings.HasSuffix(path, "/proto") {
			t.Errorf("the sandbox imports %s", path)
		}
	}
	if seen < 5 {
		t.Fatalf("only %d packages of ours in the graph: it was not read", seen)
	}
}
