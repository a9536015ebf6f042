package connector

import (
	"testing"
	"time"
)

func TestSlowAttachmentsHoldAChatUpForLittleLongerThanOne(t *testing.T) {
	type wait struct {
		idle, takes, waited time.Duration // nothing to do before it, what it takes to come, how long is waited for it
	}
	const never = time.Hour
	for name, waits := range map[string][]wait{
		"one that never comes takes all the patience, others after it a glance each": {
			{0, never, time.Minute}, {0, never, time.Second}, {0, never, time.Second}, {0, 200 * time.Millisecond, 200 * time.Millisecond},
		},
		"several that are slow share it": {
			{0, 25 * time.Second, 25 * time.Second}, {0, 25 * time.Second, 25 * time.Second}, {0, 25 * time.Second, 10 * time.Second},
			{0, 25 * time.Second, time.Second},
		},
		"many that are quick are all waited for": {
			{0, 4 * time.Second, 4 * time.Second}, {0, 5 * time.Second, 5 * time.Second}, {0, never, time.Minute},
		},
		"it comes back with time": {
			{0, never, time.Minute}, {20 * time.Second, never, 20 * time.Second}, {time.Minute, never, time.Minute},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ch, now := &chat{}, time.Now()
			for i, w := range waits {
				now = now.Add(w.idle)
				from := now
				now = now.Add(min(w.takes, ch.patience(now, mediaPatience)))
				ch.hasWaited(from, now, mediaQuick)
				if got := now.Sub(from); got != w.waited {
					t.Errorf("attachment %d was waited for %s, want %s", i, got, w.waited)
				}
			}
		})
	}
}

func TestWhatIsBehindSeveralSlowAttachmentsIsNotHeldUpByEachOfThem(t *testing.T) {
	w := newWorld(t)
	w.client.arrivals.patience, w.client.arrivals.quick = time.Millisecond, 0
	_, release := w.slow()
	defer release()
	w.deliver("A", w.host.image(t, "/v/t/a", "look", png(3, 2)))
	ch := w.client.chats.get(w.peer.Chat)
	if ch.waited == 0 {
		t.Error("nobody knows that it was waited for")
	}
	// As if that had been all the patience there is, or else the next one takes two minutes.
	w.client.arrivals.patience = 2 * time.Minute
	ch.hasWaited(time.Now().Add(-2*time.Minute), time.Now(), 0)
	began := time.Now()
	w.deliver("B", w.host.image(t, "/v/t/b", "look", png(3, 2)))
	w.say("C", "text")
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the text came after %s", took)
	}
	w.expect("m.room.message still being fetched", "m.room.message still being fetched", "m.room.message text")
}
