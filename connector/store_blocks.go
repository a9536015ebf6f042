package connector

import (
	"context"

	"postern/connector/interop"
	"postern/database"
)

// Blocks implements interop.Blocks, like all methods of this file.
func (s accountStore) Blocks(ctx context.Context) ([]interop.Block, error) {
	rows, err := s.db.Blocks(s.account).All(ctx)
	list := make([]interop.Block, len(rows))
	for i, r := range rows {
		list[i] = interop.Block{Chat: r.ChatID, Blocked: r.Blocked, Pending: r.Pending, At: r.At}
	}
	return list, err
}

func (s accountStore) PutBlock(ctx context.Context, b interop.Block) error {
	return s.db.Blocks(s.account).Put(ctx, &database.Block{ChatID: b.Chat, Blocked: b.Blocked, Pending: b.Pending, At: b.At})
}
