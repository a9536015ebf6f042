package database_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"go.mau.fi/util/dbutil"

	"postern/database"
	"postern/database/databasetest"
)

// withSignal runs fn with the Signal store of account a, and an account b beside it.
func withSignal(t *testing.T, fn func(t *testing.T, db *database.DB, s *database.SignalStore)) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		putAccount(t, db, "a")
		putAccount(t, db, "b")
		fn(t, db, db.Signal("a"))
	})
}

func wantSession(t *testing.T, s *database.SignalStore, addr, want string) {
	t.Helper()
	got, _, err := s.LoadSession(context.Background(), addr)
	if err != nil || string(got) != want || (want == "") != (got == nil) {
		t.Errorf("session of %s is %q (%v), want %q", addr, got, err, want)
	}
}

func TestASignalChangeIsWholeOrNotAtAll(t *testing.T) {
	withSignal(t, func(t *testing.T, db *database.DB, s *database.SignalStore) {
		ctx := t.Context()
		if err := s.PutPreKeys(ctx, []database.PreKey{{ID: 5, Record: []byte("five")}}); err != nil {
			t.Fatal(err)
		}
		five := uint32(5)
		change := database.SignalChange{Addr: "x", Session: []byte("s1"), Identity: []byte("i1"), UsedPreKey: &five}
		nothing := func(what string) {
			t.Helper()
			wantSession(t, s, "x", "")
			if identity, err := s.LoadIdentity(ctx, "x"); err != nil || identity != nil {
				t.Errorf("%s: identity %q, %v", what, identity, err)
			}
			if key, err := s.LoadPreKey(ctx, 5); err != nil || string(key) != "five" {
				t.Errorf("%s: prekey %q, %v", what, key, err)
			}
		}
		err := s.Apply(ctx, change, func(ctx context.Context) error {
			if got, _, err := s.LoadSession(ctx, "x"); err != nil || string(got) != "s1" {
				t.Errorf("inside: %q, %v", got, err)
			}
			_, err := db.Contacts().Ensure(ctx, "whatsapp", "1@lid")
			return errors.Join(err, errMine)
		})
		if !errors.Is(err, errMine) {
			t.Errorf("got %v", err)
		}
		nothing("after extra had failed")
		if c, err := db.Contacts().ByJID(ctx, "whatsapp", "1@lid"); err != nil || c != nil {
			t.Errorf("extra's own change: %v, %v", c, err)
		}
		if err = s.Apply(ctx, change, nil); err != nil {
			t.Fatal(err)
		}
		wantSession(t, s, "x", "s1")
		change.Session = []byte("s2")
		if err = s.Apply(ctx, change, nil); !errors.Is(err, database.ErrPreKeyGone) {
			t.Errorf("with the prekey gone: %v", err)
		}
		wantSession(t, s, "x", "s1")
		wantSession(t, db.Signal("b"), "x", "")
		wantSession(t, s, "y", "")
	})
}

func TestADeletedSessionIsGoneAndItsIdentityStays(t *testing.T) {
	withSignal(t, func(t *testing.T, db *database.DB, s *database.SignalStore) {
		ctx := t.Context()
		err := errors.Join(
			s.Apply(ctx, database.SignalChange{Addr: "x", Session: []byte("s"), Identity: []byte("i")}, nil),
			s.Apply(ctx, database.SignalChange{Addr: "x", DeleteSession: true}, nil),
			s.Apply(ctx, database.SignalChange{Addr: "never", DeleteSession: true}, nil))
		if err != nil {
			t.Fatal(err)
		}
		wantSession(t, s, "x", "")
		wantSession(t, s, "never", "")
		if identity, err := s.LoadIdentity(ctx, "x"); err != nil || string(identity) != "i" {
			t.Errorf("identity %q, %v", identity, err)
		}
		if err = s.Reset(ctx); err != nil {
			t.Fatal(err)
		}
		if identity, err := s.LoadIdentity(ctx, "x"); err != nil || identity != nil {
			t.Errorf("after Reset: %q, %v", identity, err)
		}
	})
}

func TestASessionRowMovedOrPutBackDoesNotOpen(t *testing.T) {
	withSignal(t, func(t *testing.T, db *database.DB, s *database.SignalStore) {
		ctx := t.Context()
		put := func(s *database.SignalStore, addr, session string) {
			t.Helper()
			if err := s.Apply(ctx, database.SignalChange{Addr: addr, Session: []byte(session)}, nil); err != nil {
				t.Fatal(err)
			}
		}
		put(s, "x", "old")
		old := make([]byte, 0)
		if err := db.Raw().QueryRow(ctx, "SELECT session FROM postern_signal_session WHERE address='x'").Scan(&old); err != nil {
			t.Fatal(err)
		}
		put(s, "x", "new")
		put(s, "y", "other person")
		put(db.Signal("b"), "x", "other account")
		broken := func(what, query string, args ...any) {
			t.Helper()
			if _, err := db.Raw().Exec(ctx, query, args...); err != nil {
				t.Fatal(err)
			}
			if got, _, err := s.LoadSession(ctx, "x"); !errors.Is(err, database.ErrSealBroken) {
				t.Errorf("%s: %q, %v", what, got, err)
			}
		}
		const set = "UPDATE postern_signal_session SET "
		const where = " WHERE account_id='a' AND address='x'"
		broken("an older value put back", set+"session=$1"+where, old)
		broken("another person's", set+"session=(SELECT session FROM postern_signal_session WHERE address='y'), version=1"+where)
		broken("another account's", set+"session=(SELECT session FROM postern_signal_session WHERE account_id='b'), version=1"+where)
		wantSession(t, s, "y", "other person")
		// A deleted session does not come back either.
		if err := s.Apply(ctx, database.SignalChange{Addr: "x", DeleteSession: true}, nil); err != nil {
			t.Fatal(err)
		}
		broken("from before the deletion", set+"session=$1"+where, old)
	})
}

