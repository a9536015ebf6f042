package interop

import (
	"context"
	"sync"
)

// connNews tells Upcalls the newest state of the stream, from a goroutine of its
// own and not twice the same.
type connNews struct {
	a     *Account
	lanes lanes

	mu   sync.Mutex
	want *ConnState
}

func newConnNews(a *Account) *connNews {
	n := &connNews{a: a}
	n.lanes = lanes{a: a, kind: &connLanes}
	return n
}

func (n *connNews) start(ctx context.Context) { n.lanes.start(ctx) }

// stop tells the last state before it returns: the end of an account is news too.
func (n *connNews) stop() {
	n.lanes.stop()
	n.a.guard(inConnection, func() { n.work(context.Background(), "") })
}

func (n *connNews) set(s ConnState) {
	n.mu.Lock()
	n.want = &s
	n.mu.Unlock()
	n.lanes.kick("")
}

func (n *connNews) work(ctx context.Context, _ string) {
	for {
		n.mu.Lock()
		s := n.want
		n.want = nil
		n.mu.Unlock()
		if s == nil {
			return
		}
		n.a.up.Connection(ctx, *s)
	}
}
