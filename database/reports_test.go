package database_test

import (
	"errors"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func TestAReportIsKeptOnceAndWithinItsBound(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, reports := t.Context(), db.Reports()
		putAccount(t, db, "a")
		b := account("b")
		b.MXID = "@b:test"
		if err := db.Accounts().Put(ctx, b); err != nil {
			t.Fatal(err)
		}
		add := func(account, event string, at int64) error {
			return reports.Add(ctx, &database.Report{
				ID: reports.ID(account, event), AccountID: account, ChatID: "chat", Gatekeeper: "whatsapp", About: "1@lid", At: at, Subject: []byte("who"),
			}, at-10, 2)
		}
		for _, c := range []struct {
			account, event string
			at             int64
			want           error
		}{
			{"a", "$1", 100, nil}, {"a", "$1", 100, nil}, {"a", "$2", 101, nil}, {"a", "$3", 102, database.ErrTooManyReports},
			{"a", "$1", 102, nil}, {"b", "$3", 102, nil}, {"a", "$3", 111, nil},
			{"a", "$4", 50, nil}, // a clock that was put back keeps nobody from reporting
		} {
			if err := add(c.account, c.event, c.at); !errors.Is(err, c.want) {
				t.Errorf("%s of %s at %d: %v, want %v", c.event, c.account, c.at, err, c.want)
			}
		}
		list, err := reports.List(ctx, false, 0, 10)
		if err != nil || len(list) != 5 {
			t.Fatal(len(list), err)
		}
		if r := list[1]; r.AccountID != "a" || r.MXID == "" || r.At != 100 || r.Same != 5 || r.HasReason || r.HasQuoted || r.Subject != nil {
			t.Errorf("%+v", r)
		}
		if some, err := reports.List(ctx, false, 1, 2); err != nil || len(some) != 2 || some[0].ID != list[1].ID {
			t.Error(some, err)
		}
	})
}

func TestAReportIsClosedAndForgottenWhenItIsOld(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, reports := t.Context(), db.Reports()
		putAccount(t, db, "a")
		for i, id := range []string{"x", "y", "z"} {
			err := reports.Add(ctx, &database.Report{
				ID: id, AccountID: "a", At: int64(10 + i), About: id, Subject: []byte("who"), Reason: []byte("why"), Quoted: []byte("what"),
			}, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			id            string
			closed, there bool
		}{{"y", true, true}, {"y", false, true}, {"nobody", false, false}} {
			if closed, there, err := reports.Close(ctx, c.id, 20); err != nil || closed != c.closed || there != c.there {
				t.Errorf("%s: %t %t (%v)", c.id, closed, there, err)
			}
		}
		ids := func(all bool) (ids string) {
			t.Helper()
			list, err := reports.List(ctx, all, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range list {
				ids += r.ID
			}
			return ids
		}
		if open, all := ids(false), ids(true); open != "xz" || all != "xyz" {
			t.Errorf("open are %q of %q", open, all)
		}
		r, err := reports.Get(ctx, "y")
		if err != nil || r.Closed != 20 || string(r.Subject)+string(r.Reason)+string(r.Quoted) != "whowhywhat" || !r.HasReason || !r.HasQuoted {
			t.Fatalf("%+v, %v", r, err)
		}
		if r, err := reports.Get(ctx, "nobody"); r != nil || err != nil {
			t.Error(r, err)
		}
		for _, c := range []struct {
			closed, made int64
			left         string
		}{{20, 10, "xyz"}, {21, 10, "xz"}, {21, 11, "z"}} {
			if _, err := reports.Prune(ctx, c.closed, c.made); err != nil {
				t.Fatal(err)
			}
			if got := ids(true); got != c.left {
				t.Errorf("after pruning to %d and %d there is %q, want %q", c.closed, c.made, got, c.left)
			}
		}
	})
}

func TestAnOpenReportOutlivesItsReporterWithoutThemAndAClosedOneDoesNot(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, reports := t.Context(), db.Reports()
		for _, account := range []string{"a", "b"} {
			putAccount(t, db, account)
			for _, event := range []string{"open", "closed"} {
				err := reports.Add(ctx, &database.Report{
					ID: event + "-" + account, AccountID: account, ChatID: "chat", At: 1, About: "1@lid", Subject: []byte("who"), Reason: []byte("why"), Quoted: []byte("what"),
				}, 0, 10)
				if err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := reports.Close(ctx, "closed-"+account, 2); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Leavings().Begin(ctx, "a", "!r", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Leavings().Empty(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if r, err := reports.Get(ctx, "closed-a"); r != nil || err != nil {
			t.Errorf("closed: %+v %v", r, err)
		}
		r, err := reports.Get(ctx, "open-a")
		if err != nil || r == nil {
			t.Fatal(r, err)
		}
		if r.AccountID != "" || r.ChatID != "" || r.MXID != "" || r.HasQuoted || r.Quoted != nil || string(r.Subject) != "who" || string(r.Reason) != "why" || r.Same != 3 {
			t.Errorf("%+v", r)
		}
		if r, err = reports.Get(ctx, "open-b"); err != nil || r.AccountID != "b" || !r.HasQuoted {
			t.Errorf("somebody else's: %+v %v", r, err)
		}
	})
}
