package homeserver

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Event is one event of a room.
type Event struct {
	ID       string          `json:"event_id"`
	Room     string          `json:"room_id"`
	Sender   string          `json:"sender"`
	Type     string          `json:"type"`
	StateKey *string         `json:"state_key,omitempty"`
	TS       int64           `json:"origin_server_ts"` // Unix milliseconds
	Content  json.RawMessage `json:"content"`
	Redacts  string          `json:"redacts,omitempty"`
	// Pos is the place in the order of everything that this server was sent.
	Pos int `json:"-"`
}

// Body is the text of a message, "" for what is none.
func (e *Event) Body() string {
	var content struct {
		Body string `json:"body"`
	}
	if e.Type != "m.room.message" || json.Unmarshal(e.Content, &content) != nil {
		return ""
	}
	return content.Body
}

type stateKey struct{ kind, key string }

type room struct {
	id       string
	timeline []*Event
	state    map[stateKey]*Event
	// receipts and typing are what is ephemeral: the newest of each.
	receipts []ephemeral
	typing   ephemeral
}

// ephemeral is what passes; seq counts them over all rooms, so that each is shown once.
type ephemeral struct {
	seq int64
	raw json.RawMessage
}

// membership is what a user is in a room: join, invite, leave, ban or "".
func (r *room) membership(id string) string {
	e := r.state[stateKey{"m.room.member", id}]
	if e == nil {
		return ""
	}
	var content struct {
		Membership string `json:"membership"`
	}
	_ = json.Unmarshal(e.Content, &content) // memberships are checked when they are made
	return content.Membership
}

// members lists who has one of these memberships.
func (r *room) members(wanted ...string) []string {
	var out []string
	for k := range r.state {
		if k.kind == "m.room.member" && slices.Contains(wanted, r.membership(k.key)) {
			out = append(out, k.key)
		}
	}
	slices.Sort(out)
	return out
}

// put adds an event to a room; s.mu is held.
func (s *Server) put(r *room, sender, kind string, key *string, content json.RawMessage) *Event {
	e := &Event{
		ID: fmt.Sprintf("$%s-%d", s.prefix, len(s.stream)), Room: r.id, Sender: sender, Type: kind, StateKey: key,
		TS: time.Now().UnixMilli(), Content: content, Pos: len(s.stream),
	}
	s.stream = append(s.stream, e)
	r.timeline = append(r.timeline, e)
	if key != nil {
		r.state[stateKey{kind, *key}] = e
	}
	for _, a := range s.services {
		if a.interested(r, e) {
			a.push.events = append(a.push.events, e)
		}
	}
	s.wake()
	return e
}

// interested says whether an appservice is told of an event.
func (a *service) interested(r *room, e *Event) bool {
	if a.owns(e.Sender) || e.StateKey != nil && a.owns(*e.StateKey) {
		return true
	}
	for k := range r.state {
		if k.kind == "m.room.member" && a.owns(k.key) && slices.Contains([]string{"join", "invite"}, r.membership(k.key)) {
			return true
		}
	}
	return false
}

// member sets a membership; s.mu is held.
func (s *Server) member(r *room, sender, who, membership string, more map[string]any) *Event {
	content := map[string]any{"membership": membership}
	if u := s.users[who]; u != nil && membership != "leave" {
		if u.name != "" {
			content["displayname"] = u.name
		}
		if u.avatar != "" {
			content["avatar_url"] = u.avatar
		}
	}
	maps.Copy(content, more)
	return s.put(r, sender, "m.room.member", &who, marshal(content))
}

// marshal writes what can always be written.
func marshal(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) //nolint:forbidigo // a mistake in this test's own maps of strings
	}
	return raw
}

