package matrixdurable

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

type sinkNotes struct {
	mu     sync.Mutex
	ids    []string
	fresh  []bool
	passed int
	looked chan struct{} // what Enqueue returns
}

func (s *sinkNotes) Enqueue(entries []Entry, fresh bool) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		s.ids = append(s.ids, e.EventID)
	}
	s.fresh = append(s.fresh, fresh)
	return s.looked
}

func (s *sinkNotes) Pass(entries []Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed += len(entries)
}

func newTestListener(j *memJournal) (*Listener, *sinkNotes) {
	sink := &sinkNotes{}
	return NewListener(ListenerConfig{
		Token: "secret", Journal: j, Sink: sink,
		Own:      func(user string) bool { return strings.HasPrefix(user, "@ghost") },
		Fallback: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }),
	}), sink
}

func put(t *testing.T, l http.Handler, txn, token, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPut, "/_matrix/app/v1/transactions/"+txn, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	var e struct {
		Code string `json:"errcode"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Errorf("answer is not JSON: %q", w.Body)
	}
	return w.Code, e.Code
}

const oneEvent = `{"events":[{"event_id":"$1","room_id":"!a","type":"m.room.message","sender":"@u","content":{}}]}`

func TestWhatIsNotATransactionIsRefusedWithAMatrixErrorAndNotJournalled(t *testing.T) {
	large := `{"events":[],"x":"` + strings.Repeat("a", MaxTransaction) + `"}`
	for name, c := range map[string]struct {
		token, body, code string
		status            int
	}{
		"no token":              {"", oneEvent, "M_MISSING_TOKEN", 401},
		"another scheme":        {"Basic secret", oneEvent, "M_MISSING_TOKEN", 401},
		"a wrong token":         {"Bearer secreT", oneEvent, "M_FORBIDDEN", 403},
		"a longer token":        {"Bearer secret1", oneEvent, "M_FORBIDDEN", 403},
		"an empty token":        {"Bearer ", oneEvent, "M_FORBIDDEN", 403},
		"an empty body":         {"Bearer secret", "", "M_NOT_JSON", 400},
		"a body cut off":        {"Bearer secret", oneEvent[:40], "M_NOT_JSON", 400},
		"a list":                {"Bearer secret", "[]", "M_BAD_JSON", 400},
		"events are no list":    {"Bearer secret", `{"events":{"a":1}}`, "M_BAD_JSON", 400},
		"a body over 16 MiB":    {"Bearer secret", large, "M_TOO_LARGE", 413},
		"a very long id":        {"Bearer secret", oneEvent, "M_INVALID_PARAM", 400},
		"a body that is a word": {"Bearer secret", `"hello"`, "M_BAD_JSON", 400},
	} {
		t.Run(name, func(t *testing.T) {
			j := newMemJournal()
			l, sink := newTestListener(j)
			txn := "1"
			if name == "a very long id" {
				txn = strings.Repeat("x", 256)
			}
			status, code := put(t, l, txn, c.token, c.body)
			if status != c.status || code != c.code {
				t.Errorf("answer is %d %s, want %d %s", status, code, c.status, c.code)
			}
			if len(j.txns) != 0 || len(sink.ids) != 0 {
				t.Error("something was journalled")
			}
		})
	}
}

func TestATransactionIsJournalledOnceHoweverOftenItComes(t *testing.T) {
	j := newMemJournal()
	l, sink := newTestListener(j)
	for range 3 {
		if status, code := put(t, l, "1", "Bearer secret", oneEvent); status != 200 || code != "" {
			t.Fatalf("answer is %d %s", status, code)
		}
	}
	if status, _ := put(t, l, "2", "Bearer secret", oneEvent); status != 200 { // the same event in another transaction
		t.Fatalf("answer is %d", status)
	}
	if !slices.Equal(sink.ids, []string{"$1"}) {
		t.Errorf("handed on: %v", sink.ids)
	}
}

func TestATransactionIDThatIsUsedAgainForOtherEventsHidesNone(t *testing.T) {
	j := newMemJournal()
	l, sink := newTestListener(j)
	for _, id := range []string{"$1", "$2", "$2", "$3"} { // Synapse on SQLite counts from one again after a restart
		if status, _ := put(t, l, "1", "Bearer secret", strings.Replace(oneEvent, "$1", id, 1)); status != 200 {
			t.Fatalf("answer is %d", status)
		}
	}
	if !slices.Equal(sink.ids, []string{"$1", "$2", "$3"}) {
		t.Errorf("handed on: %v", sink.ids)
	}
}

func TestNothingIsAnsweredWith200ThatIsNotOnDisk(t *testing.T) {
	j := newMemJournal()
	j.fail = errors.New("disk full")
	l, sink := newTestListener(j)
	if status, _ := put(t, l, "1", "Bearer secret", oneEvent); status != 503 {
		t.Errorf("answer is %d", status)
	}
	if len(sink.ids) != 0 {
		t.Error("handed on without being stored")
	}
	j.fail = nil
	later := strings.Replace(oneEvent, "$1", "$2", 1)
	for txn, body := range map[string]string{"1": oneEvent, "2": later} { // in whatever order the homeserver repeats
		if status, _ := put(t, l, txn, "Bearer secret", body); status != 200 {
			t.Errorf("the repetition: %d", status)
		}
	}
	if len(sink.ids) != 2 || !sink.fresh[0] {
		t.Errorf("handed on %v, fresh %v", sink.ids, sink.fresh)
	}
}

func TestOneEventThatCannotBeReadDoesNotBlockTheRest(t *testing.T) {
	j := newMemJournal()
	l, sink := newTestListener(j)
	body := `{"events":[
		{"event_id":"$1","room_id":"!a","type":"m.room.message","sender":"@u"},
		"not an event", {"room_id":"!a"}, {"event_id":5,"room_id":"!a"}, null,
		{"event_id":"$ghost","room_id":"!a","type":"m.room.message","sender":"@ghost1"},
		{"event_id":"$join","room_id":"!a","type":"m.room.member","state_key":"@ghost1","sender":"@ghost1"},
		{"event_id":"$2","room_id":"!a","type":"m.room.message","sender":"@u"}],
		"ephemeral":[{"type":"m.typing","room_id":"!a","content":{}},{"type":"m.receipt","room_id":"!a","content":{}},
		{"type":"m.presence","sender":"@u"}, 7]}`
	if status, _ := put(t, l, "1", "Bearer secret", body); status != 200 {
		t.Fatalf("answer is %d", status)
	}
	if !slices.Equal(sink.ids, []string{"", "$1", "$join", "$2"}) || sink.passed != 1 {
		t.Errorf("handed on %v and passed %d", sink.ids, sink.passed)
	}
}

func TestATransactionWithNothingToKeepCostsNoCommit(t *testing.T) {
	j := newMemJournal()
	l, sink := newTestListener(j)
	body := `{"events":[],"de.sorunome.msc2409.ephemeral":[{"type":"m.typing","room_id":"!a","content":{}}]}`
	if status, _ := put(t, l, "1", "Bearer secret", body); status != 200 || len(j.txns) != 0 || sink.passed != 1 {
		t.Errorf("answer %d, %d transactions, %d passed", status, len(j.txns), sink.passed)
	}
}

func TestTheFirstTransactionOnAConnectionIsMarkedFresh(t *testing.T) {
	j := newMemJournal()
	l, sink := newTestListener(j)
	socket, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(socket) }()
	send := func(client *http.Client, txn, event string) {
		t.Helper()
		body := `{"events":[{"event_id":"` + event + `","room_id":"!a","type":"m.room.message","sender":"@u"}]}`
		req, err := http.NewRequest(http.MethodPut, "http://"+socket.Addr().String()+"/_matrix/app/v1/transactions/"+txn, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	one, two := &http.Client{Transport: &http.Transport{}}, &http.Client{Transport: &http.Transport{}}
	send(one, "1", "$1")
	l.unsettled.Store(0)
	send(one, "2", "$2")
	send(two, "3", "$3")
	if !slices.Equal(sink.fresh, []bool{true, false, true}) {
		t.Errorf("fresh: %v", sink.fresh)
	}
	if resp, err := one.Get("http://" + socket.Addr().String() + "/_matrix/mau/live"); err != nil || resp.StatusCode != http.StatusTeapot {
		t.Errorf("fallback: %v %v", resp, err)
	}
	one.CloseIdleConnections()
	two.CloseIdleConnections()
	if err := l.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// FuzzTransactions reads any body of a homeserver's transaction. A room event has an id and a room, and what is kept is not
// longer than the body; what is allocated is bounded by 64 KiB and 384 bytes for each byte.
//
// decoder: journal.go alive.go
func FuzzTransactions(f *testing.F) {
	f.Add([]byte(oneEvent))
	f.Add([]byte(`{"events":[null,1,"a",{}],"ephemeral":[{}]}`))
	f.Add([]byte(`{"events":[{"event_id":"$1","room_id":"!a","type":"m.room.message","sender":"@own"},{"event_id":"$2","room_id":"!a","sender":"@own","state_key":""}]}`))
	f.Add([]byte(`{"ephemeral":[{"room_id":"!a","type":"m.receipt"},{"room_id":"!a","type":"m.typing"},{"type":"m.presence"},7]}`))
	f.Add([]byte(`{"ephemeral":[{"type":"m.receipt","content":{"$1":{"m.read":{"@a":{}}}}},{"type":"m.receipt","content":7},{"type":"m.typing","content":{"user_ids":["@a","@own"]}},{"type":"m.presence","sender":"@a","content":{"presence":"online"}}]}`))
	f.Add([]byte(`{"de.sorunome.msc2409.ephemeral":[{"room_id":"!a","type":"m.typing"}]}`))
	own := func(user string) bool { return user == "@own" }
	f.Fuzz(func(t *testing.T, body []byte) {
		var durable, passing []Entry
		var used uint64
		bound := uint64(64<<10 + 384*len(body))
		for range 5 { // other goroutines are counted too
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var tr transaction
			if json.Unmarshal(body, &tr) != nil {
				return
			}
			durable, passing, _ = tr.entries(own)
			if users := tr.alive(own); slices.Contains(users, "@own") || slices.Contains(users, "") {
				t.Errorf("users %q", users)
			}
			runtime.ReadMemStats(&after)
			if used = after.TotalAlloc - before.TotalAlloc; used <= bound {
				break
			}
		}
		if used > bound {
			t.Errorf("%d bytes allocated for a body of %d", used, len(body))
		}
		size := 0
		for _, e := range slices.Concat(durable, passing) {
			size += len(e.Body)
			if e.Kind == KindRoom && (e.EventID == "" || e.Room == "") {
				t.Error("a room event without id or room")
			}
		}
		if size > len(body) {
			t.Errorf("%d bytes kept of a body of %d", size, len(body))
		}
	})
}

func (s *sinkNotes) Doubt() {}

func (s *sinkNotes) Resolve(context.Context) error { return nil }
