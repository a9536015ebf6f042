package database_test

import (
	"errors"
	"testing"

	bridgetables "maunium.net/go/mautrix/bridgev2/database/upgrades"
	cryptotables "maunium.net/go/mautrix/crypto/sql_store_upgrade"

	"postern/database"
	"postern/database/databasetest"
)

// TestAnOldCopyEncryptsInNoSessionOfRoomsOrDevicesThatItHas: what the framework has of encryption in rooms is in the copy, too.
func TestAnOldCopyEncryptsInNoSessionOfRoomsOrDevicesThatItHas(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		w := &epochWorld{T: t, cfg: cfg}
		w.open()
		w.ok(w.db.Raw().Child("version", bridgetables.Table, nil).Upgrade(t.Context()))
		w.ok(w.db.Raw().Child("crypto_version", cryptotables.Table, nil).Upgrade(t.Context()))
		databasetest.Fill(t, w.db.Raw(), "postern_signal_head")
		count := func(query string) (n int) {
			t.Helper()
			w.ok(w.db.Raw().QueryRow(t.Context(), query).Scan(&n))
			return n
		}
		const outbound, olm = "SELECT COUNT(*) FROM crypto_megolm_outbound_session", "SELECT COUNT(*) FROM crypto_olm_session"
		const repair = "SELECT COUNT(*) FROM kv_store WHERE bridge_id='' AND key='otk_repair_needed' AND value='true'"
		if count(outbound) == 0 || count(olm) == 0 || count(repair) != 0 {
			t.Fatal("there is nothing to begin anew")
		}
		w.leave(false)
		w.open()
		if count(outbound) == 0 || count(olm) == 0 || count(repair) != 0 {
			t.Error("a restart began it anew")
		}
		w.ok(database.Restored(t.Context(), w.db.Raw()))
		w.leave(false)
		w.open()
		if count(outbound) != 0 || count(olm) != 0 || count(repair) != 1 {
			t.Errorf("%d room keys, %d sessions with devices, %d marks for one-time keys: want 0, 0, 1", count(outbound), count(olm), count(repair))
		}
		if count("SELECT COUNT(*) FROM crypto_account") == 0 || count("SELECT COUNT(*) FROM crypto_megolm_inbound_session") == 0 {
			t.Error("what was received cannot be read any more")
		}
		w.leave(false)
	})
}

// TestACopyThatIsPutBackTwiceGivesOutOtherPrekeys: the first time its ids went to the gatekeeper.
func TestACopyThatIsPutBackTwiceGivesOutOtherPrekeys(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		w.ok(database.Restored(w.Context(), w.db.Raw()))
		w.leave(false)
		again := databasetest.Copy(w, w.cfg)
		const n = 800
		var first, signed [2]uint32
		for i, cfg := range []database.Config{w.cfg, again} {
			w.cfg = cfg
			w.open()
			var err, err2 error
			first[i], err = w.db.Signal("a").ReservePreKeyIDs(w.Context(), n)
			signed[i], err2 = w.db.Signal("a").ReserveSignedPreKeyID(w.Context())
			w.ok(errors.Join(err, err2))
			w.leave(false)
		}
		if signed[0] == signed[1] || first[0] < first[1]+n && first[1] < first[0]+n {
			w.Errorf("prekeys from %d on and then from %d on, signed ones %d and %d", first[0], first[1], signed[0], signed[1])
		}
	})
}

// TestWhatNoBridgeHasStartedOnIsMarkedAsRestoredToo: a bridge that was killed in its first moment has no row to mark.
func TestWhatNoBridgeHasStartedOnIsMarkedAsRestoredToo(t *testing.T) {
	withEpoch(t, func(w *epochWorld) {
		_, err := w.db.Raw().Exec(w.Context(), "DELETE FROM postern_epoch")
		w.ok(err)
		w.ok(database.Restored(w.Context(), w.db.Raw()))
		var marked int
		w.ok(w.db.Raw().QueryRow(w.Context(), "SELECT COUNT(*) FROM postern_epoch WHERE restored>0 AND database_id<>''").Scan(&marked))
		if marked != 1 {
			w.Errorf("%d rows are marked, want 1", marked)
		}
		w.db.Kill()
		w.db = nil
	})
}
