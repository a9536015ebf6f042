package faults_test

import "testing"

// TestF27AnEarlierSessionPutBackIsNoticedAndNoKeyIsUsedTwice: one table is put back, of a bridge that is stopped and of one that runs. The
// phone complains of a message key that comes twice.
func TestF27AnEarlierSessionPutBackIsNoticedAndNoKeyIsUsedTwice(t *testing.T) {
	for name, stopped := range map[string]bool{"while the bridge is stopped": true, "while the bridge runs": false} {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				c.turns(1)
				known := r.hs.Messages(r.management, renewalWords)
				r.exec("CREATE TABLE kept_rows AS SELECT * FROM postern_signal_session")
				defer r.exec("DROP TABLE kept_rows")
				c.turns(1)
				if stopped {
					r.ok(r.Bridge.Stop())
				}
				r.change(`UPDATE postern_signal_session SET (version, session, generation)=(SELECT version, session, generation FROM kept_rows
					WHERE kept_rows.account_id=postern_signal_session.account_id AND kept_rows.address=postern_signal_session.address)
					WHERE EXISTS (SELECT 1 FROM kept_rows WHERE kept_rows.account_id=postern_signal_session.account_id
						AND kept_rows.address=postern_signal_session.address AND kept_rows.version<postern_signal_session.version)`)
				if stopped {
					r.ok(r.Bridge.Start(r.ctx))
				}
				c.fromMatrix(2)
				c.fromPhone(2)
				r.told(known)
				c.settled()
				c.turns(1)
				c.checkBut(resent)
				if n := len(r.hs.Messages(r.management, renewalWords)) - len(known); n != 1 {
					r.t.Errorf("%d notices, want 1", n)
				}
			})
		})
	}
}

// exec runs a statement on the bridge's database.
func (r *rig) exec(statement string) {
	r.t.Helper()
	db := r.openDatabase()
	defer db.Close()
	must(db.ExecContext(r.ctx, statement))(r.t)
}
