package connector

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// spelled is a spell whose steps are counted, and which works every hour by itself.
func spelled() (s *spell, steps *[]time.Time) {
	steps = new([]time.Time)
	return &spell{step: func(context.Context) time.Time {
		*steps = append(*steps, time.Now())
		return time.Now().Add(time.Hour)
	}}, steps
}

func TestASpellWorksWhenItIsCalledForAndWhenItIsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s, steps := spelled()
		ctx, cancel := context.WithCancel(t.Context())
		s.now() // before begin, and not forgotten
		if synctest.Wait(); len(*steps) != 0 || !s.wanted() {
			t.Fatalf("%d steps before the beginning, wanted %v", len(*steps), s.wanted())
		}
		s.begin(ctx)
		time.Sleep(30 * time.Minute)
		s.at(start.Add(40 * time.Minute))
		s.at(start.Add(50 * time.Minute)) // there is one before it
		time.Sleep(2 * time.Hour)
		cancel()
		s.end(ctx)
		s.mu.Lock()
		due := s.due
		s.mu.Unlock()
		var got []time.Duration
		for _, at := range *steps {
			got = append(got, at.Sub(start))
		}
		want := []time.Duration{0, 40 * time.Minute, 100 * time.Minute}
		if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || !due.IsZero() {
			t.Errorf("it worked after %v, want %v; due %v", got, want, due)
		}
		time.Sleep(5 * time.Hour)
		if len(*steps) != 3 {
			t.Error("it works after its end")
		}
	})
}

func TestASpellWorksOneStepAtATimeAndLosesNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, most, steps := 0, 0, 0
		release := make(chan struct{})
		s := &spell{step: func(context.Context) time.Time {
			running, steps = running+1, steps+1
			most = max(most, running)
			<-release
			running--
			return time.Time{}
		}}
		ctx, cancel := context.WithCancel(t.Context())
		s.begin(ctx)
		s.now()
		synctest.Wait()
		for range 5 { // during the first step
			s.now()
		}
		release <- struct{}{}
		release <- struct{}{}
		synctest.Wait()
		if steps != 2 || most != 1 || s.wanted() {
			t.Errorf("%d steps, %d at once, wanted %v; want 2, 1, false", steps, most, s.wanted())
		}
		// Begun anew while a step of before is under way: that one ends first, and the new one is not lost.
		s.now()
		synctest.Wait()
		cancel()
		again, stop := context.WithCancel(t.Context())
		s.begin(again)
		s.now()
		ended := make(chan struct{})
		go func() { s.end(ctx); close(ended) }()
		synctest.Wait()
		release <- struct{}{}
		<-ended
		synctest.Wait()
		if steps != 4 || most != 1 {
			t.Errorf("%d steps, %d at once, want 4 and 1", steps, most)
		}
		close(release)
		synctest.Wait()
		stop()
		s.end(again)
	})
}

func TestASpellHasNoGoroutineWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := bubbled()
		ctx, cancel := context.WithCancel(t.Context())
		s, _ := spelled()
		s.begin(ctx)
		s.now()
		synctest.Wait()
		if now := bubbled(); now != before || !s.wanted() {
			t.Errorf("%d goroutines, want %d; wanted %v", now, before, s.wanted())
		}
		cancel()
		s.end(ctx)
	})
}

// bubbled is how many goroutines there are in the bubble. Those of other tests that are about to end are none of them.
func bubbled() int {
	stacks := make([]byte, 1<<20)
	for {
		if n := runtime.Stack(stacks, true); n < len(stacks) {
			return bytes.Count(stacks[:n], []byte(", synctest bubble "))
		}
		stacks = make([]byte, 2*len(stacks))
	}
}
