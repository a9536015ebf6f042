package matrixdurable

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
)

// unsureJournal stores, and says once that it may not have.
type unsureJournal struct {
	*memJournal
	unsure atomic.Bool
}

func (j *unsureJournal) Accept(ctx context.Context, txn string, entries []Entry) ([]Entry, bool, error) {
	stored, known, err := j.memJournal.Accept(ctx, txn, entries)
	if err == nil && j.unsure.Swap(false) {
		return nil, false, errors.New("outcome unknown")
	}
	return stored, known, err
}

func (j *unsureJournal) Merge(ctx context.Context, name, token string, entries []Entry, waiting func(string) bool) ([]Entry, error) {
	added, err := j.memJournal.Merge(ctx, name, token, entries, waiting)
	if err == nil && j.unsure.Swap(false) {
		return nil, errors.New("outcome unknown")
	}
	return added, err
}

// TestEventsOfATransactionWhoseCommitIsUnknownAreHandledWhenItComesAgain: it is known then, and nothing of it was ever queued.
func TestEventsOfATransactionWhoseCommitIsUnknownAreHandledWhenItComesAgain(t *testing.T) {
	j, h := &unsureJournal{memJournal: newMemJournal()}, newHandler(nil)
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	d.Start()
	defer stop(t, d)
	l := NewListener(ListenerConfig{Token: "secret", Journal: j, Sink: d, Own: func(string) bool { return false }, Fallback: http.NotFoundHandler()})
	send := func(id string, want int) {
		t.Helper()
		body := fmt.Sprintf(`{"events":[{"event_id":%q,"room_id":"!a","type":"m.room.message","sender":"@a:b"}]}`, id)
		if code, _ := put(t, l, id, "Bearer secret", body); code != want {
			t.Errorf("%s is answered with %d, want %d", id, code, want)
		}
	}
	send("$1", 200)
	j.unsure.Store(true)
	send("$2", 503)
	send("$2", 200)
	send("$3", 200)
	j.awaitFinished(t, 3)
	if got := h.order(); !slices.Equal(got, []string{"$1", "$2", "$3"}) {
		t.Errorf("order is %v", got)
	}
}

// TestWhatAMergeHasMovedWithAnUnknownOutcomeIsHandledOnceAndInItsPlace: the journal has other places than the queue.
func TestWhatAMergeHasMovedWithAnUnknownOutcomeIsHandledOnceAndInItsPlace(t *testing.T) {
	j, h := &unsureJournal{memJournal: newMemJournal()}, newHandler(nil)
	d := NewDispatcher(DispatcherConfig{Journal: j, Handler: h})
	d.Hold()
	d.Start()
	defer stop(t, d)
	accept(t, j.memJournal, d, "1", room("!a", "$2"), false)
	j.unsure.Store(true)
	if _, err := j.Merge(t.Context(), "x", "y", room("!a", "$1", "$2"), d.Waiting); err == nil {
		t.Fatal("the merge was not unknown")
	}
	d.Doubt()
	if err := d.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	accept(t, j.memJournal, d, "3", room("!a", "$3"), false)
	d.Release()
	j.awaitFinished(t, 3)
	if got := h.order(); !slices.Equal(got, []string{"$1", "$2", "$3"}) {
		t.Errorf("order is %v", got)
	}
	if left, err := j.Unfinished(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("%d entries are left over (%v)", len(left), err)
	}
}
