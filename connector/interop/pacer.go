package interop

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Pacer lets the connections of all users to their gatekeepers be made one after another, no more than a number a second, at
// moments that nobody can foretell: after a start, and when a gatekeeper that was away comes back, all want to connect at once. Whoever
// is waited for goes first. In any second, and in any longer time, no more begin than the rate allows for it, and one.
type Pacer struct {
	gap time.Duration

	mu     sync.Mutex
	next   time.Time // when the next slot begins
	urgent []*turn
	others []*turn
	timer  *time.Timer
}

// turn is an attempt that waits for its time.
type turn struct {
	come chan struct{}
	left bool // nobody waits for it any more, or it is in the other list
}

// NewPacer makes a Pacer; perSecond is at least 1.
func NewPacer(perSecond int) *Pacer { return &Pacer{gap: time.Second / time.Duration(perSecond)} }

// Wait returns when it is the caller's turn, or with ctx's error. From when hurry is closed it goes before those who are
// not in a hurry.
func (p *Pacer) Wait(ctx context.Context, hurry <-chan struct{}) error {
	t := &turn{come: make(chan struct{})}
	p.mu.Lock()
	select {
	case <-hurry:
		p.urgent, hurry = append(p.urgent, t), nil
	default:
		p.others = append(p.others, t)
	}
	p.arm()
	p.mu.Unlock()
	for {
		select {
		case <-t.come:
			return nil
		case <-hurry:
			hurry = nil
			t = p.promote(t)
		case <-ctx.Done():
			p.mu.Lock()
			t.left = true
			p.mu.Unlock()
			return ctx.Err()
		}
	}
}

// promote puts a turn among the urgent ones, and returns the one that counts from now.
func (p *Pacer) promote(t *turn) *turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-t.come:
		return t
	default:
	}
	t.left = true
	t = &turn{come: t.come}
	p.urgent = append(p.urgent, t)
	return t
}

// arm sets the timer for the next slot, if somebody waits and none is set; p.mu is held.
func (p *Pacer) arm() {
	if p.timer != nil || len(p.urgent)+len(p.others) == 0 {
		return
	}
	now := time.Now()
	if p.next.Before(now) { // after a pause the first goes at once
		p.next = now
		p.timer = time.AfterFunc(0, p.give)
		return
	}
	p.timer = time.AfterFunc(p.next.Sub(now)+rand.N(p.gap), p.give) // somewhere in its slot
}

// give lets the first go.
func (p *Pacer) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	for _, list := range []*[]*turn{&p.urgent, &p.others} {
		for len(*list) > 0 {
			t := (*list)[0]
			(*list)[0] = nil
			if *list = (*list)[1:]; t.left {
				continue
			}
			close(t.come)
			p.next = p.next.Add(p.gap)
			p.arm()
			return
		}
	}
}