// createRoom is what a room is made of.
type createRoom struct {
	Alias    string         `json:"room_alias_name"`
	Name     string         `json:"name"`
	Topic    string         `json:"topic"`
	Invite   []string       `json:"invite"`
	IsDirect bool           `json:"is_direct"`
	Creation map[string]any `json:"creation_content"`
	Power    map[string]any `json:"power_level_content_override"`
	State    []struct {
		Type    string          `json:"type"`
		Key     string          `json:"state_key"`
		Content json.RawMessage `json:"content"`
	} `json:"initial_state"`
}

// create makes a room; s.mu is held.
func (s *Server) create(by string, c *createRoom) (*room, *failure) {
	alias := ""
	if c.Alias != "" {
		alias = "#" + c.Alias + ":" + s.name
		if s.aliases[alias] != "" {
			return nil, &failure{400, "M_ROOM_IN_USE", "the alias is taken"}
		}
	}
	r := &room{id: fmt.Sprintf("!%s-%d:%s", s.prefix, len(s.rooms), s.name), state: map[stateKey]*Event{}}
	s.rooms[r.id] = r
	if alias != "" {
		s.aliases[alias] = r.id
	}
	empty := ""
	creation := map[string]any{"room_version": "11"}
	maps.Copy(creation, c.Creation)
	s.put(r, by, "m.room.create", &empty, marshal(creation))
	s.member(r, by, by, "join", nil)
	power := map[string]any{"users": map[string]int{by: 100}}
	maps.Copy(power, c.Power)
	s.put(r, by, "m.room.power_levels", &empty, marshal(power))
	s.put(r, by, "m.room.join_rules", &empty, json.RawMessage(`{"join_rule":"invite"}`))
	for _, e := range c.State {
		s.put(r, by, e.Type, &e.Key, e.Content)
	}
	if c.Name != "" {
		s.put(r, by, "m.room.name", &empty, marshal(map[string]string{"name": c.Name}))
	}
	if c.Topic != "" {
		s.put(r, by, "m.room.topic", &empty, marshal(map[string]string{"topic": c.Topic}))
	}
	for _, who := range c.Invite {
		var more map[string]any
		if c.IsDirect {
			more = map[string]any{"is_direct": true}
		}
		s.member(r, by, who, "invite", more)
	}
	return r, nil
}

// Messages are all messages of a room whose bodies contain marker, in order.
func (s *Server) Messages(room, marker string) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[room]
	if r == nil {
		return nil
	}
	var out []Event
	for _, e := range r.timeline {
		if body := e.Body(); body != "" && strings.Contains(body, marker) {
			out = append(out, *e)
		}
	}
	return out
}

// Events are all events of a type in a room, in order; "" for the type stands for all types.
func (s *Server) Events(room, kind string) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[room]
	if r == nil {
		return nil
	}
	var out []Event
	for _, e := range r.timeline {
		if kind == "" || e.Type == kind {
			out = append(out, *e)
		}
	}
	return out
}

// Rooms are the ids of all rooms that have a state event of that type and key.
func (s *Server) Rooms(kind string, match func(e *Event) bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for id, r := range s.rooms {
		for k, e := range r.state {
			if k.kind == kind && match(e) {
				out = append(out, id)
				break
			}
		}
	}
	slices.Sort(out)
	return out
}

// Said are the messages of all rooms whose bodies contain marker, in the order in which they came, from a place of that order on, and the
// place behind them.
func (s *Server) Said(marker string, from int) (found []Event, next int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.stream[from:] {
		if body := e.Body(); body != "" && strings.Contains(body, marker) {
			found = append(found, *e)
		}
	}
	return found, len(s.stream)
}

// Expect waits for the first event of a room, from its beginning, that match accepts; what says in an error what was waited
// for.
func (s *Server) Expect(ctx context.Context, room, what string, match func(*Event) bool) (Event, error) {
	next := 0
	for {
		s.mu.Lock()
		if r := s.rooms[room]; r != nil {
			for ; next < len(r.timeline); next++ {
				if e := r.timeline[next]; match(e) {
					s.mu.Unlock()
					return *e, nil
				}
			}
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return Event{}, fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-changed:
		}
	}
}
