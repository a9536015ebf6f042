package database_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// rows15 are a row of every kind of Signal state, in the tables of before there were heads.
var rows15 = []string{
	`INSERT INTO postern_account (id, version, gatekeeper, mxid, identifier, identifier_index, login, integrator, noise_key, device, hmac_key,
		consent_version, consent_at, created_at, enlisted_at) VALUES ('a', 1, 'whatsapp', '@a:b', '', '', '1-2@interop', 1, '', '', '', 1, 2, 3, 4)`,
	"INSERT INTO postern_signal_session (account_id, address, version, session, generation) VALUES ('a', '1@lid', 7, '', 0)",
	"INSERT INTO postern_signal_identity (account_id, address, version, identity) VALUES ('a', '1@lid', 3, '')",
	"INSERT INTO postern_signal_prekey (account_id, key_id, uploaded, record) VALUES ('a', 5, true, '')",
	"INSERT INTO postern_signal_signed_prekey (account_id, key_id, created_at, record) VALUES ('a', 2, 1, '')",
	"INSERT INTO postern_signal_counter (account_id, next_prekey, next_signed_prekey) VALUES ('a', 6, 3)",
	"INSERT INTO postern_contact (id, version, gatekeeper, jid, name, created_at) VALUES ('p', 1, 'whatsapp', '1@lid', '', 5)",
	"INSERT INTO postern_chat (id, account_id, contact_id, created_at) VALUES ('c', 'a', 'p', 6)",
	"INSERT INTO postern_epoch (id, database_id, branch, counter, generation) VALUES (1, 'd', 'b', 9, 0)",
}

func TestSignalStateOfBeforeThereWereHeadsIsUpgradedAndGoesOn(t *testing.T) {
	for _, epochFile := range []bool{false, true} {
		databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
			ctx := t.Context()
			w := &epochWorld{T: t, cfg: cfg}
			w.ok(database.MakeVersion(ctx, cfg, 15, rows15...))
			if epochFile {
				w.cfg.EpochFile = filepath.Join(t.TempDir(), "epoch")
			}
			for start := range 3 {
				w.open()
				w.ok(w.db.CheckRows(ctx))
				s := w.db.Signal("a")
				// A file that is not there is one that is gone, once.
				r, err := s.Renewal(ctx)
				if old := epochFile && start == 0; err != nil || (r.Untold != "") != old || (r.Keys != "") != old {
					t.Errorf("start %d, epoch file: %t: to do: %+v (%v)", start, epochFile, r, err)
				}
				w.ok(s.Told(ctx, r.Untold))
				w.ok(s.Renewed(ctx, r.Keys))
				w.ok(s.Apply(ctx, database.SignalChange{Addr: "1@lid", Session: []byte("x"), Identity: make([]byte, 32)}, nil))
				w.ok(w.db.CheckRows(ctx))
				if got, err := w.db.Reaches().Get(ctx, "a", "c"); err != nil || got.State != database.ReachNone {
					t.Errorf("reach %+v (%v)", got, err)
				}
				w.leave(start == 1)
			}
		})
	}
}

// TestReadersRollbacksAndKillsRaiseNoAlarm has readers look at rows that writers change and take back, while the bridge is stopped or killed
// again and again.
func TestReadersRollbacksAndKillsRaiseNoAlarm(t *testing.T) {
	withRows(t, func(w *rowWorld) {
		ctx := context.Background() // what is under way is not cut off
		for round := range 4 {
			var writers, readers sync.WaitGroup
			over := make(chan struct{})
			for range 4 {
				writers.Go(func() {
					for range 8 {
						change := database.SignalChange{Addr: w.person(rand.IntN(5)), Session: []byte("s"), Identity: make([]byte, 32)}
						err := w.s.Apply(ctx, change, func(context.Context) error {
							if rand.IntN(3) == 0 {
								return errMine
							}
							return nil
						})
						if err != nil && !errors.Is(err, errMine) {
							w.Errorf("round %d: %v", round, err)
						}
						id := rand.Uint32N(30) + 1
						if err = w.s.PutPreKeys(ctx, []database.PreKey{{ID: id, Record: []byte("k")}}); err != nil {
							w.Errorf("round %d: %v", round, err)
						}
						err = w.s.Apply(ctx, database.SignalChange{UsedPreKey: &id}, nil)
						if err != nil && !errors.Is(err, database.ErrPreKeyGone) { // another writer was faster
							w.Errorf("round %d: %v", round, err)
						}
					}
				})
			}
			for range 2 {
				readers.Go(func() {
					for {
						select {
						case <-over:
							return
						default:
						}
						_, old, err := w.s.LoadSession(ctx, w.person(rand.IntN(5)))
						_, err2 := w.s.LoadPreKey(ctx, rand.Uint32N(30)+1)
						_, err3 := w.s.PreKeysToUpload(ctx, 30)
						if err = errors.Join(err, err2, err3); old || err != nil {
							w.Errorf("round %d: old: %t (%v)", round, old, err)
							return
						}
					}
				})
			}
			writers.Wait()
			close(over)
			readers.Wait()
			if round%2 == 1 {
				w.db.Kill()
				w.start()
			} else {
				w.restart()
			}
			w.wantTold(false, false)
			w.ok(w.db.CheckRows(ctx))
		}
		if n := strings.Count(w.log.String(), "earlier time"); n > 0 {
			w.Errorf("%d false alarms", n)
		}
	})
}
