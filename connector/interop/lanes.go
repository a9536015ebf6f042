package interop

import (
	"context"
	"sync"
)

// lanes run the work of keys (chats, people), one goroutine for a key while it
// has something to do and none afterwards, so that keys do not hold up each other
// and an idle account costs nothing.
type lanes struct {
	a    *Account
	kind *laneKind

	mu     sync.Mutex
	ctx    context.Context  // nil while not started or stopped
	active map[string]*lane // nil while there is none: an idle account has many lanes
	wg     sync.WaitGroup
}

// laneKind is what the same lanes of all accounts have in common.
type laneKind struct {
	// what is for Account.guard.
	what string
	// work does all there is to do for the key and returns. It is called again
	// if kick came in the meantime, and, after a pause, if it panicked.
	work func(a *Account, ctx context.Context, key string)
}

// The lanes of an account.
var (
	connLanes      = laneKind{inConnection, func(a *Account, ctx context.Context, key string) { a.conn.work(ctx, key) }}
	inboxLanes     = laneKind{"inbox", func(a *Account, ctx context.Context, key string) { a.inbox.work(ctx, key) }}
	waitsLanes     = laneKind{"waits", func(a *Account, ctx context.Context, key string) { a.waits.work(ctx, key) }}
	mailLanes      = laneKind{"mail", func(a *Account, ctx context.Context, key string) { a.mail.work(ctx, key) }}
	receiptsLanes  = laneKind{"receipts", func(a *Account, ctx context.Context, key string) { a.receipts.work(ctx, key) }}
	typingInLanes  = laneKind{"typing", func(a *Account, ctx context.Context, key string) { a.typing.tell(ctx, key) }}
	typingOutLanes = laneKind{"typing", func(a *Account, ctx context.Context, key string) { a.typing.send(ctx, key) }}
	outboxLanes    = laneKind{"outbox", func(a *Account, ctx context.Context, key string) { a.outbox.work(ctx, key) }}
	newsLanes      = laneKind{"news", func(a *Account, ctx context.Context, key string) { a.news.work(ctx, key) }}
	keysLanes      = laneKind{"keys", func(a *Account, ctx context.Context, key string) { a.keys.work(ctx, key) }}
	choresLanes    = laneKind{"chores", func(a *Account, ctx context.Context, key string) { a.chores.work(ctx, key) }}
	blocksLanes    = laneKind{"blocks", func(a *Account, ctx context.Context, key string) { a.blocks.work(ctx, key) }}
)

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
		panicked := l.a.guard(l.kind.what, func() { l.kind.work(l.a, ctx, key) }) && sleep(ctx, l.a.limits.RetryMin) == nil
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
