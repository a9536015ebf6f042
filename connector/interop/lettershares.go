package interop

import (
	"context"
	"slices"
	"time"
)

// pruneLetters drops the dead letters that are too old, and those beyond the account's bounds. It says how many.
func pruneLetters(ctx context.Context, store Store, limits *Limits, now time.Time) (n int, err error) {
	before := now.Add(-limits.LetterTime).UnixMilli()
	err = store.Do(ctx, func(ctx context.Context) error {
		n = 0
		list, err := store.DeadLetters(ctx)
		if err != nil {
			return err
		}
		for _, l := range surplus(list, before, limits.LetterKeep, int64(limits.LetterBytes)) {
			if _, err = store.DropLetter(ctx, l.ID); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// surplus chooses among dead letters, the oldest first, those that are to go: what died before a time (Unix milliseconds), what is more than
// keep of a direction, and what is more than so many bytes of the incoming ones. Each chat has a share: what goes is the oldest of the
// chat that has most, so that nobody's letters push out those of others. The newest is kept whatever its size, and counts for
// half of the bytes at most.
func surplus(list []*Letter, before int64, keep int, size int64) (drop []*Letter) {
	var ways [2][]*Letter
	for _, l := range list {
		switch {
		case l.At < before:
			drop = append(drop, l)
		case l.Outgoing:
			ways[0] = append(ways[0], l)
		default:
			ways[1] = append(ways[1], l)
		}
	}
	for i, way := range ways {
		left, gone := shares(way, int64(keep), nil, func(*Letter) int64 { return 1 })
		if drop = append(drop, gone...); i == 0 || len(left) == 0 {
			continue
		}
		newest := left[len(left)-1]
		_, gone = shares(left, size, newest, func(l *Letter) int64 {
			if l == newest {
				return min(l.Size, size/2)
			}
			return l.Size
		})
		drop = append(drop, gone...)
	}
	return drop
}

// shares takes letters, the oldest first, away from the chat that has most of something until all chats together have a bound of it at most.
// One letter is spared.
func shares(list []*Letter, bound int64, spared *Letter, cost func(*Letter) int64) (left, gone []*Letter) {
	left = slices.Clone(list)
	sum, total := map[string]int64{}, int64(0)
	for _, l := range left {
		sum[l.Chat] += cost(l)
		total += cost(l)
	}
	for total > bound {
		most := -1 // of two that have as much, the one with the oldest letter
		for i, l := range left {
			if l != spared && (most < 0 || sum[l.Chat] > sum[left[most].Chat]) {
				most = i
			}
		}
		if most < 0 {
			break
		}
		l := left[most]
		sum[l.Chat] -= cost(l)
		total -= cost(l)
		left, gone = slices.Delete(left, most, most+1), append(gone, l)
	}
	return left, gone
}
