package gatekeeper

// Probe asks the server for a sign of life now, and not when the next one is due: the machine has slept, say, while the clocks of this
// package stood still, and nobody knows whether the stream is still one. Without an answer in the profile's time it is given up. A wait
// for backoff ends too. It returns at once.
func (s *Stream) Probe() {
	s.mu.Lock()
	l := s.current
	s.mu.Unlock()
	if l != nil {
		l.probe.Store(true)
		l.within(0)
	}
	s.Again()
}
