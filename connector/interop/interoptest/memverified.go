package interoptest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"testing"

	"postern/connector/interop"
)

// Verified implements interop.Verifications.
func (s *MemStore) Verified(ctx context.Context) (list []interop.Verified, err error) {
	s.read(ctx, func(d *memData) {
		list = slices.SortedFunc(maps.Values(d.verified), func(a, b interop.Verified) int {
			return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Chat, b.Chat))
		})
	})
	return list, nil
}

// PutVerified implements interop.Verifications.
func (s *MemStore) PutVerified(ctx context.Context, v interop.Verified) error {
	return s.write(ctx, func(d *memData) error {
		d.verified[v.Chat] = v
		return nil
	})
}

// verified is the contract of interop.Verifications.
func (s suite) verified(t *testing.T) {
	first, second := s.peer(t, 1).Chat, s.peer(t, 2).Chat
	want := func(what string, list ...interop.Verified) {
		t.Helper()
		got, err := s.Verified(s.ctx)
		check(t, err)
		equal(t, what, append([]interop.Verified{}, got...), append([]interop.Verified{}, list...))
	}
	one := interop.Verified{Chat: second, Shown: [32]byte{1}, At: 5}
	other := interop.Verified{Chat: first, Confirmed: true, Key: [32]byte{2}, Shown: [32]byte{3}, At: 9}
	want("at first")
	check(t, s.PutVerified(s.ctx, one))
	check(t, s.PutVerified(s.ctx, other))
	want("two", one, other)
	one.Confirmed, one.Key, one.At = true, one.Shown, 12
	check(t, s.PutVerified(s.ctx, one))
	want("one confirmed", other, one)
	other.Confirmed, other.Key, other.At = false, [32]byte{}, 20
	check(t, s.PutVerified(s.ctx, other))
	want("and one taken back", one, other)
}