func TestPreKeysAreCountedUploadedAndNeverGivenOutTwice(t *testing.T) {
	withSignal(t, func(t *testing.T, db *database.DB, s *database.SignalStore) {
		ctx := t.Context()
		first, err := s.ReservePreKeyIDs(ctx, 200)
		if err != nil || first != 1 {
			t.Fatalf("first id %d, %v", first, err)
		}
		keys := make([]database.PreKey, 200)
		for i := range keys {
			keys[i] = database.PreKey{ID: first + uint32(i), Record: bytes.Repeat([]byte{byte(i)}, 64)}
		}
		if err = s.PutPreKeys(ctx, keys); err != nil {
			t.Fatal(err)
		}
		todo, err := s.PreKeysToUpload(ctx, 150)
		if err != nil || len(todo) != 150 || todo[0].ID != 1 || todo[149].ID != 150 || !bytes.Equal(todo[7].Record, keys[7].Record) {
			t.Fatalf("to upload: %d, %v", len(todo), err)
		}
		ids := []uint32{9999}
		for _, k := range todo {
			ids = append(ids, k.ID)
		}
		if err = s.MarkPreKeysUploaded(ctx, ids); err != nil {
			t.Fatal(err)
		}
		ten := uint32(10)
		if err = s.Apply(ctx, database.SignalChange{UsedPreKey: &ten}, nil); err != nil {
			t.Fatal(err)
		}
		if all, uploaded, err := s.CountPreKeys(ctx); err != nil || all != 199 || uploaded != 149 {
			t.Errorf("%d keys, %d uploaded, %v", all, uploaded, err)
		}
		if all, uploaded, err := db.Signal("b").CountPreKeys(ctx); err != nil || all != 0 || uploaded != 0 {
			t.Errorf("the other account has %d, %d, %v", all, uploaded, err)
		}
		if key, err := s.LoadPreKey(ctx, 10); err != nil || key != nil {
			t.Errorf("a used key: %x, %v", key, err)
		}
		if err = s.Reset(ctx); err != nil {
			t.Fatal(err)
		}
		if next, err := s.ReservePreKeyIDs(ctx, 1); err != nil || next != 201 {
			t.Errorf("after Reset the next id is %d, %v", next, err)
		}
		for _, n := range []int{0, -1, 10_001} {
			if _, err = s.ReservePreKeyIDs(ctx, n); err == nil {
				t.Errorf("%d ids were given out", n)
			}
		}
	})
}

func TestKeyIDsBeginAgainPastThreeBytes(t *testing.T) {
	withSignal(t, func(t *testing.T, db *database.DB, s *database.SignalStore) {
		if _, err := s.ReserveSignedPreKeyID(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := db.Raw().Exec(t.Context(), "UPDATE postern_signal_counter SET next_prekey=$1", database.MaxKeyID-9)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []uint32{database.MaxKeyID - 9, 1, 11} {
			if got, err := s.ReservePreKeyIDs(t.Context(), 10); err != nil || got != want {
				t.Errorf("first id %d, %v, want %d", got, err, want)
			}
		}
	})
}

func TestSignedPreKeysAreListedNewestFirstAndTheLastOneStays(t *testing.T) {
	withSignal(t, func(t *testing.T, db *database.DB, s *database.SignalStore) {
		ctx := t.Context()
		for i := range 3 {
			id, err := s.ReserveSignedPreKeyID(ctx)
			if err != nil || id != uint32(i+1) {
				t.Fatalf("id %d, %v", id, err)
			}
			err = s.PutSignedPreKey(ctx, database.PreKey{ID: id, CreatedAt: int64(1000 * (i + 1)), Record: []byte(strings.Repeat("k", i+1))})
			if err != nil {
				t.Fatal(err)
			}
		}
		list, err := s.SignedPreKeys(ctx)
		if err != nil || len(list) != 3 || list[0].ID != 3 || string(list[2].Record) != "k" || list[1].CreatedAt != 2000 {
			t.Errorf("%+v, %v", list, err)
		}
		if key, err := s.LoadSignedPreKey(ctx, 2); err != nil || string(key) != "kk" {
			t.Errorf("%q, %v", key, err)
		}
		if err = s.DeleteSignedPreKeys(ctx, 2000); err != nil {
			t.Fatal(err)
		}
		if list, err = s.SignedPreKeys(ctx); err != nil || len(list) != 2 || list[1].ID != 2 {
			t.Errorf("%+v, %v", list, err)
		}
		if err = s.DeleteSignedPreKeys(ctx, 1<<60); err != nil {
			t.Fatal(err)
		}
		if list, err = s.SignedPreKeys(ctx); err != nil || len(list) != 1 || list[0].ID != 3 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

func TestBothDialectsAreReallyRun(t *testing.T) {
	var seen []dbutil.Dialect
	databasetest.Each(t, func(t *testing.T, db *database.DB) { seen = append(seen, db.Raw().Dialect) })
	if len(seen) != 2 || seen[0] != dbutil.SQLite || seen[1] != dbutil.Postgres {
		t.Skipf("NOT RUN on both: %v", seen)
	}
}
