package database

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/fnv"
	"hash/maphash"
	"math/bits"
	"slices"
	"strconv"
	"sync"
)

// What is sealed opens only in its own row and under the row's version, but a whole row of an earlier time would open: put back by a
// restore of one table, or by somebody who can write to the database. So that it is noticed, each account has one sealed row of sums,
// its head. A sum adds up, modulo 2^128, what a keyed hash makes of the name and the version of each row of the account's Signal state; a
// change of a row takes its old version out and adds the new one, in the same commit, and one sum over all heads is in the epoch's row, sealed
// under its number. The process knows the present version of each row: it is compared each time that a row is read. At the start it is the sums
// that are compared (rows_start.go).

// rowKind is a table of Signal state.
type rowKind byte

const (
	rowSession rowKind = iota
	rowIdentity
	rowPreKey
	rowSignedPreKey
	rowHead // of all heads together
)

func (k rowKind) String() string {
	return [...]string{"session", "identity", "one-time prekey", "signed prekey", "head"}[k]
}

const (
	// rowBuckets is over how many sums the sessions and identities of an account are spread, so that one earlier row costs others
	// only the few that share its sum.
	rowBuckets = 32
	sumPreKeys = rowBuckets
	sumSigned  = rowBuckets + 1
	rowSums    = rowBuckets + 2
	sumSize    = 16

	headColumn  = "postern_signal_head.sums"
	headsColumn = "postern_epoch.heads"
)

// sum is a number modulo 2^128.
type sum struct{ high, low uint64 }

func (s *sum) add(x sum) {
	var carry uint64
	s.low, carry = bits.Add64(s.low, x.low, 0)
	s.high, _ = bits.Add64(s.high, x.high, carry)
}

func (s *sum) take(x sum) {
	var borrow uint64
	s.low, borrow = bits.Sub64(s.low, x.low, 0)
	s.high, _ = bits.Sub64(s.high, x.high, borrow)
}

// sums are those of one account.
type sums [rowSums]sum

func (s *sums) bytes() []byte {
	b := make([]byte, 0, rowSums*sumSize)
	for _, x := range s {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, x.high), x.low)
	}
	return b
}

// parseSums reads them; ok is false for anything else.
func parseSums(b []byte) (s sums, ok bool) {
	if len(b) != rowSums*sumSize {
		return s, false
	}
	for i := range s {
		s[i] = sum{binary.BigEndian.Uint64(b[i*sumSize:]), binary.BigEndian.Uint64(b[i*sumSize+8:])}
	}
	return s, true
}

// bucket is the sum that a row is in, by its name: an address, or a key's id in decimal.
func (k rowKind) bucket(name string) int {
	switch k {
	case rowPreKey:
		return sumPreKeys
	case rowSignedPreKey:
		return sumSigned
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return int(h.Sum32() % rowBuckets)
}

// rowChange is a row's change of version; 0 is for no row.
type rowChange struct {
	account  string
	kind     rowKind
	name     string
	id       uint64
	old, now int64
	// wipe says that all rows of the account are gone, gone that the account is.
	wipe, gone bool
}

// accountRows are the present versions of one account's rows.
type accountRows struct {
	version int64 // of its head, 0 for none
	sums    keptSums
	peers   map[uint64][2]int64 // of session and identity, by the hash of the address; nil while there are none
	keys    [2]keySet           // which one-time and signed prekeys there are
}

func (a *accountRows) get(kind rowKind, id uint64) int64 {
	switch {
	case a == nil:
		return 0
	case kind <= rowIdentity:
		return a.peers[id][kind]
	}
	return a.keys[kind-rowPreKey].get(id)
}

func (a *accountRows) set(kind rowKind, id uint64, version int64) {
	if kind > rowIdentity {
		a.keys[kind-rowPreKey].set(id, version > 0)
		return
	}
	v := a.peers[id]
	if v[kind] = version; v == [2]int64{} {
		delete(a.peers, id)
		return
	}
	if a.peers == nil {
		a.peers = make(map[uint64][2]int64)
	}
	a.peers[id] = v
}

// rows are those of all accounts. What they say changes when a commit has succeeded, before anybody is told of it.
type rows struct {
	seal *sealer
	seed maphash.Seed // of this process

	hashMu sync.Mutex
	hash   hash.Hash

	mu       sync.RWMutex
	accounts map[string]*accountRows
	total    sum // over all heads

	// doubtful: the outcome of a commit is not known, and all is read again before the next transaction; the writer's alone.
	doubtful bool
}

func newRows(s *sealer, seed maphash.Seed) *rows {
	return &rows{
		seal: s, seed: seed, hash: hmac.New(sha256.New, s.rows[:]),
		accounts: make(map[string]*accountRows),
	}
}

// id is under what a row is kept in memory.
func (r *rows) id(kind rowKind, name string) uint64 {
	if kind <= rowIdentity {
		return maphash.String(r.seed, name)
	}
	n, _ := strconv.ParseUint(name, 10, 32) // made by us from a number
	return n
}

// of is what a row adds to its sum.
func (r *rows) of(kind rowKind, account, name string, version int64) sum {
	var room [128]byte
	b := append(room[:0], byte(kind))
	b = binary.BigEndian.AppendUint64(b, uint64(version))
	b = binary.AppendUvarint(b, uint64(len(account)))
	b = append(append(b, account...), name...)
	var out [sha256.Size]byte
	r.hashMu.Lock()
	r.hash.Reset()
	_, _ = r.hash.Write(b)
	r.hash.Sum(out[:0])
	r.hashMu.Unlock()
	return sum{binary.BigEndian.Uint64(out[:]), binary.BigEndian.Uint64(out[8:])}
}

func (r *rows) get(account string, kind rowKind, id uint64) int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.accounts[account].get(kind, id)
}

