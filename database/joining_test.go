package database_test

import (
	"reflect"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func TestTheNewestConsentOfAnAccountIsTheOneInForceAndGoesWithIt(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, consents := t.Context(), db.Consents()
		putAccount(t, db, "a")
		putAccount(t, db, "b")
		if got, err := consents.Latest(ctx, "a"); got != nil || err != nil {
			t.Fatalf("none yet: %+v %v", got, err)
		}
		newest := &database.Consent{AccountID: "a", At: 2, Wording: "second", Document: []byte("two")}
		for _, c := range []*database.Consent{
			newest, {AccountID: "a", At: 1, Wording: "first", Document: []byte("one")}, {AccountID: "b", At: 3, Wording: "third"},
		} {
			if err := consents.Add(ctx, c); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := consents.Latest(ctx, "a"); err != nil || !reflect.DeepEqual(got, newest) {
			t.Errorf("%+v %v", got, err)
		}
		if err := db.Accounts().Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if got, err := consents.Latest(ctx, "a"); got != nil || err != nil {
			t.Errorf("after the account: %+v %v", got, err)
		}
	})
}

func TestAnAccountIsFoundByWhatItAskedForAndByWhatItWasGiven(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, accounts := t.Context(), db.Accounts()
		a, b := putAccount(t, db, "a"), putAccount(t, db, "b")
		for range 2 {
			if err := accounts.PutAlias(ctx, a, "A.A"); err != nil {
				t.Fatal(err)
			}
		}
		for identifier, want := range map[string]*database.Account{"A.A": a, a.Identifier: a, b.Identifier: b, "c": nil} {
			if got, err := accounts.ByIdentifier(ctx, "whatsapp", identifier); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%q: %+v %v", identifier, got, err)
			}
		}
		if got, err := accounts.ByIdentifier(ctx, "messenger", "A.A"); got != nil || err != nil {
			t.Errorf("elsewhere: %+v %v", got, err)
		}
		if err := accounts.PutAlias(ctx, b, "A.A"); !database.IsUniqueViolation(err) {
			t.Errorf("another account asks for it too: %v", err)
		}
	})
}

func TestAnAssignedIdentifierBelongsToOneUser(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.AssignedIdentifiers()
		put := func(mxid, identifier string) error {
			return store.Put(ctx, &database.Assigned{MXID: mxid, Identifier: identifier, At: 5})
		}
		for _, p := range [][2]string{{"@a:test", "ann"}, {"@b:test", "bob"}, {"@a:test", "anna"}} {
			if err := put(p[0], p[1]); err != nil {
				t.Fatal(err)
			}
		}
		if err := put("@b:test", "anna"); !database.IsUniqueViolation(err) {
			t.Errorf("what somebody else has: %v", err)
		}
		if got, err := store.Get(ctx, "@a:test"); err != nil || *got != (database.Assigned{MXID: "@a:test", Identifier: "anna", At: 5}) {
			t.Errorf("%+v %v", got, err)
		}
		if err := store.Delete(ctx, "@a:test"); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Get(ctx, "@a:test"); got != nil || err != nil {
			t.Errorf("taken back: %+v %v", got, err)
		}
		if err := put("@b:test", "anna"); err != nil {
			t.Errorf("what nobody has any more: %v", err)
		}
	})
}

func TestWhereSomebodyIsIsKeptUntilItIsForgotten(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.Regions()
		want := database.Region{MXID: "@a:test", Country: "DE", Declared: 1, Checked: 2, Until: 3}
		for _, country := range []string{"FR", "DE"} {
			row := want
			row.Country = country
			if err := store.Put(ctx, &row); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := store.Get(ctx, "@a:test"); err != nil || *got != want {
			t.Errorf("%+v %v", got, err)
		}
		if err := store.Delete(ctx, "@a:test"); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Get(ctx, "@a:test"); err != nil || *got != (database.Region{MXID: "@a:test"}) {
			t.Errorf("forgotten: %+v %v", got, err)
		}
	})
}
