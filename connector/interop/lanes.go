package interop

import (
	"context"
	"sync"
	"time"
)

// lanes run the work of keys (chats, people), one goroutine for a key while it
// has something to do and none afterwards, so that keys do not hold up each other
// and an idle account costs nothing.
type lanes struct {
	// work does all there is to do for the key and returns. It is called again
	// if kick came in the meantime, and, after a pause, if it panicked.
	work func(ctx context.Context, key string)
	// guard catches a panic and says whether there was one; pause is for then.
	guard func(fn func()) (panicked bool)
	pause time.Duration

	mu     sync.Mutex
	ctx    context.Context  // nil while not started or stopped
	active map[string]*lane // nil while there is none: an idle account has many lanes
	wg     sync.WaitGroup
}

type lane struct{ again bool }

// start lets kick run work until stop.
func (l *lanes) start(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctx = ctx
}

// stop returns when no work runs any more; ctx of start must be cancelled before.
func (l *lanes) stop() {
	l.mu.Lock()
	l.ctx = nil
	l.mu.Unlock()
	l.wg.Wait()
}

// busy says whether work runs for any key.
func (l *lanes) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.active) > 0
}

// kick makes work run for the key, once more if it is running. It never blocks.
func (l *lanes) kick(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		return
	}
	if at := l.active[key]; at != nil {
		at.again = true
		return
	}
	at := &lane{}
	if l.active == nil {
		l.active = make(map[string]*lane)
	}
	l.active[key] = at
	l.wg.Add(1)
	go l.run(l.ctx, key, at)
}

func (l *lanes) run(ctx context.Context, key string, at *lane) {
	defer l.wg.Done()
	for {
		panicked := l.guard(func() { l.work(ctx, key) }) && sleep(ctx, l.pause) == nil
		l.mu.Lock()
		if !at.again && !panicked || ctx.Err() != nil {
			if delete(l.active, key); len(l.active) == 0 {
				l.active = nil
			}
			l.mu.Unlock()
			return
		}
		at.again = false
		l.mu.Unlock()
	}
}
