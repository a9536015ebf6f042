package gatekeeper

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/stanza"
)

// TestAStreamThatIsProbedIsGivenUpAfterTheTimeToAnswer: after the machine has slept nobody waits for the next keep-alive.
func TestAStreamThatIsProbedIsGivenUpAfterTheTimeToAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		answers bool
		after   time.Duration // of the end, from the probe on; 0: never
	}{
		"a dead stream": {false, 10 * time.Second}, "one that lives": {true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, func(s *session) {
					s.goLive()
					for st := range s.incoming {
						if iq, ok := st.(*stanza.IQ); ok && test.answers {
							s.send(iq.Result())
						}
					}
				}, live)
				r := w.run()
				w.handler.waitFor(Live)
				time.Sleep(3 * time.Second) // the bubble's clock
				begun := time.Now()
				w.stream.Probe()
				if test.after == 0 {
					time.Sleep(20 * time.Second)
					if n := len(w.dialled()); n != 1 {
						t.Errorf("%d connections", n)
					}
					r.end()
					return
				}
				lost := w.handler.waitFor(Waiting)
				if got := time.Since(begun); got != test.after {
					t.Errorf("the stream was given up after %v, want %v", got, test.after)
				}
				if !errors.Is(lost.Cause, ErrUnanswered) {
					t.Errorf("the cause is %v", lost.Cause)
				}
				r.end()
			})
		})
	}
}

// TestAProbeEndsAWaitForTheNextAttempt: the network may be back.
func TestAProbeEndsAWaitForTheNextAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) { s.goLive() /* and hangs up */ }, live)
		r := w.run()
		w.handler.waitFor(Waiting)
		synctest.Wait()
		before := time.Now()
		w.stream.Probe()
		w.handler.waitForLiveAt(2)
		if waited := time.Since(before); waited != 0 {
			t.Errorf("it waited for %v", waited)
		}
		r.end()
	})
}
