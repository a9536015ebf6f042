package faults_test

import (
	"slices"
	"strings"
	"testing"

	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// Blocking, with the whole program. These words are in what the room and the management room say of it.
const (
	blockedNotice = "🚫 You have blocked this person"
	endedNotice   = "You have ended the block"
)

// TestABlockHoldsAndReachesTheGatekeeperThoughTheBridgeIsKilled: between the wish on disk and the gatekeeper's answer, and between that answer
// and the note of it.
func TestABlockHoldsAndReachesTheGatekeeperThoughTheBridgeIsKilled(t *testing.T) {
	for _, point := range []string{"", killpoint.BlockWished, killpoint.BlockTold} {
		t.Run("killed at "+point, func(t *testing.T) { each(t, func(r *rig) { r.blocking(point) }) })
	}
}

func (r *rig) blocking(point string) {
	r.t.Helper()
	c := r.newChat()
	c.command(point, c.room, "!postern block")
	r.botSays(c.room, blockedNotice)
	r.soon("the gatekeeper to know of the block", func() bool { return r.count("SELECT COUNT(*) FROM postern_block WHERE blocked AND NOT pending") == 1 })
	must(r.alice.SendText(r.ctx, r.management, "blocked"))(r.t)
	r.botSays(r.management, c.ben.Name+" (")

	swallowed := "verschluckt " + c.ben.Name
	must(r.Gatekeeper.Say(r.ctx, c.ben.Phone, r.identifier, swallowed+" von Ben"))(r.t)
	must(r.alice.SendText(r.ctx, c.room, swallowed+" von Alice"))(r.t)
	r.botSays(c.room, "was not bridged: You have blocked this person")

	c.command(point, r.management, "unblock "+c.ben.Phone)
	r.botSays(c.room, endedNotice)
	r.soon("the gatekeeper to know of the end", func() bool { return r.count("SELECT COUNT(*) FROM postern_block") == 0 })
	c.fromMatrix(1)
	c.fromPhone(1)
	c.check()
	if n := len(r.hs.Messages(c.room, swallowed)); n != 1 {
		r.t.Errorf("the room has %d of the two messages, want only hers", n)
	}
	if slices.ContainsFunc(r.phoneEvents(c.ben), func(e parts.PhoneEvent) bool { return strings.Contains(e.Text, swallowed) }) {
		r.t.Error("a message to a blocked contact has arrived")
	}
	for _, notice := range []string{blockedNotice, endedNotice} {
		if n := len(r.hs.Messages(c.room, notice)); n != 1 {
			r.t.Errorf("the room says %d times: %s", n, notice)
		}
	}
}

// command types a command; the bridge dies at that point, if it is one, and is started again.
func (c *chat) command(point, room, text string) {
	c.r.t.Helper()
	if point != "" {
		c.r.arm(point, 1)
	}
	must(c.r.alice.SendText(c.r.ctx, room, text))(c.r.t)
	if point != "" {
		c.r.dead(point)
		c.r.run()
	}
}
