package homeserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filter is the part of a filter that counts here.
type filter struct {
	Types    []string `json:"types"`
	NotTypes []string `json:"not_types"`
	Senders  []string `json:"senders"`
	Limit    int      `json:"limit"`
}

func (f *filter) wants(e *Event) bool {
	return (f.Types == nil || slices.Contains(f.Types, e.Type)) && !slices.Contains(f.NotTypes, "*") &&
		!slices.Contains(f.NotTypes, e.Type) && (f.Senders == nil || slices.Contains(f.Senders, e.Sender))
}

type syncFilter struct {
	Room struct {
		Rooms     []string `json:"rooms"`
		Timeline  filter   `json:"timeline"`
		State     filter   `json:"state"`
		Ephemeral filter   `json:"ephemeral"`
	} `json:"room"`
}

// token is a place in the stream, as clients see it.
func token(pos int, seq int64) string {
	return "s" + strconv.Itoa(pos) + "_" + strconv.FormatInt(seq, 10)
}

// place reads a token; zero for what is none.
func place(text string) (pos int, seq int64) {
	text = strings.TrimPrefix(text, "s")
	first, second, _ := strings.Cut(text, "_")
	pos, _ = strconv.Atoi(first)              // no number is no place
	seq, _ = strconv.ParseInt(second, 10, 64) // as above
	return pos, seq
}

type list struct {
	Events []any `json:"events"`
}

type joinedRoom struct {
	State    list `json:"state"`
	Timeline struct {
		Events  []*Event `json:"events"`
		Limited bool     `json:"limited"`
		Prev    string   `json:"prev_batch"`
	} `json:"timeline"`
	Ephemeral list `json:"ephemeral"`
}

// sync is GET /sync.
func (s *Server) sync(w http.ResponseWriter, r *http.Request) {
	who, fail := s.authorise(r)
	if fail != nil {
		fail.write(w)
		return
	}
	query := r.URL.Query()
	var f syncFilter
	if text := query.Get("filter"); strings.HasPrefix(text, "{") {
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			(&failure{400, "M_BAD_JSON", "not a filter"}).write(w)
			return
		}
	}
	timeout, _ := strconv.Atoi(query.Get("timeout")) // none is 0
	timer := time.NewTimer(time.Duration(timeout) * time.Millisecond)
	defer timer.Stop()
	for {
		s.mu.Lock()
		out, news := s.page(who.id, query.Get("since"), &f)
		changed := s.changed
		s.mu.Unlock()
		if news || timeout == 0 || query.Get("since") == "" {
			reply(w, out)
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-timer.C:
			timeout = 0
		}
	}
}

// page makes one answer; news says that there is something in it. s.mu is held.
func (s *Server) page(who, since string, f *syncFilter) (out map[string]any, news bool) {
	from, seq := place(since)
	join, invite := map[string]*joinedRoom{}, map[string]map[string]list{}
	touched := map[string]bool{}
	for _, e := range s.stream[min(from, len(s.stream)):] {
		touched[e.Room] = true
	}
	for id, r := range s.rooms {
		if f.Room.Rooms != nil && !slices.Contains(f.Room.Rooms, id) {
			continue
		}
		switch r.membership(who) {
		case "join":
			if j := s.joined(r, who, from, seq, touched[id], f); j != nil {
				join[id] = j
			}
		case "invite":
			mine := r.state[stateKey{"m.room.member", who}]
			if mine.Pos >= from {
				invite[id] = map[string]list{"invite_state": stripped(r, mine)}
			}
		}
	}
	return map[string]any{
		"next_batch": token(len(s.stream), s.lastPassing), "rooms": map[string]any{"join": join, "invite": invite},
	}, len(join)+len(invite) > 0
}

