package e2e_test

import (
	"context"
	"strings"
	"testing"
	"time"
)

// rests waits until alice's stream is closed, or open.
func (s *scene) rests(yes bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, p := range must(s.Gatekeeper.Partners(context.WithoutCancel(s.ctx)))(s.t) {
			if p.Identifier == s.identifier && p.Connected != yes {
				return
			}
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.t.Fatalf("waiting for the stream to rest: %t", yes)
		}
	}
}

// TestTheStreamIsOpenWhileAliceOrSomebodyForHerNeedsIt: connected only while it is needed, on a real homeserver. She writes, Ben answers
// later, she types, and asks how her login is doing.
func TestTheStreamIsOpenWhileAliceOrSomebodyForHerNeedsIt(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.connect": "attached", "network.attached.idle": "3s"}})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.rests(true)

	// An idle user's text goes out at once.
	s.toPhone(room, ben, "I was away")
	s.rests(true)

	// A message for an idle user arrives after a push.
	s.toMatrix(room, ben, "and I have an answer")
	s.rests(true)

	// Typing is a sign of life.
	s.ok(s.person.Typing(s.ctx, room, true))
	s.rests(false)
	s.rests(true)

	// So is a command, whose answer says how it is.
	since := time.Now().Add(-time.Millisecond)
	s.command("status")
	said := must(s.BotSays(s.ctx, s.person, s.management, since, "only while it has to be"))(t).Message().Body
	for _, want := range []string{"WhatsApp", "Messages that wait for Matrix: 0", "30 days"} {
		if !strings.Contains(said, want) {
			t.Errorf("the answer to status lacks %q:\n%s", want, said)
		}
	}
	s.rests(true)

	// A stop and a start lose nothing that came meanwhile, and whose push found nobody.
	s.ok(s.Bridge.Stop())
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "are you there?"))(t)
	s.ok(s.Bridge.Start(s.ctx))
	s.inRoom(room, "are you there?")
}
