package matrixdurable

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestEventsOfARoomAreHandledInOrderAndMarkedFinished(t *testing.T) {
	j, h := newMemJournal(), newHandler(nil)
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	d.Start()
	defer stop(t, d)
	var want []string
	for i := range 50 {
		id := fmt.Sprintf("$%d", i)
		want = append(want, id)
		accept(t, j, d, id, room("!a", id), false)
	}
	j.awaitFinished(t, 50)
	if got := h.order(); !slices.Equal(got, want) {
		t.Errorf("order is %v", got)
	}
}

func TestARoomThatWaitsKeepsNoOtherWaiting(t *testing.T) {
	j := newMemJournal()
	release := make(chan struct{})
	h := newHandler(func(e Entry) Outcome {
		if e.Room == "!slow" {
			<-release
		}
		return Done
	})
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	d.Start()
	defer stop(t, d)
	accept(t, j, d, "1", slices.Concat(room("!slow", "$s1", "$s2"), room("!quick", "$q1", "$q2")), false)
	h.await(t, 2) // both of the quick room: the slow one has not returned yet
	close(release)
	j.awaitFinished(t, 4)
}

func TestAnEventIsTriedAgainAfterAPanicAndGivenUpAfterThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newMemJournal()
		tries := map[string]int{}
		h := newHandler(func(e Entry) Outcome {
			tries[e.EventID]++
			if e.EventID == "$bad" || e.EventID == "$once" && tries[e.EventID] == 1 {
				panic("boom")
			}
			return Done
		})
		d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
		d.Start()
		defer stop(t, d)
		accept(t, j, d, "1", room("!a", "$1", "$once", "$bad", "$2"), false)
		j.awaitFinished(t, 4)
		if got, want := h.order(), []string{"$1", "$once", "$once", "$bad", "$bad", "$bad", "$2"}; !slices.Equal(got, want) {
			t.Errorf("handled %v, want %v", got, want)
		}
		if !slices.Equal(h.gaveUp, []string{"$bad"}) {
			t.Errorf("given up are %v", h.gaveUp)
		}
	})
}

func TestAnEventThatCannotBeHandledNowIsHandledAgainBeforeLaterOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newMemJournal()
		tries := 0
		h := newHandler(func(e Entry) Outcome {
			if e.EventID == "$1" {
				if tries++; tries < 4 {
					return Again
				}
			}
			return Done
		})
		d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
		d.Start()
		accept(t, j, d, "1", room("!a", "$1", "$2"), false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := h.order(); !slices.Equal(got, []string{"$1", "$1", "$1", "$1", "$2"}) {
			t.Errorf("order is %v", got)
		}
		if len(j.finished) != 2 {
			t.Errorf("%d entries finished", len(j.finished))
		}
		stop(t, d)
	})
}

func TestWhatIsUnfinishedIsHandledAfterTheNextStart(t *testing.T) {
	j := newMemJournal()
	if _, _, err := j.Accept(context.Background(), "1", room("!a", "$1", "$2")); err != nil {
		t.Fatal(err)
	}
	h := newHandler(nil)
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	if err := d.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	d.Start()
	defer stop(t, d)
	j.awaitFinished(t, 2)
	if got := h.order(); !slices.Equal(got, []string{"$1", "$2"}) {
		t.Errorf("order is %v", got)
	}
	if j.loads != 2 {
		t.Errorf("%d bodies loaded", j.loads)
	}
}

func TestACommandIsFinishedByItsHandlerAndOneCutOffIsNotRunAgain(t *testing.T) {
	j := newMemJournal()
	h := newHandler(func(e Entry) Outcome {
		if e.EventID == "$cmd" {
			_ = j.Hand(context.Background(), e.Seq)
			return Handed
		}
		return Done
	})
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	d.Start()
	accept(t, j, d, "1", room("!a", "$cmd", "$after"), false)
	j.awaitFinished(t, 1)
	if j.finished[1] {
		t.Error("command is finished while it runs")
	}
	stop(t, d)

	h2 := newHandler(nil)
	d2 := NewDispatcher(DispatcherConfig{Journal: j, Handler: h2})
	if err := d2.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	d2.Start()
	defer stop(t, d2)
	j.awaitFinished(t, 2)
	if len(h2.order()) != 0 || !slices.Equal(h2.cut, []string{"$cmd"}) {
		t.Errorf("handled %v, cut %v", h2.order(), h2.cut)
	}
}

func TestCompleteFinishesAHandedEvent(t *testing.T) {
	j := newMemJournal()
	h := newHandler(func(Entry) Outcome { return Handed })
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	d.Start()
	defer stop(t, d)
	accept(t, j, d, "1", room("!a", "$cmd"), false)
	h.await(t, 1)
	d.Complete(1)
	j.awaitFinished(t, 1)
}

func TestNothingIsTakenWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, h := newMemJournal(), newHandler(nil)
		d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
		d.Start()
		d.Hold()
		accept(t, j, d, "1", room("!a", "$1"), false)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := h.order(); len(got) != 0 || !d.Waiting("$1") {
			t.Errorf("handled %v, waiting %v", got, d.Waiting("$1"))
		}
		d.Release()
		synctest.Wait()
		if got := h.order(); !slices.Equal(got, []string{"$1"}) || d.Waiting("$1") {
			t.Errorf("handled %v, waiting %v", got, d.Waiting("$1"))
		}
		stop(t, d)
	})
}

func TestANewConnectionMakesRoomsWaitForTheCheckButNotForEver(t *testing.T) {
	for name, patience := range map[string]time.Duration{"the check answers": time.Second, "the check hangs": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j, h := newMemJournal(), newHandler(nil)
				var checks atomic.Int32
				d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h, CheckPatience: 10 * time.Second, Check: func(ctx context.Context) {
					checks.Add(1)
					select {
					case <-time.After(patience):
					case <-ctx.Done():
					}
				}})
				d.Start()
				accept(t, j, d, "1", room("!a", "$1"), true)
				synctest.Wait()
				if len(h.order()) != 0 {
					t.Error("handled before the check")
				}
				time.Sleep(11 * time.Second)
				synctest.Wait()
				if got := h.order(); !slices.Equal(got, []string{"$1"}) || checks.Load() != 1 {
					t.Errorf("handled %v after %d checks", got, checks.Load())
				}
				stop(t, d)
			})
		})
	}
}

func TestMissedEventsArePutBeforeLaterOnesThatStillWait(t *testing.T) {
	j, h := newMemJournal(), newHandler(nil)
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	d.Start()
	defer stop(t, d)
	d.Hold()
	accept(t, j, d, "1", room("!a", "$5", "$6"), false)
	added, err := j.Merge(context.Background(), "t", "1", room("!a", "$3", "$4", "$5", "$6"), d.Waiting)
	if err != nil {
		t.Fatal(err)
	}
	d.Merge(added)
	d.Release()
	j.awaitFinished(t, 4)
	if got := h.order(); !slices.Equal(got, []string{"$3", "$4", "$5", "$6"}) {
		t.Errorf("order is %v", got)
	}
}

func TestBodiesBeyondTheMemoryLimitAreLoadedWhenTheirTurnComes(t *testing.T) {
	j := newMemJournal()
	var empty atomic.Int32
	h := newHandler(func(e Entry) Outcome {
		if len(e.Body) == 0 {
			empty.Add(1)
		}
		return Done
	})
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h, MemoryLimit: 40})
	accept(t, j, d, "1", room("!a", "$1", "$2", "$3", "$4"), false)
	if d.inMemory > 40 {
		t.Errorf("%d bytes in memory", d.inMemory)
	}
	d.Start()
	defer stop(t, d)
	j.awaitFinished(t, 4)
	if empty.Load() != 0 || j.loads != 2 {
		t.Errorf("%d without a body, %d loaded", empty.Load(), j.loads)
	}
}

func TestTypingIsPassedOnWithoutAPlaceInTheJournal(t *testing.T) {
	j, h := newMemJournal(), newHandler(nil)
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	d.Pass(room("!a", "early")) // before the start it is nobody's business
	d.Start()
	d.Pass(room("!a", "typing"))
	h.await(t, 1)
	stop(t, d)
	if got := h.order(); !slices.Equal(got, []string{"typing"}) || len(j.finished) != 0 {
		t.Errorf("handled %v, finished %v", got, j.finished)
	}
}

func TestOfTypingThatComesFasterThanItIsHandledTheNewestIsHandledLast(t *testing.T) {
	first, goOn := make(chan struct{}), make(chan struct{})
	h := newHandler(func(e Entry) Outcome {
		if e.EventID == "first" {
			close(first)
			<-goOn
		}
		return Done
	})
	d := NewDispatcher(DispatcherConfig{Journal: newMemJournal(), Handler: h})
	d.Start()
	d.Pass(room("!a", "first"))
	<-first
	for i := range 100 {
		d.Pass(room("!a", fmt.Sprint(i)))
	}
	d.Pass(room("!b", "elsewhere"))
	h.await(t, 1) // a slow room holds up no other
	close(goOn)
	h.await(t, 2)
	stop(t, d)
	got := h.order()
	if len(got) != 3 || got[2] != "99" || len(d.passing) != 0 {
		t.Errorf("handled %v, left %d", got, len(d.passing))
	}
}
