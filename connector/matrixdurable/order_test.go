package matrixdurable

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowJournal has stored a transaction before it says so.
type slowJournal struct {
	*memJournal
	stored  chan struct{} // closed when a transaction is stored
	proceed chan struct{} // what Accept waits for afterwards
	merged  func()
}

func (j *slowJournal) Accept(ctx context.Context, txn string, entries []Entry) ([]Entry, bool, error) {
	stored, known, err := j.memJournal.Accept(ctx, txn, entries)
	close(j.stored)
	<-j.proceed
	return stored, known, err
}

func (j *slowJournal) Merge(ctx context.Context, name, token string, entries []Entry, waiting func(string) bool) ([]Entry, error) {
	out, err := j.memJournal.Merge(ctx, name, token, entries, waiting)
	j.merged()
	return out, err
}

// tellingLock tells of each attempt to lock it.
type tellingLock struct {
	sync.Mutex
	tell func()
}

func (l *tellingLock) Lock() {
	l.tell()
	l.Mutex.Lock()
}

func TestAnAnswerThatIsMergedWhileATransactionIsBeingStoredKeepsItsOrder(t *testing.T) {
	mem, h := newMemJournal(), newHandler(nil)
	mem.tokens[catchUpToken] = "t1"
	j := &slowJournal{memJournal: mem, stored: make(chan struct{}), proceed: make(chan struct{})}
	goOn := sync.OnceFunc(func() { close(j.proceed) })
	j.merged = goOn
	order := &tellingLock{tell: func() {
		select {
		case <-j.stored: // the merge, which has to wait
			goOn()
		default: // the transaction
		}
	}}
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	own := func(string) bool { return false }
	l := NewListener(ListenerConfig{Token: "secret", Journal: j, Sink: d, Own: own, Order: order, Fallback: http.NotFoundHandler()})
	a := &asker{answers: map[string]string{
		"t1": `{"next_batch":"t2","rooms":{"join":{"!a":{"timeline":{"events":[` + message("$14") + `,` + message("$15") + `,` + message("$16") + `]}}}}}`,
	}}
	c := NewCatchUp(CatchUpConfig{Journal: j, Dispatcher: d, Ask: a.ask, Own: own, Order: order})
	var both sync.WaitGroup
	both.Go(func() {
		body := `{"events":[` + strings.Replace(message("$15"), `{`, `{"room_id":"!a",`, 1) + `]}`
		if status, _ := put(t, l, "1", "Bearer secret", body); status != http.StatusOK {
			t.Errorf("answer is %d", status)
		}
	})
	both.Go(func() {
		<-j.stored
		if err := c.Look(context.Background()); err != nil {
			t.Error(err)
		}
	})
	both.Wait()
	d.Start()
	defer stop(t, d)
	mem.awaitFinished(t, 3)
	if got := h.order(); !slices.Equal(got, []string{"$14", "$15", "$16"}) {
		t.Errorf("order is %v", got)
	}
}

func TestWhatComesDuringACheckIsCheckedBeforeItIsHandled(t *testing.T) {
	j, h := newMemJournal(), newHandler(nil)
	a := &asker{answers: map[string]string{
		"t1": `{"next_batch":"t2"}`,
		"t2": `{"next_batch":"t3","rooms":{"join":{"!a":{"timeline":{"events":[` + message("$1") + `,` + message("$2") + `]}}}}}`,
	}}
	j.tokens[catchUpToken] = "t1"
	var c *CatchUp
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h, Check: func(ctx context.Context) { c.Check(ctx) }})
	var once sync.Once
	ask := func(ctx context.Context, path string, query url.Values, into any) error {
		err := a.ask(ctx, path, query, into)
		once.Do(func() { accept(t, j, d, "later", room("!a", "$2"), true) }) // after the answer was made
		return err
	}
	c = NewCatchUp(CatchUpConfig{Journal: j, Dispatcher: d, Ask: ask, Own: func(string) bool { return false }})
	d.Start()
	defer stop(t, d)
	accept(t, j, d, "first", nil, true)
	j.awaitFinished(t, 2)
	if got := h.order(); !slices.Equal(got, []string{"$1", "$2"}) {
		t.Errorf("order is %v", got)
	}
}

func TestTransactionsShortlyAfterANewConnectionAreCheckedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, sink := newTestListener(newMemJournal())
		ctx := context.WithValue(t.Context(), connKey{}, nil)
		first := true
		for i, wait := range []time.Duration{0, time.Second, settling, 0} {
			time.Sleep(wait)
			if err := l.take(ctx, string(rune('a'+i)), room("!a", "$"+string(rune('a'+i))), first); err != nil {
				t.Fatal(err)
			}
			first = false
		}
		if !slices.Equal(sink.fresh, []bool{true, true, false, false}) {
			t.Errorf("fresh: %v", sink.fresh)
		}
	})
}

func TestAFreshTransactionIsAnsweredWhenItWasLookedIntoAndNotMuchLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, sink := newTestListener(newMemJournal())
		sink.looked = make(chan struct{})
		start := time.Now()
		if err := l.take(t.Context(), "1", room("!a", "$1"), true); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != lookPatience {
			t.Errorf("answered after %v, of a look that hangs", took)
		}
		start = time.Now()
		go func() {
			time.Sleep(lookPatience / 4)
			close(sink.looked)
		}()
		if err := l.take(t.Context(), "2", room("!a", "$2"), true); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != lookPatience/4 {
			t.Errorf("answered after %v, of a look that took %v", took, lookPatience/4)
		}
	})
}

func TestAfterACheckItIsLookedMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newMemJournal()
		j.tokens[catchUpToken] = "t"
		a := &asker{answers: map[string]string{"t": `{"next_batch":"t"}`}}
		c, _ := newCatchUp(j, newHandler(nil), a)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.Run(ctx)
		counts := func(d time.Duration) int {
			before := a.count()
			time.Sleep(d)
			synctest.Wait()
			return a.count() - before
		}
		// The first look is at once, perhaps before anybody counts.
		if counts(time.Minute + time.Second); a.count() != 3 {
			t.Errorf("%d looks in a quiet minute", a.count())
		}
		c.Check(ctx)
		if n := counts(8 * time.Second); n < 4 {
			t.Errorf("%d looks in the 8 seconds after a check", n)
		}
		counts(time.Minute)
		if n := counts(time.Minute); n != 2 {
			t.Errorf("%d looks in a quiet minute afterwards", n)
		}
	})
}
