package connector

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// lookOnce looks once, as within the time in which what the bridge has written is not settled.
func (w *world) lookOnce() {
	w.t.Helper()
	w.client.ignores.every = time.Hour
	if _, err := w.client.ignores.look(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// TestWhatThePersonDoesJustAfterTheBridgeHasWrittenTheListIsKept: they take back in a client what the bridge has written a moment before.
func TestWhatThePersonDoesJustAfterTheBridgeHasWrittenTheListIsKept(t *testing.T) {
	for _, blocked := range []bool{true, false} {
		w := newPuppetWorld(t)
		lists := map[bool]string{false: `{"ignored_users":{"@x:y":{}}}`, true: `{"ignored_users":{"@x:y":{},"` + w.ghost.String() + `":{}}}`}
		w.ignored(lists[false])
		if !blocked {
			w.block(true)
			w.look()
		}
		w.block(blocked)
		w.lookOnce()
		if got := w.ignoredNow(); got != lists[blocked] {
			t.Fatalf("the list is %s", got)
		}
		w.ignored(lists[!blocked])
		w.lookOnce()
		if got := w.ignoredNow(); got != lists[!blocked] {
			t.Errorf("the person's list was written over: %s", got)
		}
		w.look()
		w.wantBlocked(!blocked)
		if n := strings.Count(w.notices(), "Matrix client"); n != 1 {
			t.Errorf("%d notices of it", n)
		}
	}
}

// TestAListThatTheHomeserverShowsLateIsNotTheirWish: what the bridge has written is not there yet when it is read back.
func TestAListThatTheHomeserverShowsLateIsNotTheirWish(t *testing.T) {
	w := newPuppetWorld(t)
	w.ignored(`{"ignored_users":{}}`)
	w.block(true)
	w.matrix.setAfter(func(r *http.Request) int {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "m.ignored_user_list") {
			w.matrix.account[ignoredPath] = []byte(`{"ignored_users":{}}`) // its lock is held
		}
		return 0
	})
	w.lookOnce()
	w.matrix.setAfter(nil)
	w.look()
	w.wantBlocked(true)
	if got := w.ignoredNow(); !strings.Contains(got, w.ghost.String()) {
		t.Errorf("the list is %s", got)
	}
}

// TestAListThatIsGoneEndsNoBlock: no client takes the list away, a homeserver that was set up anew has none.
func TestAListThatIsGoneEndsNoBlock(t *testing.T) {
	for _, pending := range []bool{false, true} {
		w := newPuppetWorld(t)
		w.block(true)
		w.lookOnce()
		if !pending {
			w.look()
		}
		w.matrix.mu.Lock()
		delete(w.matrix.account, ignoredPath)
		w.matrix.mu.Unlock()
		w.client.ignores.kick()
		w.look()
		w.wantBlocked(true)
		if got := w.ignoredNow(); got != `{"ignored_users":{"`+w.ghost.String()+`":{}}}` {
			t.Errorf("the list is %s", got)
		}
		if strings.Contains(w.notices(), "Matrix client") {
			t.Error("it was taken for the person's wish")
		}
	}
}
