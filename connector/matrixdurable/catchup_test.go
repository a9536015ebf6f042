package matrixdurable

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func message(id string) string {
	return `{"event_id":"` + id + `","type":"m.room.message","sender":"@u:hs","content":{}}`
}

// asker answers CatchUp from a script.
type asker struct {
	answers map[string]string // since, or from for /messages -> JSON

	mu      sync.Mutex
	asked   []string
	filters map[string]bool
	repeats int
	err     error
}

func (a *asker) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *asker) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

func (a *asker) ask(_ context.Context, path string, query url.Values, into any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	if a.filters == nil {
		a.filters = map[string]bool{}
	}
	if strings.HasSuffix(path, "/sync") {
		if a.filters[query.Get("filter")] {
			a.repeats++
		}
		a.filters[query.Get("filter")] = true
	}
	key := query.Get("since")
	if strings.HasSuffix(path, "/messages") {
		key = path + " " + query.Get("from") + " " + query.Get("to")
	}
	a.asked = append(a.asked, key)
	body, ok := a.answers[key]
	if !ok {
		return errors.New("nothing prepared for " + key)
	}
	return json.Unmarshal([]byte(body), into)
}

func newCatchUp(j *memJournal, h Handler, a *asker) (*CatchUp, *Dispatcher) {
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	return NewCatchUp(CatchUpConfig{Journal: j, Dispatcher: d, Ask: a.ask, Own: func(u string) bool { return u == "@ghost:hs" }}), d
}

func TestTheFirstLookOnlyNotesWhereTheHomeserverStands(t *testing.T) {
	j, h := newMemJournal(), newHandler(nil)
	c, _ := newCatchUp(j, h, &asker{answers: map[string]string{
		"": `{"next_batch":"t1","rooms":{"join":{"!a":{"timeline":{"events":[` + message("$old") + `]}}}}}`,
	}})
	if err := c.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(j.entries) != 0 || j.tokens[catchUpToken] != "t1" {
		t.Errorf("journalled %v, token %q", j.entries, j.tokens[catchUpToken])
	}
}

func TestWhatTheHomeserverHasNotPushedIsHandledInItsOrder(t *testing.T) {
	j, h := newMemJournal(), newHandler(nil)
	a := &asker{answers: map[string]string{
		"t1": `{"next_batch":"t2","rooms":{"join":{"!a":{"timeline":{"limited":true,"prev_batch":"p","events":[` +
			message("$4") + `,` + strings.Replace(message("$g"), "@u", "@ghost", 1) + `,` + message("$5") + `]}}}}}`,
		"/_matrix/client/v3/rooms/%21a/messages p t1":  `{"chunk":[` + message("$3") + `],"end":"p2"}`,
		"/_matrix/client/v3/rooms/%21a/messages p2 t1": `{"chunk":[` + message("$2") + `,` + message("$1") + `]}`,
		"t2": `{"next_batch":"t3"}`,
	}}
	c, d := newCatchUp(j, h, a)
	j.tokens[catchUpToken] = "t1"
	accept(t, j, d, "x", room("!a", "$1", "$5"), false) // 2, 3 and 4 were forgotten
	if err := c.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Start()
	defer stop(t, d)
	j.awaitFinished(t, 5)
	if got := h.order(); !slices.Equal(got, []string{"$1", "$2", "$3", "$4", "$5"}) {
		t.Errorf("order is %v", got)
	}
	if err := c.Look(t.Context()); err != nil || j.tokens[catchUpToken] != "t3" {
		t.Errorf("second look: %v, token %q", err, j.tokens[catchUpToken])
	}
}

func TestAnAnswerIsPutBetweenWhatWasThereBeforeAndWhatCameMeanwhile(t *testing.T) {
	j, h := newMemJournal(), newHandler(nil)
	a := &asker{answers: map[string]string{
		"t1": `{"next_batch":"t2","rooms":{"join":{"!a":{"timeline":{"events":[` + message("$3") + `,` + message("$4") + `]}}}}}`,
	}}
	c, d := newCatchUp(j, h, a)
	j.tokens[catchUpToken] = "t1"
	accept(t, j, d, "x", slices.Concat(room("!a", "$1", "$2"), room("!b", "$9"), room("!a", "$4")), false)
	ask := c.cfg.Ask
	c.cfg.Ask = func(ctx context.Context, path string, query url.Values, into any) error {
		accept(t, j, d, "y", room("!a", "$5", "$6"), false) // pushed after the answer was made
		return ask(ctx, path, query, into)
	}
	if err := c.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Start()
	defer stop(t, d)
	j.awaitFinished(t, 7)
	got := slices.DeleteFunc(h.order(), func(id string) bool { return id == "$9" })
	if !slices.Equal(got, []string{"$1", "$2", "$3", "$4", "$5", "$6"}) {
		t.Errorf("order is %v", got)
	}
}

