package connector

import (
	"context"
	"sync"
	"time"

	"postern/connector/gatekeeper"
	"postern/database"
)

// clock is the time by which things grow old: what brakes count, and all that is forgotten or deleted after a time. A machine whose clock is far ahead, at a start or later, would end all of them at once,
// so its clock is believed only up to a time that is known plus what has gone by since on the clock that nobody sets. Known
// are the newest time that the database has of these things, and what a gatekeeper says when it lets somebody in (PROTOCOL.md 4.4). After a pause in which nothing of that was
// written, time so stands still until a gatekeeper has spoken: then a brake holds longer than it need, by one of its windows at most.
type clock struct {
	wall func() time.Time // with a reading of the clock that nobody sets

	mu    sync.Mutex
	known time.Time // a time that was right
	read  time.Time // a reading of wall at that time
}

// newClock begins with what the database knows; with nothing there, the machine's clock is believed.
func newClock(ctx context.Context, db *database.DB, wall func() time.Time) (*clock, error) {
	known, err := db.Newest(ctx)
	if err != nil {
		return nil, err
	}
	read := wall()
	if known.IsZero() {
		known = read
	}
	return &clock{wall: wall, known: known.Round(0), read: read}, nil
}

// now is the machine's time as far as it is believed.
func (c *clock) now() time.Time {
	wall := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	if most := c.known.Add(wall.Sub(c.read) + gatekeeper.ClockSkew); wall.Round(0).After(most) {
		return most
	}
	return wall.Round(0)
}

// shown is a time of this clock as the machine's clock, and so a person, has it.
func (c *clock) shown(at time.Time) time.Time { return at.Add(c.wall().Round(0).Sub(c.now())) }

// said takes a gatekeeper's time, which does not go back.
func (c *clock) said(at time.Time) {
	wall := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.After(c.known.Add(wall.Sub(c.read))) {
		c.known, c.read = at.Round(0), wall
	}
}
