//go:build killpoints

package killpoint

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Armed says whether this program is built to be killed.
const Armed = true

// orders is the file with the name of a point and the number of the hit to die at, such as "I3.stored 2". Hits count
// from when the orders were first read. The file is removed at the end, so that the next process lives. With a third
// word the process does not die: with "panic" the goroutine panics, with "crash" one that nobody
// recovers, with "hold" it goes no further as long as there is a file
// of that name with ".held" behind it.
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
	if manner, mine := taken(name, text); mine {
		play(name, manner)
	}
}

// taken counts a hit, and says whether it is the one that the orders are for, and what is to be done.
func taken(name, text string) (manner string, mine bool) {
	state.Lock()
	defer state.Unlock()
	if text != state.last {
		state.last, state.hits = text, 0
	}
	at := 1
	if n, _ := fmt.Sscanf(text, name+" %d %s", &at, &manner); n == 0 {
		return "", false
	}
	if state.hits++; state.hits != at {
		return "", false
	}
	return manner, os.Remove(orders) == nil
}

func play(name, manner string) {
	switch manner {
	case "panic":
		panic("killpoint: " + name)
	case "crash":
		go panic("killpoint: " + name)
		select {} // the runtime is about to end this
	case "hold":
		for {
			if _, err := os.Stat(orders + ".held"); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err == nil {
		select {} // the kernel is about to end this
	}
}
