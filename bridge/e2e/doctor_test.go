package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestTheOperatorAsksTheDoctor: on a real homeserver, beside the running bridge, while nobody runs it, and when the homeserver has gone.
func TestTheOperatorAsksTheDoctor(t *testing.T) {
	t.Parallel()
	s := open(t, setting{puppets: true, noLogin: true, config: map[string]any{
		"network.operator.name": "Example", "network.operator.contact": "@admin:example.org", "encryption.allow": true,
	}})
	examine := func() (said string, code int) {
		cmd := exec.CommandContext(s.ctx, postern, "doctor", "-c", s.Bridge.ConfigPath(), "-r", s.Bridge.RegistrationPath())
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	config := must(os.ReadFile(s.Bridge.ConfigPath()))(t)
	if said, code := examine(); code != 0 || !strings.Contains(said, "it runs") || strings.Contains(said, "FAIL") || !strings.Contains(said, "Synapse 1.") {
		t.Errorf("beside the running bridge: exit status %d\n%s", code, said)
	}
	s.ok(s.Bridge.Stop())
	said, code := examine()
	for _, want := range []string{
		"it does not run", "the homeserver reaches the bridge, with the right token", "a token made here is accepted", "lets the bridge have a device",
		"takes the token in double_puppet.secrets",
	} {
		if code != 0 || !strings.Contains(said, want) {
			t.Errorf("without a bridge: exit status %d, no %q in\n%s", code, want, said)
		}
	}
	if now := must(os.ReadFile(s.Bridge.ConfigPath()))(t); string(now) != string(config) {
		t.Error("the configuration was changed")
	}
	// What the doctor was shown in the bridge's place was not taken: the bridge gets all of it.
	s.ok(s.Bridge.Start(s.ctx))
	dm := must(s.person.CreateDM(s.ctx, s.Bot))(t)
	must(s.BotSays(s.ctx, s.person, dm, time.Time{}, "hello"))(t)

	s.ok(s.Homeserver.Stop())
	if said, code := examine(); code != 1 || !strings.Contains(said, "FAIL     homeserver: ") || strings.Count(said, "FAIL") != 1 {
		t.Errorf("without a homeserver: exit status %d\n%s", code, said)
	}
	s.ok(s.Homeserver.Restart(s.ctx))
}
