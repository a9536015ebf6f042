package mediastore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"postern/connector/killpoint"
)

// Store is the media store. Its methods may be called from any goroutine.
type Store struct {
	cfg      Config
	verified verified
	partly   partly

	mu      sync.Mutex
	owners  map[string]*owner // those that write, or have objects without a known row
	pending map[Name]*Object  // put, and not known to have a row
}

// Object is what Put has stored.
type Object struct {
	// Ref is the reference, RefLength characters.
	Ref string
	// Size is in bytes, SHA256 the hash of them.
	Size   int64
	SHA256 [sha256.Size]byte

	name    Name
	owner   string
	created time.Time
	tried   bool // Commit was called; under Store.mu
	gone    bool // discarded or collected; under Store.mu
}

// New makes a store. Its errors say what the configuration lacks.
func New(cfg Config) (*Store, error) {
	if cfg.Backend == nil || cfg.Index == nil {
		return nil, errors.New("mediastore: no backend or no index")
	}
	if cfg.Keep <= 0 || cfg.QuotaBytes < 0 {
		return nil, errors.New("mediastore: time to keep or quota below zero")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Age == nil {
		cfg.Age = cfg.Now
	}
	return &Store{cfg: cfg, owners: map[string]*owner{}, pending: map[Name]*Object{}}, nil
}

// Put stores what fill writes, and returns when it is on disk under a new reference. Nobody can fetch it before Commit. If
// fill fails, or a write of it, nothing is left behind. Errors: ErrQuota (which fill's writes return too),
// ErrFull, ErrEmpty, the backend's, ctx's, and fill's as it is. ctx must not carry a transaction.
func (s *Store) Put(ctx context.Context, ownerID string, fill func(io.Writer) error) (*Object, error) {
	own, release, err := s.enter(ctx, ownerID)
	if err != nil {
		return nil, err
	}
	defer release()
	blob, err := s.cfg.Backend.Create(ctx)
	if err != nil {
		return nil, fmt.Errorf("mediastore: create: %w", noRoom(err))
	}
	defer blob.Abort()
	w := &putWriter{ctx: ctx, store: s, owner: own, blob: blob, hash: sha256.New()}
	// What was reserved while writing goes over to the object, or back.
	defer func() { own.give(w.reserved) }()
	if err := fill(w); err != nil {
		return nil, err
	}
	if w.err != nil {
		return nil, w.err
	}
	if w.size == 0 {
		return nil, ErrEmpty
	}
	o := &Object{Ref: newRef(), Size: w.size, owner: ownerID, created: s.cfg.Now()}
	o.name, o.SHA256 = NameOf(o.Ref), [sha256.Size]byte(w.hash.Sum(nil))
	// Before the blob has its name, so that no sweep takes it for an orphan.
	s.mu.Lock()
	s.pending[o.name] = o
	s.mu.Unlock()
	if err := blob.Commit(ctx, o.name); err != nil {
		s.forget(o)
		return nil, fmt.Errorf("mediastore: commit: %w", noRoom(err))
	}
	own.keep(o)
	w.reserved = 0
	killpoint.Hit(killpoint.OutFileStored)
	return o, nil
}

// putWriter writes into a blob, hashing and counting.
type putWriter struct {
	ctx      context.Context
	store    *Store
	owner    *owner
	blob     Pending
	hash     hash.Hash
	size     int64
	reserved int64
	err      error // sticks: what is written after a failure would follow a hole
}

func (w *putWriter) Write(p []byte) (int, error) {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil {
		w.err = w.owner.take(w.ctx, int64(len(p)))
	}
	if w.err != nil {
		return 0, w.err
	}
	w.reserved += int64(len(p))
	n, err := w.blob.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		w.err = fmt.Errorf("mediastore: write: %w", noRoom(err))
	}
	return n, w.err
}

// Commit makes an object fetchable: its row is added in the transaction that ctx carries, or in one of its own. It may be called again
// when a transaction has failed, also when its outcome is not known. ErrGone after Discard.
func (s *Store) Commit(ctx context.Context, o *Object) error {
	s.mu.Lock()
	gone := o.gone
	o.tried = true
	s.mu.Unlock()
	if gone {
		return ErrGone
	}
	now := s.cfg.Now()
	return s.cfg.Index.Add(ctx, Row{Name: o.name, Owner: o.owner, Size: o.Size, SHA256: o.SHA256, Created: now, Expires: now.Add(s.cfg.Keep)})
}

// Discard removes an object that will not be committed. One that has a row stays. If that cannot be found out, or removing
// fails, the next day's Sweep does it.
func (s *Store) Discard(ctx context.Context, o *Object) {
	ctx = context.WithoutCancel(ctx)
	s.mu.Lock()
	tried, gone := o.tried, o.gone
	s.mu.Unlock()
	if gone {
		return
	}
	if tried {
		row, err := s.cfg.Index.Get(ctx, o.name)
		if err != nil {
			s.cfg.Log.Warn().Err(err).Msg("Could not find out whether an attachment is in use")
			return
		}
		if row != nil {
			s.forget(o)
			return
		}
	}
	s.mu.Lock()
	o.gone = true
	s.mu.Unlock()
	s.forget(o)
	if err := s.cfg.Backend.Delete(ctx, o.name); err != nil {
		s.cfg.Log.Warn().Err(err).Msg("Could not delete an attachment that is not used")
	}
}

// forget ends the store's memory of an object that has a row now, or no blob.
func (s *Store) forget(o *Object) {
	s.mu.Lock()
	known := s.pending[o.name] == o
	if known {
		delete(s.pending, o.name)
	}
	own := s.owners[o.owner]
	s.mu.Unlock()
	if !known || own == nil {
		return
	}
	own.drop(o)
	s.tidy(own)
}

// DeleteOwner deletes all that an owner has (PROTOCOL.md 7.3). From its beginning on nothing of it can be fetched; what cannot be deleted now is
// deleted by a later Sweep, and the error says so. The owner must not put anything meanwhile.
func (s *Store) DeleteOwner(ctx context.Context, ownerID string) error {
	if err := s.cfg.Index.ExpireOwner(ctx, ownerID); err != nil {
		return err
	}
	var own []*Object
	s.mu.Lock()
	for _, o := range s.pending {
		if o.owner == ownerID {
			own = append(own, o)
		}
	}
	s.mu.Unlock()
	for _, o := range own {
		s.Discard(ctx, o)
	}
	return s.deleteRows(ctx, func(after *Name) ([]Row, error) {
		return s.cfg.Index.OfOwner(ctx, ownerID, after, batch)
	})
}
