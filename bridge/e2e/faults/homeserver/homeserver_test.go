package homeserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
)

const registration = `id: bridge
url: %s
as_token: as
hs_token: hs
sender_localpart: bot
receive_ephemeral: true
namespaces:
  users:
  - regex: "@ghost_.*:test"
    exclusive: true
`

// world is a server with an appservice that takes every transaction it is told to take.
type world struct {
	*homeserver.Server
	t *testing.T

	mu     sync.Mutex
	refuse int // so many transactions
	paths  []string
	events []string
}

func open(t *testing.T) *world {
	w := &world{t: t}
	service := httptest.NewServer(http.HandlerFunc(w.take))
	t.Cleanup(service.Close)
	s, err := homeserver.Start("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w.Server = s
	if err := s.AddService(fmt.Appendf(nil, registration, service.URL)); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) take(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paths = append(w.paths, r.URL.Path)
	if w.refuse > 0 {
		w.refuse--
		out.WriteHeader(503)
		return
	}
	var body struct{ Events []homeserver.Event }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		w.t.Error(err)
	}
	for _, e := range body.Events {
		w.events = append(w.events, e.Type+" "+e.Body())
	}
}

// call makes a request as somebody: a token, or a user of the appservice's.
func (w *world) call(who, method, path string, in, out any) int {
	w.t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	token := who
	if strings.HasPrefix(who, "@") {
		token = "as"
		path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "user_id=" + url.QueryEscape(who)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.URL()+path, bytes.NewReader(raw))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0
	}
	if out != nil && len(answer) > 0 && json.Unmarshal(answer, out) != nil {
		return -1
	}
	return resp.StatusCode
}

const v3 = "/_matrix/client/v3"

// room registers a ghost and makes a room of its own.
func (w *world) room() (ghost, room string) {
	w.t.Helper()
	if status := w.call("as", "POST", v3+"/register", map[string]string{"username": "ghost_1"}, nil); status != 200 {
		w.t.Fatalf("registering a ghost: %d", status)
	}
	var made struct {
		Room string `json:"room_id"`
	}
	if status := w.call("@ghost_1:test", "POST", v3+"/createRoom", map[string]any{}, &made); status != 200 {
		w.t.Fatalf("making a room: %d", status)
	}
	return "@ghost_1:test", made.Room
}

func (w *world) say(who, room, txn, text string) (event string, status int) {
	w.t.Helper()
	var sent struct {
		Event string `json:"event_id"`
	}
	path := v3 + "/rooms/" + url.PathEscape(room) + "/send/m.room.message/" + txn
	status = w.call(who, "PUT", path, map[string]string{"msgtype": "m.text", "body": text}, &sent)
	return sent.Event, status
}

func TestATransactionIDIsRememberedUntilItIsForgotten(t *testing.T) {
	w := open(t)
	ghost, room := w.room()
	first, _ := w.say(ghost, room, "one", "hello")
	again, _ := w.say(ghost, room, "one", "hello")
	if first == "" || again != first || len(w.Messages(room, "hello")) != 1 {
		t.Fatalf("the same transaction id gave %q and %q", first, again)
	}
	w.ForgetTransactions()
	if third, _ := w.say(ghost, room, "one", "hello"); third == first || len(w.Messages(room, "hello")) != 2 {
		t.Error("a forgotten transaction id is remembered")
	}
}

func TestEventsArePushedInOrderUntilTheyAreTaken(t *testing.T) {
	w := open(t)
	w.mu.Lock()
	w.refuse = 2
	w.mu.Unlock()
	ghost, room := w.room()
	for i := range 5 {
		w.say(ghost, room, fmt.Sprint(i), fmt.Sprint("text ", i))
	}
	if err := w.Pushed(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.paths) < 3 || w.paths[0] != w.paths[1] || w.paths[1] != w.paths[2] {
		t.Errorf("a transaction that was refused twice was not repeated as it was: %q", w.paths)
	}
	var texts []string
	for _, e := range w.events {
		if text, ok := strings.CutPrefix(e, "m.room.message "); ok {
			texts = append(texts, text)
		}
	}
	if got := strings.Join(texts, ","); got != "text 0,text 1,text 2,text 3,text 4" {
		t.Errorf("pushed were %s", got)
	}
}

func TestWhoIsNotInARoomMayNothingThere(t *testing.T) {
	w := open(t)
	_, room := w.room()
	if _, status := w.say("@bot:test", room, "one", "hello"); status != 403 {
		t.Errorf("a stranger's message is answered with %d, want 403", status)
	}
	if status := w.call("@bot:test", "POST", v3+"/join/"+url.PathEscape(room), map[string]any{}, nil); status != 403 {
		t.Errorf("a stranger's joining is answered with %d, want 403", status)
	}
	if status := w.call("@somebody:test", "GET", v3+"/account/whoami", nil, nil); status != 403 {
		t.Errorf("a user that is nobody's is answered with %d, want 403", status)
	}
	if status := w.call("nonsense", "GET", v3+"/account/whoami", nil, nil); status != 401 {
		t.Errorf("a token that is none is answered with %d, want 401", status)
	}
}

// page is what these tests look at in an answer to /sync or /messages.
type page struct {
	Next  string `json:"next_batch"`
	Chunk []homeserver.Event
	End   string
	Rooms struct {
		Join map[string]struct {
			Timeline struct {
				Events  []homeserver.Event
				Limited bool
				Prev    string `json:"prev_batch"`
			}
		}
		Invite map[string]any
	}
}

