//go:build killpoints

package killpoint

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// Armed says whether this program is built to be killed.
const Armed = true

// orders is the file with the name of a point and the number of the hit to die at, such as "I3.stored 2". Hits count
// from when the orders were first read. The file is removed at the end, so that the next process lives. With a third
// word, "panic", the process does not die: the goroutine panics.
var orders = os.Getenv("POSTERN_KILL")

var state struct {
	sync.Mutex
	last string
	hits int
}

// Hit ends the process, as SIGKILL does, or panics, if the orders say so.
func Hit(name string) {
	if orders == "" {
		return
	}
	raw, err := os.ReadFile(orders)
	if err != nil {
		return // no orders
	}
	text := string(raw)
	if !strings.HasPrefix(text, name+" ") {
		return
	}
	state.Lock()
	defer state.Unlock()
	if text != state.last {
		state.last, state.hits = text, 0
	}
	at, manner := 1, ""
	if n, _ := fmt.Sscanf(text, name+" %d %s", &at, &manner); n == 0 {
		return
	}
	if state.hits++; state.hits != at {
		return
	}
	if err := os.Remove(orders); err != nil {
		return
	}
	if manner == "panic" {
		panic("killpoint: " + name)
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err == nil {
		select {} // the kernel is about to end this
	}
}
