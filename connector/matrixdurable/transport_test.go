package matrixdurable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"
)

// fakeHomeserver remembers transaction ids until it is restarted, as Synapse does.
type fakeHomeserver struct {
	membership string            // of whoever a room is asked about
	txns       map[string]string // path -> event id
	events     []map[string]any  // oldest first
	aliases    map[string]string
	rooms      map[string]bool // room id -> whole
	calls      []string
	answer     func(r *http.Request) int // an error status to answer with after storing; 0: none
	refuse     func(r *http.Request) int // the same without storing
	invited    []string
	aliasNow   string
}

func newFakeHomeserver() *fakeHomeserver {
	return &fakeHomeserver{txns: map[string]string{}, aliases: map[string]string{}, rooms: map[string]bool{}}
}

func (f *fakeHomeserver) restart() { f.txns = map[string]string{} }

func (f *fakeHomeserver) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	f.calls = append(f.calls, r.Method+" "+r.URL.EscapedPath())
	if f.refuse != nil {
		if status := f.refuse(r); status != 0 {
			w.WriteHeader(status)
			return w.Result(), nil
		}
	}
	f.serve(w, r)
	if f.answer != nil {
		if status := f.answer(r); status < 0 {
			return nil, errors.New("connection reset")
		} else if status != 0 {
			w = httptest.NewRecorder()
			w.WriteHeader(status)
		}
	}
	return w.Result(), nil
}

