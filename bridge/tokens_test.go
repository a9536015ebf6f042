package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/admin"
	"postern/database"
)

// TestTokensAreMadeAndRevokedAndTheAuditLogIsReadFromAShell without a bridge.
func TestTokensAreMadeAndRevokedAndTheAuditLogIsReadFromAShell(t *testing.T) {
	s := newShell(t, freePort(t))
	db, err := database.Open(t.Context(), database.Config{
		Dialect: "sqlite3-fk-wal", URI: s.database(), MasterKey: s.key, Holder: "a test", EpochFile: filepath.Join(s.dir, "postern.epoch"), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err = db.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, problems bytes.Buffer
		if code := dispatch(t.Context(), append(args, "-c", filepath.Join(s.dir, "config.yaml")), &out, &problems); code != want {
			t.Errorf("postern %v: exit status %d, want %d\n%s%s", args, code, want, &out, &problems)
		}
		return out.String(), problems.String()
	}
	out, _ := run(0, "audit")
	s.has("the empty log", out, "nothing in the audit log")
	token, said := run(0, "tokens", "add", "@anna:example.org")
	if token = strings.TrimSpace(token); !strings.HasPrefix(token, "pst_") || len(token) < 50 || strings.Contains(said, token) {
		t.Errorf("a new token: %q, %q", token, said)
	}
	s.has("a new token", said, "@anna:example.org: status, until "+time.Now().UTC().AddDate(0, 0, 30).Format(time.DateOnly)[:4])
	raw, _ := run(0, "tokens", "add", "@ben:example.org", "--scope", "login,logout,login", "--days", "2", "--json")
	var made admin.NewToken
	if err = json.Unmarshal([]byte(raw), &made); err != nil || len(made.Scopes) != 2 || !strings.Contains(made.Secret, made.ID) {
		t.Errorf("%s (%v)", raw, err)
	}
	for _, days := range []string{"0", "-1", "367"} {
		_, said = run(exitUsage, "tokens", "add", "@anna:example.org", "--days", days)
		s.has(days+" days", said, "--days is 1 to 366")
	}
	out, _ = run(0, "tokens", "list")
	s.has("the list", out, "@anna:example.org", "login,logout", "good", made.ID)
	if strings.Contains(out, token) || strings.Contains(out, made.Secret) {
		t.Errorf("the list has tokens:\n%s", out)
	}
	out, said = run(exitOther, "tokens", "revoke", made.ID, "nobody")
	s.has("revoking", out+said, made.ID+": is revoked", "nobody: there is no such token")
	out, _ = run(0, "tokens", "revoke", made.ID)
	s.has("revoking again", out, "was revoked already")
	out, _ = run(0, "audit", "--since", "1h")
	s.has("the log", out, "offline", "add-token", "revoke-token", made.ID, "already", "unknown")
	if strings.Contains(out, "anna") || strings.Contains(out, token) {
		t.Errorf("the log has a name or a token:\n%s", out)
	}
	out, _ = run(0, "audit", "--json", "--since", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	s.has("the log since later", out, `"audit": []`)
	for _, wrong := range [][]string{
		{"tokens"}, {"tokens", "burn"}, {"tokens", "add"}, {"tokens", "add", "anna"}, {"tokens", "add", "@a:b", "--days", "900"}, {"tokens", "add", "@a:b", "--scope", "all"},
		{"tokens", "list", "x"}, {"tokens", "revoke"}, {"tokens", "revoke", token}, {"tokens", "revoke", "a", "--days", "3"}, {"audit", "x"}, {"audit", "--since", "yesterday"},
	} {
		_, said := run(exitUsage, wrong...)
		s.has("wrong usage", said, "postern "+wrong[0])
		if strings.Contains(said, token) {
			t.Errorf("%v: the token is repeated", wrong)
		}
	}
	for _, verb := range []string{"tokens", "audit"} {
		out, _ := run(0, verb, "--help")
		s.has("help", out, "Exit status")
	}
}

// TestATokenStandsInNoLogLine whatever it is written into.
func TestATokenStandsInNoLogLine(t *testing.T) {
	if said := scrub("it was pst_0123456789ab_AbCdEf-_123456789012345678901234567890123456"); strings.Contains(said, "AbCdEf") {
		t.Error(said)
	}
}
