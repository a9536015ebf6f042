package connector

import (
	"context"
	"sync"
	"time"

	"postern/connector/interop"
)

const (
	// forgetsAfter is when the gatekeeper forgets an account that does not connect (PROTOCOL.md 3.4).
	forgetsAfter = 30 * 24 * time.Hour
	// noteEvery is how often it is noted on disk, at most, that an account is connected.
	noteEvery = 10 * time.Minute
)

// connection is what a login's person is told of its stream.
type connection struct {
	mu    sync.Mutex
	state interop.ConnState // the newest
	noted time.Time         // when it was last noted on disk that the account is connected
}

// seen remembers the state of the stream, and when the account was connected.
func (c *client) seen(ctx context.Context, s interop.ConnState) {
	c.connection.mu.Lock()
	was := c.connection.state.Kind
	c.connection.state = s
	connected := s.Kind == interop.ConnLive || was == interop.ConnLive
	due := connected && time.Since(c.connection.noted) >= noteEvery
	if due {
		c.connection.noted = time.Now()
	}
	c.connection.mu.Unlock()
	if !due {
		return
	}
	if err := c.connector.db.Accounts().SetConnected(context.WithoutCancel(ctx), string(c.login.ID), time.Now()); err != nil {
		c.log.Warn().Err(err).Msg("Could not note when an account was connected")
	}
}

// now is the newest state of the stream.
func (c *client) now() interop.ConnState {
	c.connection.mu.Lock()
	defer c.connection.mu.Unlock()
	return c.connection.state
}
