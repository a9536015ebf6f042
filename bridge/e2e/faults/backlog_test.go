package faults_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/parts"
)

// The row F-22, and the gatekeeper's queue of 30 days: much that waits, on either side of the bridge.

// crowd is many people who write to alice, first, without her having asked.
type crowd struct {
	r       *rig
	mark    string // in every text
	people  []*talker
	arrived map[string]int // texts in rooms, by talker's mark
	at      int            // how far the homeserver's events were looked through
}

// talker is one of them.
type talker struct {
	phone parts.Phone
	mark  string
	ledger
}

// crowd makes people whose first texts have arrived.
func (r *rig) crowd(n int) *crowd {
	r.t.Helper()
	c := &crowd{r: r, mark: fmt.Sprintf("kanarienvogel-%d-%d", time.Now().UnixNano()%1_000_000, numbers.Add(1)), arrived: map[string]int{}}
	for i := range n {
		number := fmt.Sprintf("+4915223%06d", 100_000+(time.Now().UnixMilli()+int64(i))%400_000+numbers.Add(1))
		phone := must(r.Gatekeeper.AddUser(r.ctx, parts.Phone{Phone: number, Name: fmt.Sprint("Cem ", i), OptedIn: true}))(r.t)
		c.people = append(c.people, &talker{phone: phone, mark: fmt.Sprintf("%s-%d phone", c.mark, i)})
	}
	for _, t := range c.people {
		c.say(t, 1)
	}
	c.arrives()
	return c
}

// say lets one write n texts.
func (c *crowd) say(t *talker, n int) {
	c.r.t.Helper()
	for n > 0 {
		texts := make([]string, 0, min(n, 1000))
		for range min(n, 1000) {
			texts = append(texts, fmt.Sprintf("%s %d", t.mark, t.number()))
		}
		n -= len(texts)
		ids := must(c.r.Gatekeeper.SayAll(c.r.ctx, t.phone.Phone, c.r.identifier, texts))(c.r.t)
		for i, id := range ids {
			t.wrotePhone(texts[i], id)
		}
	}
}

// inTurn lets all write in turn, n texts each.
func (c *crowd) inTurn(n int) {
	for range n {
		for _, t := range c.people {
			c.say(t, 1)
		}
	}
}

// wanted is how many texts there are.
func (c *crowd) wanted() (n int) {
	for _, t := range c.people {
		n += len(t.phoneSaid())
	}
	return n
}

func (l *ledger) phoneSaid() []said {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.phone
}

// here is how many texts Matrix has.
func (c *crowd) here() (n int) {
	found, next := c.r.hs.Said(c.mark, c.at)
	c.at = next
	for i := range found {
		mark, _, _ := strings.Cut(found[i].Body(), " phone")
		c.arrived[mark]++
	}
	for _, k := range c.arrived {
		n += k
	}
	return n
}

// arrives waits until Matrix has as many texts as were written.
func (c *crowd) arrives() { c.r.until("the texts", func() bool { return c.here() >= c.wanted() }) }

// check compares: everything once and in order, each person's in one room, the phones know it, and nobody complains.
func (c *crowd) check() {
	r := c.r
	r.t.Helper()
	c.arrives()
	came, rooms := map[string][]string{}, map[string]map[string]bool{}
	found, _ := r.hs.Said(c.mark, 0)
	for i := range found {
		mark, _, _ := strings.Cut(found[i].Body(), " phone")
		mark += " phone"
		came[mark] = append(came[mark], found[i].Body())
		if rooms[mark] == nil {
			rooms[mark] = map[string]bool{}
		}
		rooms[mark][found[i].Room] = true
	}
	for _, t := range c.people {
		said := t.phoneSaid()
		compare(r.t, "the texts of "+t.mark, came[t.mark], texts(said))
		if n := len(rooms[t.mark]); n != 1 {
			r.t.Errorf("the texts of %s are in %d rooms", t.mark, n)
		}
		waiting := map[string]bool{}
		for _, s := range said {
			waiting[s.id] = true
		}
		must(r.Gatekeeper.Expect(r.ctx, t.phone.Phone, "the receipts of the phone's messages", func(e *parts.PhoneEvent) bool {
			if e.Kind == "nack" {
				r.t.Errorf("the bridge refuses message %s with %d", e.ID, e.Code)
			}
			if e.Kind == "receipt" && e.Type == "delivery" {
				for _, id := range e.IDs {
					delete(waiting, id)
				}
			}
			return len(waiting) == 0
		}))(r.t)
	}
	r.checkComplaints()
	r.checkLog()
}

// growth watches how much the bridge's resident memory grows.
type growth struct {
	before        int64
	stop, stopped chan struct{}
	most          atomic.Int64
}

func (r *rig) watchMemory() *growth {
	before, pid := r.memory(), r.Bridge.PID()
	g := &growth{before: before, stop: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(g.stopped)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if now, err := residentOf(pid); err == nil {
				g.most.Store(max(g.most.Load(), now-before))
			}
			select {
			case <-tick.C:
			case <-g.stop:
				return
			}
		}
	}()
	return g
}

