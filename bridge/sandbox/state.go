package sandbox

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/connector/jid"
)

// state is everything the sandbox knows. All of it is guarded by mu and changed only inside update. What
// has to outlive the process is registered in alive under a key; a change marks the key, and update hands
// the marked values to the journal as one change.
type state struct {
	mu      sync.Mutex
	seq     uint64 // number of the change under way, or of the last one
	alive   map[string]any
	dirty   map[string]bool
	journal *journal // nil: memory only

	meta        *meta
	counters    *counters
	identified  map[identity]*account
	integrators map[uint16]*Integrator
	users       map[string]*user // by phone digits
	usersByJID  map[jid.JID]*user
	accounts    map[jid.JID]*account
	faults      []*fault
	complaints  []*complaint
	pushes      []*pushed
	files       []*mediaFile          // in order
	hosted      map[string]*mediaFile // by path
	fileBytes   int64
	fetches     fetchQueue
}

// change is the view of the state that code inside update has.
type change struct{ *state }

// persistent is what the journal can hold under a key.
type persistent interface{ storeKey() string }

func newState() *state {
	return &state{
		alive:       map[string]any{},
		dirty:       map[string]bool{},
		counters:    &counters{},
		identified:  map[identity]*account{},
		integrators: map[uint16]*Integrator{},
		users:       map[string]*user{},
		usersByJID:  map[jid.JID]*user{},
		accounts:    map[jid.JID]*account{},
		hosted:      map[string]*mediaFile{},
		fetches:     fetchQueue{of: map[string]int{}},
	}
}

// update runs fn with the state locked and returns the number of the change, to be waited for before
// anything that rests on it leaves the process. Stanzas that fn queues for a stream carry the number along
// by themselves.
func (s *state) update(fn func(c change)) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	// A panic in fn must not leave memory and disk different, so what it marked is written in any case.
	defer s.flush()
	fn(change{s})
	return s.seq
}

// view runs fn with the state locked; fn changes nothing.
func (s *state) view(fn func()) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
	return s.seq
}

// settle waits until change n is on disk.
func (s *state) settle(n uint64) error {
	if s.journal == nil {
		return nil
	}
	return s.journal.wait(n)
}

// put registers v, new or changed.
func (c change) put(v persistent) {
	key := v.storeKey()
	c.alive[key] = v
	c.dirty[key] = true
}

// drop removes v for good.
func (c change) drop(v persistent) {
	key := v.storeKey()
	if _, ok := c.alive[key]; !ok {
		return
	}
	delete(c.alive, key)
	c.dirty[key] = true
}

func (s *state) flush() {
	var recs []record
	if s.journal != nil {
		recs = make([]record, 0, len(s.dirty))
		for key := range s.dirty {
			recs = append(recs, s.record(key))
		}
	}
	clear(s.dirty)
	if s.journal != nil {
		s.journal.add(s.seq, recs)
	}
}

func (s *state) record(key string) record {
	v, ok := s.alive[key]
	if !ok {
		return record{key: key}
	}
	b, err := json.Marshal(v)
	if err != nil {
		// Every type here is plain data of our own, so this cannot depend on input.
		//nolint:forbidigo // no record of ours fails to marshal, and a state without one would lie
		panic("sandbox: marshal " + key[:strings.IndexByte(key, '/')+1] + ": " + err.Error())
	}
	return record{key: key, value: b}
}

func (s *state) dump() ([]record, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	recs := make([]record, 0, len(s.alive))
	for key := range s.alive {
		recs = append(recs, s.record(key))
	}
	return recs, s.seq
}

// open reads the state in dir, or starts an empty one there.
func (s *state) open(dir string) error {
	raw := map[string][]byte{}
	j, err := openJournal(dir, func(r record) error {
		if r.value == nil {
			delete(raw, r.key)
		} else {
			raw[r.key] = r.value
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.load(raw); err != nil {
		j.file.Close()
		return err
	}
	j.dump = s.dump
	s.journal = j
	j.start()
	return nil
}

// load builds the state from the values of every key. The order of keys is the order in which the parts need
// each other.
func (s *state) load(raw map[string][]byte) error {
	byKind := map[string][]string{}
	for key := range raw {
		kind, _, _ := strings.Cut(key, "/")
		byKind[kind] = append(byKind[kind], key)
	}
	for _, l := range loaders {
		keys := byKind[l.kind]
		delete(byKind, l.kind)
		sort.Strings(keys)
		for _, key := range keys {
			v := l.make()
			if err := json.Unmarshal(raw[key], v); err != nil {
				return fmt.Errorf("load state: %s: %w", l.kind, err)
			}
			if v.storeKey() != key {
				return fmt.Errorf("load state: %s: value and key differ", l.kind)
			}
			if err := l.place(s, v); err != nil {
				return fmt.Errorf("load state: %s: %w", l.kind, err)
			}
			s.alive[key] = v
		}
	}
	for kind := range byKind {
		return fmt.Errorf("load state: unknown kind %q, written by a newer sandbox", kind)
	}
	return nil
}

// loader brings one kind of value back into memory.
type loader struct {
	kind  string
	make  func() persistent
	place func(*state, persistent) error
}

func load[T any, P interface {
	*T
	persistent
}](kind string, place func(*state, P) error) loader {
	return loader{kind, func() persistent { return P(new(T)) }, func(s *state, v persistent) error { return place(s, v.(P)) }}
}

// seqKey writes n so that keys sort as numbers do.
func seqKey(n uint64) string { return fmt.Sprintf("%016x", n) }

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// unix is a time in whole seconds, as everything on this wire is.
func unix(t time.Time) int64 { return t.Unix() }
