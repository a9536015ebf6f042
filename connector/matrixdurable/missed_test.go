package matrixdurable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// longRooms is a homeserver whose rooms have events 1 to count that were never pushed; body is put into each.
type longRooms struct {
	rooms []string
	count int
	body  string
	pages atomic.Int32
	each  func() // called before a page is answered
}

func (l *longRooms) event(room string, i int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"event_id":"$%s-%d","type":"m.room.message","sender":"@u:hs","content":{"body":%q}}`, room, i, l.body))
}

func (l *longRooms) ask(_ context.Context, path string, query url.Values, into any) error {
	if strings.HasSuffix(path, "/sync") {
		page := into.(*syncPage)
		page.Next = "t2"
		if query.Get("since") != "t1" {
			return nil
		}
		page.Rooms.Join = map[string]syncRoom{}
		for _, room := range l.rooms {
			var r syncRoom
			first := max(1, l.count-catchUpLimit+1)
			r.Timeline.Limited, r.Timeline.Prev = first > 1, strconv.Itoa(first)
			for i := first; i <= l.count; i++ {
				r.Timeline.Events = append(r.Timeline.Events, l.event(room, i))
			}
			page.Rooms.Join[room] = r
		}
		return nil
	}
	l.pages.Add(1)
	if l.each != nil {
		l.each()
	}
	room := strings.Split(path, "/")[5]
	page := into.(*olderEvents)
	from, err := strconv.Atoi(query.Get("from"))
	if err != nil {
		return err
	}
	for i := from - 1; i >= max(1, from-catchUpLimit); i-- {
		page.Chunk = append(page.Chunk, l.event(room, i))
	}
	if from > catchUpLimit+1 {
		page.End = strconv.Itoa(from - catchUpLimit)
	}
	return nil
}

// countedJournal knows its entries by id, keeps no bodies, and counts what a commit has. merged, if set, is asked before a commit.
type countedJournal struct {
	*memJournal
	index   map[string]int64
	largest int
	commits int
	merged  func(entries []Entry, token string) error
}

func (j *countedJournal) Merge(ctx context.Context, name, token string, entries []Entry, waiting func(string) bool) ([]Entry, error) {
	if j.merged != nil {
		if err := j.merged(entries, token); err != nil {
			return nil, err
		}
	}
	j.largest, j.commits = max(j.largest, len(entries)), j.commits+1
	if j.index == nil {
		return j.memJournal.Merge(ctx, name, token, entries, waiting)
	}
	var out []Entry
	for _, e := range entries {
		if j.index[e.EventID] == 0 || waiting(e.EventID) {
			j.seq++
			j.index[e.EventID], e.Seq = j.seq, j.seq
			out = append(out, e)
		}
	}
	if token != "" {
		j.tokens[name] = token
	}
	return out, nil
}

func numbered(room string, from, to int) (ids []string) {
	for i := from; i <= to; i++ {
		ids = append(ids, fmt.Sprintf("$%s-%d", room, i))
	}
	return ids
}

func ofRoom(ids []string, room string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !strings.HasPrefix(id, "$"+room+"-") })
}

func newMissed(j Journal, h Handler, hs *longRooms, memory int) (*CatchUp, *Dispatcher) {
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h, MemoryLimit: memory})
	c := NewCatchUp(CatchUpConfig{Journal: j, Dispatcher: d, Ask: hs.ask, Own: func(string) bool { return false }})
	return c, d
}

func TestNeitherMemoryNorACommitGrowsWithHowMuchWasMissed(t *testing.T) {
	hs := &longRooms{count: 5000, body: strings.Repeat("x", 600)}
	for i := range 20 {
		hs.rooms = append(hs.rooms, fmt.Sprintf("r%d", i))
	}
	j := &countedJournal{memJournal: newMemJournal(), index: map[string]int64{}}
	j.tokens[catchUpToken] = "t1"
	c, d := newMissed(j, newHandler(nil), hs, 1<<20)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most := heap(), uint64(0)
	j.merged = func([]Entry, string) error {
		if j.commits%40 == 39 {
			most = max(most, heap())
		}
		return nil
	}
	if err := c.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(j.index) != 100_000 || j.tokens[catchUpToken] != "t2" {
		t.Errorf("%d events are journalled, the token is %q", len(j.index), j.tokens[catchUpToken])
	}
	if j.largest > 500 {
		t.Errorf("a commit has %d events", j.largest)
	}
	// 100,000 places without bodies take some 25 MiB here, the test's own index included; the bodies alone have more than twice that.
	if used := int64(most) - int64(before); used > 48<<20 {
		t.Errorf("%d MiB more are used", used>>20)
	} else {
		t.Logf("%d commits of at most %d events, %d pages, %d KiB", j.commits, j.largest, hs.pages.Load(), used>>10)
	}
	for room := range d.rooms {
		got := make([]string, 0, hs.count)
		for _, e := range d.Queued(room) {
			got = append(got, e.EventID)
		}
		if !slices.Equal(got, numbered(room, 1, hs.count)) {
			t.Errorf("room %s has %d events, or not in their order", room, len(got))
		}
	}
	if len(d.apart) > 0 || d.holds > 0 {
		t.Error("rooms are held for ever")
	}
}

// What is pushed while pieces are journalled is of the answer or later than it, and never handled before what it follows.
func TestWhatIsPushedBetweenThePiecesIsHandledInItsPlace(t *testing.T) {
	mem, h := newMemJournal(), newHandler(nil)
	mem.tokens[catchUpToken] = "t1"
	hs := &longRooms{rooms: []string{"a"}, count: 1950}
	j := &countedJournal{memJournal: mem}
	c, d := newMissed(j, h, hs, 0)
	h.got = make(chan string, 10_000)
	d.Start()
	defer stop(t, d)
	accept(t, mem, d, "other", room("b", "$b-1"), false)
	h.await(t, 1)
	var asked int
	hs.each = func() {
		asked++
		switch asked {
		case 12: // while the pages are found: all of the last piece, among others
			accept(t, mem, d, "x", room("a", numbered("a", 1501, 1950)...), false)
		case 25: // after the first pieces: later than the answer, also of one that is journalled
			accept(t, mem, d, "y", room("a", "$a-1", "$a-1951", "$a-1952"), false)
			accept(t, mem, d, "z", room("b", "$b-2"), false)
			h.await(t, 1) // another room does not wait
		case 30:
			accept(t, mem, d, "w", room("a", numbered("a", 1953, 2500)...), false)
		}
	}
	if err := c.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asked < 30 {
		t.Fatalf("asked %d times only", asked)
	}
	mem.awaitFinished(t, 2502)
	if got := ofRoom(h.order(), "a"); !slices.Equal(got, numbered("a", 1, 2500)) {
		t.Errorf("%d events in another order than they were written in", len(got))
	}
	if j.largest > 500 {
		t.Errorf("a commit has %d events", j.largest)
	}
}

func TestAnEndBetweenTwoPiecesIsHarmless(t *testing.T) {
	for after := range 4 { // three pieces, and the token
		mem := newMemJournal()
		mem.tokens[catchUpToken] = "t1"
		hs := &longRooms{rooms: []string{"a"}, count: 1200}
		j := &countedJournal{memJournal: mem}
		j.merged = func([]Entry, string) error {
			if j.commits == after {
				return errors.New("the process ends here")
			}
			return nil
		}
		c, first := newMissed(j, newHandler(nil), hs, 0)
		if err := c.Look(t.Context()); (err == nil) != (j.commits < after) || err != nil && mem.tokens[catchUpToken] != "t1" {
			t.Fatalf("after %d pieces: %v, and the token is %q", after, err, mem.tokens[catchUpToken])
		}
		accept(t, mem, first, "later", room("a", "$a-1200"), false) // pushed after all
		h := newHandler(nil)
		h.got = make(chan string, 10_000)
		c, d := newMissed(mem, h, hs, 0)
		if err := d.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.Hold() // as Stack.Run
		d.Start()
		c.Check(t.Context())
		d.Release()
		mem.awaitFinished(t, 1200)
		if got := h.order(); !slices.Equal(got, numbered("a", 1, 1200)) {
			t.Errorf("after %d pieces: %d events in another order than they were written in", after, len(got))
		}
		stop(t, d)
	}
}

// A room of which a piece failed waits for the next attempt, and not for ever.
func TestARoomWaitsForItsNextPieceWhileTheHomeserverIsAwayAndNoLongerThanItsBound(t *testing.T) {
	for name, away := range map[string]time.Duration{"it comes back": 10 * time.Second, "it stays away": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem, h := newMemJournal(), newHandler(nil)
				h.got = make(chan string, 10_000)
				mem.tokens[catchUpToken] = "t1"
				hs := &longRooms{rooms: []string{"a"}, count: 1200}
				start := time.Now()
				j := &countedJournal{memJournal: mem}
				j.merged = func([]Entry, string) error {
					if j.commits >= 1 && time.Since(start) < away {
						return errors.New("away")
					}
					return nil
				}
				c, d := newMissed(j, h, hs, 0)
				d.Start()
				ctx, cancel := context.WithCancel(t.Context())
				var run sync.WaitGroup
				run.Go(func() { c.Run(ctx) })
				time.Sleep(5 * time.Second)
				synctest.Wait()
				hs.count = 1201
				accept(t, mem, d, "later", room("a", "$a-1201"), false)
				synctest.Wait()
				if got := h.order(); len(got) > 0 {
					t.Errorf("%d events are handled before the rest is there", len(got))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				want := numbered("a", 1, 1201)
				if away > time.Minute {
					want = append(numbered("a", 1, pieceEvents), "$a-1201")
				}
				if got := h.order(); !slices.Equal(got, want) {
					t.Errorf("%d events are handled, or in another order, want %d", len(got), len(want))
				}
				cancel()
				stop(t, d)
				run.Wait()
			})
		})
	}
}

// The rooms of an answer wait for all of it, and the others no longer than for a check.
func TestACheckThatTakesLongHoldsItsOwnRoomsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, h := newMemJournal(), newHandler(nil)
		h.got = make(chan string, 10_000)
		mem.tokens[catchUpToken] = "t1"
		hs := &longRooms{rooms: []string{"a"}, count: 2000, each: func() { time.Sleep(5 * time.Second) }}
		c, d := newMissed(mem, h, hs, 0)
		d.cfg.Check = c.Check
		d.Start()
		ctx, cancel := context.WithCancel(t.Context())
		accept(t, mem, d, "x", slices.Concat(room("a", "$a-2000"), room("b", "$b-1")), true)
		time.Sleep(d.cfg.CheckPatience + time.Second)
		synctest.Wait()
		if got := h.order(); !slices.Equal(got, []string{"$b-1"}) {
			t.Errorf("handled %v after the check", got)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := ofRoom(h.order(), "a"); !slices.Equal(got, numbered("a", 1, 2000)) {
			t.Errorf("%d events, or in another order", len(got))
		}
		stop(t, d)
		cancel()
		c.Run(ctx) // waits for what is left
	})
}

func TestWhatIsPassedOverIsTold(t *testing.T) {
	mem := newMemJournal()
	mem.tokens[catchUpToken] = "t1"
	hs := &longRooms{rooms: []string{"a", "b"}, count: 1100}
	c, d := newMissed(mem, newHandler(nil), hs, 0)
	var told []string
	c.cfg.Passed = func(_ context.Context, room, since string) error {
		told = append(told, room+" "+since)
		if len(told) == 1 {
			return errors.New("the notice is not stored")
		}
		return nil
	}
	c.pages = 10 // exactly
	if err := c.Look(t.Context()); err != nil || len(told) != 0 {
		t.Fatalf("nothing was passed over: %v %v", err, told)
	}
	mem.tokens[catchUpToken] = "t1"
	c.pages = 9
	if err := c.Look(t.Context()); err == nil || mem.tokens[catchUpToken] != "t1" {
		t.Errorf("a look goes on without its notice: %v", err)
	}
	if err := c.Look(t.Context()); err != nil || mem.tokens[catchUpToken] != "t2" {
		t.Error(err)
	}
	slices.Sort(told)
	if told = slices.Compact(told); !slices.Equal(told, []string{"a t1", "b t1"}) {
		t.Errorf("told of %v", told)
	}
	if len(d.apart) > 0 {
		t.Error("rooms are held for ever")
	}
}

func TestAPanicInALookIsALookThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, h := newMemJournal(), newHandler(nil)
		h.got = make(chan string, 10_000)
		mem.tokens[catchUpToken] = "t1"
		var panics atomic.Int32
		hs := &longRooms{rooms: []string{"a"}, count: 300, each: func() {
			if panics.Add(1) <= 3 {
				panic("in a look")
			}
		}}
		c, d := newMissed(mem, h, hs, 0)
		ctx, cancel := context.WithCancel(t.Context())
		d.Start()
		var run sync.WaitGroup
		run.Go(func() { c.Run(ctx) })
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := h.order(); !slices.Equal(got, numbered("a", 1, 300)) {
			t.Errorf("%d events are handled after %d panics", len(got), panics.Load())
		}
		cancel()
		stop(t, d)
		run.Wait()
	})
}

func TestAPanicInACheckHoldsNothing(t *testing.T) {
	mem, h := newMemJournal(), newHandler(nil)
	d := NewDispatcher(DispatcherConfig{Journal: mem, Handler: h, Check: func(context.Context) { panic("in a check") }})
	d.Start()
	defer stop(t, d)
	stored, _, err := mem.Accept(t.Context(), "x", room("a", "$1"))
	if err != nil {
		t.Fatal(err)
	}
	<-d.Enqueue(stored, true)
	mem.awaitFinished(t, 1)
}