func TestASyncAndItsGapAreTogetherEverything(t *testing.T) {
	w := open(t)
	ghost, room := w.room()
	var first, second, gap page
	w.call(ghost, "GET", v3+"/sync", nil, &first)
	for i := range 12 {
		w.say(ghost, room, fmt.Sprint(i), fmt.Sprint("text ", i))
	}
	filter := url.QueryEscape(`{"room":{"timeline":{"limit":5,"types":["m.room.message"]}}}`)
	w.call(ghost, "GET", v3+"/sync?since="+first.Next+"&filter="+filter, nil, &second)
	timeline := second.Rooms.Join[room].Timeline
	if !timeline.Limited || len(timeline.Events) != 5 || timeline.Events[0].Body() != "text 7" {
		t.Fatalf("the sync has %+v", timeline)
	}
	w.call(ghost, "GET", v3+"/rooms/"+url.PathEscape(room)+"/messages?dir=b&limit=100&from="+timeline.Prev+"&to="+first.Next, nil, &gap)
	if len(gap.Chunk) != 7 || gap.Chunk[0].Body() != "text 6" || gap.Chunk[6].Body() != "text 0" || gap.End != "" {
		t.Errorf("the gap has %d events: %+v", len(gap.Chunk), gap.Chunk)
	}
	var pages []string
	for from := ""; ; {
		var p page
		w.call(ghost, "GET", v3+"/rooms/"+url.PathEscape(room)+"/messages?dir=b&limit=5&from="+from, nil, &p)
		for _, e := range p.Chunk {
			pages = append(pages, e.Type)
		}
		if from = p.End; from == "" {
			break
		}
	}
	if len(pages) != len(w.Events(room, "")) {
		t.Errorf("page by page a room has %d events, want %d", len(pages), len(w.Events(room, "")))
	}
}

func TestAnAliasIsTakenOnceAndAnInvitationShown(t *testing.T) {
	w := open(t)
	ghost, _ := w.room()
	body := map[string]any{"room_alias_name": "x", "name": "the room", "invite": []string{"@bot:test"}}
	if status := w.call(ghost, "POST", v3+"/createRoom", body, nil); status != 200 {
		t.Fatal(status)
	}
	var refused struct{ Errcode string }
	if status := w.call(ghost, "POST", v3+"/createRoom", body, &refused); status != 400 || refused.Errcode != "M_ROOM_IN_USE" {
		t.Errorf("a second room of that alias: %d %s", status, refused.Errcode)
	}
	var p page
	w.call("@bot:test", "GET", v3+"/sync", nil, &p)
	if len(p.Rooms.Invite) != 1 {
		t.Errorf("%d invitations, want 1", len(p.Rooms.Invite))
	}
}

func TestFaultsArePlayedAndWrittenDown(t *testing.T) {
	w := open(t)
	ghost, room := w.room()
	for _, f := range []struct {
		fault  homeserver.Fault
		status int
		stored bool
	}{
		{homeserver.Fault{Status: 500}, 500, false},
		{homeserver.Fault{Status: 500, Late: true}, 500, true},
		{homeserver.Fault{Cut: true}, 0, true},
		{homeserver.Fault{Cut: true, Status: 500}, 0, false},
		{homeserver.Fault{Trickle: time.Microsecond}, 200, true},
		{homeserver.Fault{Delay: time.Microsecond}, 200, true},
	} {
		f.fault.Path, f.fault.Count = "/send/", 1
		w.AddFault(f.fault)
		before := len(w.Messages(room, "hello"))
		_, status := w.say(ghost, room, fmt.Sprintf("%+v", f.status)+fmt.Sprint(before, f.stored, f.fault.Trickle), "hello")
		if stored := len(w.Messages(room, "hello")) > before; status != f.status || stored != f.stored {
			t.Errorf("%+v: answered with %d, stored: %t", f.fault, status, stored)
		}
	}
	wrong := w.Requests(func(s *homeserver.Seen) bool { return s.Wrong })
	if len(wrong) != 6 || wrong[0].Status != 500 || wrong[2].Status != 0 || wrong[2].Event == "" {
		t.Errorf("%d requests are written down as wrong: %+v", len(wrong), wrong)
	}
	if _, status := w.say(ghost, room, "last", "hello"); status != 200 {
		t.Errorf("after its faults it answers with %d", status)
	}
}

func TestAServerThatWasGoneKnowsEverything(t *testing.T) {
	w := open(t)
	ghost, room := w.room()
	w.Down()
	if _, status := w.say(ghost, room, "one", "hello"); status != 0 {
		t.Fatalf("a server that is gone answers with %d", status)
	}
	if err := w.Up(); err != nil {
		t.Fatal(err)
	}
	if _, status := w.say(ghost, room, "one", "hello"); status != 200 {
		t.Errorf("a server that is back answers with %d", status)
	}
}

func TestWhatIsLostIsNotPushedAndStillInItsRoom(t *testing.T) {
	w := open(t)
	ghost, room := w.room()
	if err := w.Pushed(t.Context()); err != nil {
		t.Fatal(err)
	}
	release := w.HoldPushes()
	w.say(ghost, room, "one", "hello")
	if n := w.LosePushes(); n != 1 {
		t.Errorf("%d events lost, want 1", n)
	}
	release()
	if err := w.Pushed(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := w.Expect(ctx, room, "the text", func(e *homeserver.Event) bool { return e.Body() == "hello" }); err != nil {
		t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if strings.HasSuffix(e, "hello") {
			t.Error("what was lost was pushed")
		}
	}
}

func TestARequestForWhatIsNotThereIsCounted(t *testing.T) {
	w := open(t)
	if status := w.call("as", "GET", v3+"/no/such/call", nil, nil); status != 404 || len(w.Unknown()) != 1 {
		t.Errorf("answered with %d, counted %v", status, w.Unknown())
	}
}
