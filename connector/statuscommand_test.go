package connector

import (
	"strings"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/words"
	"postern/database"
	"postern/database/databasetest"
)

func TestStatusSaysInWordsHowALoginIsDoing(t *testing.T) {
	now := time.Date(2030, 5, 4, 12, 0, 0, 0, time.UTC)
	always, attached := exampleWith(t, nil), exampleWith(t, map[string]any{"connect": "attached"})
	for _, c := range []*Config{always, attached} {
		if err := c.prepare(); err != nil {
			t.Fatal(err)
		}
	}
	live := interop.Report{Live: true, Since: now.Add(-time.Hour), LastLive: now, PreKeys: 187}
	sum := database.Summary{LastConnected: now.Add(-time.Minute).UnixMilli(), LastIn: now.Add(-2 * time.Hour).UnixMilli(), WaitingIn: 3, WaitingOut: 4}
	for name, c := range map[string]struct {
		state  interop.ConnState
		report interop.Report
		sum    database.Summary
		cfg    *Config
		want   []string
		not    string
	}{
		"connected": {interop.ConnState{Kind: interop.ConnLive}, live, sum, always,
			[]string{"Connected since 2030-05-04 11:00 UTC", "stays connected always", "2030-05-04 10:00 UTC", "never", "Matrix: 3", "WhatsApp: 4", "187", "2030-06-03"}, "not been connected"},
		"resting": {interop.ConnState{Kind: interop.ConnIdle}, interop.Report{PreKeys: 90, LastLive: now.Add(-24 * time.Hour)}, sum, attached,
			[]string{"nothing needs it", "5m0s", "90", "2030-06-03"}, "Connected since"},
		"connecting": {interop.ConnState{}, interop.Report{PreKeys: -1}, database.Summary{}, always, []string{"is connecting", "never"}, "in stock"},
		"the service is away": {interop.ConnState{Kind: interop.ConnWaiting, Until: now.Add(time.Minute)}, interop.Report{PreKeys: -1}, sum, always,
			[]string{"cannot be reached", "2030-05-04 12:01 UTC"}, "Connected since"},
		"no address":    {interop.ConnState{Kind: interop.ConnNoAddress}, interop.Report{PreKeys: -1}, sum, always, []string{"from where you are connected"}, "Connected since"},
		"another took":  {interop.ConnState{Kind: interop.ConnReplaced}, interop.Report{PreKeys: -1}, sum, always, []string{"Another bridge"}, "Connected since"},
		"back-pressure": {interop.ConnState{Kind: interop.ConnBackPressure}, live, sum, always, []string{"Matrix does not take"}, "Connected since"},
		"too long ago": {interop.ConnState{Kind: interop.ConnWaiting}, interop.Report{PreKeys: -1},
			database.Summary{LastConnected: now.Add(-31 * 24 * time.Hour).UnixMilli()}, always, []string{"has not been connected for 30 days"}, "has until"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Join(statusLines(words.For("en"), "WhatsApp", c.state, c.report, c.sum, c.cfg, now), "\n")
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
			if strings.Contains(text, c.not) {
				t.Errorf("%q is in\n%s", c.not, text)
			}
			if strings.Contains(text, "{") {
				t.Errorf("something is not filled in:\n%s", text)
			}
		})
	}
}

func TestAnAccountsSummaryAndItsLastConnection(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		row := &database.Account{
			ID: database.NewLocalID(), Gatekeeper: "whatsapp", MXID: "@a:x", Identifier: "a", Login: "1-2@interop",
			NoiseKey: []byte("n"), Device: []byte("d"), HMACKey: []byte("h"), EnlistedAt: 1, CreatedAt: 1,
		}
		if err := db.Accounts().Put(ctx, row); err != nil {
			t.Fatal(err)
		}
		at := time.UnixMilli(1_900_000_000_000)
		quiet := func(since time.Time, want int) {
			t.Helper()
			if ids, err := db.Accounts().NotConnectedSince(ctx, since); err != nil || len(ids) != want {
				t.Errorf("not connected since %v: %v, %v; want %d", since, ids, err, want)
			}
		}
		quiet(at, 1)
		for _, moment := range []time.Time{at, at.Add(-time.Hour)} { // the clock was set back
			if err := db.Accounts().SetConnected(ctx, row.ID, moment); err != nil {
				t.Fatal(err)
			}
		}
		quiet(at, 0)
		quiet(at.Add(time.Second), 1)
		if err := db.Accounts().Put(ctx, row); err != nil { // which knows nothing of it
			t.Fatal(err)
		}
		sum, err := db.Accounts().Summary(ctx, row.ID)
		if err != nil || sum != (database.Summary{LastConnected: at.UnixMilli()}) {
			t.Errorf("%+v, %v", sum, err)
		}
		if sum, err := db.Accounts().Summary(ctx, "nobody"); err != nil || sum != (database.Summary{}) {
			t.Errorf("%+v, %v", sum, err)
		}
	})
}
