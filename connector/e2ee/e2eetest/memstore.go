// Package e2eetest holds a Store in memory and the suite every e2ee.Store has to pass.
//
// Layer: test support beside e2ee; it may import e2ee and jid and nothing else of ours. Tests and the simulated
// gatekeeper use it; nothing that must survive a restart may.
package e2eetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"postern/connector/e2ee"
)

// MemStore is an e2ee.Store and e2ee.PreKeyWriter in memory. The zero value is not usable; see NewMemStore.
type MemStore struct {
	transaction sync.Mutex // held by Commit from the check to the writes

	mu   sync.RWMutex // guards rows
	rows map[string][]byte
}

// NewMemStore makes an empty store.
func NewMemStore() *MemStore { return &MemStore{rows: make(map[string][]byte)} }

func sessionKey(addr string) string    { return "session/" + addr }
func identityKey(addr string) string   { return "identity/" + addr }
func preKeyKey(id uint32) string       { return fmt.Sprintf("prekey/%d", id) }
func signedPreKeyKey(id uint32) string { return fmt.Sprintf("signed/%d", id) }

// LoadSession implements e2ee.Store.
func (m *MemStore) LoadSession(ctx context.Context, addr string) ([]byte, error) {
	return m.load(ctx, sessionKey(addr))
}

// LoadIdentity implements e2ee.Store.
func (m *MemStore) LoadIdentity(ctx context.Context, addr string) ([]byte, error) {
	return m.load(ctx, identityKey(addr))
}

// LoadPreKey implements e2ee.Store.
func (m *MemStore) LoadPreKey(ctx context.Context, id uint32) ([]byte, error) {
	return m.load(ctx, preKeyKey(id))
}

// LoadSignedPreKey implements e2ee.Store.
func (m *MemStore) LoadSignedPreKey(ctx context.Context, id uint32) ([]byte, error) {
	return m.load(ctx, signedPreKeyKey(id))
}

func (m *MemStore) load(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Clone(m.rows[key]), nil
}

// Commit implements e2ee.Store. extra may load from the store; it must not commit.
func (m *MemStore) Commit(ctx context.Context, c *e2ee.Change, extra func(ctx context.Context) error) error {
	m.transaction.Lock()
	defer m.transaction.Unlock()
	if c.UsedPreKey != nil {
		key, err := m.load(ctx, preKeyKey(*c.UsedPreKey))
		if err != nil {
			return err
		}
		if key == nil {
			return e2ee.ErrPreKeyGone
		}
	}
	if extra != nil {
		if err := extra(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Session != nil {
		m.rows[sessionKey(c.Addr)] = slices.Clone(c.Session)
	}
	if c.Identity != nil {
		m.rows[identityKey(c.Addr)] = slices.Clone(c.Identity)
	}
	if c.UsedPreKey != nil {
		delete(m.rows, preKeyKey(*c.UsedPreKey))
	}
	return nil
}

// StorePreKeys implements e2ee.PreKeyWriter.
func (m *MemStore) StorePreKeys(ctx context.Context, keys []e2ee.PreKey) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range keys {
		m.rows[preKeyKey(keys[i].ID)] = keys[i].Marshal()
	}
	return nil
}

// StoreSignedPreKey implements e2ee.PreKeyWriter.
func (m *MemStore) StoreSignedPreKey(ctx context.Context, key e2ee.SignedPreKey) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[signedPreKeyKey(key.ID)] = key.Marshal()
	return nil
}

// Snapshot returns all rows: names of the form "session/ADDRESS", "identity/ADDRESS", "prekey/ID", "signed/ID", and
// bytes. The bytes are shared with the store, which replaces rows and never changes one in place; so must the caller.
func (m *MemStore) Snapshot() map[string][]byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.rows)
}

// Restore puts the store back to a snapshot.
func (m *MemStore) Restore(snapshot map[string][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = maps.Clone(snapshot)
}
