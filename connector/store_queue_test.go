package connector

import (
	"bytes"
	"context"
	"testing"

	"postern/connector/interop"
	"postern/connector/interop/interoptest"
	"postern/connector/jid"
	"postern/database"
	"postern/database/databasetest"
)

var testPeer = jid.JID{User: "12345", Server: jid.LID}

// newTestAccount makes an account's row and returns its id.
func newTestAccount(t *testing.T, db *database.DB) string {
	t.Helper()
	a := &database.Account{ID: database.NewLocalID(), Gatekeeper: "whatsapp"}
	a.Identifier = a.ID
	if err := db.Accounts().Put(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return a.ID
}

func TestTheQueuesInTheDatabaseKeepTheContractOfInterop(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		interoptest.Conformance(t, func(t *testing.T) interop.Store {
			return NewAccountStore(db, newTestAccount(t, db), "whatsapp")
		})
	})
}

func TestTwoAccountsDoNotSeeEachOthersQueues(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := context.Background()
		a := NewAccountStore(db, newTestAccount(t, db), "whatsapp")
		b := NewAccountStore(db, newTestAccount(t, db), "whatsapp")
		peer, err := a.PeerByJID(ctx, testPeer)
		if err != nil {
			t.Fatal(err)
		}
		other, err := b.PeerByJID(ctx, testPeer)
		if err != nil {
			t.Fatal(err)
		}
		if peer.Chat == other.Chat || peer.Contact != other.Contact {
			t.Errorf("one person in two accounts: %+v %+v, want one contact and two chats", peer, other)
		}
		if _, err = b.PeerByChat(ctx, peer.Chat); err == nil {
			t.Error("an account sees another's chat")
		}
		row := &interop.OutRow{Seq: 5, Chat: peer.Chat, EventID: "$e", StanzaID: "3EB0", Parts: 1, Plaintext: []byte("x")}
		if err = a.InsertOutbound(ctx, []*interop.OutRow{row}); err != nil {
			t.Fatal(err)
		}
		if err = a.InsertInbound(ctx, &interop.InRow{Seq: 4, Chat: peer.Chat, ID: "1"}); err != nil {
			t.Fatal(err)
		}
		got, err := b.OutboundStanza(ctx, "3EB0")
		if err != nil || got != nil {
			t.Errorf("an account sees another's part: %v %v", got, err)
		}
		counts, err := b.InboundBacklog(ctx)
		if err != nil || len(counts) != 0 {
			t.Errorf("an account counts another's items: %v %v", counts, err)
		}
		if last, err := b.LastSeq(ctx); err != nil || last != 0 {
			t.Errorf("an account counts from another's places: %v %v", last, err)
		}
	})
}

func TestDeletingAnAccountDeletesItsQueues(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := context.Background()
		account := newTestAccount(t, db)
		s := NewAccountStore(db, account, "whatsapp")
		peer, err := s.PeerByJID(ctx, testPeer)
		if err != nil {
			t.Fatal(err)
		}
		row := &interop.OutRow{Seq: 5, Chat: peer.Chat, EventID: "$e", StanzaID: "3EB0", Parts: 1, Plaintext: []byte("x")}
		if err = s.InsertOutbound(ctx, []*interop.OutRow{row}); err != nil {
			t.Fatal(err)
		}
		if err = s.InsertInbound(ctx, &interop.InRow{Seq: 4, Chat: peer.Chat, ID: "1"}); err != nil {
			t.Fatal(err)
		}
		if err = db.Accounts().Delete(ctx, account); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"postern_in", "postern_out"} {
			var n int
			if err = db.Raw().QueryRow(ctx, "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil || n != 0 {
				t.Errorf("%s has %d rows left (%v)", table, n, err)
			}
		}
	})
}

func TestNoPlaintextStandsInTheQueueTables(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := context.Background()
		s := NewAccountStore(db, newTestAccount(t, db), "whatsapp")
		peer, err := s.PeerByJID(ctx, testPeer)
		if err != nil {
			t.Fatal(err)
		}
		const canary = "CANARY-4711"
		row := &interop.OutRow{Seq: 5, Chat: peer.Chat, EventID: "$e", StanzaID: "3EB0", Parts: 1, Plaintext: []byte(canary), Fallback: []byte(canary)}
		if err = s.InsertOutbound(ctx, []*interop.OutRow{row}); err != nil {
			t.Fatal(err)
		}
		made := &interop.OutRow{Seq: 6, Chat: peer.Chat, EventID: "$f", StanzaID: "3EB1", Parts: 1, Recipe: []byte(canary)}
		if err = s.InsertOutbound(ctx, []*interop.OutRow{made}); err != nil {
			t.Fatal(err)
		}
		if _, err = s.SetStanza(ctx, "3EB0", []byte(canary), 1); err != nil {
			t.Fatal(err)
		}
		if err = s.InsertInbound(ctx, &interop.InRow{Seq: 4, Chat: peer.Chat, ID: "1", Payload: []byte(canary), Notify: canary}); err != nil {
			t.Fatal(err)
		}
		seen := 0
		look := func(queries ...string) {
			for _, query := range queries {
				var b []byte
				if err = db.Raw().QueryRow(ctx, query).Scan(&b); err != nil {
					t.Fatal(err)
				}
				if len(b) <= len(canary) || bytes.Contains(b, []byte(canary)) {
					t.Errorf("%s: not sealed", query)
				}
				seen++
			}
		}
		const one, two = " FROM postern_out WHERE stanza_id='3EB0'", " FROM postern_out WHERE stanza_id='3EB1'"
		look("SELECT payload FROM postern_in", "SELECT plaintext"+one, "SELECT fallback"+one, "SELECT stanza"+one, "SELECT recipe"+two)
		prepared := &interop.Prepared{Plaintext: []byte(canary), Fallback: []byte(canary), Type: "text"}
		if ok, err := s.SetPrepared(ctx, "3EB1", prepared, 1); err != nil || !ok {
			t.Fatal(ok, err)
		}
		look("SELECT plaintext"+two, "SELECT fallback"+two)
		if seen != 7 {
			t.Errorf("%d columns looked at, want 7", seen)
		}
	})
}
