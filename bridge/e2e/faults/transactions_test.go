package faults_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
)

// transaction is the body of one with these events.
func (r *rig) transaction(events ...any) []byte {
	r.t.Helper()
	raw, err := json.Marshal(map[string]any{"events": events})
	r.ok(err)
	return raw
}

// TestF24TransactionsTwiceAtOnceOutOfTurnAndMalformed: the homeserver's own pushes are held back, and what it would push comes in every
// wrong way first. Then it pushes, too.
func TestF24TransactionsTwiceAtOnceOutOfTurnAndMalformed(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		r.ok(r.hs.Pushed(r.ctx))
		release := r.hs.HoldPushes()
		c.fromMatrix(4)
		var events []homeserver.Event
		for _, e := range r.hs.Messages(c.room, c.mark) {
			if e.Sender == r.alice.UserID {
				events = append(events, e)
			}
		}
		events = events[len(events)-4:]
		put := func(id string, body []byte, want int) {
			if status, err := r.hs.Transaction(r.ctx, id, body); err != nil || status != want {
				r.t.Errorf("transaction %s: answered with %d (%v), want %d", id, status, err, want)
			}
		}
		// The same one many times at once, with one event in it that is none.
		first := r.transaction(events[0], "an event that is none", map[string]any{"event_id": 7}, events[1])
		var at sync.WaitGroup
		for range 8 {
			at.Go(func() { put("f24-first", first, 200) })
		}
		at.Wait()
		put("f24-empty", r.transaction(), 200)
		put("f24-nothing", []byte(`{}`), 200)
		put("f24-broken", []byte(`{"events":[`), 400)
		put("f24-other", []byte(`{"events":7}`), 400)
		put("f24-again", r.transaction(events[1], events[0]), 200)
		put("f24-large", bytes.Repeat([]byte(" "), 17<<20), 413)
		put("f24-late", r.transaction(events[0], events[1], events[2]), 200)
		release()
		c.fromMatrix(1)
		c.fromPhone(1)
		c.check()
	})
}

// TestF24AHundredEventsAtOnce is the largest transaction that a homeserver makes.
func TestF24AHundredEventsAtOnce(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		r.ok(r.hs.Pushed(r.ctx))
		release := r.hs.HoldPushes()
		c.fromMatrix(100)
		release()
		c.check()
	})
}

// TestF37ASecondBridgeOnTheDatabaseIsRefused, and the first one goes on.
func TestF37ASecondBridgeOnTheDatabaseIsRefused(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		second := must(parts.PrepareBridge(parts.BridgeConfig{Postern: armed, Dir: filepath.Dir(r.Bridge.ConfigPath())}))(r.t)
		r.ok(second.Launch())
		select {
		case <-second.Done():
		case <-r.ctx.Done():
			second.Kill()
			r.t.Fatal("two bridges run on one database")
		}
		if code := second.ExitCode(); code != 14 { // of the database
			r.t.Errorf("the second bridge ended with %d, want 14", code)
		}
		c.fromMatrix(2)
		c.fromPhone(2)
		c.check()
	})
}

// again is the bridge killed and started, with its stream up.
func (r *rig) again() {
	r.t.Helper()
	r.Bridge.Kill()
	r.connected(false)
	r.run()
	r.connected(true)
}

// connected waits until alice's stream is there, or is not.
func (r *rig) connected(up bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, p := range must(r.Gatekeeper.Partners(r.ctx))(r.t) {
			if p.Identifier == r.identifier && p.Connected == up {
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.t.Fatalf("waiting for the stream to be connected: %t", up)
		}
	}
}

// cuts are what ends a stream in the middle of everything.
var cuts = []parts.Fault{
	{Kind: "cut"}, {Kind: "cut_mid_frame"}, {Kind: "close"}, {Kind: "stream_error", Code: 515},
}

// TestF20AStreamThatEndsInTheMiddleOfAMessage: in place of the second message that the gatekeeper sends, or of an ack, it ends.
func TestF20AStreamThatEndsInTheMiddleOfAMessage(t *testing.T) {
	for _, fault := range cuts {
		for _, match := range []string{"message", "ack"} {
			t.Run(fmt.Sprintf("%s in place of %s", fault.Kind, match), func(t *testing.T) {
				each(t, func(r *rig) {
					// Streams that end soon are followed by longer and longer pauses; a new process begins with the shortest.
					r.again()
					c := r.newChat()
					fault.Identifier, fault.Match, fault.Count = r.identifier, match, 1
					must(r.Gatekeeper.AddFault(r.ctx, fault))(r.t)
					c.fromPhone(4)
					c.fromMatrix(4)
					c.check()
				})
			})
		}
	}
}

// TestF25StanzasThatComeTwice: each of the next messages and acks comes twice.
func TestF25StanzasThatComeTwice(t *testing.T) {
	for _, match := range []string{"message", "ack", "receipt"} {
		t.Run(match, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "duplicate", Identifier: r.identifier, Match: match, Count: 3}))(r.t)
				c.fromPhone(4)
				c.fromMatrix(4)
				c.check()
			})
		})
	}
}
