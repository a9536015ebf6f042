package interop

import (
	"maps"
	"time"
)

// paceKeys is how many keys a pace remembers before it looks which it may forget.
const paceKeys = 1024

// pace limits how often something is done for each key: burst times at once, and then
// once in every. It is not safe for concurrent use.
type pace struct {
	burst int
	every time.Duration
	// spent has for each key when all of its burst is there again.
	spent map[string]time.Time
}

func newPace(burst int, every time.Duration) pace {
	return pace{burst: burst, every: every}
}

// take takes one for key and returns 0, or returns how long to wait for the next.
func (p *pace) take(key string, now time.Time) time.Duration {
	full := p.spent[key]
	if full.Before(now) {
		full = now
	}
	if wait := full.Sub(now) - time.Duration(p.burst-1)*p.every; wait > 0 {
		return wait
	}
	if len(p.spent) >= paceKeys {
		maps.DeleteFunc(p.spent, func(_ string, full time.Time) bool { return !full.After(now) })
	}
	put(&p.spent, key, full.Add(p.every))
	return 0
}
