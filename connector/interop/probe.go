package interop

import "postern/connector/gatekeeper"

var _ prober = (*gatekeeper.Stream)(nil)

// prober is a Stream that can be asked whether it is still one.
type prober interface{ Probe() }

// Probe says that the machine has slept, or something like it: a stream that may be one no more is asked for a sign of life now, and
// what waits for its next attempt waits no longer. It returns at once.
func (a *Account) Probe() {
	a.link.mu.Lock()
	s := a.link.stream
	a.link.mu.Unlock()
	if p, ok := s.(prober); ok {
		p.Probe()
	}
	a.attend.missed()
}

// missed says that pushes may have been missed: who has no stream wants one, as after a start.
func (t *attendance) missed() {
	t.mu.Lock()
	if !t.live {
		t.wanted = true
	}
	t.mu.Unlock()
	t.tell()
}
