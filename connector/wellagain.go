package connector

import (
	"maps"
	"slices"
	"sync"

	"postern/connector/interop"
)

// connected are the clients between Connect and Disconnect, so that none of the framework's locks is needed to go through them.
type connected struct {
	mu      sync.Mutex
	clients map[*client]bool
	// known finds them by gatekeeper and identifier.
	known map[identified]*client
	// users are those of each Matrix user.
	users map[string][]*client
}

// identified is a normalised identifier at a gatekeeper.
type identified struct{ gatekeeper, identifier string }

func (s *connected) set(c *client, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !on {
		delete(s.clients, c)
		if user := c.login.UserMXID.String(); s.users[user] != nil {
			if s.users[user] = slices.DeleteFunc(s.users[user], func(other *client) bool { return other == c }); len(s.users[user]) == 0 {
				delete(s.users, user)
			}
		}
		maps.DeleteFunc(s.known, func(_ identified, other *client) bool { return other == c })
		return
	}
	if s.clients == nil {
		s.clients, s.known, s.users = make(map[*client]bool), make(map[identified]*client), make(map[string][]*client)
	}
	if user := c.login.UserMXID.String(); !s.clients[c] {
		s.users[user] = append(s.users[user], c)
	}
	s.clients[c] = true
}

// alive says that a Matrix user shows signs of life.
func (s *connected) alive(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.users[user] {
		c.account.Attend()
		c.ignores.sign()
		if c.now().Kind == interop.ConnNoAddress {
			c.account.Again() // the homeserver has just seen them
		}
	}
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

// all are the clients that there are now.
func (s *connected) all() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.clients))
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
