package faults_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"postern/connector/killpoint"
)

// TestACrashWritesNothingOfAnybody: what the runtime writes when the program is aborted, or panics where nobody recovers, goes past the
// log's writer. It comes while a message is in the program's hands, each way, and is searched as the log is.
func TestACrashWritesNothingOfAnybody(t *testing.T) {
	for _, point := range []string{killpoint.InStored, killpoint.OutSealing} {
		for name, crash := range map[string]struct {
			manner string
			signal syscall.Signal
			words  string
		}{
			"quit": {"hold", syscall.SIGQUIT, "SIGQUIT"}, "aborted": {"hold", syscall.SIGABRT, "SIGABRT"}, "panicked": {"crash", 0, "panic: "},
		} {
			t.Run(point+" "+name, func(t *testing.T) {
				each(t, func(r *rig) {
					c := r.newChat()
					held := r.orders + ".held"
					r.ok(os.WriteFile(held, nil, 0o600))
					r.order(r.orders, point+" 1 "+crash.manner+"\n")
					c.fromPhone(1)
					c.fromMatrix(1)
					r.taken(point)
					if crash.signal != 0 {
						r.ok(r.Bridge.Signal(crash.signal))
					}
					<-r.Bridge.Done()
					r.ok(os.Remove(held))
					text := string(must(os.ReadFile(r.Bridge.LogPath()))(r.t)[r.log.at:])
					if !strings.Contains(text, crash.words) || !strings.Contains(text, "goroutine ") || !strings.Contains(text, "killpoint") {
						r.t.Errorf("the crash is not in the log: %.2000s", text)
					}
					r.run()
					c.check()
				})
			})
		}
	}
}