// expected is the version that a row has now, as far as ctx can see: with the changes of the transaction that it is in.
func (s *SignalStore) expected(ctx context.Context, kind rowKind, name string) int64 {
	r := s.db.rows
	id := r.id(kind, name)
	if g, ok := ctx.Value(guardKey{s.db.writer}).(*guard); ok {
		if version, ok := g.changed(s.account, kind, id); ok {
			return version
		}
	}
	return r.get(s.account, kind, id)
}

// changed looks for the last change of a row in the transaction.
func (g *guard) changed(account string, kind rowKind, id uint64) (version int64, ok bool) {
	if version, ok = lastChange(g.changes, account, kind, id); ok {
		return version, true
	}
	for _, j := range slices.Backward(g.group.ran) {
		if version, ok = lastChange(j.changes, account, kind, id); ok {
			return version, true
		}
	}
	return 0, false
}

func lastChange(changes []rowChange, account string, kind rowKind, id uint64) (version int64, ok bool) {
	for i := len(changes) - 1; i >= 0; i-- {
		c := &changes[i]
		if c.account == account && (c.wipe || c.kind == kind && c.id == id) {
			return c.now, true // 0 for wipe
		}
	}
	return 0, false
}

// note says, inside Do, that a row gets a version, 0 for that it goes.
func (s *SignalStore) note(ctx context.Context, kind rowKind, name string, version int64) error {
	return s.db.noteRow(ctx, rowChange{
		account: s.account, kind: kind, name: name, id: s.db.rows.id(kind, name),
		old: s.expected(ctx, kind, name), now: version,
	})
}

// noteRow puts a change into the transaction's.
func (db *DB) noteRow(ctx context.Context, c rowChange) error {
	if err := db.advance(ctx); err != nil {
		return err
	}
	g := ctx.Value(guardKey{db.writer}).(*guard) // or advance has failed
	g.changes = append(g.changes, c)
	return nil
}

// headChange is what a transaction makes of one account's head.
type headChange struct {
	version int64
	sums    sums
	gone    bool
}

// heads adds up what the functions of a transaction have changed.
func (r *rows) heads(ran []*job) map[string]*headChange {
	var list map[string]*headChange
	for _, j := range ran {
		for i := range j.changes {
			c := &j.changes[i]
			h := list[c.account]
			if h == nil {
				h = &headChange{version: 1}
				if a := r.accounts[c.account]; a != nil { // only the writer, which calls, changes it
					h.version, h.sums = a.version+1, a.sums.all()
				}
				if list == nil {
					list = make(map[string]*headChange)
				}
				list[c.account] = h
			}
			h.gone = c.gone
			if c.wipe {
				h.sums = sums{}
				continue
			}
			at := &h.sums[c.kind.bucket(c.name)]
			if c.old > 0 {
				at.take(r.of(c.kind, c.account, c.name, c.old))
			}
			if c.now > 0 {
				at.add(r.of(c.kind, c.account, c.name, c.now))
			}
		}
	}
	return list
}

// totalWith is the sum over all heads when these are changed.
func (r *rows) totalWith(heads map[string]*headChange) sum {
	total := r.total
	for account, h := range heads {
		if a := r.accounts[account]; a != nil && a.version > 0 {
			total.take(r.of(rowHead, account, "", a.version))
		}
		if !h.gone {
			total.add(r.of(rowHead, account, "", h.version))
		}
	}
	return total
}

// committed takes over what a commit has changed.
func (r *rows) committed(ran []*job, heads map[string]*headChange, total sum) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total = total
	for account, h := range heads {
		if h.gone {
			delete(r.accounts, account)
			continue
		}
		a := r.accounts[account]
		if a == nil {
			a = &accountRows{}
			r.accounts[account] = a
		}
		a.version, a.sums = h.version, h.sums.kept()
	}
	for _, j := range ran {
		for i := range j.changes {
			c := &j.changes[i]
			a := r.accounts[c.account]
			if a == nil {
				continue // gone
			}
			if c.wipe {
				a.peers, a.keys = nil, [2]keySet{}
				continue
			}
			a.set(c.kind, c.id, c.now)
		}
	}
}
