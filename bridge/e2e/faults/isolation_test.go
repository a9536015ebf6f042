package faults_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// neighbour is a second person on the same bridge, whose messages are timed.
func (r *rig) neighbour() *rig {
	r.t.Helper()
	name := fmt.Sprintf("bob%d", numbers.Add(1))
	bob := must(parts.NewPerson(context.WithoutCancel(r.ctx), r.Homeserver, name, "password-of-bob"))(r.t)
	r.t.Cleanup(bob.Close)
	login := must(r.LogIn(r.ctx, bob))(r.t)
	return &rig{
		World: r.World, hs: r.hs, database: r.database, uri: r.uri, dir: r.dir, alice: bob, management: login.Room, identifier: login.Identifier,
		orders: r.orders, program: r.program, t: r.t, ctx: r.ctx,
	}
}

// tripTime is how long a phone's text takes to its room, in the worst of a hundred.
func (c *chat) tripTime(n int) time.Duration {
	c.r.t.Helper()
	var took []time.Duration
	for range n {
		text := c.phoneText()
		begin := time.Now()
		id := must(c.r.Gatekeeper.Say(c.r.ctx, c.ben.Phone, c.r.identifier, text))(c.r.t)
		must(c.r.hs.Expect(c.r.ctx, c.room, text, func(e *homeserver.Event) bool { return e.Body() == text }))(c.r.t)
		took = append(took, time.Since(begin))
		c.wrotePhone(text, id)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// TestTheTroubleOfOneAccountLeavesTheOthersLatencyAlone times one person's messages by themselves, and while something goes wrong with
// another's account, in turns and in one run. All arrive; and in the campaign, which has the machine to itself, the 99th percentile
// stays within twice.
func TestTheTroubleOfOneAccountLeavesTheOthersLatencyAlone(t *testing.T) {
	rounds, texts := 1, 20
	if all() {
		rounds, texts = 6, 200
	}
	each(t, func(r *rig) {
		hers, his := r.newChat(), r.neighbour().newChat()
		troubles := map[string]func(r *rig, c *chat) (end func()){
			"panics": panics, "a handler that does not end": hangs, "bombs": bombs,
		}
		if all() { // it takes all of the machine, so that the figures mean something only where nothing else runs
			troubles["a flood"] = floods
		}
		for name, begin := range troubles {
			r.t.Run(name, func(t *testing.T) {
				var quiet, troubled time.Duration
				for range rounds {
					quiet = max(quiet, his.tripTime(texts))
					end := begin(r, hers)
					troubled = max(troubled, his.tripTime(texts))
					end()
				}
				t.Logf("p99 %v by itself, %v beside it", quiet, troubled)
				if all() && troubled > 2*quiet+latencySlack {
					t.Errorf("p99 is %v beside %s, %v by itself", troubled, name, quiet)
				}
			})
		}
		hers.check()
		his.check()
		r.retire() // the other tests expect one login
	})
}

// latencySlack is what the bound allows besides: less than a person notices.
const latencySlack = 50 * time.Millisecond

// panics lets alice's account panic again and again, at points that only her messages pass meanwhile.
func panics(r *rig, c *chat) func() {
	for _, point := range []string{killpoint.InOpened, killpoint.InStored, killpoint.InSending, killpoint.OutSealing, killpoint.OutHanded} {
		r.panicAt(point)
		c.fromPhone(1)
		c.fromMatrix(1)
		r.taken(point)
	}
	return func() {}
}

// hangs lets the homeserver think about alice's message until the end.
func hangs(r *rig, c *chat) func() {
	let, waits := make(chan struct{}), make(chan struct{}, 64)
	remove := r.hs.AddFault(homeserver.Fault{
		Method: "PUT", Path: c.room + "/send/m.room.message/", Users: func(id string) bool { return id != r.alice.UserID },
		Before: func() { waits <- struct{}{}; <-let },
	})
	c.fromPhone(3)
	<-waits
	return func() { remove(); close(let) }
}

// floods lets alice's phone write, and her client too, as fast as they can, each until so much waits that more would only have to be waited for later.
func floods(r *rig, c *chat) func() {
	ctx, cancel := context.WithCancel(r.ctx)
	var senders sync.WaitGroup
	flood := func(write func(context.Context, int), waits func() int) {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if waits() < floodAhead {
				write(context.WithoutCancel(ctx), floodAhead/4)
				continue
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}
	senders.Go(func() { flood(c.writePhone, c.queuedNow) })
	senders.Go(func() { flood(c.writeMatrix, c.undelivered) })
	return func() { cancel(); senders.Wait(); c.settled() }
}

// floodAhead is how many messages of a flood wait for the bridge in each direction: more than it takes at once.
const floodAhead = 4 * mayWait

// queuedNow is how many messages the gatekeeper keeps for alice.
func (c *chat) queuedNow() int {
	partners, err := c.r.Gatekeeper.Partners(c.r.ctx)
	if err != nil {
		c.r.t.Errorf("asking for what is queued: %v", err)
	}
	for _, p := range partners {
		if p.Identifier == c.r.identifier {
			return p.Queued
		}
	}
	return floodAhead
}

// undelivered is how many messages from Matrix have no status yet that ends their waiting.
func (c *chat) undelivered() int {
	c.mu.Lock()
	n := len(c.matrix)
	c.mu.Unlock()
	done := map[string]bool{}
	for _, e := range c.r.hs.Events(c.room, "com.beeper.message_send_status") {
		if st, ok := statusOf(&e); ok && st.step >= delivered {
			done[st.event] = true
		}
	}
	return n - len(done)
}

// bombs lets alice's phone send what is long, what is full of formatting, and what is deep.
func bombs(r *rig, c *chat) func() {
	deep := &waE2E.Message{Conversation: proto.String("x")}
	for range 1_000 {
		deep = &waE2E.Message{EphemeralMessage: &waE2E.FutureProofMessage{Message: deep}}
	}
	wrapped := must(proto.Marshal(deep))(r.t)
	for range 10 {
		for _, bomb := range []parts.Content{
			{Kind: "text", Text: strings.Repeat("*_~`", 10_000)},
			{Kind: "text", Text: strings.Repeat("* > 1. ```\n", 4_000)},
			{Kind: "raw", Message: wrapped},
		} {
			bomb.To = r.identifier
			must(r.Gatekeeper.Send(r.ctx, c.ben.Phone, bomb))(r.t)
		}
	}
	return func() {
		c.fromPhone(1)
		c.settled()
	}
}
