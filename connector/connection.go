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
	// warnsAfter is when a person is warned of that, if the bridge has tried to connect and could not.
	warnsAfter = 25 * 24 * time.Hour
	// warnEvery is how often it is looked at, at most, whether that is due.
	warnEvery = time.Hour
	// reenlistedNews is for how long after it a person is told that they were enlisted again; less than the ids of notices are kept.
	reenlistedNews = 7 * 24 * time.Hour
	// noteEvery is how often it is noted on disk, at most, that an account is connected.
	noteEvery = 10 * time.Minute
)

// connection is what a login's person is told of its stream.
type connection struct {
	mu    sync.Mutex
	state interop.ConnState // the newest
	noted time.Time         // when it was last noted on disk that the account is connected
	asked time.Time         // when it was last looked at whether a warning is due
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
	if err := c.connector.db.Accounts().SetConnected(context.WithoutCancel(ctx), string(c.login.ID), c.connector.clock.now()); err != nil {
		c.log.Warn().Err(err).Msg("Could not note when an account was connected")
	}
}

// now is the newest state of the stream.
func (c *client) now() interop.ConnState {
	c.connection.mu.Lock()
	defer c.connection.mu.Unlock()
	return c.connection.state
}

// lastConnected is when the account was connected last, zero for never. An account that is connected was so just now.
func (c *client) lastConnected(ctx context.Context) (time.Time, error) {
	if last := c.account.Report().LastLive; !last.IsZero() {
		return last, nil
	}
	sum, err := c.connector.db.Accounts().Summary(ctx, string(c.login.ID))
	if err != nil || sum.LastConnected == 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(sum.LastConnected), nil
}

// failing notes that an attempt to connect has failed, and sees to the warning.
func (c *client) failing(ctx context.Context) {
	c.connection.mu.Lock()
	due := time.Since(c.connection.asked) >= warnEvery
	if due {
		c.connection.asked = time.Now()
	}
	c.connection.mu.Unlock()
	if !due {
		return
	}
	go func() { // it may wait for the homeserver
		err := again(ctx, func() error { return c.warn(ctx, c.connector.clock.now()) })
		if err != nil && ctx.Err() == nil {
			c.log.Err(err).Msg("Could not store a warning")
		}
	}()
}

// warn tells the person, once, that the gatekeeper is about to forget them.
func (c *client) warn(ctx context.Context, now time.Time) error {
	last, err := c.lastConnected(ctx)
	if err != nil {
		return err
	}
	row := c.current()
	for _, enlisted := range []int64{row.EnlistedAt, row.ReenlistedAt} {
		if at := time.UnixMilli(enlisted); at.After(last) {
			last = at
		}
	}
	until := last.Add(forgetsAfter)
	if now.Before(last.Add(warnsAfter)) || !now.Before(until) {
		return nil
	}
	text := c.words().Text("limit.warning", "gatekeeper", c.profile.DisplayName, "since", last.UTC().Format(time.DateOnly),
		"day", until.UTC().Format(time.DateOnly), "prefix", c.connector.bridge.Config.CommandPrefix, "flow", c.profile.Name)
	return c.connector.tellAtHome(ctx, c, "limit "+string(c.login.ID)+" "+last.UTC().Format(time.DateOnly), text)
}

// tellReenlisted tells the person, once, that the gatekeeper had forgotten them and that they were enlisted again.
func (c *client) tellReenlisted(ctx context.Context) {
	at := reenlisted(c.current())
	if at.IsZero() || time.Since(at) > reenlistedNews {
		return
	}
	text := c.words().Text("limit.reenlisted", "gatekeeper", c.profile.DisplayName)
	err := again(ctx, func() error {
		return c.connector.tellAtHome(ctx, c, "reenlisted "+string(c.login.ID)+" "+at.UTC().Format(time.RFC3339Nano), text)
	})
	if err != nil && ctx.Err() == nil {
		c.log.Err(err).Msg("Could not store that somebody was enlisted again")
	}
}
