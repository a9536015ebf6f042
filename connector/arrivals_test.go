package connector

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/id"

	"postern/database"
)

// wants makes n attachments be wanted whose placeholders are in the room, as an earlier process has left them: copies of one.
func (w *world) wants(n int) {
	w.t.Helper()
	ctx := w.t.Context()
	w.client.arrivals.patience = time.Millisecond
	w.deliver("A0", w.host.image(w.t, "/v/t/a", "look", png(3, 2)))
	row, err := w.connector.db.IncomingMedia().Get(ctx, w.peer.Chat, "A0")
	if err != nil || row == nil || row.State != database.IncomingMediaWanted {
		w.t.Fatalf("the first is %+v, %v", row, err)
	}
	placeholder, err := w.connector.bridge.DB.Message.GetFirstPartByID(ctx, portalKey(w.account, w.peer.Chat).Receiver, incomingID(w.peer.Chat, "A0"))
	if err != nil || placeholder == nil {
		w.t.Fatalf("no placeholder: %v", err)
	}
	begin := row.Timestamp
	err = w.connector.db.Do(ctx, func(ctx context.Context) error {
		for i := 1; i < n; i++ {
			row.MessageID, row.Timestamp = fmt.Sprintf("A%d", i), begin+int64(i/3) // some of the same time
			if err := w.connector.db.IncomingMedia().Put(ctx, row); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = w.connector.bridge.DB.DoTxn(ctx, nil, func(ctx context.Context) error {
			for i := 1; i < n; i++ {
				p := frameworkdb.Message{
					ID: incomingID(w.peer.Chat, fmt.Sprintf("A%d", i)), MXID: id.EventID(fmt.Sprintf("$placeholder%d", i)), Room: placeholder.Room,
					SenderID: placeholder.SenderID, SenderMXID: placeholder.SenderMXID, Timestamp: placeholder.Timestamp, Metadata: placeholder.Metadata,
				}
				if err := w.connector.bridge.DB.Message.Insert(ctx, &p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// stuck makes the host answer when the returned function is called.
func (w *world) stuck() (release func()) {
	asked, release := w.slow()
	go func() {
		for { // by as many as there are
			select {
			case <-asked:
			case <-w.t.Context().Done():
				return
			}
		}
	}()
	return release
}

// until waits for a condition.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(3 * time.Minute); !condition(); <-tick.C {
		if time.Now().After(limit) {
			w.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestAttachmentsWithoutNumberCostABoundedAmountOfMemory: the media host is stuck, and everything that is wanted waits on disk.
func TestAttachmentsWithoutNumberCostABoundedAmountOfMemory(t *testing.T) {
	n, come := 200, 201
	if os.Getenv("POSTERN_ALL") != "" {
		n, come = 50_000, 300
	}
	w := newWorld(t)
	release := w.stuck()
	w.wants(n)
	w.stop()
	goroutines, before := runtime.NumGoroutine(), heap()
	w.patience = time.Millisecond
	w.start()
	a := w.client.arrivals
	w.until("as many as are taken up", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.jobs) >= min(mediaFollowed, n)
	})
	if more := runtime.NumGoroutine() - goroutines; more > 4*mediaFollowed+100 {
		t.Errorf("%d goroutines for %d attachments", more, n)
	}
	if after := heap(); after > before+8<<20 {
		t.Errorf("%d KiB for %d attachments", (after-before)>>10, n)
	} else {
		t.Logf("%d KiB for %d attachments", (int64(after)-int64(before))>>10, n)
	}
	// One more, while there is no room for it, is shown in the end too.
	w.deliver("Z", w.host.image(t, "/v/t/z", "the last", png(3, 2)))
	release()
	w.until("the attachments", func() bool { return w.inState(database.IncomingMediaShown) >= come })
	if come > n {
		w.awaitState(t, "Z", database.IncomingMediaShown)
		if list, _, err := w.connector.db.IncomingMedia().Wanted(t.Context(), w.account, nil, 1); err != nil || len(list) > 0 {
			t.Errorf("still wanted: %v, %v", list, err)
		}
		seen := map[string]int{}
		for _, e := range w.matrix.timeline() {
			if to := relation(e, "event_id"); to != "" {
				seen[to]++
			}
		}
		for to, times := range seen {
			if times > 1 {
				t.Errorf("the placeholder %s was replaced %d times", to, times)
			}
		}
	}
}

// inState is how many attachments are in a state.
func (w *world) inState(state database.IncomingMediaState) (n int) {
	w.t.Helper()
	row := w.connector.db.Raw().QueryRow(w.t.Context(), "SELECT COUNT(*) FROM postern_incoming_media WHERE state=$1", int(state))
	if err := row.Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestWhatIsAskedForAgainIsFetchedThoughManyAre: a person asks for all that is missing in a room, more than is fetched at a time.
func TestWhatIsAskedForAgainIsFetchedThoughManyAre(t *testing.T) {
	const n = 3 * mediaFollowed
	w := newWorld(t)
	release := w.stuck()
	w.wants(n)
	w.stop()
	release()
	w.host.mu.Lock()
	kept := w.host.files["/v/t/a"]
	delete(w.host.files, "/v/t/a")
	w.host.mu.Unlock()
	w.start()
	w.until("all to be missing", func() bool { return w.inState(database.IncomingMediaMissing) == n })
	w.host.mu.Lock()
	w.host.files["/v/t/a"] = kept
	w.host.mu.Unlock()
	if again := w.retry(""); again != n {
		t.Errorf("asked for %d, want %d", again, n)
	}
	w.until("all to be shown", func() bool { return w.inState(database.IncomingMediaShown) == n })
}
