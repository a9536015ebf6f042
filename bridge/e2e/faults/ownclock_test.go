package faults_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/parts"
)

// The row F-34 from the other side: the clock of the bridge's machine is set, and a key that signs is replaced while a login is under way.

// ownClock is the program whose clock can be set.
var ownClock = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "postern-clock")
	return path, parts.BuildPostern(path, "killpoints", "ownclock")
})

// withClock plays a test on both databases, in worlds of its own.
func withClock(t *testing.T, play func(r *rig)) { withProgram(t, must(ownClock())(t), play) }

// withProgram plays a test on both databases, in worlds of its own whose bridge is that program.
func withProgram(t *testing.T, program string, play func(r *rig)) {
	var databases sync.WaitGroup
	for _, database := range []string{sqlite, postgres} {
		databases.Go(func() {
			t.Run(database, func(t *testing.T) { play(aloneWith(t, program, database, 2*bound, nil)) })
		})
	}
	databases.Wait()
}

// setClock sets the bridge's clock so far from the machine's, and waits until that is so if it runs.
func (r *rig) setClock(ahead time.Duration) {
	r.t.Helper()
	r.order(r.clock, fmt.Sprintln(int64(ahead/time.Second)))
	if closed(r.Bridge.Done()) {
		return
	}
	r.soon("the bridge's clock to be set", func() bool {
		req := must(http.NewRequestWithContext(r.ctx, http.MethodGet, r.Bridge.Address+"/_matrix/mau/live", nil))(r.t)
		resp := must(http.DefaultClient.Do(req))(r.t)
		r.ok(resp.Body.Close())
		said := must(http.ParseTime(resp.Header.Get("Date")))(r.t)
		return time.Until(said).Abs()-ahead.Abs() < time.Minute && time.Until(said.Add(-ahead)).Abs() < time.Minute
	})
}

func TestF34TheBridgesOwnClockIsSet(t *testing.T) {
	withClock(t, func(r *rig) {
		r.withinTheLeeway(r.setClock)
		for _, d := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
			r.beyondTheLeeway(r.setClock, d)
		}
		// It is set while the bridge is away: what is on disk is from the future then, or was written long ago.
		c := r.newChat()
		for _, d := range []time.Duration{24 * time.Hour, -24 * time.Hour, 0} {
			r.killed()
			r.setClock(d)
			r.ahead(d) // both are right, or both are wrong
			c.fromPhone(1)
			r.run()
			c.fromMatrix(2)
			c.fromPhone(2)
			c.settled()
		}
		c.check()
	})
}

// TestF34AClockThatIsFarAheadAtAStartForgetsNothing: a machine without a battery for its clock, or with a wrong one, starts more than a year ahead. What
// is deleted after weeks stays, and when the clock is right again everything goes on, without a restart.
func TestF34AClockThatIsFarAheadAtAStartForgetsNothing(t *testing.T) {
	withClock(t, func(r *rig) {
		c := r.newChat()
		c.fromMatrix(2)
		c.fromPhone(2)
		c.fileFromMatrix(false)
		c.fileFromPhone(true)
		c.settled()
		c.awaitFiles()
		var written []any
		for _, e := range r.hs.Messages(c.room, c.mark) {
			if e.Sender == r.alice.UserID {
				written = append(written, e)
			}
		}
		r.killed()
		queries := []string{
			"SELECT COUNT(*) FROM postern_media", "SELECT COUNT(*) FROM postern_in", "SELECT COUNT(*) FROM postern_out", "SELECT COUNT(*) FROM postern_as_event",
			"SELECT COUNT(*) FROM postern_as_transaction", "SELECT COUNT(*) FROM postern_notice", "SELECT COUNT(*) FROM postern_incoming_media",
		}
		before := map[string]int{}
		for _, query := range queries {
			before[query] = r.count(query)
		}
		if before[queries[0]] == 0 || len(written) < 3 {
			t.Fatalf("there is nothing to forget: %v, %d messages", before, len(written))
		}
		// What was swept at the start is known by a file that nothing refers to.
		stray := strings.Repeat("5a", 32)
		r.ok(os.MkdirAll(filepath.Dir(r.blobPath(stray)), 0o700))
		r.ok(os.WriteFile(r.blobPath(stray), []byte("stray"), 0o600))
		r.age([]string{stray})
		told := r.toldOfClocks()
		r.setClock(400 * 24 * time.Hour)
		c.fromPhone(1)
		r.ok(r.Bridge.Launch())
		r.soon("the person to be told of clocks", func() bool { return r.toldOfClocks() > told })
		r.until("the first sweep", func() bool { _, err := os.Stat(r.blobPath(stray)); return os.IsNotExist(err) })
		for _, query := range queries {
			if n := r.count(query); n < before[query] {
				t.Errorf("%s: %d, were %d", query, n, before[query])
			}
		}
		for i, e := range written { // a homeserver that repeats itself is known
			if status, err := r.hs.Transaction(r.ctx, fmt.Sprint("f34-old-", i), r.transaction(e)); err != nil || status != http.StatusOK {
				t.Errorf("an old event: answered with %d (%v)", status, err)
			}
		}
		for _, e := range r.phoneEvents(c.ben) {
			if e.Media != nil {
				c.checkFetchable(&e)
			}
		}
		c.fromMatrix(1)
		r.setClock(0)
		c.settled()
		c.check()
	})
}

