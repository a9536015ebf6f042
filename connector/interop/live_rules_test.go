package interop_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/connector"
	"postern/connector/interop"
	"postern/connector/interop/interoptest"
	"postern/database"
	"postern/database/databasetest"
)

// accountStore makes an account's store in a database.
func accountStore(t testing.TB, db *database.DB) interop.Store {
	t.Helper()
	a := &database.Account{ID: database.NewLocalID(), Gatekeeper: "whatsapp"}
	a.Identifier = a.ID
	if err := db.Accounts().Put(context.Background(), a); err != nil {
		t.Fatal(err)
	}
	return connector.NewAccountStore(db, a.ID, "whatsapp")
}

func (g *gate) fault(f map[string]any) { g.t.Helper(); g.post("/v1/faults", f) }

// delivered waits until events have come to a state.
func (p *partner) reached(t testing.TB, state interop.OutState, events ...string) {
	t.Helper()
	p.m.wait(t, fmt.Sprint(state, " of ", len(events), " events"), func() bool {
		for _, event := range events {
			states := p.m.states(event)
			if len(states) == 0 || states[len(states)-1] < state {
				return false
			}
		}
		return true
	})
}

func TestManyTextsBothWaysOnBothDatabases(t *testing.T) {
	count := 60
	if os.Getenv("POSTERN_ALL") != "" {
		count = 1000
	}
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		g := newGate(t)
		p := g.enlist(t, accountStore(t, db))
		p.run(t)
		p.live(t)
		chat := p.chat(t, ada)
		var want, events []string
		for i := range count {
			text := fmt.Sprint("text ", i)
			want, events = append(want, text), append(events, fmt.Sprint("$", i))
			p.send(t, chat, events[i], text)
			g.says(ada, text)
			if i == count/2 { // a new process in the middle
				p.end()
				p.run(t)
				p.live(t)
			}
		}
		p.m.wait(t, "all texts", func() bool { return len(p.m.in) >= count })
		p.reached(t, interop.OutDelivered, events...)
		p.m.mu.Lock()
		if got := p.m.texts(); !slices.Equal(got, want) {
			t.Errorf("Matrix has %d texts, or in another order: %q", len(got), got)
		}
		p.m.mu.Unlock()
		if got := g.texts(ada); !slices.Equal(got, want) {
			t.Errorf("the phone has %d texts, or in another order: %q", len(got), got)
		}
		g.blameless()
	})
}

func TestWhatIsSentBeforeTheQueueIsReadOvertakesNothing(t *testing.T) {
	for name, early := range map[string]int{"one text": 1, "more than stay in memory": 40} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			p := g.enlist(t, interoptest.NewMemStore())
			p.run(t)
			p.live(t)
			chat := p.chat(t, ada)
			p.end()
			var want, events []string
			send := func(n int) {
				for range n {
					text := fmt.Sprint("text ", len(want))
					events = append(events, "$"+text)
					want = append(want, text)
					p.send(t, chat, "$"+text, text)
				}
			}
			send(3) // left behind by a process that ended
			p.make(t)
			send(early) // homeservers do not wait until an account has read what was left
			p.begin(t)
			p.reached(t, interop.OutDelivered, events...)
			send(2)
			p.reached(t, interop.OutDelivered, events...)
			if got := g.texts(ada); !slices.Equal(got, want) {
				t.Errorf("the phone has %q", got)
			}
			g.blameless()
		})
	}
}

func TestFaultsOfTheGatekeeperLoseNothingDoubleNothingAndKeepTheOrder(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  map[string]any
		moving bool // the fault itself changes the order
	}{
		{name: "the connection is cut", fault: map[string]any{"kind": "cut", "match": "message"}},
		{name: "the connection is cut in the middle of a frame", fault: map[string]any{"kind": "cut_mid_frame", "match": "message"}},
		{name: "the connection is closed on an ack", fault: map[string]any{"kind": "close", "match": "ack"}},
		{name: "messages are doubled", fault: map[string]any{"kind": "duplicate", "match": "message", "count": 5}},
		{name: "acks do not come", fault: map[string]any{"kind": "no_ack", "match": "message", "count": 1}},
		{name: "the server is busy", fault: map[string]any{"kind": "ack_error", "code": 503, "match": "message", "count": 2}},
		{name: "a ciphertext is spoilt", fault: map[string]any{"kind": "corrupt_enc", "match": "message", "count": 1}, moving: true},
		{name: "the stream must be restarted", fault: map[string]any{"kind": "stream_error", "code": 515, "match": "message"}},
		{name: "messages are swapped", fault: map[string]any{"kind": "reorder", "match": "message", "count": 2}, moving: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t)
			g.prof.Timing.Answer = 2 * time.Second // so that a missing ack is noticed soon
			p := g.enlist(t, interoptest.NewMemStore())
			p.limits = interop.Limits{RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond}
			p.run(t)
			p.live(t)
			chat := p.chat(t, ada)
			var want, events []string
			for i := range 20 {
				text := fmt.Sprintf("text %02d", i)
				want, events = append(want, text), append(events, fmt.Sprint("$", i))
				if i%7 == 3 {
					g.fault(c.fault)
				}
				p.send(t, chat, events[i], text)
				g.says(ada, text)
			}
			if c.moving {
				// What is held back to be swapped comes with the next stream, where nothing may be held back again.
				g.call("DELETE", "/v1/faults", nil)
				g.fault(map[string]any{"kind": "cut"})
			}
			p.m.wait(t, "all texts", func() bool { return len(p.m.in) >= 20 })
			p.reached(t, interop.OutDelivered, events...)
			p.m.mu.Lock()
			got := p.m.texts()
			p.m.mu.Unlock()
			phone := g.texts(ada)
			if c.moving {
				slices.Sort(got)
				slices.Sort(phone)
			}
			if !slices.Equal(got, want) {
				t.Errorf("Matrix has %q", got)
			}
			if !slices.Equal(phone, want) {
				t.Errorf("the phone has %q", phone)
			}
			g.blameless()
		})
	}
}

