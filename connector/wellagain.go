package connector

import (
	"maps"
	"sync"
)

// connected are the clients between Connect and Disconnect, so that none of the framework's locks is needed to go through them.
type connected struct {
	mu      sync.Mutex
	clients map[*client]bool
	// known finds them by gatekeeper and identifier.
	known map[identified]*client
}

// identified is a normalised identifier at a gatekeeper.
type identified struct{ gatekeeper, identifier string }

func (s *connected) set(c *client, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !on {
		delete(s.clients, c)
		maps.DeleteFunc(s.known, func(_ identified, other *client) bool { return other == c })
		return
	}
	if s.clients == nil {
		s.clients, s.known = make(map[*client]bool), make(map[identified]*client)
	}
	s.clients[c] = true
}

// call notes under which identifier a client is known from now on, if it is connected.
func (s *connected) call(c *client, gatekeeper, identifier string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[c] {
		s.known[identified{gatekeeper, identifier}] = c
	}
}

// find returns the client with that normalised identifier, nil if there is none.
func (s *connected) find(gatekeeper, identifier string) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[identified{gatekeeper, identifier}]
}

// wellAgain tells all accounts that the homeserver answers again, so that what waits for it does not wait for the rest of its pause.
func (s *connected) wellAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.account.Nudge()
	}
}

// storageAgain tells all accounts that the database commits again.
func (s *connected) storageAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.account.StorageAgain()
	}
}
