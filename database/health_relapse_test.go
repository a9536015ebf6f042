package database

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/rs/zerolog"
)

// TestATroubleThatTheAttemptsDoNotMeetIsNotSaidTimeAndAgain: what only some queries meet comes back as soon as the attempt, which does not
// meet it, has found the database well.
func TestATroubleThatTheAttemptsDoNotMeetIsNotSaidTimeAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(zerolog.Nop(), &failure{ch: make(chan struct{})})
		defer h.close()
		h.begin(func(context.Context) error { return nil })
		well := 0
		h.watcher = func(state Health) {
			if state.Reason == "" {
				well++
			}
		}
		full := sqlite3.Error{Code: sqlite3.ErrFull}
		for range 6000 {
			h.note(full)
			time.Sleep(10 * time.Millisecond)
		}
		if well < 5 || well > 20 {
			t.Errorf("found well again %d times in a minute", well)
		}
		time.Sleep(probeLast + relapse)
		well = 0
		h.note(full)
		time.Sleep(2 * probeFirst)
		if well != 1 {
			t.Errorf("half a minute later a trouble is still paused for: found well %d times", well)
		}
	})
}