func TestAnAccountThatWasForgottenEnlistsAgainByItself(t *testing.T) {
	g := newGate(t)
	p := g.enlist(t, interoptest.NewMemStore())
	p.run(t)
	p.live(t)
	chat := p.chat(t, ada)
	p.send(t, chat, "$1", "before")
	g.saw(ada, "the first text", isText("before"))
	g.post("/v1/partners/unenlist", map[string]any{"to": user})
	p.m.wait(t, "a new stream", func() bool {
		lives := 0
		for _, s := range p.m.conn {
			if s.Kind == interop.ConnLive {
				lives++
			}
		}
		return lives >= 2
	})
	p.send(t, chat, "$2", "after")
	g.saw(ada, "the second text", isText("after"))
	g.says(ada, "welcome back")
	p.m.wait(t, "the answer", func() bool { return slices.Contains(p.m.texts(), "welcome back") })
	g.blameless()
}

func TestAPhoneThatWasReinstalledIsTalkedToUnderItsNewKey(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("silent ", silent), func(t *testing.T) {
			g := newGate(t)
			p := g.enlist(t, interoptest.NewMemStore())
			p.run(t)
			p.live(t)
			chat := p.chat(t, ada)
			p.send(t, chat, "$1", "before")
			g.says(ada, "hello")
			p.m.wait(t, "the answer", func() bool { return len(p.m.in) == 1 })
			p.reached(t, interop.OutDelivered, "$1")
			g.post("/v1/users/"+ada+"/reinstall", map[string]any{"silent": silent})
			p.send(t, chat, "$2", "after")
			g.saw(ada, "the text", isText("after"))
			p.m.wait(t, "the notice", func() bool { return slices.Contains(p.m.texts(), "identity_change:") })
			g.blameless()
		})
	}
}

func TestPeopleAreLookedUpPingedAndTheirAnswerArrives(t *testing.T) {
	g := newGate(t)
	g.post("/v1/users", map[string]any{"phone": "+4915100000009", "name": "Closed", "opted_in": false})
	p := g.enlist(t, interoptest.NewMemStore())
	p.run(t)
	p.live(t)
	found, err := p.a.Lookup(context.Background(), []string{berta, "+4915100000009", "+4999", ada})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 403, 404, 0} {
		code := 0
		if e, ok := found[i].Err.(*interop.RequestError); ok {
			code = e.Code
		}
		if code != want || (want == 0) != (found[i].Peer.Chat != "") {
			t.Errorf("result %d: %+v, want code %d", i, found[i], want)
		}
	}
	if found[0].Normalized != strings.TrimPrefix(berta, "+") || found[0].Phone != berta {
		t.Errorf("got %+v", found[0])
	}
	if err = p.a.Ping(context.Background(), found[0].Peer.Chat, "Matilda"); err != nil {
		t.Fatal(err)
	}
	g.saw(berta, "the ping", func(ev map[string]any) bool { return ev["kind"] == "ping" && ev["display_name"] == "Matilda" })
	g.post("/v1/users/"+berta+"/answer", map[string]any{"to": user, "answer": "declined"})
	p.m.wait(t, "the answer", func() bool { return slices.Contains(p.m.texts(), "reachability:declined") })
	p.send(t, found[0].Peer.Chat, "$1", "anyway")
	p.reached(t, interop.OutFailed, "$1")
	p.m.mu.Lock()
	if s := p.m.status[len(p.m.status)-1]; s.Reason != interop.ReasonMayNotStart || s.Code != 463 {
		t.Errorf("failed with %s %d", s.Reason, s.Code)
	}
	p.m.mu.Unlock()
	if err = p.a.Delete(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err = <-p.done; err == nil || err.(*interop.StopError).Kind != interop.ConnDeleted {
		t.Errorf("run returned %v", err)
	}
	p.done = nil
	g.blameless()
}
