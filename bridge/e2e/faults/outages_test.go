package faults_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
)

// Outages of the homeserver that are none of the connection, and what ends the bridge in them.

// TestF22TheQueueOfThirtyDaysArrivesAtOnce: the bridge was away for long. Many people have written meanwhile, and the gatekeeper hands over what
// it kept: each person's in order, some twice, and people's among each other in another order than they were written. In the middle the bridge
// is killed, so that what was not acked comes again behind what was.
func TestF22TheQueueOfThirtyDaysArrivesAtOnce(t *testing.T) {
	const allowed = 32 << 20
	people, count, warm := 10, 100, 3
	if all() {
		people, count, warm = 500, 100, 15 // so that SQLite's page caches, which have a size of their own, are full before
	}
	play := func(r *rig) {
		c := r.crowd(people)
		r.hs.Down()
		c.inTurn(warm)
		r.ok(r.hs.Up())
		c.check()
		usual := r.memory()
		r.Bridge.Kill()
		c.inTurn(count)
		for range 2 {
			for _, kind := range []string{"duplicate", "reorder"} {
				must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: kind, Identifier: r.identifier, Match: "message", Count: people * count / 8}))(r.t)
			}
		}
		before, begin := c.here(), time.Now()
		r.run()
		memory := r.watchMemory()
		r.until("a third of the queue", func() bool { return c.here() > before+people*count/3 })
		r.Bridge.Kill()
		first := memory.peak()
		r.ok(r.Gatekeeper.Call(r.ctx, http.MethodDelete, "/v1/faults", nil, nil)) // what is left of them
		r.run()
		memory = r.watchMemory()
		c.check()
		most := max(first, memory.peak())
		r.t.Logf("%d messages in %s; at most %d KiB resident, %d KiB before", people*count, time.Since(begin).Round(time.Second), most>>10, usual>>10)
		if most > usual+allowed {
			r.t.Errorf("memory has grown by %d MiB, want at most %d", (most-usual)>>20, allowed>>20)
		}
	}
	if !all() {
		each(t, play)
		return
	}
	for _, database := range []string{sqlite, postgres} {
		t.Run(database, func(t *testing.T) {
			play(alone(t, database, time.Hour, map[string]any{
				"logging.min_level": "info", "network.backlog.account": 10_000, "network.backlog.chat": 2_000, // as in the example
			}))
		})
	}
}

// TestF23AHomeserverThatOnlyFailsCostsNoStream: it refuses whatever is sent, for a while, and is well otherwise, so that nothing says when it has
// recovered. Nothing is lost or moved, everything is there within a minute of that, and the gatekeeper has noticed nothing.
func TestF23AHomeserverThatOnlyFailsCostsNoStream(t *testing.T) {
	failures, least := 10, time.Duration(0)
	if all() {
		failures, least = 20, 90*time.Second // pauses grow to 30 s
	}
	eachByItself(t, func(r *rig) {
		c := r.crowd(3)
		spoken := r.newChat()
		connections := r.wire.connections()
		remove := r.hs.AddFault(homeserver.Fault{
			Method: "PUT", Path: "/send/", Users: func(id string) bool { return id != r.alice.UserID },
			Status: 500, Kind: "application/json", Body: `{"errcode":"M_UNKNOWN","error":"Internal server error"}`,
		})
		began := time.Now()
		c.inTurn(5)
		spoken.fromPhone(5)
		spoken.fromMatrix(5)
		r.until("the failures", func() bool {
			wrong := r.hs.Requests(func(s *homeserver.Seen) bool { return s.Wrong })
			return len(wrong) >= failures && time.Since(began) > least
		})
		remove()
		well := time.Now()
		c.arrives()
		spoken.settled()
		if took := time.Since(well); took > time.Minute {
			r.t.Errorf("the last arrived %s after the homeserver was well", took)
		} else {
			r.t.Logf("%s of failures, the last arrived %s after them", well.Sub(began).Round(time.Second), took.Round(10*time.Millisecond))
		}
		c.check()
		spoken.check()
		if n := r.wire.connections() - connections; n != 0 {
			r.t.Errorf("the bridge has connected to the gatekeeper %d times", n)
		}
		r.hs.ForgetRequests()
	})
}

// TestF46SigtermWhileTheHomeserverHangs: it takes requests and answers none.
func TestF46SigtermWhileTheHomeserverHangs(t *testing.T) {
	each(t, func(r *rig) {
		c, other := r.newChat(), r.newChat()
		let, asked := make(chan struct{}), make(chan struct{}, 1)
		free := sync.OnceFunc(func() { close(let) })
		defer free()
		remove := r.hs.AddFault(homeserver.Fault{
			Users: func(id string) bool { return id != r.alice.UserID },
			Before: func() {
				select {
				case asked <- struct{}{}:
				default:
				}
				<-let
			},
		})
		c.fromPhone(3)
		other.fromPhone(3)
		other.fromMatrix(1)
		<-asked
		begin := time.Now()
		r.ok(r.Bridge.Stop())
		if took := time.Since(begin); took > 10*time.Second {
			r.t.Errorf("the bridge took %s to stop, want 10 s at most", took)
		}
		if code := r.Bridge.ExitCode(); code != 0 {
			r.t.Errorf("the bridge ended with %d, want 0", code)
		}
		remove()
		free()
		r.ok(r.Bridge.Start(r.ctx))
		for _, c := range []*chat{c, other} {
			c.fromMatrix(1)
			c.fromPhone(1)
			c.check()
		}
	})
}

// cpuTime is how much the bridge has computed since it was started.
func (r *rig) cpuTime() time.Duration {
	r.t.Helper()
	raw := must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.Bridge.PID())))(r.t)
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:]) // the third of the file's fields is the first here
	ticks := must(strconv.Atoi(string(fields[11])))(r.t) + must(strconv.Atoi(string(fields[12])))(r.t)
	return time.Duration(ticks) * time.Second / 100
}
