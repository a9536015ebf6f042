package interop_test

import (
	"context"
	"testing"
	"time"
)

// TestOneUnreadableMessageThatComesWithoutEndMakesNoKeysWithoutEnd: whoever sends the very same bytes again and again is asked again, for the
// receipt may have been lost, but a prekey is on disk for ever until somebody uses it.
func TestOneUnreadableMessageThatComesWithoutEndMakesNoKeysWithoutEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.mu.Lock()
		m := mangled(b.g.seal(p, "A", "unreadable", 0))
		b.g.mu.Unlock()
		first := must(b.store.ReservePreKeyIDs(context.Background(), 1))
		for range 1000 {
			b.g.mu.Lock()
			b.g.push(m)
			b.g.mu.Unlock()
			settle()
		}
		pass(time.Second)
		last := must(b.store.ReservePreKeyIDs(context.Background(), 1))
		b.sees(func() { t.Logf("%d retry receipts", len(p.retry)) })
		if made := last - first - 1; made < 10 || made > 250 {
			t.Errorf("%d prekeys were made for one message", made)
		}
	})
}
