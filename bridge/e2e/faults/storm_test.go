package faults_test

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"postern/bridge/parts"
)

// load writes count texts each way in each of the chats, all chats side by side, until all are written.
func (r *rig) load(chats []*chat, count int) (done <-chan struct{}) {
	var senders sync.WaitGroup
	for _, c := range chats {
		senders.Go(func() { c.writeMatrix(r.ctx, count) })
		senders.Go(func() { c.writePhone(r.ctx, count) })
	}
	all := make(chan struct{})
	go func() { senders.Wait(); close(all) }()
	return all
}

// writeMatrix is fromMatrix for goroutines of their own.
func (c *chat) writeMatrix(ctx context.Context, count int) {
	for range count {
		text := c.matrixText()
		for {
			event, err := c.r.alice.Send(ctx, c.room, "m.room.message", text, parts.Message{MsgType: "m.text", Body: text})
			if err == nil {
				c.wroteMatrix(text, event)
				break
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// writePhone is fromPhone for goroutines of their own.
func (c *chat) writePhone(ctx context.Context, count int) {
	for range count {
		text := c.phoneText()
		id, err := c.r.Gatekeeper.Say(ctx, c.ben.Phone, c.r.identifier, text)
		if err != nil {
			c.r.t.Errorf("the phone cannot write: %v", err)
			return
		}
		c.wrotePhone(text, id)
	}
}

// pause waits, unless done is closed before.
func pause(d time.Duration, done <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	}
}

// all says whether the long campaigns are to run.
func all() bool { return os.Getenv("POSTERN_ALL") != "" }

// TestF18ARestartStormUnderLoad kills the bridge again and again, every other time before it is ready.
func TestF18ARestartStormUnderLoad(t *testing.T) {
	kills := 12
	if all() {
		kills = 50
	}
	each(t, func(r *rig) {
		chats := []*chat{r.newChat(), r.newChat()}
		done := r.load(chats, 3*kills)
		begin, never := time.Now(), make(chan struct{})
		var slowest, work time.Duration
		for i := range kills {
			r.Bridge.Kill()
			started := time.Now()
			r.ok(r.Bridge.Launch())
			if i%2 == 0 {
				pause(rand.N(400*time.Millisecond), never)
				continue
			}
			r.ok(r.Bridge.Ready(r.ctx))
			slowest, work = max(slowest, time.Since(started)), max(work, r.cpuTime())
			pause(rand.N(400*time.Millisecond), done)
		}
		t := r.t
		t.Logf("%d kills in %s; ready again after %s at most, %s of them computing", kills, time.Since(begin).Round(time.Millisecond),
			slowest.Round(time.Millisecond), work)
		// How long it takes depends on who else uses the machine; this does not.
		if work > 2*time.Second {
			t.Errorf("the bridge computes %s before it is ready, want 2 s at most", work)
		}
		r.ok(r.Bridge.Ready(r.ctx))
		<-done
		for _, c := range chats {
			c.fromMatrix(1)
			c.fromPhone(1)
			c.check()
		}
	})
}

// TestF46SigtermUnderLoadDrains stops the bridge in order, while both sides write.
func TestF46SigtermUnderLoadDrains(t *testing.T) {
	each(t, func(r *rig) {
		chats := []*chat{r.newChat(), r.newChat()}
		done := r.load(chats, 60)
		for range 3 {
			pause(100*time.Millisecond+rand.N(200*time.Millisecond), done)
			begin := time.Now()
			r.ok(r.Bridge.Stop())
			if took := time.Since(begin); took > 10*time.Second {
				r.t.Errorf("the bridge took %s to stop, want 10 s at most", took)
			}
			if code := r.Bridge.ExitCode(); code != 0 {
				r.t.Errorf("the bridge ended with %d, want 0", code)
			}
			r.ok(r.Bridge.Start(r.ctx))
		}
		<-done
		for _, c := range chats {
			c.fromMatrix(1)
			c.fromPhone(1)
			c.check()
		}
	})
}
