package interoptest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"testing"

	"postern/connector/interop"
)

// Blocks implements interop.Blocks.
func (s *MemStore) Blocks(ctx context.Context) (list []interop.Block, err error) {
	s.read(ctx, func(d *memData) {
		list = slices.SortedFunc(maps.Values(d.blocks), func(a, b interop.Block) int {
			return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Chat, b.Chat))
		})
	})
	return list, nil
}

// PutBlock implements interop.Blocks.
func (s *MemStore) PutBlock(ctx context.Context, b interop.Block) error {
	return s.write(ctx, func(d *memData) error {
		if d.blocks[b.Chat] = b; !b.Blocked && !b.Pending {
			delete(d.blocks, b.Chat)
		}
		return nil
	})
}

// blocks is the contract of interop.Blocks.
func (s suite) blocks(t *testing.T) {
	first, second := s.peer(t, 1).Chat, s.peer(t, 2).Chat
	put := func(b interop.Block) {
		t.Helper()
		check(t, s.PutBlock(s.ctx, b))
	}
	want := func(what string, list ...interop.Block) {
		t.Helper()
		got, err := s.Blocks(s.ctx)
		check(t, err)
		equal(t, what, append([]interop.Block{}, got...), append([]interop.Block{}, list...))
	}
	want("at first")
	put(interop.Block{Chat: second, Blocked: true, Pending: true, At: 5})
	put(interop.Block{Chat: first, Blocked: true, At: 9})
	want("two", interop.Block{Chat: second, Blocked: true, Pending: true, At: 5}, interop.Block{Chat: first, Blocked: true, At: 9})
	put(interop.Block{Chat: second, Pending: true, At: 12})
	want("one to be let in", interop.Block{Chat: first, Blocked: true, At: 9}, interop.Block{Chat: second, Pending: true, At: 12})
	put(interop.Block{Chat: second, At: 12})
	want("and let in", interop.Block{Chat: first, Blocked: true, At: 9})
}
