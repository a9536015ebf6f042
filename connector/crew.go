package connector

import (
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/rs/zerolog"
)

// crew does jobs, so many at once and in the order in which they came; one that waits has no goroutine. After a start every login has something to
// look for, and as many goroutines at once would leave their stacks behind for good.
type crew struct {
	size int
	log  zerolog.Logger

	mu      sync.Mutex
	busy    int
	waiting []func()
}

// How many jobs are done at once. Chores ask the database and nobody else, so none of them is held up for long. The others ask the homeserver, for
// minutes if it does not answer: names for what a person is called, visits for the room that a person is told something in, if they have none
// yet, closings to end rooms.
const (
	choreHands   = 16
	nameHands    = 8
	visitHands   = 8
	closingHands = 8
)

// do has a job done. It never blocks. A job must not wait for another one.
func (c *crew) do(job func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy == c.size {
		c.waiting = append(c.waiting, job)
		return
	}
	c.busy++
	go c.work(job)
}

func (c *crew) work(job func()) {
	for job != nil {
		c.contained(job)
		job = c.next()
	}
}

// apart does a job at once, in a goroutine of its own: one that may go on for long would keep a hand from the others.
func (c *crew) apart(job func()) { go c.contained(job) }

// contained does a job; a panic costs that job only.
func (c *crew) contained(job func()) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error().Str("panic", fmt.Sprintf("%T", p)).Str("where", string(debug.Stack())).Msg("Panic in something that a login had to do")
		}
	}()
	job()
}

// next is the next job, nil if this hand is not needed any more.
func (c *crew) next() (job func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		c.waiting = nil
		c.busy--
		return nil
	}
	job, c.waiting[0] = c.waiting[0], nil
	c.waiting = c.waiting[1:]
	return job
}
