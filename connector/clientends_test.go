package connector

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/database"
)

// TestWhoIsConnectedWhileTheConnectionBeforeEndsIsConnected: an order and the framework may do both at once.
func TestWhoIsConnectedWhileTheConnectionBeforeEndsIsConnected(t *testing.T) {
	w := newWorld(t)
	c := w.client
	c.arrivals.close() // the fixture's own
	begun, hold := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c.reach.loop.step = func(context.Context) time.Time {
		once.Do(func() { close(begun); <-hold })
		return time.Time{}
	}
	c.Connect(t.Context())
	c.reach.loop.now()
	<-begun
	var both sync.WaitGroup
	both.Go(c.Disconnect)
	w.until("it is being disconnected", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.cancel == nil
	})
	again, other := make(chan struct{}), make(chan struct{})
	both.Go(func() { defer close(other); c.Disconnect() })
	for range 100 {
		w.stateOf()
	}
	select {
	case <-other:
		t.Error("whoever disconnects, too, does not wait until it is over")
	default:
	}
	both.Go(func() { defer close(again); c.Connect(t.Context()) })
	for range 100 {
		w.stateOf()
	}
	select {
	case <-again:
		t.Error("it is connected before what was there has ended")
	default:
	}
	close(hold)
	both.Wait()
	c.Connect(t.Context()) // whichever came first, of the other Disconnect and Connect
	t.Cleanup(c.Disconnect)
	c.mu.Lock()
	connected := c.cancel != nil
	c.mu.Unlock()
	c.arrivals.mu.Lock()
	fetches := c.arrivals.ctx != nil && c.arrivals.ctx.Err() == nil
	c.arrivals.mu.Unlock()
	if !connected || !fetches || c.stopped.Load() {
		t.Errorf("connected %v, fetches attachments %v, stopped %v", connected, fetches, c.stopped.Load())
	}
}

// TestAPanicInAChoreCostsThatChoreOnly: neither the hand nor the process.
func TestAPanicInAChoreCostsThatChoreOnly(t *testing.T) {
	var said bytes.Buffer
	done := make(chan struct{})
	c := &crew{size: 1, log: zerolog.New(&said)}
	c.do(func() { panic(errors.New("wrong")) })
	c.do(func() { close(done) })
	if <-done; !strings.Contains(said.String(), "errorString") || strings.Contains(said.String(), "wrong") {
		t.Errorf("it is said: %s", said.String())
	}
	apart := make(chan struct{})
	c.apart(func() { defer close(apart); panic(errors.New("wrong")) })
	<-apart
	alone := make(chan struct{})
	c.do(func() { close(alone) })
	<-alone // the process goes on
}

// TestAPanicWhileAttachmentsAreLookedForCostsThatLookOnly: it is looked again.
func TestAPanicWhileAttachmentsAreLookedForCostsThatLookOnly(t *testing.T) {
	a := newArrivals(&client{log: new(zerolog.Nop())}) // without a connector
	if a.takeUp(t.Context()).IsZero() {
		t.Error("nobody looks again")
	}
}

// TestAPanicWhileAnAttachmentIsTakenUpCostsThatAttachmentOnly, and its place is given back.
func TestAPanicWhileAnAttachmentIsTakenUpCostsThatAttachmentOnly(t *testing.T) {
	a := newArrivals(&client{log: new(zerolog.Nop())})
	a.ctx = t.Context()
	row := &database.IncomingMedia{ChatID: "chat", MessageID: "A"}
	a.places() <- struct{}{}
	a.resumeIn(a.ctx, row)
	a.work.Wait()
	job := &arrival{key: "chat/A", done: make(chan struct{})}
	job.end(nil, errors.New("gone"))
	a.places() <- struct{}{}
	a.followed(job, row)
	a.work.Wait()
	if len(a.follow) != 0 || len(a.busy) != 0 {
		t.Errorf("%d places are taken, %d attachments are under way", len(a.follow), len(a.busy))
	}
}
