package matrixdurable

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// memJournal is a Journal in memory that can be told to fail.
type memJournal struct {
	mu       sync.Mutex
	txns     map[string]bool
	entries  []Entry
	finished map[int64]bool
	tokens   map[string]string
	seq      int64
	fail     error
	loads    int
	changed  chan struct{}
}

func newMemJournal() *memJournal {
	return &memJournal{txns: map[string]bool{}, finished: map[int64]bool{}, tokens: map[string]string{}, changed: make(chan struct{})}
}

func (j *memJournal) find(eventID string) *Entry {
	for i := range j.entries {
		if eventID != "" && j.entries[i].EventID == eventID {
			return &j.entries[i]
		}
	}
	return nil
}

func (j *memJournal) add(e Entry) Entry {
	j.seq++
	e.Seq = j.seq
	j.entries = append(j.entries, e)
	return e
}

func (j *memJournal) notify() {
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *memJournal) Accept(_ context.Context, txn string, entries []Entry) ([]Entry, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return nil, false, j.fail
	}
	if j.txns[txn] {
		return nil, true, nil
	}
	j.txns[txn] = true
	var stored []Entry
	for _, e := range entries {
		if j.find(e.EventID) == nil {
			stored = append(stored, j.add(e))
		}
	}
	return stored, false, nil
}

func (j *memJournal) Merge(_ context.Context, name, token string, entries []Entry, waiting func(string) bool) ([]Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return nil, j.fail
	}
	var out []Entry
	if !j.needPlaces(entries, waiting) {
		entries = nil
	}
	for _, e := range entries {
		known := j.find(e.EventID)
		switch {
		case known == nil:
			out = append(out, j.add(e))
		case waiting(e.EventID):
			j.seq++
			known.Seq = j.seq
			out = append(out, *known)
		}
	}
	if token != "" {
		j.tokens[name] = token
	}
	return out, nil
}

// needPlaces is false if all entries are known, and those that wait in their order: then a Merge moves nothing.
func (j *memJournal) needPlaces(entries []Entry, waiting func(string) bool) bool {
	last := map[string]int64{}
	for _, e := range entries {
		known := j.find(e.EventID)
		switch {
		case known == nil || waiting(e.EventID) && known.Seq < last[e.Room]:
			return true
		case waiting(e.EventID):
			last[e.Room] = known.Seq
		}
	}
	return false
}

func (j *memJournal) Hand(_ context.Context, seq int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.entries {
		if j.entries[i].Seq == seq {
			j.entries[i].Handed = true
			return nil
		}
	}
	return errors.New("no such entry")
}

func (j *memJournal) Finish(_ context.Context, seqs []int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range seqs {
		j.finished[s] = true
	}
	j.notify()
	return nil
}

func (j *memJournal) Load(_ context.Context, seq int64) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.loads++
	for _, e := range j.entries {
		if e.Seq == seq {
			return e.Body, nil
		}
	}
	return nil, errors.New("no such entry")
}

func (j *memJournal) Unfinished(context.Context) ([]Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Entry
	for _, e := range j.entries {
		if !j.finished[e.Seq] {
			e.Body = nil
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return int(a.Seq - b.Seq) })
	return out, nil
}

func (j *memJournal) Purge(context.Context, time.Time) error { return nil }

func (j *memJournal) Token(_ context.Context, name string) (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tokens[name], nil
}

func (j *memJournal) SetToken(_ context.Context, name, token string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tokens[name] = token
	return nil
}

// awaitFinished waits until n entries are finished.
func (j *memJournal) awaitFinished(t *testing.T, n int) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		j.mu.Lock()
		have, changed := len(j.finished), j.changed
		j.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%d of %d entries finished", have, n)
		}
	}
}

// handlerFunc is a Handler that notes what it was given.
type handlerFunc struct {
	mu     sync.Mutex
	seen   []string
	cut    []string
	gaveUp []string
	handle func(e Entry) Outcome
	got    chan string
}

func newHandler(handle func(e Entry) Outcome) *handlerFunc {
	return &handlerFunc{handle: handle, got: make(chan string, 1000)}
}

func (h *handlerFunc) Handle(_ context.Context, e Entry) Outcome {
	h.mu.Lock()
	h.seen = append(h.seen, e.EventID)
	h.mu.Unlock()
	out := Done
	if h.handle != nil {
		out = h.handle(e)
	}
	h.got <- e.EventID
	return out
}

func (h *handlerFunc) Cut(_ context.Context, e Entry) Outcome {
	h.mu.Lock()
	h.cut = append(h.cut, e.EventID)
	h.mu.Unlock()
	h.got <- e.EventID
	return Done
}

func (h *handlerFunc) GiveUp(_ context.Context, e Entry) Outcome {
	h.mu.Lock()
	h.gaveUp = append(h.gaveUp, e.EventID)
	h.mu.Unlock()
	h.got <- e.EventID
	return Done
}

func (h *handlerFunc) order() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen)
}

func (h *handlerFunc) await(t *testing.T, n int) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for range n {
		select {
		case <-h.got:
		case <-limit:
			t.Fatal("handler was not called in time")
		}
	}
}

func room(name string, ids ...string) []Entry {
	var out []Entry
	for _, id := range ids {
		out = append(out, Entry{Kind: KindRoom, EventID: id, Room: name, Body: []byte(`{"event_id":"` + id + `"}`)})
	}
	return out
}

// accept journals entries and gives them to the dispatcher.
func accept(t *testing.T, j *memJournal, d *Dispatcher, txn string, entries []Entry, fresh bool) {
	t.Helper()
	stored, _, err := j.Accept(context.Background(), txn, entries)
	if err != nil {
		t.Fatal(err)
	}
	d.Enqueue(stored, fresh)
}

func stop(t *testing.T, d *Dispatcher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := d.Stop(ctx); err != nil {
		t.Error(err)
	}
}

var nopLog = zerolog.Nop()
