package database_test

import (
	"context"
	"errors"
	"testing"
	"time"

	bridgedb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/id"

	"postern/database"
	"postern/database/databasetest"
)

// The framework's own database objects, built over our Raw, write in our transactions.
func TestTheFrameworksObjectsTakePartInDo(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		theirs := bridgedb.New("postern", bridgedb.MetaTypes{}, db.Raw())
		if err := theirs.Upgrade(t.Context()); err != nil {
			t.Fatal(err)
		}
		user := func(mxid id.UserID) *bridgedb.User { return &bridgedb.User{BridgeID: "postern", MXID: mxid} }
		both := func(name string, end error) error {
			return db.Do(t.Context(), func(ctx context.Context) error {
				if err := theirs.User.Insert(ctx, user(id.UserID("@"+name+":test"))); err != nil {
					return err
				}
				if _, err := db.Contacts().Ensure(ctx, "whatsapp", name+"@lid"); err != nil {
					return err
				}
				seen, err := theirs.User.GetByMXID(ctx, id.UserID("@"+name+":test"))
				if err != nil || seen == nil {
					t.Errorf("inside, the user is %v, %v", seen, err)
				}
				return end
			})
		}
		if err := both("kept", nil); err != nil {
			t.Fatal(err)
		}
		if err := both("lost", errMine); err != errMine {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"kept": true, "lost": false} {
			u, err := theirs.User.GetByMXID(t.Context(), id.UserID("@"+name+":test"))
			if err != nil || (u != nil) != want {
				t.Errorf("user %s: %v, %v", name, u, err)
			}
			c, err := db.Contacts().ByJID(t.Context(), "whatsapp", name+"@lid")
			if err != nil || (c != nil) != want {
				t.Errorf("contact %s: %v, %v", name, c, err)
			}
		}
		messageRow(t, db, theirs)
	})
}

// A message row as HandleMatrixMessage has to write it: its id comes back from the insert, and
// the framework's own DoTxn inside Do joins.
func messageRow(t *testing.T, db *database.DB, theirs *bridgedb.Database) {
	t.Helper()
	room := networkid.PortalKey{ID: "chat", Receiver: "login"}
	err := db.Do(t.Context(), func(ctx context.Context) error {
		return errors.Join(
			theirs.Ghost.Insert(ctx, &bridgedb.Ghost{BridgeID: "postern", ID: "ghost"}),
			theirs.User.Insert(ctx, &bridgedb.User{BridgeID: "postern", MXID: "@sender:test"}),
			theirs.UserLogin.Insert(ctx, &bridgedb.UserLogin{BridgeID: "postern", UserMXID: "@sender:test", ID: "login"}),
			theirs.Portal.Insert(ctx, &bridgedb.Portal{BridgeID: "postern", PortalKey: room, MXID: "!room:test"}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id  networkid.MessageID
		end error
	}{{"kept", nil}, {"lost", errMine}} {
		err = db.Do(t.Context(), func(ctx context.Context) error {
			msg := &bridgedb.Message{
				BridgeID: "postern", ID: c.id, MXID: id.EventID("$" + c.id), Room: room, SenderID: "ghost",
				SenderMXID: "@sender:test", Timestamp: time.Unix(1, 0),
			}
			err := theirs.DoTxn(ctx, nil, func(ctx context.Context) error { return theirs.Message.Insert(ctx, msg) })
			if err != nil {
				return err
			} else if msg.RowID == 0 {
				t.Error("the insert returned no row id")
			}
			return c.end
		})
		if err != c.end {
			t.Fatalf("message %s: %v", c.id, err)
		}
		found, err := theirs.Message.GetPartByMXID(t.Context(), id.EventID("$"+c.id))
		if err != nil || (found != nil) != (c.end == nil) {
			t.Errorf("message %s: %v, %v", c.id, found, err)
		}
	}
}
