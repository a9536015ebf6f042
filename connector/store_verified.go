package connector

import (
	"context"
	"errors"

	"postern/connector/interop"
	"postern/database"
)

// Verified implements interop.Verifications, like all methods of this file. A row that does not open counts as confirmed for a key that nobody
// has, which is the careful thing to make of it.
func (s accountStore) Verified(ctx context.Context) ([]interop.Verified, error) {
	rows, err := s.db.Verified(s.account).All(ctx)
	if errors.Is(err, database.ErrSealBroken) {
		err = nil
	}
	list := make([]interop.Verified, len(rows))
	for i, r := range rows {
		list[i] = interop.Verified{Chat: r.ChatID, Confirmed: r.Confirmed, Key: r.Key, Shown: r.Shown, At: r.At}
	}
	return list, err
}

func (s accountStore) PutVerified(ctx context.Context, v interop.Verified) error {
	return s.db.Verified(s.account).Put(ctx, &database.Verified{ChatID: v.Chat, Confirmed: v.Confirmed, Key: v.Key, Shown: v.Shown, At: v.At})
}
