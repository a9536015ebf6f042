package connector

import (
	"context"
	"slices"

	"postern/connector/interop"
	"postern/database"
)

// maxLetters is more than an account has dead letters, by interop.Limits.
const maxLetters = 1 << 20

// BuryInbound implements interop.Letters, like all methods of this file.
func (s accountStore) BuryInbound(ctx context.Context, row *interop.InRow, reason string, at int64) error {
	return s.queue.BuryIn(ctx, toIn(row), reason, at)
}

func (s accountStore) DeadLetters(ctx context.Context) ([]*interop.Letter, error) {
	rows, err := s.db.Letters(ctx, s.account, 0, maxLetters)
	list := make([]*interop.Letter, len(rows))
	for i, l := range rows {
		list[i] = &interop.Letter{ID: l.ID, Chat: l.ChatID, Outgoing: l.Outgoing, Reason: l.Reason, At: l.At, Tries: l.Tries, Size: l.Size}
	}
	return list, err
}

func (s accountStore) LetterInbound(ctx context.Context, id string) (*interop.InRow, error) {
	return oneIn(s.queue.LetterIn(ctx, id))
}

func (s accountStore) ReviveInbound(ctx context.Context, id string, seq int64) (*interop.InRow, error) {
	return oneIn(s.queue.ReviveIn(ctx, id, seq))
}

func oneIn(r *database.QueueIn, err error) (*interop.InRow, error) {
	if r == nil || err != nil {
		return nil, err
	}
	return fromIn(r), nil
}

func (s accountStore) DropLetter(ctx context.Context, id string) (bool, error) {
	return s.queue.DropLetter(ctx, id)
}

// damaged says whether a part cannot be sent because of what its row has lost.
func damaged(r *database.QueueOut) bool {
	switch interop.PartState(r.State) {
	case interop.PartQueued:
		return slices.Contains(r.Broken, "recipe") || slices.Contains(r.Broken, "plaintext")
	case interop.PartEncrypted:
		return slices.Contains(r.Broken, "stanza")
	}
	return false
}
