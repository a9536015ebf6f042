package connector

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
)

// TestTheOperatorIsToldOnceInOneRoomAndInSums: many of a kind in one line, no more than one a minute, once over restarts, and nothing of what was said.
func TestTheOperatorIsToldOnceInOneRoomAndInSums(t *testing.T) {
	w := newWorld(t)
	const office = id.RoomID("!office:test")
	var made atomic.Int64
	begin := func() {
		w.matrix.mu.Lock()
		w.matrix.special = func(r *http.Request) any {
			switch {
			case strings.HasSuffix(r.URL.Path, "/createRoom"):
				made.Add(1)
				return map[string]any{"room_id": office}
			case strings.Contains(r.URL.Path, "/join"):
				return map[string]any{"room_id": office}
			}
			return nil
		}
		w.matrix.mu.Unlock()
		w.connector.bridge.Config.Permissions["@boss:test"] = &bridgeconfig.PermissionLevelAdmin
	}
	begin()
	lines := func() (list []string) {
		for _, n := range w.waitingNotices() {
			if n.Room == office {
				list = append(list, string(n.Content))
			}
		}
		return list
	}
	now := time.Now()
	round := func(at time.Time, want ...string) {
		t.Helper()
		if err := w.connector.news.round(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		got := lines()
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d: %q", len(got), len(want), got)
		}
		for _, part := range want {
			if !slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, part) }) {
				t.Errorf("%q is not among %q", part, got)
			}
		}
	}
	round(now)
	if made.Load() != 0 {
		t.Error("a room was made for nothing")
	}
	w.command("$1", "report he is rude", "")
	w.command("$2", "report", "")
	round(now, "users have made: 2")
	w.command("$3", "report", "")
	round(now.Add(newsEvery/2), "users have made: 2") // one line a minute
	round(now.Add(newsEvery), "users have made: 2", "users have made: 1")
	if strings.Contains(strings.Join(lines(), ""), "rude") {
		t.Error("the room reads what a report says")
	}

	// The state of an account is news once, over restarts too, and again when it was well between.
	account := string(w.client.login.ID)
	tell := func(kind interop.ConnKind) {
		t.Helper()
		w.connector.news.state(account, interop.ConnState{Kind: kind, Code: 401})
		w.until("the news to be stored", func() bool {
			accounts, err := w.connector.db.Operator().NewsAccounts(t.Context())
			return err == nil && (len(accounts) == 1) == (kind != interop.ConnLive)
		})
	}
	tell(interop.ConnNotEnlisted)
	round(now.Add(newsEvery), "users have made: 2", "users have made: 1", "does not know any more: 1. They")
	w.restart()
	begin()
	tell(interop.ConnNotEnlisted)
	round(now.Add(2*newsEvery), "users have made: 2", "users have made: 1", "does not know any more: 1. They")
	tell(interop.ConnLive)
	tell(interop.ConnNotEnlisted)
	round(now.Add(4*newsEvery), "users have made: 2", "users have made: 1", "does not know any more: 1. They", account)
	if made.Load() != 1 {
		t.Errorf("%d rooms were made", made.Load())
	}
}
