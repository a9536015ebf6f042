package gatekeeper

import (
	"math/rand/v2"
	"time"
)

// backoff is the wait between attempts: a bound that doubles with each failure in a
// row, and a duration picked at random below it, so that the streams of a gatekeeper
// that restarts do not come back all at once (PROTOCOL.md 4.5).
type backoff struct {
	min, max time.Duration
	jitter   func(max time.Duration) time.Duration
	failures int
}

// next counts one more failure and returns how long to wait after it.
func (b *backoff) next() time.Duration {
	bound := b.max
	if b.failures < 32 && b.min < b.max>>b.failures {
		bound = b.min << b.failures
	}
	b.failures++
	return b.jitter(bound)
}

// forgive forgets so many failures that the next bound is no more than most.
func (b *backoff) forgive(most time.Duration) {
	for b.failures > 0 && (b.failures >= 32 || b.min<<b.failures > most) {
		b.failures--
	}
}

// reset starts over, after a stream that was good for long enough.
func (b *backoff) reset() { b.failures = 0 }

// uniformJitter picks from [0, max).
func uniformJitter(max time.Duration) time.Duration {
	if max <= 0 {
		return 0
	}
	return rand.N(max)
}
