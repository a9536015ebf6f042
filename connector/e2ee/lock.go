package e2ee

import (
	"context"
	"sync"
)

// addressLocks is one lock for each address in use. The zero value works. An entry lives only while somebody holds or
// awaits it, so memory does not grow with the number of contacts.
type addressLocks struct {
	mu   sync.Mutex
	held map[string]*addressLock
}

type addressLock struct {
	slot  chan struct{} // full while the lock is held
	users int           // holders and waiters, guarded by addressLocks.mu
}

// lock waits until addr is free or ctx ends. The caller calls unlock once.
func (l *addressLocks) lock(ctx context.Context, addr string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = make(map[string]*addressLock)
	}
	entry := l.held[addr]
	if entry == nil {
		entry = &addressLock{slot: make(chan struct{}, 1)}
		l.held[addr] = entry
	}
	entry.users++
	l.mu.Unlock()
	select {
	case entry.slot <- struct{}{}:
		return func() {
			<-entry.slot
			l.leave(addr, entry)
		}, nil
	case <-ctx.Done():
		l.leave(addr, entry)
		return nil, ctx.Err()
	}
}

func (l *addressLocks) leave(addr string, entry *addressLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry.users--; entry.users == 0 {
		delete(l.held, addr)
	}
}