func (f *fakeHomeserver) serve(w *httptest.ResponseRecorder, r *http.Request) {
	path := r.URL.EscapedPath()
	reply := func(status int, v any) { w.WriteHeader(status); _ = json.NewEncoder(w).Encode(v) }
	switch {
	case strings.Contains(path, "/send/") || strings.Contains(path, "/redact/"):
		evt, known := f.txns[path]
		if !known {
			var content map[string]any
			if err := json.NewDecoder(r.Body).Decode(&content); err != nil {
				reply(400, map[string]string{"errcode": "M_NOT_JSON"})
				return
			}
			evt = fmt.Sprintf("$%d", len(f.events)+1)
			f.txns[path] = evt
			f.events = append(f.events, map[string]any{"event_id": evt, "content": content, "sender": r.URL.Query().Get("user_id")})
		}
		reply(200, map[string]string{"event_id": evt})
	case strings.HasSuffix(path, "/messages"):
		chunk := slices.Clone(f.events)
		slices.Reverse(chunk)
		var filter struct {
			Senders []any `json:"senders"`
		}
		_ = json.Unmarshal([]byte(r.URL.Query().Get("filter")), &filter)
		if filter.Senders != nil {
			chunk = slices.DeleteFunc(chunk, func(e map[string]any) bool { return !slices.Contains(filter.Senders, e["sender"]) })
		}
		from := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("from"), &from)
		page := chunk[min(from, len(chunk)):min(from+searchPage, len(chunk))]
		end := ""
		if from+searchPage < len(chunk) {
			end = fmt.Sprint(from + searchPage)
		}
		reply(200, map[string]any{"chunk": page, "end": end})
	case strings.HasSuffix(path, "/createRoom"):
		var body struct {
			Alias string `json:"room_alias_name"`
			State []struct {
				Type string `json:"type"`
			} `json:"initial_state"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		f.aliasNow = body.Alias
		alias := "#" + body.Alias + ":example.org"
		if f.aliases[alias] != "" {
			reply(400, map[string]string{"errcode": "M_ROOM_IN_USE"})
			return
		}
		room := fmt.Sprintf("!room%d", len(f.rooms)+1)
		f.rooms[room] = true
		if body.Alias != "" {
			f.aliases[alias] = room
		}
		reply(200, map[string]string{"room_id": room})
	case strings.Contains(path, "/directory/room/"):
		alias, _ := url.PathUnescape(path[strings.LastIndex(path, "/")+1:])
		if f.aliases[alias] == "" {
			reply(404, map[string]string{"errcode": "M_NOT_FOUND"})
			return
		}
		if r.Method == http.MethodDelete {
			delete(f.aliases, alias)
		}
		reply(200, map[string]string{"room_id": f.aliases[alias]})
	case strings.Contains(path, "/state/m.room.member/"):
		if f.membership == "" {
			reply(404, map[string]string{"errcode": "M_NOT_FOUND"})
			return
		}
		reply(200, map[string]string{"membership": f.membership})
	case strings.Contains(path, "/state/m.bridge/"), strings.Contains(path, "/state/m.room.topic/"):
		room, _ := url.PathUnescape(strings.Split(path, "/")[5])
		if !f.rooms[room] {
			reply(403, map[string]string{"errcode": "M_FORBIDDEN"})
			return
		}
		reply(200, map[string]string{})
	case strings.HasSuffix(path, "/invite"):
		raw, _ := io.ReadAll(r.Body)
		f.invited = append(f.invited, string(raw))
		reply(403, map[string]string{"errcode": "M_FORBIDDEN"})
	default:
		reply(200, map[string]string{})
	}
}

const roomPath = "http://hs/_matrix/client/v3/rooms/%21a%3Aexample.org"

// sendAs does what the framework's client does: a PUT under a transaction id of its own making.
func sendAs(t *testing.T, rt http.RoundTripper, s *Sending, txn, body string) (int, string, error) {
	t.Helper()
	ctx := context.Background()
	if s != nil {
		ctx = WithSending(ctx, s)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, roomPath+"/send/m.room.message/"+txn+"?user_id=%40ghost", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var out struct {
		Event string `json:"event_id"`
	}
	_ = json.NewDecoder(resp.Body).Decode(&out)
	return resp.StatusCode, out.Event, nil
}

func TestTheSameThingSentAgainIsTheSameEvent(t *testing.T) {
	f := newFakeHomeserver()
	rt := &Transport{Base: f}
	_, first, _ := sendAs(t, rt, &Sending{Parts: []string{"PART"}}, "random1", `{"body":"x"}`)
	_, second, _ := sendAs(t, rt, &Sending{Parts: []string{"PART"}}, "random2", `{"body":"x"}`)
	if first != "$1" || second != "$1" || len(f.events) != 1 {
		t.Errorf("events %q and %q, %d in the room", first, second, len(f.events))
	}
	want := map[string]any{"body": "x", MarkerKey: "PART"}
	if got := f.events[0]["content"].(map[string]any); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("content is %v", got)
	}
}

func TestAnUncertainSendLooksIntoTheRoomFirst(t *testing.T) {
	for name, c := range map[string]struct {
		stored    bool
		uncertain bool
		events    int
	}{
		"stored before, and said so":     {true, true, 1},
		"stored before, and not said so": {true, false, 2}, // what the flag is for
		"not stored before":              {false, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeHomeserver()
			rt := &Transport{Base: f}
			if c.stored {
				_, _, _ = sendAs(t, rt, &Sending{Parts: []string{"PART"}}, "r1", `{}`)
			}
			f.restart()
			status, event, err := sendAs(t, rt, &Sending{Parts: []string{"PART"}, Uncertain: c.uncertain}, "r2", `{}`)
			if err != nil || status != 200 || event == "" || len(f.events) != c.events {
				t.Errorf("%d %q %v, %d in the room", status, event, err, len(f.events))
			}
		})
	}
}

func TestARequestThatTheClientRepeatsAfterAFailureDoesNotDouble(t *testing.T) {
	for name, failure := range map[string]int{"the connection broke": -1, "the answer was 502": 502} {
		t.Run(name, func(t *testing.T) {
			f := newFakeHomeserver()
			troubles := 0
			rt := &Transport{Base: f, OnTrouble: func() { troubles++ }}
			s := &Sending{Parts: []string{"P0", "P1"}}
			f.answer = func(r *http.Request) int { return failure }
			_, _, _ = sendAs(t, rt, s, "same", `{}`)
			f.restart()
			f.answer = nil
			_, event, err := sendAs(t, rt, s, "same", `{}`)
			if err != nil || event != "$1" || len(f.events) != 1 || troubles != 1 {
				t.Errorf("%q %v, %d in the room, %d troubles", event, err, len(f.events), troubles)
			}
			_, event, err = sendAs(t, rt, s, "next", `{}`)
			if err != nil || event != "$2" || f.events[1]["content"].(map[string]any)[MarkerKey] != "P1" {
				t.Errorf("next part: %q %v", event, err)
			}
		})
	}
}

func TestALaterPartIsNotSentWhenAnEarlierOneWasRefused(t *testing.T) {
	f := newFakeHomeserver()
	rt := &Transport{Base: f}
	s := &Sending{Parts: []string{"P0", "P1"}}
	f.refuse = func(*http.Request) int { return 413 }
	if status, _, err := sendAs(t, rt, s, "a", `{}`); status != 413 || err != nil {
		t.Fatalf("%d %v", status, err)
	}
	f.refuse = nil
	if _, _, err := sendAs(t, rt, s, "b", `{}`); !errors.Is(err, errOutOfOrder) {
		t.Errorf("error is %v", err)
	}
	if len(f.events) != 0 {
		t.Error("the later part is in the room")
	}
}

// TestWhatAFormerGhostHasSentIsFoundAndNotSentAgain: the chat has come from another instance of the bridge.
func TestWhatAFormerGhostHasSentIsFoundAndNotSentAgain(t *testing.T) {
	for _, moved := range []bool{true, false} {
		f := newFakeHomeserver()
		rt := &Transport{Base: f, Moved: moved}
		f.events = append(f.events, map[string]any{"event_id": "$1", "content": map[string]any{MarkerKey: "P0"}, "sender": "@other_ghost:example.org"})
		req := httptest.NewRequestWithContext(WithSending(t.Context(), &Sending{Parts: []string{"P0"}, Uncertain: true}), http.MethodPut,
			"http://hs.example/_matrix/client/v3/rooms/!r/send/m.room.message/a?user_id=@ghost:example.org", strings.NewReader("{}"))
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if found := len(f.events) == 1; found != moved {
			t.Errorf("moved: %v, events: %d", moved, len(f.events))
		}
	}
}

func TestTheSearchEndsAtSomethingSettled(t *testing.T) {
	f := newFakeHomeserver()
	rt := &Transport{Base: f}
	for i := range 250 {
		_, _, _ = sendAs(t, rt, &Sending{Parts: []string{fmt.Sprint("OLD", i)}}, fmt.Sprint(i), `{}`)
	}
	f.calls = nil
	s := &Sending{Parts: []string{"NEW"}, Uncertain: true, Settled: func(_ context.Context, evt id.EventID) bool { return evt == "$249" }}
	if _, event, err := sendAs(t, rt, s, "n", `{}`); err != nil || event != "$251" {
		t.Fatalf("%q %v", event, err)
	}
	if len(f.calls) != 2 {
		t.Errorf("calls: %v", f.calls)
	}
	f.calls = nil
	s = &Sending{Parts: []string{"OLD0"}, Uncertain: true} // nothing settled: all pages are read
	if _, event, err := sendAs(t, rt, s, "n", `{}`); err != nil || event != "$1" || len(f.calls) != 3 {
		t.Errorf("%q %v after %v", event, err, f.calls)
	}
}

func TestNothingIsSentWhenTheSearchFails(t *testing.T) {
	f := newFakeHomeserver()
	f.refuse = func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/messages") {
			return 500
		}
		return 0
	}
	s := &Sending{Parts: []string{"P"}, Uncertain: true}
	if _, _, err := sendAs(t, &Transport{Base: f}, s, "n", `{}`); err == nil || len(f.events) != 0 {
		t.Errorf("error %v, %d in the room", err, len(f.events))
	}
}

func TestOtherRequestsAreLeftAlone(t *testing.T) {
	f := newFakeHomeserver()
	rt := &Transport{Base: f, AliasPrefix: "p_"}
	if _, event, err := sendAs(t, rt, nil, "mine", `{"a":1}`); err != nil || event != "$1" {
		t.Fatal(event, err)
	}
	if !strings.HasSuffix(f.calls[0], "/mine") {
		t.Errorf("path is %s", f.calls[0])
	}
	s := &Sending{Parts: []string{"P"}}
	_, _, _ = sendAs(t, rt, s, "announced", `{}`)
	_, _, _ = sendAs(t, rt, s, "beyond", `{}`)
	if !strings.HasSuffix(f.calls[2], "/beyond") {
		t.Errorf("path is %s", f.calls[2])
	}
	req, _ := http.NewRequestWithContext(WithSending(t.Context(), &Sending{Parts: []string{"P"}}), http.MethodPut, roomPath+"/state/m.room.name/", strings.NewReader("{}"))
	if _, err := rt.RoundTrip(req); err != nil {
		t.Error(err)
	}
}

func TestARedactionHasAFixedTransactionID(t *testing.T) {
	f := newFakeHomeserver()
	rt := &Transport{Base: f}
	for _, txn := range []string{"r1", "r2"} {
		req, _ := http.NewRequestWithContext(WithSending(t.Context(), &Sending{Parts: []string{"P"}}), http.MethodPut, roomPath+"/redact/%24x/"+txn, strings.NewReader("{}"))
		if _, err := rt.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.events) != 1 || f.calls[0] != f.calls[1] {
		t.Errorf("%d redactions: %v", len(f.events), f.calls)
	}
}

func create(t *testing.T, rt http.RoundTripper, body string) (int, string) {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://hs/_matrix/client/v3/createRoom?user_id=%40bot", strings.NewReader(body))
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct {
		Room string `json:"room_id"`
	}
	_ = json.NewDecoder(resp.Body).Decode(&out)
	return resp.StatusCode, out.Room
}

func TestARoomIsMadeOnce(t *testing.T) {
	const portal = `{"com.beeper.local_room_id":"!chat.login:example.org","invite":["@u:example.org"],"initial_state":[{"type":"m.bridge","state_key":"k","content":{}}]}`
	for name, c := range map[string]struct {
		prepare func(f *fakeHomeserver)
		want    string
	}{
		"a repetition finds the room":           {func(*fakeHomeserver) {}, "!room1"},
		"a room half made is made anew":         {func(f *fakeHomeserver) { f.rooms["!room1"] = false }, "!room2"},
		"a room that was left is made anew":     {func(f *fakeHomeserver) { f.membership = "leave" }, "!room2"},
		"an alias taken away is nobody's fault": {func(f *fakeHomeserver) { clear(f.aliases) }, "!room2"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeHomeserver()
			rt := &Transport{Base: f, AliasPrefix: "postern_", ServerName: "example.org"}
			if _, room := create(t, rt, portal); room != "!room1" {
				t.Fatalf("first room is %q", room)
			}
			if !strings.HasPrefix(f.aliasNow, "postern_") || f.aliasNow != strings.ToLower(f.aliasNow) {
				t.Errorf("alias is %q", f.aliasNow)
			}
			c.prepare(f)
			status, room := create(t, rt, portal)
			if status != 200 || room != c.want {
				t.Errorf("%d %q, want %q; calls %v", status, room, c.want, f.calls)
			}
			if c.want == "!room1" && len(f.invited) != 1 {
				t.Errorf("invited %v", f.invited)
			}
			_, other := create(t, rt, strings.Replace(portal, "chat", "other", 1))
			if other == "!room1" || other == room {
				t.Errorf("another chat has the same room")
			}
		})
	}
}

// TestAManagementRoomIsMadeOnce: the framework gives it no local id.
func TestAManagementRoomIsMadeOnce(t *testing.T) {
	const management = `{"name":"WhatsApp","topic":"management room","is_direct":true,"invite":["@u:example.org"],"initial_state":[{"type":"m.room.avatar","content":{}}]}`
	for name, c := range map[string]struct {
		membership string
		half       bool
		want       string
	}{
		"not invited yet": {"", false, "!room1"}, "invited": {"invite", false, "!room1"}, "there": {"join", false, "!room1"},
		"left": {"leave", false, "!room2"}, "banned": {"ban", false, "!room2"}, "half made": {"invite", true, "!room2"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeHomeserver()
			rt := &Transport{Base: f, AliasPrefix: "postern_", ServerName: "example.org"}
			create(t, rt, management)
			f.membership, f.rooms["!room1"] = c.membership, !c.half
			if status, room := create(t, rt, management); status != 200 || room != c.want {
				t.Errorf("%d %q, want %q; calls %v", status, room, c.want, f.calls)
			}
			if _, other := create(t, rt, strings.Replace(management, "@u", "@v", 1)); other == "!room1" || other == c.want {
				t.Error("somebody else has the same room")
			}
		})
	}
}

func TestARoomWithoutALocalIDGetsNoAlias(t *testing.T) {
	f := newFakeHomeserver()
	rt := &Transport{Base: f, AliasPrefix: "postern_", ServerName: "example.org"}
	for range 2 {
		if status, _ := create(t, rt, `{"name":"management"}`); status != 200 || f.aliasNow != "" {
			t.Errorf("%d with alias %q", status, f.aliasNow)
		}
	}
}

func TestIdentitiesDifferWhereTheirPartsDo(t *testing.T) {
	seen := map[string]bool{}
	for _, parts := range [][]string{{"a", "b"}, {"ab"}, {"ab", ""}, {"", "ab"}, {"a", "b", ""}, {"b", "a"}} {
		x := Identity(parts...)
		if len(x) != 32 || seen[x] {
			t.Errorf("%q has identity %s", parts, x)
		}
		seen[x] = true
	}
}
