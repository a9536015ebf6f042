package connector

import (
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/bridgev2/status"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
)

// TestWhatNeedsAPersonIsToldOnceUntilTheyWereConnectedAgain: in each run the framework says it anew; one notice is on disk, as it would have been said.
func TestWhatNeedsAPersonIsToldOnceUntilTheyWereConnectedAgain(t *testing.T) {
	w := newWorld(t)
	const home = id.RoomID("!home:test")
	tell := func(code status.BridgeStateErrorCode) {
		t.Helper()
		state := status.BridgeState{StateEvent: status.StateBadCredentials, Error: code, UserID: fakePerson, RemoteID: w.client.login.ID, RemoteName: "alice", Message: "why " + string(code)}
		_, err := w.connector.bridge.Bot.SendMessage(t.Context(), home, event.EventMessage, &event.Content{
			Parsed: event.MessageEventContent{MsgType: event.MsgText, Body: "State update"}, Raw: map[string]any{stateField: state},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	wants := func(code string, n int) {
		t.Helper()
		count := 0
		for _, notice := range w.waitingNotices() {
			if text := string(notice.Content); notice.Room == home && strings.Contains(text, "why "+code) {
				count++
				for _, part := range []string{`"` + stateField + `"`, `"m.text"`, "alice"} {
					if !strings.Contains(text, part) {
						t.Errorf("%s is not in %s", part, text)
					}
				}
			}
		}
		if count != n {
			t.Errorf("%s is told %d times, want %d", code, count, n)
		}
	}
	tell(stateNotEnlisted)
	tell(stateNotEnlisted)
	wants("postern-not-enlisted", 1)
	w.restart()
	tell(stateNotEnlisted)
	wants("postern-not-enlisted", 1)
	tell(stateRefused)
	wants("postern-refused", 1)

	// It was connected in between, so it is news.
	w.connector.news.state(string(w.client.login.ID), interop.ConnState{Kind: interop.ConnLive})
	w.until("what was told to be forgotten", func() bool {
		accounts, err := w.connector.db.Operator().NewsAccounts(t.Context())
		return err == nil && len(accounts) == 0
	})
	tell(stateNotEnlisted)
	wants("postern-not-enlisted", 2)
	wants("postern-refused", 1)
}

// TestADrainThatGoesOnIsOnePieceOfNews, over restarts, until nothing was heard of it for a while.
func TestADrainThatGoesOnIsOnePieceOfNews(t *testing.T) {
	w := newWorld(t)
	account := string(w.client.login.ID)
	news := w.connector.db.Operator()
	untold := func(at time.Duration) int {
		t.Helper()
		one := newNews(newsDrained, account, account, "")
		one.At = time.Now().Add(at).UnixMilli()
		if err := news.AddSpell(t.Context(), one, newsDrain.Milliseconds()); err != nil {
			t.Fatal(err)
		}
		list, err := news.Untold(t.Context(), 10)
		if err == nil {
			err = news.Told(t.Context(), list)
		}
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	const day = 24 * time.Hour
	for i, step := range []struct {
		at   time.Duration
		want int
	}{{0, 1}, {0, 0}, {day, 0}, {2*day + time.Hour, 0}, {4*day + 2*time.Hour, 1}, {5 * day, 0}} {
		if got := untold(step.at); got != step.want {
			t.Errorf("step %d: %d pieces of news, want %d", i, got, step.want)
		}
	}
}
