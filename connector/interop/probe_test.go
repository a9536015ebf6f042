package interop_test

import "testing"

// TestAfterASleepWhoRestsLooksInOnceAndRestsAgain: pushes may have been missed.
func TestAfterASleepWhoRestsLooksInOnceAndRestsAgain(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		b.a.Probe()
		settle()
		b.wantLogins(2, true)
		b.a.Probe() // while the stream is up it is no reason to keep it
		pass(idle + 2*settleTime)
		b.wantLogins(2, false)
	})
}
