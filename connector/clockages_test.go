package connector

import (
	"crypto/sha256"
	"io"
	"testing"
	"time"

	"postern/database"
)

// TestAClockThatIsFarAheadAtAStartDeletesNothing of what is deleted after a time: attachments, what is known of those from the other side, tokens
// and the audit log, and accounts whose people seem to be gone. When a gatekeeper has said that so much time has gone by, it goes.
func TestAClockThatIsFarAheadAtAStartDeletesNothing(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	own, err := w.connector.media.Put(ctx, w.account, func(to io.Writer) error { _, err := to.Write([]byte("an attachment")); return err })
	check(err)
	check(w.connector.media.Commit(ctx, own))
	check(w.connector.db.IncomingMedia().Put(ctx, &database.IncomingMedia{
		ChatID: w.peer.Chat, MessageID: "A", AccountID: w.account, State: database.IncomingMediaShown, Expires: time.Now().Add(keepShown).UnixMilli(),
	}))
	now := time.Now()
	check(w.connector.db.Tokens().Add(ctx, &database.Token{
		ID: "token", MXID: fakePerson.String(), Scopes: []string{"login"}, Hash: sha256.Sum256([]byte("secret")), At: now.UnixMilli(), Expires: now.UnixMilli(),
	}, maxTokens))
	for _, action := range []string{"an old action", "the newest one, which stays"} {
		check(w.connector.db.Audit().Append(ctx, &database.AuditEntry{At: now.UnixMilli(), Actor: "somebody", Action: action, Outcome: "done"}))
	}
	check(w.connector.db.Accounts().SetConnected(ctx, w.account, now))

	const years = 3 * 365 * 24 * time.Hour
	for _, said := range []bool{false, true} {
		w.wall = func() time.Time { return time.Now().Add(years) }
		w.restart()
		if said {
			w.connector.clock.said(w.wall())
		}
		d, h := w.departing("admin")
		h.set(func() { h.deactivated = true })
		meta := w.client.login.Metadata.(*LoginMetadata)
		meta.GoneSince = now.UnixMilli()
		check(w.connector.media.Sweep(ctx))
		w.connector.pruneOldMedia()
		w.connector.tidyAudit()
		next := d.guarded(ctx, nil)

		left := map[string]bool{}
		left["an attachment"] = w.connector.media.Check(ctx, own.Ref) == nil
		incoming, err := w.connector.db.IncomingMedia().Get(ctx, w.peer.Chat, "A")
		check(err)
		left["what is known of an attachment"] = incoming != nil
		tokens, err := w.connector.db.Tokens().List(ctx, 0, 10)
		check(err)
		left["a token"] = len(tokens) == 1
		entries, err := w.connector.db.Audit().List(ctx, 0, 0, 10)
		check(err)
		left["the audit log"] = len(entries) > 0 && entries[0].Action == "an old action"
		left["an account"] = w.leaves() == ""
		for what, there := range left {
			if there == said {
				t.Errorf("so much time has gone by: %v; %s is there: %v", said, what, there)
			}
		}
		if !said && time.Until(w.connector.clock.shown(next).Add(-years)) > w.connector.Config.Departed.grace {
			t.Errorf("it is looked again at %v", next)
		}
	}
}
