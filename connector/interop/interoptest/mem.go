// Package interoptest helps to test what package interop stands on: a contract in executable form for
// interop.Store, and a Store in memory that keeps it.
//
// Layer: tests only. It may import interop and what that imports, never database or connector.
package interoptest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"postern/connector/e2ee"
	"postern/connector/interop"
	"postern/connector/jid"
)

// MemStore is an interop.Store in memory. What it holds outlives the Account that used it, so that a test can
// leave one Account and open another on the same store, as after a crash.
type MemStore struct {
	mu sync.Mutex
	d  memData
}

var _ interop.Store = (*MemStore)(nil)

// memData is replaced, never changed, below the maps: a copy of the maps is a copy of the data.
type memData struct {
	sessions, identities map[string][]byte
	preKeys              map[uint32]memKey
	signed               map[uint32]interop.KeyRecord
	nextPreKey, nextKey  uint32
	in                   map[inKey]interop.InRow
	out                  map[string]interop.OutRow
	due                  map[string]bool
	peers                map[string]interop.Peer
	letters              map[inKey]memLetter
	failed               map[string]memLetter // by event
	renewal              string
	blocks               map[string]interop.Block
	verified             map[string]interop.Verified
}

type memKey struct {
	record   []byte
	uploaded bool
}

type inKey struct {
	chat  string
	class interop.Class
	id    string
}

// NewMemStore makes an empty store.
func NewMemStore() *MemStore {
	return &MemStore{d: memData{
		sessions: map[string][]byte{}, identities: map[string][]byte{}, preKeys: map[uint32]memKey{},
		signed: map[uint32]interop.KeyRecord{}, in: map[inKey]interop.InRow{}, out: map[string]interop.OutRow{},
		due: map[string]bool{}, peers: map[string]interop.Peer{}, letters: map[inKey]memLetter{}, failed: map[string]memLetter{},
		blocks: map[string]interop.Block{}, verified: map[string]interop.Verified{},
	}}
}

func (d memData) clone() memData {
	d.sessions, d.identities = maps.Clone(d.sessions), maps.Clone(d.identities)
	d.blocks, d.verified = maps.Clone(d.blocks), maps.Clone(d.verified)
	d.preKeys, d.signed = maps.Clone(d.preKeys), maps.Clone(d.signed)
	d.in, d.out, d.due, d.peers = maps.Clone(d.in), maps.Clone(d.out), maps.Clone(d.due), maps.Clone(d.peers)
	d.letters, d.failed = maps.Clone(d.letters), maps.Clone(d.failed)
	return d
}

// inTx is the key under which a context carries the transaction of a MemStore.
type inTx struct{}

// Do implements interop.Queue.
func (s *MemStore) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx.Value(inTx{}) != s {
		s.mu.Lock()
		defer s.mu.Unlock()
		ctx = context.WithValue(ctx, inTx{}, s)
	}
	before := s.d.clone()
	if err := fn(ctx); err != nil {
		s.d = before
		return err
	}
	return nil
}

