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

// LoadSession implements e2ee.Store. A damaged row is a session that is lost; what an old copy of the database has is read in, and never
// sent in.
func (s signalStore) LoadSession(ctx context.Context, addr string) ([]byte, error) {
	row, old, err := s.SignalStore.LoadSession(ctx, addr)
	if old && err == nil {
		row = e2ee.RetireSession(row)
	}
	return row, damagedIs(e2ee.ErrCorruptSession, err)
}

// LoadIdentity implements e2ee.Store.
func (s signalStore) LoadIdentity(ctx context.Context, addr string) ([]byte, error) {
	key, err := s.SignalStore.LoadIdentity(ctx, addr)
	return key, damagedIs(e2ee.ErrKeyStored, err)
}

// LoadPreKey implements e2ee.Store.
func (s signalStore) LoadPreKey(ctx context.Context, id uint32) ([]byte, error) {
	key, err := s.SignalStore.LoadPreKey(ctx, id)
	return key, damagedIs(e2ee.ErrKeyStored, err)
}

// LoadSignedPreKey implements e2ee.Store.
func (s signalStore) LoadSignedPreKey(ctx context.Context, id uint32) ([]byte, error) {
	key, err := s.SignalStore.LoadSignedPreKey(ctx, id)
	return key, damagedIs(e2ee.ErrKeyStored, err)
}

// damagedIs says in package e2ee's words that one row cannot be read. Any other error is the database's, and concerns
// all rows.
func damagedIs(what *e2ee.Error, err error) error {
	if errors.Is(err, database.ErrSealBroken) {
		return what
	}
	return err
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
