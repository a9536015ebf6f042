package gatekeeper

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ownRoutines are the stacks of the goroutines of streams.
func ownRoutines() (list []string) {
	buf := make([]byte, 1<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "gatekeeper.(*walker)") || strings.Contains(stack, "gatekeeper.(*link)") {
			list = append(list, stack)
		}
	}
	return list
}

func TestALiveStreamHasOneGoroutineWhateverItHasAskedAndWaitsFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) { s.goLive(); s.answer() })
		r := w.run()
		w.handler.waitFor(Live)
		for range 10 {
			time.Sleep(13 * time.Second) // keep-alives are answered in between
			synctest.Wait()
			if list := ownRoutines(); len(list) != 1 {
				t.Fatalf("%d goroutines:\n%s", len(list), strings.Join(list, "\n\n"))
			}
		}
		if asked := w.stream.current.asked; asked != nil {
			t.Errorf("a map of %d questions is kept", len(asked))
		}
		r.end()
		synctest.Wait()
		if list := ownRoutines(); len(list) != 0 {
			t.Errorf("%d goroutines after the end:\n%s", len(list), strings.Join(list, "\n\n"))
		}
	})
}