// read runs fn with the lock held.
func (s *MemStore) read(ctx context.Context, fn func(d *memData)) {
	if ctx.Value(inTx{}) != s {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	fn(&s.d)
}

func (s *MemStore) write(ctx context.Context, fn func(d *memData) error) error {
	return s.Do(ctx, func(context.Context) error { return fn(&s.d) })
}

// LoadSession implements e2ee.Store.
func (s *MemStore) LoadSession(ctx context.Context, addr string) (b []byte, err error) {
	s.read(ctx, func(d *memData) { b = bytes.Clone(d.sessions[addr]) })
	return b, ctx.Err()
}

// LoadIdentity implements e2ee.Store.
func (s *MemStore) LoadIdentity(ctx context.Context, addr string) (b []byte, err error) {
	s.read(ctx, func(d *memData) { b = bytes.Clone(d.identities[addr]) })
	return b, ctx.Err()
}

// LoadPreKey implements e2ee.Store.
func (s *MemStore) LoadPreKey(ctx context.Context, id uint32) (b []byte, err error) {
	s.read(ctx, func(d *memData) { b = bytes.Clone(d.preKeys[id].record) })
	return b, ctx.Err()
}

// LoadSignedPreKey implements e2ee.Store.
func (s *MemStore) LoadSignedPreKey(ctx context.Context, id uint32) (b []byte, err error) {
	s.read(ctx, func(d *memData) { b = bytes.Clone(d.signed[id].Record) })
	return b, ctx.Err()
}

// Commit implements e2ee.Store.
func (s *MemStore) Commit(ctx context.Context, c *e2ee.Change, extra func(ctx context.Context) error) error {
	return s.Do(ctx, func(ctx context.Context) error {
		d := &s.d
		if c.UsedPreKey != nil {
			if _, ok := d.preKeys[*c.UsedPreKey]; !ok {
				return e2ee.ErrPreKeyGone
			}
			delete(d.preKeys, *c.UsedPreKey)
		}
		if c.Session != nil {
			d.sessions[c.Addr] = bytes.Clone(c.Session)
		}
		if c.Identity != nil {
			d.identities[c.Addr] = bytes.Clone(c.Identity)
		}
		if extra == nil {
			return nil
		}
		return extra(ctx)
	})
}

// StorePreKeys implements e2ee.PreKeyWriter.
func (s *MemStore) StorePreKeys(ctx context.Context, keys []e2ee.PreKey) error {
	records := make([]interop.KeyRecord, len(keys))
	for i := range keys {
		records[i] = interop.KeyRecord{ID: keys[i].ID, Record: keys[i].Marshal()}
	}
	return s.PutPreKeys(ctx, records)
}

// StoreSignedPreKey implements e2ee.PreKeyWriter.
func (s *MemStore) StoreSignedPreKey(ctx context.Context, key e2ee.SignedPreKey) error {
	return s.PutSignedPreKey(ctx, interop.KeyRecord{ID: key.ID, Record: key.Marshal()})
}

// LastSeq implements interop.Queue.
func (s *MemStore) LastSeq(ctx context.Context) (last int64, err error) {
	s.read(ctx, func(d *memData) {
		for _, r := range d.in {
			if r.State == interop.InPending || r.State == interop.InWaiting || r.State == interop.InHeld || r.State == interop.InWithheld ||
				r.Receipt == interop.ReceiptDue || dueRead(&r) {
				last = max(last, r.Seq)
			}
		}
		for id, r := range d.out {
			if r.State < interop.PartSent || r.Retry != nil || r.Stanza != nil || d.due[id] {
				last = max(last, r.Seq)
			}
		}
	})
	return last, ctx.Err()
}

// PeerByJID implements interop.Directory.
func (s *MemStore) PeerByJID(ctx context.Context, j jid.JID) (p interop.Peer, err error) {
	err = s.write(ctx, func(d *memData) error {
		for _, p = range d.peers {
			if p.JID == j {
				return nil
			}
		}
		n := strconv.Itoa(len(d.peers) + 1)
		p = interop.Peer{Chat: "chat" + n, Contact: "contact" + n, JID: j}
		d.peers[p.Chat] = p
		return nil
	})
	return p, err
}

// FindPeer implements interop.Directory.
func (s *MemStore) FindPeer(ctx context.Context, j jid.JID) (interop.Peer, error) {
	found, err := interop.Peer{}, interop.ErrNoChat
	s.read(ctx, func(d *memData) {
		for _, p := range d.peers {
			if p.JID == j {
				found, err = p, nil
			}
		}
	})
	return found, errors.Join(err, ctx.Err())
}

// PeerByChat implements interop.Directory.
func (s *MemStore) PeerByChat(ctx context.Context, chat string) (p interop.Peer, err error) {
	ok := false
	s.read(ctx, func(d *memData) { p, ok = d.peers[chat] })
	if !ok {
		return p, interop.ErrNoChat
	}
	return p, ctx.Err()
}

// ReservePreKeyIDs implements interop.PreKeys.
func (s *MemStore) ReservePreKeyIDs(ctx context.Context, n int) (first uint32, err error) {
	err = s.write(ctx, func(d *memData) error {
		first = d.nextPreKey + 1
		d.nextPreKey += uint32(n)
		return nil
	})
	return first, err
}

// ReserveSignedPreKeyID implements interop.PreKeys.
func (s *MemStore) ReserveSignedPreKeyID(ctx context.Context) (id uint32, err error) {
	err = s.write(ctx, func(d *memData) error {
		d.nextKey++
		id = d.nextKey
		return nil
	})
	return id, err
}

// PutPreKeys implements interop.PreKeys.
func (s *MemStore) PutPreKeys(ctx context.Context, keys []interop.KeyRecord) error {
	return s.write(ctx, func(d *memData) error {
		for _, k := range keys {
			d.preKeys[k.ID] = memKey{record: bytes.Clone(k.Record)}
		}
		return nil
	})
}

// PreKeysToUpload implements interop.PreKeys.
func (s *MemStore) PreKeysToUpload(ctx context.Context, limit int) (list []interop.KeyRecord, err error) {
	s.read(ctx, func(d *memData) {
		for _, id := range slices.Sorted(maps.Keys(d.preKeys)) {
			if k := d.preKeys[id]; !k.uploaded && len(list) < limit {
				list = append(list, interop.KeyRecord{ID: id, Record: bytes.Clone(k.record)})
			}
		}
	})
	return list, ctx.Err()
}

// DeletePreKeys implements interop.PreKeys.
func (s *MemStore) DeletePreKeys(ctx context.Context, ids []uint32) error {
	return s.write(ctx, func(d *memData) error {
		for _, id := range ids {
			if k, ok := d.preKeys[id]; ok && !k.uploaded {
				delete(d.preKeys, id)
			}
		}
		return nil
	})
}

// MarkPreKeysUploaded implements interop.PreKeys.
func (s *MemStore) MarkPreKeysUploaded(ctx context.Context, ids []uint32) error {
	return s.write(ctx, func(d *memData) error {
		for _, id := range ids {
			if k, ok := d.preKeys[id]; ok {
				k.uploaded = true
				d.preKeys[id] = k
			}
		}
		return nil
	})
}

// PutSignedPreKey implements interop.PreKeys.
func (s *MemStore) PutSignedPreKey(ctx context.Context, key interop.KeyRecord) error {
	return s.write(ctx, func(d *memData) error {
		key.Record = bytes.Clone(key.Record)
		d.signed[key.ID] = key
		d.nextKey = max(d.nextKey, key.ID)
		return nil
	})
}

// SignedPreKeys implements interop.PreKeys.
func (s *MemStore) SignedPreKeys(ctx context.Context) (list []interop.KeyRecord, err error) {
	s.read(ctx, func(d *memData) { list = slices.Collect(maps.Values(d.signed)) })
	slices.SortFunc(list, func(a, b interop.KeyRecord) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(b.ID, a.ID))
	})
	return list, ctx.Err()
}

