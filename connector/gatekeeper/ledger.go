package gatekeeper

import (
	"container/list"
	"sync"
	"time"

	"postern/connector/stanza"
)

// ledger holds what was sent on one connection and has to be answered (PROTOCOL.md
// 4.11), oldest first. It is how a stream that only looks alive is found out.
//
// Times are readings of a clock that stands still while the reader is busy with
// something it has read (see link.clock): an answer that waits in the socket for us
// is not the server's silence.
type ledger struct {
	mu      sync.Mutex
	entries map[stanza.Key]*list.Element
	order   *list.List // of debt, nil as entries
	// headSince is when the oldest entry became the oldest. A server that works through
	// a long burst in order is alive, though the last of it waits.
	headSince time.Duration
}

type debt struct {
	key  stanza.Key
	sent time.Duration
}

// add enters a stanza sent at the given reading. One that is there already, sent
// again, keeps its place.
func (l *ledger) add(key stanza.Key, now time.Duration) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.entries[key]; ok {
		return false
	}
	if l.entries == nil {
		l.entries, l.order = make(map[stanza.Key]*list.Element), list.New()
	}
	if l.order.Len() == 0 {
		l.headSince, first = now, true
	}
	l.entries[key] = l.order.PushBack(debt{key, now})
	return first
}

// settle takes an answered stanza out and says whether it was there.
func (l *ledger) settle(key stanza.Key, now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.entries[key]
	if !ok {
		return false
	}
	if l.order.Front() == e {
		l.headSince = now
	}
	l.order.Remove(e)
	if delete(l.entries, key); len(l.entries) == 0 {
		l.entries, l.order = nil, nil // most streams are idle most of the time
	}
	return true
}

// waiting returns for how long the oldest unanswered stanza has been waiting, and
// false if there is none.
func (l *ledger) waiting(now time.Duration) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.order == nil {
		return 0, false
	}
	front := l.order.Front()
	return now - max(front.Value.(debt).sent, l.headSince), true
}