// publishedKeys are the ids of the keys that the bridge publishes.
func (r *rig) publishedKeys() []string {
	r.t.Helper()
	req := must(http.NewRequestWithContext(r.ctx, http.MethodGet, r.Bridge.PublicBase+"/.well-known/oauth/openid/jwks", nil))(r.t)
	resp := must(http.DefaultClient.Do(req))(r.t)
	defer resp.Body.Close()
	var set struct{ Keys []struct{ Kid string } }
	r.ok(json.NewDecoder(resp.Body).Decode(&set))
	ids := map[string]bool{}
	for _, k := range set.Keys {
		ids[k.Kid] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// TestF34AKeyIsReplacedWhileALoginIsUnderWay: the token has been signed, and is held back on its way until another key signs. It is good still, and so
// is the next one.
func TestF34AKeyIsReplacedWhileALoginIsUnderWay(t *testing.T) {
	const term = 30 * 24 * time.Hour // of a key
	withClock(t, func(r *rig) {
		c := r.newChat()
		since, ahead := time.Now(), time.Duration(0) // the first key signs since some seconds before that
		for {
			old := r.publishedKeys()
			r.ok(r.Bridge.Stop())
			ahead += term - time.Since(since) - 10*time.Second
			r.setClock(ahead)
			r.ahead(ahead)
			logins := r.partner().Logins
			login, release := r.wire.holds(toGate, 60) // behind the first message of the handshake
			defer release()
			r.ok(r.Bridge.Launch())
			select {
			case <-login.played:
			case <-r.ctx.Done():
				r.t.Fatal("the bridge does not log in")
			}
			early := slices.Equal(r.publishedKeys(), old)
			r.soon("the key to be replaced", func() bool { return !slices.Equal(r.publishedKeys(), old) })
			since = time.Now().Add(10 * time.Second)
			now := r.publishedKeys()
			for _, id := range old {
				if !slices.Contains(now, id) {
					r.t.Error("a key with which a token may have been signed is not published any more")
				}
			}
			release()
			r.soon("the login", func() bool { return r.partner().Connected })
			if n := r.partner().Logins - logins; n != 1 {
				r.t.Errorf("the gatekeeper has taken %d logins", n)
			}
			r.ok(r.Bridge.Ready(r.ctx))
			c.fromMatrix(1)
			c.fromPhone(1)
			c.settled()
			logins = r.partner().Logins
			r.anew()
			c.fromMatrix(1)
			c.fromPhone(1)
			r.soon("another login", func() bool { p := r.partner(); return p.Connected && p.Logins > logins })
			if early {
				break // or the bridge was slow to start, and the key was another before the login
			}
		}
		c.check()
	})
}

// TestF34TheOperatorHasTheSigningKeyReplaced: a day after the next one was published it may sign, and whoever was told the old one logs in with it still.
func TestF34TheOperatorHasTheSigningKeyReplaced(t *testing.T) {
	withClock(t, func(r *rig) {
		c := r.newChat()
		rotate := func() (status int, out string) {
			cmd := exec.CommandContext(r.ctx, must(ownClock())(r.t), "admin", "rotate-key", "--json", "-c", r.Bridge.ConfigPath())
			said, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				r.t.Fatal(err)
			}
			return cmd.ProcessState.ExitCode(), string(said)
		}
		if status, out := rotate(); status != 1 || !strings.Contains(out, "too_early") {
			r.t.Errorf("at once: status %d: %s", status, out)
		}
		old := r.publishedKeys()
		r.setClock(25 * time.Hour)
		status, out := rotate()
		r.setClock(0)
		now := r.publishedKeys()
		if status != 0 || !strings.Contains(out, `"retired"`) || len(now) != len(old)+1 {
			r.t.Errorf("a day later: status %d, %d keys: %s", status, len(now), out)
		}
		for _, id := range old {
			if !slices.Contains(now, id) {
				r.t.Error("a key with which a token may have been signed is not published any more")
			}
		}
		logins := r.partner().Logins
		r.anew()
		r.soon("a login with the new key", func() bool { p := r.partner(); return p.Connected && p.Logins > logins })
		c.fromMatrix(1)
		c.fromPhone(1)
		c.settled()
		c.check()
	})
}
