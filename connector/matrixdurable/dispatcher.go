package matrixdurable

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Outcome is what a Handler made of an event.
type Outcome int

// Outcomes.
const (
	// Done: the event is dealt with, for good or for bad.
	Done Outcome = iota
	// Again: something of ours or the homeserver's was not available; the event is handled again after a
	// while, and its room waits.
	Again
	// Handed: the event is a command that runs on; Dispatcher.Complete is called at its end.
	Handed
)

// Handler deals with one event. Calls for one room come one after another and
// in order, those for different rooms at the same time.
type Handler interface {
	Handle(ctx context.Context, e Entry) Outcome
	// Cut is told of a command that had been handed over when the process ended.
	Cut(ctx context.Context, e Entry) Outcome
	// GiveUp is told of an event in whose handling something has panicked maxPanics times.
	GiveUp(ctx context.Context, e Entry) Outcome
}

// DispatcherConfig says what a Dispatcher needs.
type DispatcherConfig struct {
	Journal Journal
	Handler Handler
	// Check, if set, asks the homeserver for events it has not pushed. It is called
	// when a transaction has come over a new connection.
	Check func(ctx context.Context)
	// CheckPatience bounds how long rooms wait for Check; default 30 s.
	CheckPatience time.Duration
	// MemoryLimit is how many bytes of event bodies are kept in memory; the rest is loaded
	// from the journal when its turn comes. Default 64 MiB.
	MemoryLimit int
	Log         zerolog.Logger
}

// Dispatcher hands journalled events to the handler, one worker for each room that has
// any, and marks them finished. A room that waits keeps no other waiting.
type Dispatcher struct {
	cfg    DispatcherConfig
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	started  bool
	stopping bool
	holds    int
	apart    map[string]int // holds of single rooms
	rooms    map[string]*roomQueue
	waiting  map[string]bool // event ids of queued room events that no worker has taken
	inMemory int             // bytes of queued bodies
	newest   int64           // the highest place that was ever queued
	held     map[int64]bool  // the places of all that was queued and is not noted as finished
	doubt    bool            // see Doubt
	checking *look           // nil for none
	// passing has what Pass brought of each room and no worker has taken; a room that is in it has a worker.
	passing map[string]*Entry

	finish chan int64
}

type roomQueue struct {
	entries []Entry
	active  bool // a worker runs
}

// NewDispatcher makes a Dispatcher. It takes entries at once and handles them after Start.
func NewDispatcher(cfg DispatcherConfig) *Dispatcher {
	if cfg.CheckPatience == 0 {
		cfg.CheckPatience = 30 * time.Second
	}
	if cfg.MemoryLimit == 0 {
		cfg.MemoryLimit = 64 << 20
	}
	d := &Dispatcher{cfg: cfg, rooms: map[string]*roomQueue{}, apart: map[string]int{}, waiting: map[string]bool{}, held: map[int64]bool{}, passing: map[string]*Entry{}, finish: make(chan int64, 1024)}
	d.ctx, d.cancel = context.WithCancel(cfg.Log.WithContext(context.Background()))
	return d
}

// Load queues what the journal still holds, and must be called once, before the
// listener accepts anything.
func (d *Dispatcher) Load(ctx context.Context) error {
	entries, err := d.cfg.Journal.Unfinished(ctx)
	if err != nil {
		return fmt.Errorf("matrixdurable: load journal: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue(entries)
	return nil
}

// Start begins to handle events.
func (d *Dispatcher) Start() {
	d.work.Go(d.finisher)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.started = true
	d.spawn()
}

// Stop ends handling: events that no worker has taken stay in the journal. It
// waits for running handlers until ctx ends.
func (d *Dispatcher) Stop(ctx context.Context) error {
	d.mu.Lock()
	d.stopping = true
	d.mu.Unlock()
	d.cancel()
	done := make(chan struct{})
	go func() {
		d.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("matrixdurable: stop dispatcher: %w", ctx.Err())
	}
}

// look is one asking for what the homeserver may have lost. What comes while it runs may be newer than its answer, and is
// looked into by the next one.
type look struct {
	done chan struct{}
	next *look
}

func newLook() *look { return &look{done: make(chan struct{})} }

// Enqueue implements Sink.
func (d *Dispatcher) Enqueue(entries []Entry, fresh bool) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue(entries)
	defer d.spawn()
	if !fresh || d.cfg.Check == nil || !d.started || d.stopping {
		return nil
	}
	if l := d.checking; l != nil {
		if l.next == nil {
			l.next = newLook()
		}
		return l.next.done
	}
	d.checking = newLook()
	d.holds++
	d.work.Go(d.check)
	return d.checking.done
}

// check asks the homeserver for what it may have lost, while rooms wait, until nothing has come meanwhile.
func (d *Dispatcher) check() {
	defer d.Release()
	ctx, cancel := context.WithTimeout(d.ctx, d.cfg.CheckPatience)
	defer cancel()
	for more := true; more; {
		d.askHomeserver(ctx)
		d.mu.Lock()
		done := d.checking.done
		d.checking = d.checking.next
		more = d.checking != nil
		d.mu.Unlock()
		close(done)
	}
}

// askHomeserver calls Check. After a panic in it the rooms go on; CatchUp.Run looks again.
func (d *Dispatcher) askHomeserver(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			d.cfg.Log.Error().Str("panic", fmt.Sprintf("%T", p)).
				Bytes(zerolog.ErrorStackFieldName, debug.Stack()).Msg("Panic in a check for missed events")
		}
	}()
	d.cfg.Check(ctx)
}

