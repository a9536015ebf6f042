package connector

import (
	"context"
	"time"
)

const (
	// sleepTick is how often the clocks are compared, sleepJump by how much they have to differ.
	sleepTick = 2 * time.Second
	sleepJump = 10 * time.Second
)

// clocks are readings of the wall's clock, and of the one that stands still while the machine sleeps.
type clocks struct {
	wall time.Time
	ran  time.Duration
}

// readClocks reads both.
func readClocks(since time.Time) clocks {
	now := time.Now()
	return clocks{wall: now.Round(0), ran: now.Sub(since)}
}

// watchSleep calls woke when the machine has slept, or this process was stopped: when the wall's clock has gone on and the other one has not, or
// when a tick comes much too late. The clocks that find out a silent stream have stood still then, and what was connected has
// often forgotten us. A wall's clock that was set looks the same, which costs one keep-alive.
func watchSleep(ctx context.Context, tick <-chan time.Time, read func() clocks, woke func(slept time.Duration)) {
	last := read()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		now := read()
		ran := now.ran - last.ran
		slept := now.wall.Sub(last.wall) - ran
		switch {
		case slept >= sleepJump:
			woke(slept)
		case ran >= sleepTick+sleepJump:
			woke(ran - sleepTick)
		}
		last = now
	}
}

// watchForSleep has all streams asked for a sign of life after the machine has slept, and waits for a next attempt ended.
func (c *Connector) watchForSleep() {
	ticker := time.NewTicker(sleepTick)
	defer ticker.Stop()
	watchSleep(c.ctx, ticker.C, func() clocks { return readClocks(c.began) }, func(slept time.Duration) {
		c.log.Info().Dur("duration", slept.Round(time.Second)).Msg("The machine has slept: all streams are looked after")
		for _, cl := range c.connected.all() {
			cl.account.Probe()
		}
	})
}
