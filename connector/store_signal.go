package connector

import (
	"context"
	"errors"
	"time"

	"postern/connector/e2ee"
	"postern/database"
)

// signalStore fits an account's Signal rows to what package e2ee asks for. Its other methods are
// the database's own.
type signalStore struct{ *database.SignalStore }

var (
	_ e2ee.Store        = signalStore{}
	_ e2ee.PreKeyWriter = signalStore{}
)

// newSignalStore is the store of one account, by its local id.
func newSignalStore(db *database.DB, accountID string) signalStore {
	return signalStore{db.Signal(accountID)}
}

// Commit implements e2ee.Store.
func (s signalStore) Commit(ctx context.Context, c *e2ee.Change, extra func(ctx context.Context) error) error {
	err := s.Apply(ctx, database.SignalChange{
		Addr: c.Addr, Session: c.Session, Identity: c.Identity, UsedPreKey: c.UsedPreKey,
	}, extra)
	if errors.Is(err, database.ErrPreKeyGone) {
		return e2ee.ErrPreKeyGone
	}
	return err
}

// StorePreKeys implements e2ee.PreKeyWriter. The keys count as not uploaded.
func (s signalStore) StorePreKeys(ctx context.Context, keys []e2ee.PreKey) error {
	rows := make([]database.PreKey, len(keys))
	for i, k := range keys {
		rows[i] = database.PreKey{ID: k.ID, Record: k.Marshal()}
	}
	return s.PutPreKeys(ctx, rows)
}

// StoreSignedPreKey implements e2ee.PreKeyWriter. The key's age counts from now.
func (s signalStore) StoreSignedPreKey(ctx context.Context, key e2ee.SignedPreKey) error {
	return s.PutSignedPreKey(ctx, database.PreKey{ID: key.ID, Record: key.Marshal(), CreatedAt: time.Now().UnixMilli()})
}