// Pass implements Sink: typing is handed on at once, without a place among the room's events. Each entry says all of who is typing,
// so of those that wait behind one another in a room the newest stands for all, and none overtakes.
func (d *Dispatcher) Pass(entries []Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.started || d.stopping {
		return
	}
	for _, e := range entries {
		_, working := d.passing[e.Room]
		d.passing[e.Room] = &e
		if !working {
			d.work.Go(func() { d.pass(e.Room) })
		}
	}
}

// pass hands on what a room has until there is nothing.
func (d *Dispatcher) pass(room string) {
	for {
		d.mu.Lock()
		e := d.passing[room]
		if e == nil || d.stopping {
			delete(d.passing, room)
			d.mu.Unlock()
			return
		}
		d.passing[room] = nil
		d.mu.Unlock()
		panics := maxPanics - 1 // typing is not worth a second attempt
		d.handle(*e, &panics)
	}
}

// Waiting says whether a room event is queued and not yet taken. The answer holds as long as the caller
// holds the dispatcher.
func (d *Dispatcher) Waiting(eventID string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting[eventID]
}

// Queued returns the room events of a room that no worker has taken, in order. The answer holds as long as the
// caller holds the dispatcher.
func (d *Dispatcher) Queued(room string) []Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.rooms[room]
	if q == nil {
		return nil
	}
	var out []Entry
	for _, e := range q.entries {
		if e.EventID != "" {
			out = append(out, e)
		}
	}
	return out
}

// Newest is the highest place in the journal that was queued so far.
func (d *Dispatcher) Newest() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.newest
}

// Merge queues entries that Journal.Merge has stored or moved. Those already queued are put into their
// new place. The caller holds the dispatcher.
func (d *Dispatcher) Merge(entries []Entry) {
	moved := make(map[string]bool, len(entries))
	for _, e := range entries {
		moved[e.EventID] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range d.rooms {
		kept := q.entries[:0]
		for _, e := range q.entries {
			if e.EventID != "" && moved[e.EventID] {
				d.inMemory -= len(e.Body)
				delete(d.held, e.Seq)
				continue
			}
			kept = append(kept, e)
		}
		q.entries = kept
	}
	d.queue(entries)
}

// Doubt implements Sink.
func (d *Dispatcher) Doubt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doubt = true
}

// Resolve implements Sink: what the journal holds and was never queued, or was moved there, is queued in its place.
func (d *Dispatcher) Resolve(ctx context.Context) error {
	d.mu.Lock()
	doubt, held := d.doubt, maps.Clone(d.held)
	d.mu.Unlock()
	if !doubt {
		return nil
	}
	entries, err := d.cfg.Journal.Unfinished(ctx)
	if err != nil {
		return fmt.Errorf("matrixdurable: read journal: %w", err)
	}
	// What is noted as finished meanwhile was held before.
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return held[e.Seq] })
	d.Hold()
	defer d.Release()
	d.Merge(entries)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range entries {
		if q := d.rooms[e.Room]; q != nil {
			slices.SortStableFunc(q.entries, func(a, b Entry) int { return cmp.Compare(a.Seq, b.Seq) })
		}
	}
	d.doubt = false
	return nil
}

// Complete finishes a command whose handler has returned.
func (d *Dispatcher) Complete(seq int64) { d.markFinished(seq) }

// queue appends entries; the caller has the lock.
func (d *Dispatcher) queue(entries []Entry) {
	for _, e := range entries {
		q := d.rooms[e.Room]
		if q == nil {
			q = &roomQueue{}
			d.rooms[e.Room] = q
		}
		if d.inMemory+len(e.Body) > d.cfg.MemoryLimit {
			e.Body = nil
		}
		d.inMemory += len(e.Body)
		d.newest = max(d.newest, e.Seq)
		if e.Seq != 0 {
			d.held[e.Seq] = true
		}
		if e.EventID != "" {
			d.waiting[e.EventID] = true
		}
		q.entries = append(q.entries, e)
	}
}

