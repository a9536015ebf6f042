package connector

import "testing"

// TestMaintenanceThatIsTakenBackWhileStreamsCloseLeavesNobodyWithoutOne: an order that is corrected at once is not rare.
func TestMaintenanceThatIsTakenBackWhileStreamsCloseLeavesNobodyWithoutOne(t *testing.T) {
	w := newWorld(t)
	c := w.client
	c.arrivals.close() // the fixture's own
	c.Connect(t.Context())
	t.Cleanup(c.Disconnect)
	// There was maintenance when its turn came, and has ended before the stream has.
	w.connector.maintenance.close(c)
	if !hasStream(c) {
		t.Error("it has no stream, and nobody will open one")
	}
}

// hasStream says whether a client keeps a stream.
func hasStream(c *client) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cancel != nil
}

// TestWhoIsRefusedAsMaintenanceEndsIsConnected: the end looks for those who say that there is maintenance, and may come before they say so.
func TestWhoIsRefusedAsMaintenanceEndsIsConnected(t *testing.T) {
	w := newWorld(t)
	c := w.client
	c.arrivals.close()
	t.Cleanup(c.Disconnect)
	m := w.connector.maintenance
	// It was asked whether there is maintenance, and there was; there is none any more when it is noted down.
	m.refuse(c)
	w.until("it is connected", func() bool { return hasStream(c) })
}
