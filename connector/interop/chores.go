package interop

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// choresEvery is how often an account tidies up, give or take half.
	choresEvery = 6 * time.Hour
	// choresBatch is how many rows one transaction tidies away.
	choresBatch = 500
)

// chores forget what is old: plaintexts past the retry window, rows past the time of
// dedupe. They also look after the prekeys.
type chores struct {
	a     *Account
	lanes lanes

	mu    sync.Mutex
	timer *time.Timer
}

func newChores(a *Account) *chores {
	c := &chores{a: a}
	c.lanes = lanes{a: a, kind: &choresLanes}
	return c
}

func (c *chores) start(ctx context.Context) {
	c.lanes.start(ctx)
	c.again(time.Minute + rand.N(choresEvery/12))
}

func (c *chores) stop() {
	c.mu.Lock()
	c.timer.Stop()
	c.mu.Unlock()
	c.lanes.stop()
}

func (c *chores) again(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop() // of an earlier run
	}
	c.timer = time.AfterFunc(d, func() { c.lanes.kick("") })
}

func (c *chores) work(ctx context.Context, _ string) {
	defer c.again(choresEvery/2 + rand.N(choresEvery))
	c.a.keys.look()
	if err := c.prune(ctx, c.a.age()); err != nil && ctx.Err() == nil {
		c.a.log.Warn().Err(err).Msg("tidying up failed")
	}
}

// prune forgets in small transactions, so that nothing waits for it long.
func (c *chores) prune(ctx context.Context, now time.Time) error {
	store, limits := c.a.store, c.a.limits
	cut := now.Add(-limits.Memory).UnixMilli()
	window := now.Add(-limits.RetryWindow).UnixMilli()
	if _, err := pruneLetters(ctx, store, limits, now); err != nil {
		return err
	}
	for ctx.Err() == nil {
		n, err := store.PruneInbound(ctx, cut, choresBatch)
		if err != nil {
			return err
		}
		if n < choresBatch {
			break
		}
	}
	for ctx.Err() == nil {
		n, err := store.PruneOutbound(ctx, window, limits.RetryKeep, cut, choresBatch)
		if err != nil {
			return err
		}
		if n < choresBatch {
			break
		}
	}
	return ctx.Err()
}
