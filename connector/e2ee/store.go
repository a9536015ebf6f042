package e2ee

import "context"

// Store keeps the Signal rows of one account. All methods are safe for concurrent use. A load returns a copy that is
// the caller's own; nil, nil means there is no such row. Rows are opaque and secret: a Store that writes to disk seals
// them. A row that is there and damaged is ErrCorruptSession for a session and ErrKeyStored for a key: that it is lost
// concerns one peer alone. e2eetest.Conformance says whether an implementation is right.
type Store interface {
	// LoadSession returns the session row of addr, as Commit got it or as RetireSession makes it of that, at most MaxSessionBytes.
	LoadSession(ctx context.Context, addr string) ([]byte, error)
	// LoadIdentity returns the 32 bytes of addr's identity key.
	LoadIdentity(ctx context.Context, addr string) ([]byte, error)
	// LoadPreKey returns a one-time prekey as PreKey.Marshal made it.
	LoadPreKey(ctx context.Context, id uint32) ([]byte, error)
	// LoadSignedPreKey returns a signed prekey as SignedPreKey.Marshal made it. Replaced ones are kept for a time of grace
	// (PROTOCOL.md 5.1).
	LoadSignedPreKey(ctx context.Context, id uint32) ([]byte, error)
	// Commit writes c and whatever extra writes in one durable transaction. extra runs inside it with a context that
	// carries the transaction; it may be nil. If extra fails, its error comes back (errors.Is holds) and nothing is
	// written. If c.UsedPreKey is not there, the error is ErrPreKeyGone and nothing is written. Commit keeps none of c's
	// slices.
	Commit(ctx context.Context, c *Change, extra func(ctx context.Context) error) error
}

// Change is what one operation changes in the store.
type Change struct {
	Addr       string  // from jid.JID.SignalAddress; compared byte for byte
	Session    []byte  // the new session row; nil: unchanged
	Identity   []byte  // the new identity key, 32 bytes; nil: unchanged
	UsedPreKey *uint32 // the one-time prekey to delete; nil: none
}

// PreKeyWriter is what a store offers besides, for whoever generates prekeys and for e2eetest. A key whose id exists is
// replaced. Each call is one durable transaction, or part of the one ctx carries.
type PreKeyWriter interface {
	StorePreKeys(ctx context.Context, keys []PreKey) error
	StoreSignedPreKey(ctx context.Context, key SignedPreKey) error
}
