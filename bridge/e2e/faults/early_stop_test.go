package faults_test

import (
	"testing"
	"time"
)

// TestF46SigtermWhileTheBridgeWaitsForTheHomeserverInItsStart: both were started at once, the homeserver does not come up, and the admin ends the
// bridge.
func TestF46SigtermWhileTheBridgeWaitsForTheHomeserverInItsStart(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		r.ok(r.Bridge.Stop())
		c.fromPhone(1)
		r.hs.Down()
		from := r.logSize()
		r.ok(r.Bridge.Launch())
		r.soon("an attempt to ask the homeserver", func() bool { return r.logged(from, "Request failed, retrying") > 0 })
		begin := time.Now()
		r.ok(r.Bridge.Stop())
		if took := time.Since(begin); took > 10*time.Second {
			r.t.Errorf("the bridge took %s to stop, want 10 s at most", took)
		}
		if code := r.Bridge.ExitCode(); code != 0 {
			r.t.Errorf("the bridge ended with %d, want 0", code)
		}
		if n := r.logged(from, `"level":"fatal"`) + r.logged(from, "postern: "); n != 0 {
			r.t.Errorf("the operator reads %d times that something has failed", n)
		}
		r.ok(r.hs.Up())
		r.ok(r.Bridge.Start(r.ctx))
		c.fromMatrix(1)
		c.check()
	})
}
