package connector

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
)

const ignoredPath = "/_matrix/client/v3/user/" + string(fakePerson) + "/account_data/m.ignored_user_list"

// newPuppetWorld is a world whose bridge may act as the person.
func newPuppetWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.puppets = true
	w.restart()
	return w
}

// ignored sets the person's list, as one of their clients does, and ignoredNow is what it is.
func (w *world) ignored(list string) {
	w.matrix.mu.Lock()
	defer w.matrix.mu.Unlock()
	w.matrix.account[ignoredPath] = []byte(list)
}

func (w *world) ignoredNow() string {
	w.matrix.mu.Lock()
	defer w.matrix.mu.Unlock()
	return string(w.matrix.account[ignoredPath])
}

// look has the bridge look until there is nothing to do.
func (w *world) look() {
	w.t.Helper()
	w.client.ignores.every = 0
	for range 5 {
		more, err := w.client.ignores.look(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if !more {
			return
		}
	}
	w.t.Fatal("the bridge and the list never agree")
}

func (w *world) wantBlocked(want bool) {
	w.t.Helper()
	if got, err := w.client.account.Blocked(w.t.Context(), w.peer.Chat); err != nil || got != want {
		w.t.Fatalf("blocked: %t (%v), want %t", got, err, want)
	}
}

func (w *world) block(blocked bool) {
	w.t.Helper()
	if _, err := w.client.account.SetBlocked(w.t.Context(), w.peer.Chat, blocked, nil); err != nil {
		w.t.Fatal(err)
	}
	w.client.ignores.kick()
}

func TestWhoIsIgnoredInAClientIsBlockedAndNotAnyMoreWhenThatEnds(t *testing.T) {
	w := newPuppetWorld(t)
	w.look()
	w.wantBlocked(false)
	theirs := `{"ignored_users":{"@spammer:elsewhere":{},"` + w.ghost.String() + `":{}}}`
	w.ignored(theirs)
	w.look()
	w.wantBlocked(true)
	w.says("the notice", w.notices(), "You ignore this person")
	if got := w.ignoredNow(); got != theirs {
		t.Errorf("the list was written: %s", got)
	}
	if err := w.client.mayWrite(t.Context(), w.peer.Chat); !errors.Is(err, errBlocked) {
		t.Errorf("writing to somebody who is ignored: %v", err)
	}
	w.restart()
	w.look()
	w.wantBlocked(true)
	// While the bridge is away the person changes their mind.
	w.ignored(`{"ignored_users":{"@spammer:elsewhere":{}}}`)
	w.restart()
	w.look()
	w.wantBlocked(false)
	w.says("the notice", w.notices(), "any more, so the block is ended")
	if n := strings.Count(w.notices(), "this person in your Matrix client"); n != 2 {
		t.Errorf("%d notices", n)
	}
}

func TestWhoIsBlockedIsIgnoredToAndTheRestOfTheListIsKeptByteForByte(t *testing.T) {
	w := newPuppetWorld(t)
	const before = `{"eu.other": {"a" : [1.0, "<&>", "\u00e9"]},"ignored_users": {"@x:y": {"reason":  "long <story>"}}, "later":12345678901234567890}`
	w.ignored(before)
	w.block(true)
	w.look()
	want := `{"eu.other":{"a" : [1.0, "<&>", "\u00e9"]},"ignored_users":{"@x:y":{"reason":  "long <story>"},"` + w.ghost.String() + `":{}},"later":12345678901234567890}`
	if got := w.ignoredNow(); got != want {
		t.Errorf("the list is\n%s, want\n%s", got, want)
	}
	w.wantBlocked(true)
	w.block(false)
	w.look()
	want = strings.Replace(want, `,"`+w.ghost.String()+`":{}`, "", 1)
	if got := w.ignoredNow(); got != want {
		t.Errorf("the list is\n%s, want\n%s", got, want)
	}
	w.wantBlocked(false)
	if notices := w.notices(); strings.Contains(notices, "Matrix client") {
		t.Errorf("the bridge took its own change for the person's: %s", notices)
	}
	// Whoever has no list gets one.
	w.matrix.mu.Lock()
	delete(w.matrix.account, ignoredPath)
	w.matrix.mu.Unlock()
	w.block(true)
	w.look()
	if got := w.ignoredNow(); got != `{"ignored_users":{"`+w.ghost.String()+`":{}}}` {
		t.Errorf("the first list is %s", got)
	}
}

func TestALookThatFindsNothingNewWritesNothing(t *testing.T) {
	w := newPuppetWorld(t)
	w.block(true)
	w.look()
	w.matrix.mu.Lock()
	w.matrix.calls = nil
	w.matrix.mu.Unlock()
	for range 3 {
		w.client.ignores.kick()
		w.look()
	}
	w.matrix.mu.Lock()
	defer w.matrix.mu.Unlock()
	for _, call := range w.matrix.calls {
		if strings.HasPrefix(call, http.MethodPut) {
			t.Errorf("it wrote: %s", call)
		}
	}
}

// TestWhatIsCutOffWhileTheListIsWrittenIsNeitherTakenForThePersonsWishNorLost: the process ends, or the request fails, before or after the
// homeserver has the list; or another client overwrites it with its own copy.
func TestWhatIsCutOffWhileTheListIsWrittenIsNeitherTakenForThePersonsWishNorLost(t *testing.T) {
	for name, cut := range map[string]func(w *world){
		"before": func(w *world) { w.matrix.setBefore(failPuts) },
		"after":  func(w *world) { w.matrix.setAfter(failPuts) },
	} {
		for _, blocked := range []bool{true, false} {
			t.Run(name+" "+map[bool]string{true: "blocking", false: "unblocking"}[blocked], func(t *testing.T) {
				w := newPuppetWorld(t)
				w.ignored(`{}`)
				if !blocked {
					w.block(true)
					w.look()
				}
				w.block(blocked)
				cut(w)
				if _, err := w.client.ignores.look(t.Context()); err == nil {
					t.Fatal("nothing was cut off")
				}
				w.matrix.setBefore(nil)
				w.matrix.setAfter(nil)
				w.restart()
				w.look()
				w.wantBlocked(blocked)
				if strings.Contains(w.ignoredNow(), w.ghost.String()) != blocked {
					t.Errorf("the list is %s", w.ignoredNow())
				}
				if strings.Contains(w.notices(), "Matrix client") {
					t.Error("it was taken for the person's wish")
				}
			})
		}
	}
	w := newPuppetWorld(t)
	w.block(true)
	for range 3 { // it is not sure of it yet
		if more, err := w.client.ignores.look(t.Context()); err != nil || !more {
			t.Fatal(more, err)
		}
	}
	w.ignored(`{"ignored_users":{"@another:test":{}}}`) // of a client that has not seen our change
	w.look()
	w.wantBlocked(true)
	if got := w.ignoredNow(); got != `{"ignored_users":{"@another:test":{},"`+w.ghost.String()+`":{}}}` {
		t.Errorf("the list is %s", got)
	}
}

// failPuts answers requests that write account data with a fault.
func failPuts(r *http.Request) int {
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/account_data/") {
		return http.StatusTeapot
	}
	return 0
}

