package faults_test

import (
	"os"
	"testing"

	"postern/connector/killpoint"
)

// TestAPanicAtAnyPointLosesNothing: a bug that panics in the middle of one message ends neither the program nor the chat. The message is
// taken up again, as after a kill, and nothing needs a restart.
func TestAPanicAtAnyPointLosesNothing(t *testing.T) {
	for _, point := range killpoint.All {
		if point == killpoint.InRefused {
			continue // only what is damaged comes there
		}
		t.Run(point, func(t *testing.T) {
			each(t, func(r *rig) {
				c, pid := r.newChat(), r.Bridge.PID()
				r.panicAt(point)
				c.fromPhone(2)
				c.fromMatrix(2)
				r.taken(point)
				c.fromPhone(1)
				c.fromMatrix(1)
				c.check()
				if r.Bridge.PID() != pid {
					r.t.Error("the bridge is another process now")
				}
			})
		})
	}
}

// panicAt makes the next goroutine that comes to a point panic.
func (r *rig) panicAt(point string) {
	r.t.Helper()
	r.ok(os.WriteFile(r.orders+".new", []byte(point+" 1 panic\n"), 0o600))
	r.ok(os.Rename(r.orders+".new", r.orders))
}

// taken waits until the orders were carried out.
func (r *rig) taken(point string) {
	r.t.Helper()
	r.until("the panic at "+point, func() bool {
		_, err := os.Stat(r.orders)
		return os.IsNotExist(err)
	})
}
