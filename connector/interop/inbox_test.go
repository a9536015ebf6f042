package interop

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/e2ee"
	"postern/connector/gatekeeper"
	"postern/connector/jid"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// connectedOnce is an account that believes to be logged in, whose stream counts how often it is ended.
func connectedOnce(ended *int) *Account {
	a := New(Config{Profile: profile.WhatsApp(), Device: &e2ee.Device{}})
	a.link.stream, a.link.up, a.link.turn = gatekeeper.New(gatekeeper.Config{Profile: profile.WhatsApp()}), true, 1
	a.link.end = func() { *ended++ }
	return a
}

// TestNothingIsTakenFromAStreamThatEnds: what stands before it may have been left, and comes again behind it.
func TestNothingIsTakenFromAStreamThatEnds(t *testing.T) {
	var ended int
	a := connectedOnce(&ended)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	from := jid.JID{User: "491", Server: jid.LID}
	for range 100 { // a choice between two that are ready is made at random
		a.inbox.take(ctx, from, &stanza.Message{From: from})
	}
	if n := len(a.inbox.queue[from.String()]); n != 0 {
		t.Errorf("%d messages of 100 were taken", n)
	}
}

// TestWhenThereIsRoomAgainTheStreamIsEndedOnce, however much is delivered until the next login.
func TestWhenThereIsRoomAgainTheStreamIsEndedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended int
		a := connectedOnce(&ended)
		for turn := 1; turn <= 2; turn++ {
			a.inbox.refuseAll, a.inbox.paused = true, true
			for range 20 {
				a.inbox.eased("", true, false)
				time.Sleep(time.Millisecond)
			}
			a.link.mu.Lock()
			if ended != turn {
				t.Errorf("ended %d times in %d turns", ended, turn)
			}
			a.link.turn++
			a.link.mu.Unlock()
			a.inbox.turned()
		}
	})
}