// joined is what a member is told of a room; nil for nothing.
func (s *Server) joined(r *room, who string, from int, seq int64, touched bool, f *syncFilter) *joinedRoom {
	j := &joinedRoom{}
	j.State.Events, j.Timeline.Events, j.Ephemeral.Events = []any{}, []*Event{}, []any{}
	for _, e := range append(slices.Clone(r.receipts), r.typing) {
		if e.seq > seq && !slices.Contains(f.Room.Ephemeral.NotTypes, "*") {
			j.Ephemeral.Events = append(j.Ephemeral.Events, e.raw)
		}
	}
	if !touched {
		if len(j.Ephemeral.Events) == 0 {
			return nil
		}
		return j
	}
	begin := from
	if r.state[stateKey{"m.room.member", who}].Pos >= from {
		begin = 0 // newly there: everything is new
		for _, e := range r.state {
			if f.Room.State.wants(e) {
				j.State.Events = append(j.State.Events, e)
			}
		}
	}
	limit := f.Room.Timeline.Limit
	if limit == 0 {
		limit = 10
	}
	at, _ := slices.BinarySearchFunc(r.timeline, begin, func(e *Event, pos int) int { return e.Pos - pos })
	for _, e := range r.timeline[at:] {
		if f.Room.Timeline.wants(e) {
			j.Timeline.Events = append(j.Timeline.Events, e)
		}
	}
	if n := len(j.Timeline.Events); n > limit {
		j.Timeline.Events, j.Timeline.Limited = j.Timeline.Events[n-limit:], true
	}
	j.Timeline.Prev = token(begin, 0)
	if len(j.Timeline.Events) > 0 {
		j.Timeline.Prev = token(j.Timeline.Events[0].Pos, 0)
	}
	if len(j.Timeline.Events)+len(j.State.Events)+len(j.Ephemeral.Events) == 0 {
		return nil
	}
	return j
}

// stripped is what an invitation shows.
func stripped(r *room, mine *Event) list {
	out := list{Events: []any{mine}}
	for k, e := range r.state {
		switch k.kind {
		case "m.room.create", "m.room.name", "m.room.avatar", "m.room.topic", "m.room.join_rules", "m.room.encryption":
			out.Events = append(out.Events, e)
		}
	}
	return out
}

// messages is GET /rooms/{room}/messages.
func (s *Server) messages(w http.ResponseWriter, r *http.Request) {
	s.inRoom(w, r, func(who *user, room *room) (any, *failure) {
		query := r.URL.Query()
		var f filter
		if text := query.Get("filter"); text != "" {
			if err := json.Unmarshal([]byte(text), &f); err != nil {
				return nil, &failure{400, "M_BAD_JSON", "not a filter"}
			}
		}
		back := query.Get("dir") == "b"
		from, to := 0, len(s.stream)
		if back {
			from, to = len(s.stream), 0
		}
		if text := query.Get("from"); text != "" {
			from, _ = place(text)
		}
		if text := query.Get("to"); text != "" {
			to, _ = place(text)
		}
		limit := pageSize(query.Get("limit"))
		chunk, end := []*Event{}, ""
		events := slices.Clone(room.timeline)
		if back {
			slices.Reverse(events)
		}
		for _, e := range events {
			if !between(e.Pos, from, to, back) || !f.wants(e) {
				continue
			}
			if len(chunk) == limit {
				last := chunk[limit-1].Pos
				if !back {
					last++
				}
				end = token(last, 0)
				break
			}
			chunk = append(chunk, e)
		}
		out := map[string]any{"start": token(from, 0), "chunk": chunk}
		if end != "" {
			out["end"] = end
		}
		return out, nil
	})
}

// pageSize is how many events a page has, by what was asked for.
func pageSize(asked string) int {
	n, err := strconv.Atoi(asked)
	if err != nil || n <= 0 {
		return 10
	}
	return min(n, 1000)
}

// between says whether a place lies on the way from one to another.
func between(at, from, to int, back bool) bool {
	if back {
		from, to = to, from
	}
	return at >= from && at < to
}