func TestAListThatCannotBeReadChangesNothing(t *testing.T) {
	w := newPuppetWorld(t)
	w.block(true)
	w.look()
	for _, list := range []string{`[]`, `{"ignored_users":[]}`, `{"ignored_users":{}} {}`, `{`, `"x"`, `{"ignored_users":{},"ignored_users":{}}`} {
		w.ignored(list)
		w.client.ignores.kick()
		if _, err := w.client.ignores.look(t.Context()); !errors.Is(err, errIgnoredList) {
			t.Errorf("%s: %v", list, err)
		}
		w.wantBlocked(true)
		if got := w.ignoredNow(); got != list {
			t.Errorf("%s was written: %s", list, got)
		}
	}
	for _, status := range []int{http.StatusForbidden, http.StatusTeapot, -1} {
		w.matrix.setBefore(func(r *http.Request) int {
			if strings.Contains(r.URL.Path, "/account_data/") {
				return status
			}
			return 0
		})
		if _, err := w.client.ignores.look(t.Context()); err == nil {
			t.Errorf("%d: no error", status)
		}
		w.wantBlocked(true)
	}
}

func TestWithoutDoublePuppetingNobodysListIsAskedFor(t *testing.T) {
	w := newWorld(t)
	w.ignored(`{"ignored_users":{"` + w.ghost.String() + `":{}}}`)
	w.block(true)
	w.look()
	w.matrix.mu.Lock()
	defer w.matrix.mu.Unlock()
	for _, call := range w.matrix.calls {
		if strings.Contains(call, "account_data") {
			t.Errorf("it asked: %s", call)
		}
	}
}

