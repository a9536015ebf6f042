package faults_test

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Streams that only look alive (PROTOCOL.md 4.6): what is sent over them is swallowed, in both directions, and neither end is told.

// silences are how a stream falls silent. Each is told when nothing arrives any more.
var silences = map[string]struct {
	database string // that it is played on in the short run
	clock    bool   // the program's clock can be set
	slept    int    // how often the bridge says that the machine has slept
	happen   func(c *chat)
}{
	// Only the keep-alive can find it out: the bridge has nothing to send.
	"nobody here writes": {database: sqlite, happen: func(c *chat) { c.fromPhone(2) }},
	"what is written is not answered": {database: postgres, happen: func(c *chat) {
		c.fromPhone(2)
		c.fromMatrix(2)
	}},
	// A lid was closed for eight hours: the clock on the wall has gone on, the one that measures durations has not.
	"the machine slept": {database: postgres, clock: true, slept: 1, happen: func(c *chat) {
		const night = 8 * time.Hour
		c.stopped(func() {
			c.r.order(c.r.clock, "28800\n")
			c.r.ahead(night)
		})
		c.r.setClock(night)
	}},
	// A virtual machine was held, or the process stopped: all clocks have gone on.
	"the process was stopped": {database: sqlite, slept: 1, happen: func(c *chat) {
		c.stopped(func() { <-time.After(15 * time.Second) }) // what it takes to be a sleep, and a little more
	}},
}

// stopped does something while the bridge's process stands still and both sides write.
func (c *chat) stopped(do func()) {
	r := c.r
	r.t.Helper()
	r.ok(r.Bridge.Signal(syscall.SIGSTOP))
	c.fromPhone(2)
	c.fromMatrix(1)
	do()
	r.ok(r.Bridge.Signal(syscall.SIGCONT))
}

// TestASilentStreamIsFoundOutHoweverItFellSilent: the bridge gives it up by itself and opens another, once. Until that is let in, readiness, the figures and the
// command status say that there is none. Nothing is lost, doubled or moved.
func TestASilentStreamIsFoundOutHoweverItFellSilent(t *testing.T) {
	var playing sync.WaitGroup // most of it is waiting, and each has a world of its own
	defer playing.Wait()
	for name, s := range silences {
		for _, database := range []string{sqlite, postgres} {
			if database != s.database && !all() {
				continue
			}
			program := armed
			if s.clock {
				program = must(ownClock())(t)
			}
			playing.Go(func() {
				t.Run(name+", "+database, func(t *testing.T) {
					r := aloneWith(t, program, database, 2*bound, map[string]any{"network.health.patience": "1s"})
					r.newChat().silent(s.happen, s.slept)
				})
			})
		}
	}
}

// silent plays one of them.
func (c *chat) silent(happen func(c *chat), slept int) {
	r := c.r
	r.t.Helper()
	r.readyAgain()
	from, logins, connections, before := r.logSize(), r.partner().Logins, r.wire.connections(), r.scrape()
	if before.sum("postern_users", "state=live") != 1 {
		r.t.Errorf("%v users are live", before.sum("postern_users", "state=live"))
	}
	let := r.wire.swallows()
	defer let()
	happen(c)
	r.soon("the bridge to come again", r.wire.knocks)
	r.notReady("users are connected to their gatekeeper")
	now := r.scrape()
	if lost := now.sum("postern_stream_failures_total", "cause=unanswered") - before.sum("postern_stream_failures_total", "cause=unanswered"); lost != 1 {
		r.t.Errorf("%v streams were lost because nothing was answered, want one", lost)
	}
	if live := now.sum("postern_users", "state=live"); live != 0 || now.sum("postern_check_ok", "check=users") != 0 || now.sum("postern_ready") != 0 {
		r.t.Errorf("the figures: %v users are live, the bridge is ready: %v", live, now.sum("postern_ready"))
	}
	if said := r.status("Messages that wait for"); strings.Contains(said, "Connected since") {
		r.t.Errorf("status: %s", said)
	}
	if n := r.logged(from, "The machine has slept"); n != slept {
		r.t.Errorf("the bridge has noticed %d times that the machine has slept, want %d", n, slept)
	}
	let()
	r.readyAgain()
	c.fromPhone(1)
	c.fromMatrix(1)
	c.settled()
	c.check()
	if n, m := r.partner().Logins-logins, r.wire.connections()-connections; n != 1 || m != 1 {
		r.t.Errorf("%d logins over %d connections, want one", n, m)
	}
	if said := r.status("Connected since"); !strings.Contains(said, "Last message") {
		r.t.Errorf("status: %s", said)
	}
}

// status is what alice reads when she asks how her login is.
func (r *rig) status(words string) string {
	r.t.Helper()
	answer := r.command("status", words)
	return answer.Message().Body
}
