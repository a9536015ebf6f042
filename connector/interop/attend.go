package interop

// waker is a Stream that can be told of a push.
type waker interface{ Wake() }

// Wake says that the gatekeeper has pushed (PROTOCOL.md 8.2): if the stream waits before its next attempt, it waits no longer. It
// returns at once, and does nothing on a stream that is up.
func (a *Account) Wake() {
	a.link.mu.Lock()
	s := a.link.stream
	a.link.mu.Unlock()
	if w, ok := s.(waker); ok {
		w.Wake()
	}
}
