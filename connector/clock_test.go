package connector

import (
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/connector/gatekeeper"
	"postern/database"
)

func TestTheMachinesClockIsBelievedAsFarAsWhatIsKnownAndWhatHasGoneBy(t *testing.T) {
	right := time.Unix(1_800_000_000, 0)
	start := time.Now() // its reading of the clock that nobody sets
	var set, ran time.Duration
	wall := func() time.Time { return start.Add(right.Sub(start.Round(0)) + set + ran) }
	c := &clock{wall: wall, known: right.Add(-time.Hour), read: wall()}
	is := func(what string, want time.Time) {
		t.Helper()
		if got := c.now(); !got.Equal(want) {
			t.Errorf("%s: %v off", what, got.Sub(want))
		}
	}
	is("nobody has said what time it is", right.Add(-time.Hour+gatekeeper.ClockSkew))
	ran = 10 * time.Minute
	is("ten minutes later", right.Add(-50*time.Minute+gatekeeper.ClockSkew))
	c.said(right.Add(ran))
	is("a gatekeeper has said it", right.Add(ran))
	c.said(right.Add(-24 * time.Hour))
	is("another one is behind", right.Add(ran))
	c.said(right.Add(24 * time.Hour))
	is("another one is ahead", right.Add(ran))
	if at := c.shown(right); !at.Equal(right) {
		t.Errorf("a time is shown %v off", at.Sub(right))
	}
	// The wall's clock is set back.
	c.wall = func() time.Time { return wall().Round(0).Add(-time.Hour) }
	is("set back", right.Add(ran-time.Hour))
}

// TestAClockThatIsFarAheadAtAStartEndsNoBrakeAndNoReport: until a gatekeeper says that so much time has gone by.
func TestAClockThatIsFarAheadAtAStartEndsNoBrakeAndNoReport(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	brakes := BrakeConfig{NewChats: 2, Lookups: 3, Messages: 60}
	chat := func() error {
		w.connector.Config.Brakes.User, w.connector.Config.Brakes.Bridge = brakes, brakes
		_, err := w.connector.brakes.chat(ctx, "@a:test", w.client.words())
		return err
	}
	for i := range 3 {
		if err := chat(); (i < 2) != (err == nil) {
			t.Fatalf("chat %d: %v", i, err)
		}
	}
	report := func(evt id.EventID) error {
		_, err := w.client.report(ctx, counterpart{chat: w.peer.Chat, contact: w.peer.Contact, name: "Eve"}, evt, "spam", nil)
		return err
	}
	if err := report("$1"); err != nil {
		t.Fatal(err)
	}
	const year = 365 * 24 * time.Hour
	w.wall = func() time.Time { return time.Now().Add(year) }
	w.restart()
	forget := func() {
		t.Helper()
		now := w.connector.clock.now()
		if err := w.connector.db.Brakes().Forget(ctx, database.BrakeChat, chatsWindow, now); err != nil {
			t.Fatal(err)
		}
		if _, err := w.connector.pruneOldReports(ctx); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	if err := chat(); err == nil {
		t.Error("a clock that is a year ahead lets somebody begin a chat too many")
	}
	if n := len(w.reports()); n != 1 {
		t.Errorf("%d reports are left", n)
	}
	// It was right after all: the machine was off.
	w.connector.clock.said(w.wall())
	forget()
	if err := chat(); err != nil {
		t.Errorf("a year later: %v", err)
	}
	if n := len(w.reports()); n != 0 {
		t.Errorf("a year later there are %d reports", n)
	}
}