// spawn starts a worker for each room that needs one; the caller has the lock.
func (d *Dispatcher) spawn() {
	if !d.started || d.stopping || d.holds > 0 {
		return
	}
	for room, q := range d.rooms {
		if !q.active && len(q.entries) > 0 && d.apart[room] == 0 {
			q.active = true
			d.work.Go(func() { d.serve(room, q) })
		}
	}
}

// take gives a room's worker its next event, or ends the worker.
func (d *Dispatcher) take(room string, q *roomQueue) (Entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping || d.holds > 0 || d.apart[room] > 0 || len(q.entries) == 0 {
		q.active = false
		if len(q.entries) == 0 {
			delete(d.rooms, room)
		}
		return Entry{}, false
	}
	e := q.entries[0]
	q.entries = q.entries[1:]
	d.inMemory -= len(e.Body)
	delete(d.waiting, e.EventID)
	return e, true
}

const (
	firstPause = 250 * time.Millisecond
	maxPause   = 30 * time.Second
)

func (d *Dispatcher) serve(room string, q *roomQueue) {
	for {
		e, ok := d.take(room, q)
		if !ok {
			return
		}
		panics := 0
		for pause := firstPause; d.once(e, &panics) == Again; pause = min(pause*2, maxPause) {
			select {
			case <-time.After(pause):
			case <-d.ctx.Done():
				return // stays unfinished, and is handled after the next start
			}
		}
	}
}

// once handles an event one time and marks it if it is done. panics counts how often that went wrong.
func (d *Dispatcher) once(e Entry, panics *int) Outcome {
	if e.Body == nil {
		body, err := d.cfg.Journal.Load(d.ctx, e.Seq)
		if err != nil {
			d.cfg.Log.Err(err).Int64("seq", e.Seq).Msg("Could not load a journalled event")
			return Again
		}
		e.Body = body
	}
	outcome := d.handle(e, panics)
	if outcome == Done && d.ctx.Err() == nil {
		d.markFinished(e.Seq)
	}
	return outcome
}

// maxPanics is how often an event is tried in whose handling something panics. What is wrong with the event itself comes
// back with each repetition, and the room waits behind it.
const maxPanics = 3

// handle calls the handler. A panic in it is this event's trouble alone.
func (d *Dispatcher) handle(e Entry, panics *int) (outcome Outcome) {
	defer func() {
		if p := recover(); p != nil {
			*panics++
			d.cfg.Log.Error().Int64("seq", e.Seq).Str("panic", fmt.Sprintf("%T", p)).
				Bytes(zerolog.ErrorStackFieldName, debug.Stack()).Msg("Panic in an event handler")
			outcome = Again
			if *panics > maxPanics {
				outcome = Done // not even giving up works
			}
		}
	}()
	if *panics >= maxPanics {
		return d.cfg.Handler.GiveUp(d.ctx, e)
	}
	if e.Handed {
		return d.cfg.Handler.Cut(d.ctx, e)
	}
	return d.cfg.Handler.Handle(d.ctx, e)
}

func (d *Dispatcher) markFinished(seq int64) {
	if seq == 0 {
		return // never journalled
	}
	select {
	case d.finish <- seq:
	case <-d.ctx.Done():
	}
}

// finisher writes finished marks, as many in one commit as have come together. A mark that is lost with the
// process costs one repetition, which the handlers are made for.
func (d *Dispatcher) finisher() {
	for {
		var seqs []int64
		select {
		case seq := <-d.finish:
			seqs = append(seqs, seq)
		case <-d.ctx.Done():
			return
		}
	collect:
		for len(seqs) < 500 {
			select {
			case seq := <-d.finish:
				seqs = append(seqs, seq)
			default:
				break collect
			}
		}
		for pause := firstPause; ; pause = min(pause*2, maxPause) {
			err := d.cfg.Journal.Finish(context.WithoutCancel(d.ctx), seqs)
			if err == nil {
				d.mu.Lock()
				for _, seq := range seqs {
					delete(d.held, seq)
				}
				d.mu.Unlock()
				break
			}
			d.cfg.Log.Debug().Err(err).Int("count", len(seqs)).Msg("Could not mark events as finished")
			select {
			case <-time.After(pause):
			case <-d.ctx.Done():
				return
			}
		}
	}
}
