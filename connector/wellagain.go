package connector

import "sync"

// connected are the clients between Connect and Disconnect, so that none of the framework's locks is needed to go through them.
type connected struct {
	mu      sync.Mutex
	clients map[*client]bool
}

func (s *connected) set(c *client, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !on {
		delete(s.clients, c)
		return
	}
	if s.clients == nil {
		s.clients = make(map[*client]bool)
	}
	s.clients[c] = true
}

// wellAgain tells all accounts that the homeserver answers again, so that what waits for it does not wait for the rest of its pause.
func (s *connected) wellAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.account.Nudge()
	}
}
