package database_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func TestATokenIsKeptAsAHashUntilItIsRevokedOrItsUserHasLeft(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, tokens := t.Context(), db.Tokens()
		putAccount(t, db, "a")
		user := account("a").MXID
		one := &database.Token{ID: "one", MXID: user, Scopes: []string{"status", "login"}, Hash: sha256.Sum256([]byte("secret")), At: 1, Expires: 100}
		if err := tokens.Add(ctx, one, 2); err != nil {
			t.Fatal(err)
		}
		if err := tokens.Add(ctx, &database.Token{ID: "two", MXID: "@b:test", Scopes: []string{"status"}, At: 2, Expires: 300}, 2); err != nil {
			t.Fatal(err)
		}
		if err := tokens.Add(ctx, &database.Token{ID: "three", MXID: user, At: 3, Expires: 9}, 2); !errors.Is(err, database.ErrTooManyTokens) {
			t.Errorf("one too many: %v", err)
		}
		got, err := tokens.Get(ctx, "one")
		if err != nil || got == nil || got.MXID != user || !slices.Equal(got.Scopes, one.Scopes) || got.Hash != one.Hash || got.Expires != 100 || got.Revoked != 0 {
			t.Fatalf("%+v (%v)", got, err)
		}
		if got, err = tokens.Get(ctx, "nobody"); got != nil || err != nil {
			t.Errorf("%+v (%v)", got, err)
		}
		for i, want := range []string{"true true", "false true"} {
			revoked, there, err := tokens.Revoke(ctx, "two", 50+int64(i))
			if said := fmt.Sprint(revoked, there); err != nil || said != want {
				t.Errorf("revoking it for the %d. time: %s (%v)", i+1, said, err)
			}
		}
		if revoked, there, err := tokens.Revoke(ctx, "nobody", 50); revoked || there || err != nil {
			t.Error(revoked, there, err)
		}
		list, err := tokens.List(ctx, 0, 10)
		if err != nil || len(list) != 2 || list[0].ID != "one" || list[1].Revoked != 50 {
			t.Errorf("%+v (%v)", list, err)
		}
		if err = tokens.Prune(ctx, 60); err != nil {
			t.Fatal(err)
		}
		if list, err = tokens.List(ctx, 0, 10); err != nil || len(list) != 1 || list[0].ID != "one" {
			t.Errorf("after forgetting revoked ones: %+v (%v)", list, err)
		}
		if err = db.Leavings().End(ctx, &database.Leaving{AccountID: "a", MXID: user}); err != nil {
			t.Fatal(err)
		}
		if got, err = tokens.Get(ctx, "one"); got != nil || err != nil {
			t.Errorf("the token of somebody who has left: %+v (%v)", got, err)
		}
	})
}

func TestTheAuditLogOnlyGrowsAndForgetsWhatIsOldOrTooMuch(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, audit := t.Context(), db.Audit()
		add := func(began, at int64, action, outcome string) int64 {
			t.Helper()
			e := &database.AuditEntry{Began: began, At: at, Actor: "operator", Action: action, Subject: "acc", Outcome: outcome}
			if err := audit.Append(ctx, e); err != nil {
				t.Fatal(err)
			}
			return e.Seq
		}
		list := func(since, after int64, limit int) (said []string) {
			t.Helper()
			entries, err := audit.List(ctx, since, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				said = append(said, fmt.Sprint(e.Seq, " ", e.Action, " ", e.Outcome))
			}
			return said
		}
		first := add(0, 10, "suspend", database.AuditAsked)
		add(0, 20, "delete", database.AuditAsked) // and then the process was killed
		add(first, 30, "suspend", "done")
		add(0, 40, "whoami", "refused")
		if got, want := list(0, 0, 10), []string{"2 delete asked", "3 suspend done", "4 whoami refused"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if got, want := list(25, 0, 10), []string{"3 suspend done", "4 whoami refused"}; !slices.Equal(got, want) {
			t.Errorf("since: %q, want %q", got, want)
		}
		if got, want := list(0, 2, 1), []string{"3 suspend done"}; !slices.Equal(got, want) {
			t.Errorf("a page: %q, want %q", got, want)
		}
		if err := audit.Prune(ctx, 25, 100); err != nil {
			t.Fatal(err)
		}
		if got, want := list(0, 0, 10), []string{"3 suspend done", "4 whoami refused"}; !slices.Equal(got, want) {
			t.Errorf("without the old ones: %q, want %q", got, want)
		}
		if err := audit.Prune(ctx, 0, 1); err != nil {
			t.Fatal(err)
		}
		if got, want := list(0, 0, 10), []string{"4 whoami refused"}; !slices.Equal(got, want) {
			t.Errorf("the last one: %q, want %q", got, want)
		}
		if err := audit.Prune(ctx, 1000, 1); err != nil {
			t.Fatal(err)
		}
		if seq := add(0, 50, "delete", "done"); seq != 5 {
			t.Errorf("after all were forgotten the next one is number %d", seq)
		}
	})
}

// TestNobodyPushesTheOperatorOutOfTheAuditLog: whoever has a token can have as much noted down as they like.
func TestNobodyPushesTheOperatorOutOfTheAuditLog(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, audit := t.Context(), db.Audit()
		add := func(actor, action string) {
			t.Helper()
			if err := audit.Append(ctx, &database.AuditEntry{At: 1, Actor: actor, Action: action, Outcome: "done"}); err != nil {
				t.Fatal(err)
			}
		}
		add("operator", "zero")
		for _, action := range []string{"one", "two"} {
			add("operator", action)
			for range 3 {
				add("token abc", "read-status")
				add("shared-secret", "logout")
				add("matrix-token", "logout")
			}
		}
		if err := audit.Prune(ctx, 0, 2); err != nil {
			t.Fatal(err)
		}
		entries, err := audit.List(ctx, 0, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, e := range entries {
			left = append(left, e.Actor+" "+e.Action)
		}
		if want := []string{"operator one", "operator two", "shared-secret logout", "matrix-token logout"}; !slices.Equal(left, want) {
			t.Errorf("%q, want %q", left, want)
		}
	})
}