// end is by how many bytes it has grown at most.
func (g *growth) end() int64 {
	close(g.stop)
	<-g.stopped
	return g.sofar()
}

// peak is what it has at most taken.
func (g *growth) peak() int64 { return g.before + g.end() }

func (g *growth) sofar() int64 { return g.most.Load() }

// residentOf is a process's resident memory, in bytes.
func residentOf(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	var size, resident int64
	_, err = fmt.Sscan(string(raw), &size, &resident)
	return resident * int64(os.Getpagesize()), err
}

// alone is a world of its own for a test, with more settings.
func alone(t *testing.T, database string, limit time.Duration, more map[string]any) *rig {
	t.Helper()
	return aloneWith(t, armed, database, limit, more)
}

// aloneWith is alone with another program.
func aloneWith(t *testing.T, program, database string, limit time.Duration, more map[string]any) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	r := must(newRigOf(ctx, t, program, database, more))(t)
	r.t, r.ctx = t, ctx
	t.Cleanup(func() {
		if t.Failed() {
			r.abandon()
		}
		r.Bridge.Kill() // or its stop would wait for what does not come
		if err := r.close(); err != nil {
			t.Logf("closing the world: %v", err)
		}
	})
	return r
}

// TestF22AHomeserverThatIsAwayGetsEverythingInOrder is the short form: it is gone, what the phone writes waits, the bridge is killed
// meanwhile, and the homeserver comes back without its memory of transaction ids.
func TestF22AHomeserverThatIsAwayGetsEverythingInOrder(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		r.hs.Down()
		c.fromPhone(20)
		r.drained()
		r.Bridge.Kill()
		r.hs.ForgetTransactions()
		r.ok(r.hs.Up())
		r.run()
		c.fromPhone(1)
		c.fromMatrix(1)
		c.check()
	})
}

// TestF22PastABoundTheGatekeeperKeepsTheRest: the homeserver is gone for so long that more waits than one chat may have on disk, and then
// than an account may. The bridge stops acking, and when the homeserver is back everything comes, in order.
func TestF22PastABoundTheGatekeeperKeepsTheRest(t *testing.T) {
	each(t, func(r *rig) {
		c := r.crowd(10)
		r.hs.Down()
		loud := c.people[0]
		c.say(loud, 2*mayWaitChat)
		r.queuedAtMost(mayWaitChat)
		// Some may be between socket and disk when the bound is reached.
		if left := r.queued(); left < mayWaitChat/2 {
			r.t.Errorf("the gatekeeper keeps %d messages of one chat, want about %d", left, mayWaitChat)
		}
		for _, t := range c.people[1:] {
			c.say(t, mayWaitChat-5)
		}
		count := 2*mayWaitChat + 9*(mayWaitChat-5)
		const between = 128 // interop.Limits.InFlight
		r.queuedAtMost(count - mayWait)
		if left := r.queued(); left < count-mayWait-between {
			r.t.Errorf("the gatekeeper keeps %d of %d messages: the bridge has acked more than its bound", left, count)
		}
		r.hs.ForgetTransactions()
		r.ok(r.hs.Up())
		c.check()
	})
}

// TestF22AHundredThousandMessagesWaitInBoundedMemory: half of them are of one chat, and the bridge holds all of them on its disk. A short
// outage of the same kind comes first, so that what grows with the backlog is told from what many chats at once take.
func TestF22AHundredThousandMessagesWaitInBoundedMemory(t *testing.T) {
	const allowed = 32 << 20
	people, each, loud, few, warm := 20, 15, 300, 3, 300
	if all() {
		people, each, loud, few, warm = 500, 100, 50_000, 15, 2_000 // for some seconds all chats are busy at once
	}
	for _, database := range []string{sqlite, postgres} {
		t.Run(database, func(t *testing.T) {
			r := alone(t, database, time.Hour, map[string]any{
				"logging.min_level": "info", "network.backlog.account": 200_000, "network.backlog.chat": 200_000,
			})
			c := r.crowd(people)
			r.hs.Down()
			for _, t := range c.people {
				c.say(t, few)
			}
			c.say(c.people[0], warm)
			r.queuedAtMost(0)
			r.ok(r.hs.Up())
			c.check()
			before := time.Now()
			memory := r.watchMemory()
			r.hs.Down()
			for _, t := range c.people {
				c.say(t, each)
			}
			c.say(c.people[0], loud)
			waiting := people*each + loud
			r.queuedAtMost(0)
			taken := time.Since(before)
			kept := memory.sofar()
			r.hs.ForgetTransactions()
			r.ok(r.hs.Up())
			back := time.Now()
			c.check()
			drained, grown := time.Since(back), memory.end()
			t.Logf("%d messages on disk after %s, memory grown by %d KiB at most; drained in %s, by %d KiB at most", waiting,
				taken.Round(time.Second), kept>>10, drained.Round(time.Second), grown>>10)
			if grown > allowed {
				t.Errorf("memory has grown by %d MiB for %d messages, want at most %d", grown>>20, waiting, allowed>>20)
			}
		})
	}
}
