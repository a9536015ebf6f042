package connector

import (
	"encoding/json"
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
				var room struct {
					Powers struct {
						Invite int `json:"invite"`
					} `json:"power_level_content_override"`
				}
				if err := json.NewDecoder(r.Body).Decode(&room); err != nil || room.Powers.Invite != 100 {
					t.Errorf("others than the bot may invite people: %d (%v)", room.Powers.Invite, err)
				}
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

// TestEachDeadLetterIsNewsOnceWhateverTheClockSaid: two may be as old as each other and be committed one after the other, and a clock may have been ahead.
func TestEachDeadLetterIsNewsOnceWhateverTheClockSaid(t *testing.T) {
	w := newWorld(t)
	store := NewAccountStore(w.connector.db, w.account, "whatsapp")
	news := w.connector.news
	finds := func(want int, dead time.Time) {
		t.Helper()
		if _, err := w.connector.db.Raw().Exec(t.Context(), "UPDATE postern_in SET dead_at=$1 WHERE dead_at<>0 AND dead_at<$2", dead.UnixMilli(), 1_000_000); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := news.findLetters(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		list, err := w.connector.db.Operator().Untold(t.Context(), 100)
		if err != nil || len(list) != want {
			t.Errorf("%d are news, want %d (%v)", len(list), want, err)
		}
	}
	now := time.Now()
	buryIn(t, w.connector.db, store, w.peer.Chat, "A", "forbidden")
	finds(1, now)
	buryIn(t, w.connector.db, store, w.peer.Chat, "B", "forbidden")
	finds(2, now) // in the same millisecond
	buryIn(t, w.connector.db, store, w.peer.Chat, "C", "forbidden")
	finds(3, now.Add(30*24*time.Hour)) // the clock is ahead
	buryIn(t, w.connector.db, store, w.peer.Chat, "D", "forbidden")
	finds(4, now.Add(time.Minute)) // and is right again
}