func TestASignOfLifeHasTheListLookedAtAndWhatTheGatekeeperBlocksIsIgnored(t *testing.T) {
	w := newPuppetWorld(t)
	w.client.ignores.every = time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.client.ignores.start(ctx); <-ctx.Done(); w.client.ignores.loop.end(ctx) }()
	defer func() { stop(); <-done }()
	asked := func() (n int) {
		w.matrix.mu.Lock()
		defer w.matrix.mu.Unlock()
		for _, call := range w.matrix.calls {
			if strings.Contains(call, "account_data") {
				n++
			}
		}
		return n
	}
	w.until("the look at the start", func() bool { return asked() > 0 })
	w.ignored(`{"ignored_users":{"` + w.ghost.String() + `":{}}}`)
	w.connector.connected.set(w.client, true)
	w.connector.connected.alive(fakePerson.String())
	w.until("the block", func() bool {
		blocked, err := w.client.account.Blocked(ctx, w.peer.Chat)
		return err == nil && blocked
	})
	// The gatekeeper's list says otherwise, as if another of its clients had done it.
	if _, err := w.client.account.SetBlocked(ctx, w.peer.Chat, false, nil); err != nil {
		t.Fatal(err)
	}
	err := w.client.Deliver(ctx, &interop.Inbound{
		Chat: w.peer.Chat, Contact: w.peer.Contact, MessageID: "block/1", Timestamp: time.Now(), Kind: interop.KindBlock, Reason: interop.ReasonNotBlocked,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.until("the list", func() bool { return !strings.Contains(w.ignoredNow(), w.ghost.String()) })
	w.wantBlocked(false)
}

// TestEachOfListAndBlockFollowsTheOneThatChanged is the whole table.
func TestEachOfListAndBlockFollowsTheOneThatChanged(t *testing.T) {
	for _, c := range []struct {
		listed, known, pending, blocked bool
		want                            ignoreTodo
	}{
		{false, false, false, false, ignoreNothing}, {true, true, false, true, ignoreNothing},
		{true, false, false, true, ignoreSettle}, {false, true, false, false, ignoreSettle},
		{true, false, false, false, ignoreFollow}, {false, true, false, true, ignoreFollow},
		{false, false, false, true, ignoreWrite}, {true, true, false, false, ignoreWrite},
		{false, true, true, false, ignoreSettle}, {true, true, true, true, ignoreSettle},
		{false, true, true, true, ignoreWrite}, {true, true, true, false, ignoreWrite},
	} {
		s := ignoreState{listed: c.listed, known: c.known, pending: c.pending, blocked: c.blocked}
		if got := s.todo(); got != c.want {
			t.Errorf("%+v: %d, want %d", s, got, c.want)
		}
	}
}

// FuzzIgnoredUsers reads any account data as a list of ignored users: what is not changed in it is written as it was, and what is changed is
// found changed.
//
// decoder: ignoredlist.go
func FuzzIgnoredUsers(f *testing.F) {
	for _, seed := range []string{`{}`, `{"ignored_users":{}}`, `{"ignored_users":{"@a:b":{}},"x":[1,{"y":null}]}`, `{"ignored_users":null}`, `[]`, ``, `{"a":1}{`, "{\"\\u0069gnored_users\" :\n{ } , \"b\":2}"} {
		f.Add([]byte(seed), "@ghost:test")
	}
	f.Fuzz(func(t *testing.T, raw []byte, name string) {
		user := id.UserID(name)
		list, err := parseIgnoredList(raw)
		if err != nil {
			if !errors.Is(err, errIgnoredList) {
				t.Fatal(err)
			}
			return
		}
		was, others := list.has(user), len(list.users)
		written := list.bytes()
		again, err := parseIgnoredList(written)
		if err != nil || len(again.users) != others || again.has(user) != was || !json.Valid(written) {
			t.Fatalf("%q was read and written as %q: %v", raw, written, err)
		}
		list.set(user, !was)
		changed, err := parseIgnoredList(list.bytes())
		if err != nil {
			t.Fatalf("%q with %q is %q: %v", raw, name, list.bytes(), err)
		}
		if string(user) == strings.ToValidUTF8(string(user), "") && changed.has(user) == was {
			t.Fatalf("%q: %q was not changed in %q", raw, name, list.bytes())
		}
	})
}

// TestALoginThatIsDisconnectedLooksAtNoListAnyMore, so that what was seen has one owner when it is connected again (-race).
func TestALoginThatIsDisconnectedLooksAtNoListAnyMore(t *testing.T) {
	w := newPuppetWorld(t)
	w.ignored(`{}`)
	w.client.ignores.every = time.Millisecond
	w.client.arrivals.close() // the fixture's own
	for range 3 {
		looking, ended := make(chan struct{}), make(chan struct{})
		var first sync.Once
		w.matrix.setBefore(func(r *http.Request) int {
			if strings.HasSuffix(r.URL.Path, "m.ignored_user_list") {
				first.Do(func() {
					close(looking)
					<-ended // of the account, which is not all that there is
					for range 100 {
						w.stateOf()
					}
				})
			}
			return 0
		})
		w.client.Connect(t.Context())
		<-looking
		w.client.mu.Lock()
		done := w.client.done
		w.client.mu.Unlock()
		go func() { <-done; close(ended) }()
		w.client.Disconnect()
		for what, loop := range map[string]*spell{"the list": w.client.ignores.loop, "questions": w.client.reach.loop} {
			if loop.wanted() {
				t.Fatalf("somebody still cares for %s", what)
			}
		}
	}
}
