package provisioning

import (
	"sync"
	"time"
)

// What is remembered at most: addresses that brought wrong tokens in this minute, tokens that were used in it, and logins under way. Of
// what comes beyond that, addresses and tokens share one count, and the oldest login cannot be gone on with.
const (
	maxCounted   = 4096
	maxProcesses = 1024
	processLife  = 30 * time.Minute // as long as the framework keeps one
)

// counter counts by name in minutes.
type counter struct {
	mu     sync.Mutex
	minute time.Time
	counts map[string]int
}

// more counts one, and says whether that is more than most, and when the minute is over.
func (c *counter) more(name string, most int) (tooMany bool, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.minute) >= time.Minute || now.Before(c.minute) || c.counts == nil {
		c.minute, c.counts = now, map[string]int{}
	}
	if _, known := c.counts[name]; !known && len(c.counts) >= maxCounted {
		name = ""
	}
	c.counts[name] = min(c.counts[name]+1, most+1)
	return c.counts[name] > most, c.minute.Add(time.Minute).Sub(now)
}

// processes knows whose login is under way: the framework itself asks nobody.
type processes struct {
	mu    sync.Mutex
	known map[string]process
}

type process struct {
	user  string
	until time.Time
}

func (p *processes) begin(id, user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	oldest := ""
	for id, one := range p.known {
		if !one.until.After(now) {
			delete(p.known, id)
		} else if oldest == "" || one.until.Before(p.known[oldest].until) {
			oldest = id
		}
	}
	if len(p.known) >= maxProcesses {
		delete(p.known, oldest)
	}
	if p.known == nil {
		p.known = map[string]process{}
	}
	p.known[id] = process{user, now.Add(processLife)}
}

func (p *processes) of(id, user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, ok := p.known[id]
	return ok && one.user == user && one.until.After(time.Now())
}
