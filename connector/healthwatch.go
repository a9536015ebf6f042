package connector

import (
	"context"
	"fmt"
	"sync"
	"time"

	"postern/connector/interop"
)

const (
	// lookEvery is how often the share of connected users is looked at.
	lookEvery = 5 * time.Second
	// probeEvery is how often the media store is tried, probeTime how long that may take.
	probeEvery = 10 * time.Second
	probeTime  = 20 * time.Second
)

// healthWatch follows what nobody reports by itself.
type healthWatch struct {
	mu    sync.Mutex
	users Condition
	below time.Time // since when too few users are connected, zero while there are enough
	media Condition
}

// watchHealth looks at users and media store from time to time.
func (c *Connector) watchHealth() {
	users, media := time.NewTicker(lookEvery), time.NewTicker(probeEvery)
	defer users.Stop()
	defer media.Stop()
	c.lookAtUsers(time.Now())
	c.work.Go(func() {
		for {
			c.tryMedia()
			select {
			case <-c.ctx.Done():
				return
			case <-media.C:
			}
		}
	})
	for {
		select {
		case <-c.ctx.Done():
			return
		case now := <-users.C:
			c.lookAtUsers(now)
		}
	}
}

// userCount is how many users there are to be connected, and how many are. Those who cannot be, whatever the bridge does, do not count.
func (c *Connector) userCount() (connected, wanted int) {
	for _, cl := range c.connected.all() {
		switch cl.now().Kind {
		case interop.ConnLive, interop.ConnIdle, interop.ConnBackPressure:
			connected++
			wanted++
		case interop.ConnReplaced, interop.ConnNotEnlisted, interop.ConnRefused, interop.ConnDeleted, interop.ConnBanned, interop.ConnNoAddress,
			interop.ConnEnded:
		default:
			wanted++
		}
	}
	return connected, wanted
}

func (c *Connector) lookAtUsers(now time.Time) {
	connected, wanted := c.userCount()
	c.health.sawUsers(now, connected, wanted, c.Config.Health.Connected, c.Config.Health.patience)
}

// sawUsers takes a count.
func (h *healthWatch) sawUsers(now time.Time, connected, wanted, percent int, patience time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if connected*100 >= wanted*percent {
		if !h.users.OK {
			h.users = Condition{OK: true, Since: now}
		}
		h.below = time.Time{}
		return
	}
	if h.below.IsZero() {
		h.below = now
	}
	if now.Sub(h.below) >= patience {
		h.users = Condition{Reason: fmt.Sprintf("%d of %d users are connected to their gatekeeper", connected, wanted), Since: h.below}
	}
}

// tryMedia finds out whether the media store takes and gives.
func (c *Connector) tryMedia() {
	ctx, cancel := context.WithTimeout(c.ctx, probeTime)
	defer cancel()
	err := c.media.Probe(ctx)
	if c.ctx.Err() != nil {
		return
	}
	c.health.mu.Lock()
	changed := c.health.media.OK != (err == nil)
	if changed || c.health.media.Since.IsZero() {
		c.health.media = Condition{OK: err == nil, Since: time.Now()}
		if err != nil {
			c.health.media.Reason = "attachments cannot be stored, or not be read"
		}
	}
	c.health.mu.Unlock()
	switch {
	case changed && err != nil:
		c.log.Error().Err(err).Msg("The media store does not work")
		c.news.note(newsMedia, time.Now().UTC().Format(time.RFC3339Nano), "", "bad")
	case changed:
		c.log.Info().Msg("The media store works")
		c.news.note(newsMedia, time.Now().UTC().Format(time.RFC3339Nano), "", "good")
	}
}

// addWatchedChecks registers what is watched from outside.
func (c *Connector) addWatchedChecks(home *homeWatch) {
	c.health.users, c.health.media = Condition{OK: true, Since: c.began}, Condition{OK: true, Since: c.began}
	c.AddReadinessCheck("homeserver", home.condition)
	c.AddReadinessCheck("users", func() Condition {
		c.health.mu.Lock()
		defer c.health.mu.Unlock()
		return c.health.users
	})
	c.AddReadinessCheck("media store", func() Condition {
		c.health.mu.Lock()
		defer c.health.mu.Unlock()
		return c.health.media
	})
}
