package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"postern/bridge/parts"
)

var shellBlock = regexp.MustCompile("(?s)\n```sh( [a-z]+)?\n(.*?)```")

// TestTheQuickStartLeadsToAMessageBothWays runs the commands of docs/QUICKSTART.md in an empty folder, as they stand there. Only the program and
// Synapse are not built and installed anew but are those of the tests, and the ports are free ones.
func TestTheQuickStartLeadsToAMessageBothWays(t *testing.T) {
	t.Parallel()
	text := string(must(os.ReadFile("../../docs/QUICKSTART.md"))(t))
	var script []string
	left := map[string]string{}
	for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
		if name := strings.TrimSpace(block[1]); name != "" {
			left[name] = block[2]
			continue
		}
		script = append(script, block[2])
	}
	if !strings.HasPrefix(left["build"], "./build.sh\n") || !strings.Contains(left["install"], "matrix-synapse=="+parts.SynapseVersion+"\n") || len(left) != 2 {
		t.Errorf("left out is %q", left)
	}
	dir := t.TempDir()
	python, err := parts.SynapsePython()
	if errors.Is(err, parts.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skip("SKIPPED:", err)
	} else if err != nil {
		t.Fatal(err)
	}
	for from, name := range map[string]string{must(filepath.Abs(postern))(t): "postern", filepath.Dir(filepath.Dir(python)): "synapse"} {
		if err := os.Symlink(from, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	all, ports := "set -eu\n"+strings.Join(script, "\n"), []string{}
	for _, port := range []string{"8008", "29340", "29341", "29350", "29351", "29352"} {
		if !strings.Contains(all, ":"+port) && !strings.Contains(all, ": "+port) {
			t.Errorf("the page does not use port %s", port)
		}
		ports = append(ports, port, fmt.Sprint(must(parts.FreePort())(t)))
	}
	all = strings.NewReplacer(ports...).Replace(all)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", all)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true} // what it starts ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		_ = cmd.Cancel() // there may be nobody any more
		t.Fatalf("%v\n%s", err, out)
	}
	for _, said := range []string{"hello from Matrix", "heard: hello from WhatsApp"} {
		if !strings.Contains(string(out), said) {
			t.Errorf("%q is not in\n%s", said, out)
		}
	}
}
