package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/bridge/parts"
)

// nioVersion is the version of matrix-nio that build.sh installs from PyPI.
const nioVersion = "0.25.2"

func TestAMatrixClientThatIsNotOursReadsAndWritesInABridgedRoom(t *testing.T) {
	t.Parallel()
	cache := must(parts.CacheDir())(t)
	python := filepath.Join(cache, "nio-"+nioVersion, "bin", "python")
	if _, err := os.Stat(python); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: matrix-nio %s is not installed; run `./build.sh setup`", nioVersion)
	}
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	log := filepath.Join(t.TempDir(), "nio.log")
	nio := must(parts.Start(parts.ProcessConfig{
		Name: "matrix-nio", Path: python, LogPath: log,
		Args: []string{"testdata/nio_client.py", s.Homeserver.URL, s.person.UserID, s.person.Password, room, "hello from nio", "hello from the phone"},
	}))(t)
	defer nio.Kill()
	s.onPhone(ben, "hello from nio")
	s.toMatrix(room, ben, "hello from the phone")
	select {
	case <-nio.Done():
	case <-s.ctx.Done():
		t.Error("matrix-nio did not end")
	}
	raw := must(os.ReadFile(log))(t)
	if !strings.Contains(string(raw), "sent $") || !strings.Contains(string(raw), "got @") {
		t.Errorf("matrix-nio says:\n%s", raw)
	}
}