// DeleteSignedPreKeys implements interop.PreKeys.
func (s *MemStore) DeleteSignedPreKeys(ctx context.Context, before int64) error {
	list, err := s.SignedPreKeys(ctx)
	if err != nil {
		return err
	}
	return s.write(ctx, func(d *memData) error {
		for i, k := range list {
			if i > 0 && k.Created < before {
				delete(d.signed, k.ID)
			}
		}
		return nil
	})
}

// Renewal implements interop.PreKeys.
func (s *MemStore) Renewal(ctx context.Context) (occasion string, err error) {
	s.read(ctx, func(d *memData) { occasion = d.renewal })
	return occasion, ctx.Err()
}

// Renewed implements interop.PreKeys.
func (s *MemStore) Renewed(ctx context.Context, occasion string) error {
	return s.write(ctx, func(d *memData) error {
		if d.renewal == occasion {
			d.renewal = ""
		}
		return nil
	})
}

// Clone is a copy of the store as it is now.
func (s *MemStore) Clone() *MemStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &MemStore{d: s.d.clone()}
}

// Copied makes the store what database makes of an old copy of itself: its sessions are retired, the ids of prekeys leap, and
// all of its prekeys count as uploaded.
func (s *MemStore) Copied(occasion string) {
	_ = s.write(context.Background(), func(d *memData) error { // fails on nothing but an ended context
		for addr, row := range d.sessions {
			d.sessions[addr] = e2ee.RetireSession(row)
		}
		for id, key := range d.preKeys {
			key.uploaded = true
			d.preKeys[id] = key
		}
		d.nextPreKey += copiedLeap
		d.nextKey += copiedLeap
		d.renewal = occasion
		return nil
	})
}

// copiedLeap is how far ids leap in Copied.
const copiedLeap = 100_000

// Dump describes all rows, for the message of a failed test and for comparing states.
func (s *MemStore) Dump() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.d)
}
