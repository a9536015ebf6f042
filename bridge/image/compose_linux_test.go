package image_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheJudgeOfComposeFilesTellsRightFromWrong, or the tests that ask it would prove nothing.
func TestTheJudgeOfComposeFilesTellsRightFromWrong(t *testing.T) {
	tool := composeTool(t)
	for name, c := range map[string]struct{ text, want, refused string }{
		"right":              {"services: {a: {image: 'b:${VERSION}'}}", "image: b:7", ""},
		"an unknown key":     {"services: {a: {image: b, imagge: c}}", "", "imagge"},
		"a missing variable": {"services: {a: {image: '${NOWHERE:?which one}'}}", "", "which one"},
		"a missing service":  {"services: {a: {image: b, depends_on: [c]}}", "", `"c"`},
		"not YAML":           {"services: [", "", "yaml"},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"compose.yaml": "name: x\n" + c.text, ".env": "VERSION=7\n"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), tool)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (err != nil) != (c.refused != "") || !strings.Contains(string(out), c.want) || !strings.Contains(string(out), c.refused) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
