package database

import (
	"context"
	"sync/atomic"
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
		var well atomic.Int32
		h.watcher = func(state Health) {
			if state.Reason == "" {
				well.Add(1)
			}
		}
		full := sqlite3.Error{Code: sqlite3.ErrFull}
		for range 6000 {
			h.note(full)
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if n := well.Load(); n < 5 || n > 20 {
			t.Errorf("found well again %d times in a minute", n)
		}
		time.Sleep(probeLast + relapse)
		well.Store(0)
		h.note(full)
		time.Sleep(2 * probeFirst)
		synctest.Wait()
		if n := well.Load(); n != 1 {
			t.Errorf("half a minute later a trouble is still paused for: found well %d times", n)
		}
	})
}
