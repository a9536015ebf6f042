package e2e_test

import (
	"database/sql"
	"os/exec"
	"testing"

	"postern/database/databasetest"
)

// TestAnEncryptedBridgeIsMovedToPostgresAndGoesOn: on a real homeserver with encrypted rooms, so that the framework's keys move along: what was said before can be answered, what is said
// later is read on both sides, in the same room, and no session is begun anew.
func TestAnEncryptedBridgeIsMovedToPostgresAndGoesOn(t *testing.T) {
	t.Parallel()
	s := open(t, setting{encrypted: true})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "before, says alice")
	s.toMatrix(room, ben, "before, says Ben")
	s.ok(s.Bridge.Stop())
	uri := databasetest.PostgresConfig(t).URI
	out, err := exec.CommandContext(s.ctx, postern, "move-to-postgres", "--to", uri, "-c", s.Bridge.ConfigPath()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.ok(s.Bridge.Set(map[string]any{"database.type": "postgres", "database.uri": uri}))
	s.ok(s.Bridge.Start(s.ctx))
	s.toMatrix(room, ben, "after, says Ben")
	s.toPhone(room, ben, "after, says alice")
	s.ok(s.Bridge.Stop())
	db := must(sql.Open("postgres", uri))(t)
	defer db.Close()
	for what, query := range map[string]string{
		"old copies":               "SELECT generation FROM postern_epoch",
		"accounts to renew":        "SELECT COUNT(*) FROM postern_signal_counter WHERE renewal<>'' OR untold<>''",
		"sessions of Matrix's own": "SELECT CASE WHEN COUNT(*)>0 THEN 0 ELSE 1 END FROM crypto_olm_session",
		"room keys":                "SELECT CASE WHEN COUNT(*)=1 THEN 0 ELSE 1 END FROM crypto_megolm_outbound_session WHERE room_id='" + room + "'",
	} {
		var n int
		s.ok(db.QueryRowContext(s.ctx, query).Scan(&n))
		if n != 0 {
			t.Errorf("%s: %d", what, n)
		}
	}
}