func TestNoQuestionIsAskedTwiceSinceItWouldBeAnsweredFromMemory(t *testing.T) {
	j, h := newMemJournal(), newHandler(nil)
	a := &asker{answers: map[string]string{"t1": `{"next_batch":"t1"}`}}
	c, _ := newCatchUp(j, h, a)
	j.tokens[catchUpToken] = "t1"
	for range 3 {
		if err := c.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if a.repeats != 0 || a.count() != 3 {
		t.Errorf("%d of %d questions were repeated", a.repeats, a.count())
	}
}

func TestAFailedLookIsRepeatedFromTheSamePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, h := newMemJournal(), newHandler(nil)
		a := &asker{err: errors.New("away"), answers: map[string]string{
			"t1": `{"next_batch":"t2","rooms":{"join":{"!a":{"timeline":{"events":[` + message("$1") + `]}}}}}`,
			"t2": `{"next_batch":"t3"}`, "t3": `{"next_batch":"t3"}`,
		}}
		c, d := newCatchUp(j, h, a)
		j.tokens[catchUpToken] = "t1"
		d.Start()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if token, _ := j.Token(ctx, catchUpToken); token != "t1" {
			t.Errorf("token is %q", token)
		}
		a.fail(nil)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := h.order(); !slices.Equal(got, []string{"$1"}) {
			t.Errorf("handled %v", got)
		}
		asked := a.count()
		c.Soon()
		synctest.Wait()
		if a.count() != asked+1 {
			t.Error("Soon did not look")
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if a.count() < asked+2 {
			t.Error("does not look by itself")
		}
		cancel()
		<-done
		stop(t, d)
	})
}

func TestACheckHoldsTheRoomsUntilItHasSucceededAndNoLongerThanItsBound(t *testing.T) {
	for name, c := range map[string]struct {
		away time.Duration
		want []string
	}{
		"the homeserver comes back":         {5 * time.Second, []string{"$1", "$2"}},
		"the homeserver stays out of sorts": {time.Hour, []string{"$2"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j, h := newMemJournal(), newHandler(nil)
				a := &asker{err: errors.New("away"), answers: map[string]string{
					"t1": `{"next_batch":"t2","rooms":{"join":{"!a":{"timeline":{"events":[` + message("$1") + `,` + message("$2") + `]}}}}}`,
				}}
				cu, d := newCatchUp(j, h, a)
				d.cfg.Check = cu.Check
				j.tokens[catchUpToken] = "t1"
				d.Start()
				accept(t, j, d, "x", room("!a", "$2"), true)
				go func() {
					time.Sleep(c.away)
					a.fail(nil)
				}()
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := h.order(); !slices.Equal(got, c.want) {
					t.Errorf("order is %v, want %v", got, c.want)
				}
				time.Sleep(2 * time.Hour)
				stop(t, d)
			})
		})
	}
}

func TestNothingIsForgottenWhenTheMergeFails(t *testing.T) {
	j, h := newMemJournal(), newHandler(nil)
	c, d := newCatchUp(j, h, &asker{answers: map[string]string{"t1": `{"next_batch":"t2"}`}})
	j.tokens[catchUpToken] = "t1"
	j.fail = errors.New("disk full")
	if err := c.Look(t.Context()); err == nil || j.tokens[catchUpToken] != "t1" {
		t.Errorf("error %v, token %q", err, j.tokens[catchUpToken])
	}
	if d.holds != 0 {
		t.Error("rooms are held for ever")
	}
}

func TestItIsToldOnceThatTheHomeserverIsWellAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, h := newMemJournal(), newHandler(nil)
		a := &asker{answers: map[string]string{"t1": `{"next_batch":"t1"}`}}
		c, _ := newCatchUp(j, h, a)
		j.tokens[catchUpToken] = "t1"
		var told atomic.Int32
		c.cfg.Well = func() { told.Add(1) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		for i := range int32(3) {
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			if told.Load() != i {
				t.Errorf("told %d times after %d failures", told.Load(), i)
			}
			a.fail(errors.New("away"))
			time.Sleep(time.Minute)
			synctest.Wait()
			if told.Load() != i {
				t.Error("told while it is away")
			}
			a.fail(nil)
		}
		cancel()
		<-done
	})
}
