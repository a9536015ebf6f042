package database_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"postern/database"
	"postern/database/databasetest"
)

func TestABrakeCountsForAUserASubjectAndAllAndSaysWhenItLetsGo(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, now := t.Context(), time.UnixMilli(1_700_000_000_000)
		most := database.BrakeMost{Window: time.Hour, User: 3, Subject: 2, All: 5}
		take := func(mxid, subject string, at time.Time) (string, *database.BrakedError) {
			t.Helper()
			id, err := db.Brakes().Take(ctx, database.BrakeLetter, mxid, subject, most, at)
			var braked *database.BrakedError
			if err != nil && !errors.As(err, &braked) {
				t.Fatal(err)
			}
			return id, braked
		}
		for i := range 3 {
			if _, braked := take("@a:test", fmt.Sprint("s", i), now.Add(time.Duration(i)*time.Minute)); braked != nil {
				t.Fatalf("the %dth of a user: %v", i, braked)
			}
		}
		_, braked := take("@a:test", "s9", now.Add(3*time.Minute))
		if braked == nil || braked.All || !braked.Until.Equal(now.Add(time.Hour)) {
			t.Errorf("one too many of a user: %+v", braked)
		}
		if _, braked = take("@b:test", "s0", now.Add(3*time.Minute)); braked != nil {
			t.Errorf("the second on a subject: %v", braked)
		}
		if _, braked = take("@b:test", "s0", now.Add(4*time.Minute)); braked == nil || braked.All || !braked.Until.Equal(now.Add(time.Hour)) {
			t.Errorf("the third on a subject: %+v", braked)
		}
		id, braked := take("@c:test", "", now.Add(5*time.Minute))
		if braked != nil {
			t.Errorf("the fifth of all: %v", braked)
		}
		if _, braked = take("@d:test", "", now.Add(5*time.Minute)); braked == nil || !braked.All || !braked.Until.Equal(now.Add(time.Hour)) {
			t.Errorf("one too many of all: %+v", braked)
		}
		if err := db.Brakes().Return(ctx, id); err != nil {
			t.Fatal(err)
		}
		if _, braked = take("@d:test", "", now.Add(5*time.Minute)); braked != nil {
			t.Errorf("after one was taken back: %v", braked)
		}
		if _, braked = take("@a:test", "s8", now.Add(time.Hour)); braked != nil {
			t.Errorf("when the first does not count any more: %v", braked)
		}
		if _, err := db.Brakes().Take(ctx, database.BrakeLookup, "@a:test", "", most, now.Add(time.Hour)); err != nil {
			t.Errorf("another kind: %v", err)
		}
		if n, err := db.Brakes().Count(ctx, database.BrakeLetter, "@a:test", time.Hour, now.Add(time.Hour)); err != nil || n != 3 {
			t.Errorf("%d are counted (%v)", n, err)
		}
	})
}

// TestAClockThatWasWrongKeepsNobodyOutForLongerThanOneWindow: what was counted in the future counts as now.
func TestAClockThatWasWrongKeepsNobodyOutForLongerThanOneWindow(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, now := t.Context(), time.UnixMilli(1_700_000_000_000)
		most := database.BrakeMost{Window: 24 * time.Hour, User: 2}
		for range 2 {
			if _, err := db.Brakes().Take(ctx, database.BrakeChat, "@a:test", "", most, now.AddDate(1, 0, 0)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := db.Brakes().Take(ctx, database.BrakeChat, "@a:test", "", most, now)
		var braked *database.BrakedError
		if !errors.As(err, &braked) || !braked.Until.Equal(now.Add(24*time.Hour)) {
			t.Fatalf("set back by a year: %+v", err)
		}
		// The refused attempts bring them back, and not again and again.
		if _, err = db.Brakes().Take(ctx, database.BrakeChat, "@a:test", "", most, now.Add(23*time.Hour)); !errors.As(err, &braked) || !braked.Until.Equal(now.Add(24*time.Hour)) {
			t.Errorf("an hour before: %+v", err)
		}
		if _, err = db.Brakes().Take(ctx, database.BrakeChat, "@a:test", "", most, now.Add(24*time.Hour)); err != nil {
			t.Errorf("a day later: %v", err)
		}
	})
}

func TestWhoIsSuspendedStaysSoWithoutAnAccount(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.Suspensions()
		for i, want := range []bool{true, false} {
			if fresh, err := store.Put(ctx, "@a:test", fmt.Sprint("reason ", i)); err != nil || fresh != want {
				t.Fatalf("suspended: %v %v", fresh, err)
			}
		}
		list, err := store.All(ctx)
		if err != nil || len(list) != 1 || list[0].MXID != "@a:test" || list[0].Reason != "reason 1" || list[0].At == 0 {
			t.Errorf("%+v %v", list, err)
		}
		for _, want := range []bool{true, false} {
			if was, err := store.End(ctx, "@a:test"); err != nil || was != want {
				t.Errorf("ended: %v %v", was, err)
			}
		}
		for what, get := range map[string]func(context.Context) ([]*database.Suspension, error){"standing": store.All, "to be told": store.Ended} {
			if list, err = get(ctx); err != nil || len(list) != 0 {
				t.Errorf("%s: %+v %v", what, list, err)
			}
		}
	})
}

// TestAnEndedSuspensionIsKeptUntilItsUserIsTold: a new one takes its place, and telling about the old one does not end that.
func TestAnEndedSuspensionIsKeptUntilItsUserIsTold(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, store := t.Context(), db.Suspensions()
		const user = "@a:test"
		if err := db.Accounts().Put(ctx, &database.Account{ID: "a", Gatekeeper: "g", Identifier: "a", MXID: user}); err != nil {
			t.Fatal(err)
		}
		if known, err := store.Concerns(ctx, user); err != nil || !known {
			t.Errorf("not known: %v", err)
		}
		if known, err := store.Concerns(ctx, "@typo:test"); err != nil || known {
			t.Errorf("known: %v", err)
		}
		count := func(when string, standing, ended int) {
			t.Helper()
			s, err1 := store.All(ctx)
			e, err2 := store.Ended(ctx)
			if err := errors.Join(err1, err2); err != nil || len(s) != standing || len(e) != ended {
				t.Errorf("%s: %d stand and %d have ended, %v", when, len(s), len(e), err)
			}
		}
		do := func(what string, want bool, got bool, err error) {
			t.Helper()
			if err != nil || got != want {
				t.Errorf("%s: %v %v", what, got, err)
			}
		}
		fresh, err := store.Put(ctx, user, "one")
		do("suspended", true, fresh, err)
		was, err := store.End(ctx, user)
		do("ended", true, was, err)
		count("ended", 0, 1)
		was, err = store.End(ctx, user)
		do("ended twice", false, was, err)
		fresh, err = store.Put(ctx, user, "two")
		do("suspended anew", true, fresh, err)
		count("anew", 1, 0)
		if err = store.Forget(ctx, user); err != nil {
			t.Fatal(err)
		}
		count("told too late", 1, 0)
		was, err = store.End(ctx, user)
		do("ended anew", true, was, err)
		if err = store.Forget(ctx, user); err != nil {
			t.Fatal(err)
		}
		count("told", 0, 0)
	})
}
