package database_test

import (
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
			if was, err := store.Delete(ctx, "@a:test"); err != nil || was != want {
				t.Errorf("ended: %v %v", was, err)
			}
		}
		if list, err = store.All(ctx); err != nil || len(list) != 0 {
			t.Errorf("%+v %v", list, err)
		}
	})
}
