package homeserver

import (
	"encoding/json"
	"net/http"
	"strings"
)

// once runs do unless the user has sent under that transaction id before; then it is the same event again.
func (s *Server) once(r *http.Request, u *user, do func() (*Event, *failure)) (any, *failure) {
	key := u.id + " " + r.URL.EscapedPath()
	id, known := s.txns[key]
	if !known {
		e, fail := do()
		if fail != nil {
			return nil, fail
		}
		id = e.ID
		s.txns[key] = id
	}
	if a, ok := r.Context().Value(noteKey{}).(*answer); ok {
		a.event, a.again = id, known
	}
	return map[string]string{"event_id": id}, nil
}

// noteKey is under which the answer goes with its request.
type noteKey struct{}

// content reads what an event says.
func content(r *http.Request) (json.RawMessage, *failure) {
	var raw json.RawMessage
	if fail := read(r, &raw); fail != nil {
		return nil, fail
	}
	if len(raw) > 65_000 {
		return nil, &failure{413, "M_TOO_LARGE", "too large"}
	}
	if trimmed := strings.TrimSpace(string(raw)); !strings.HasPrefix(trimmed, "{") {
		return nil, &failure{400, "M_BAD_JSON", "not an object"}
	}
	return raw, nil
}

func (s *Server) send(r *http.Request, u *user, room *room) (any, *failure) {
	raw, fail := content(r)
	if fail != nil {
		return nil, fail
	}
	return s.once(r, u, func() (*Event, *failure) { return s.put(room, u.id, r.PathValue("type"), nil, raw), nil })
}

func (s *Server) redact(r *http.Request, u *user, room *room) (any, *failure) {
	var in map[string]any
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	return s.once(r, u, func() (*Event, *failure) {
		if in == nil {
			in = map[string]any{}
		}
		in["redacts"] = r.PathValue("event")
		e := s.put(room, u.id, "m.room.redaction", nil, marshal(in))
		e.Redacts = r.PathValue("event")
		return e, nil
	})
}

func (s *Server) setState(r *http.Request, u *user, room *room) (any, *failure) {
	raw, fail := content(r)
	if fail != nil {
		return nil, fail
	}
	key := r.PathValue("key")
	if old := room.state[stateKey{r.PathValue("type"), key}]; old != nil && string(old.Content) == string(raw) {
		return map[string]string{"event_id": old.ID}, nil // as Synapse does
	}
	return map[string]string{"event_id": s.put(room, u.id, r.PathValue("type"), &key, raw).ID}, nil
}

func (s *Server) stateOf(r *http.Request, _ *user, room *room) (any, *failure) {
	e := room.state[stateKey{r.PathValue("type"), r.PathValue("key")}]
	if e == nil {
		return nil, &failure{404, "M_NOT_FOUND", "no such state"}
	}
	if r.URL.Query().Get("format") == "event" {
		return e, nil
	}
	return e.Content, nil
}

func (s *Server) allState(_ *http.Request, _ *user, room *room) (any, *failure) {
	out := []*Event{}
	for _, e := range room.state {
		out = append(out, e)
	}
	return out, nil
}

func (s *Server) memberEvents(_ *http.Request, _ *user, room *room) (any, *failure) {
	out := []*Event{}
	for k, e := range room.state {
		if k.kind == "m.room.member" {
			out = append(out, e)
		}
	}
	return map[string]any{"chunk": out}, nil
}

func (s *Server) joinedMembers(_ *http.Request, _ *user, room *room) (any, *failure) {
	out := map[string]any{}
	for _, who := range room.members("join") {
		profile := map[string]string{}
		if u := s.users[who]; u != nil {
			profile["display_name"], profile["avatar_url"] = u.name, u.avatar
		}
		out[who] = profile
	}
	return map[string]any{"joined": out}, nil
}

type person struct {
	User   string `json:"user_id"`
	Reason string `json:"reason"`
}

func (s *Server) invite(r *http.Request, u *user, room *room) (any, *failure) {
	var in person
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	switch room.membership(in.User) {
	case "join":
		return nil, &failure{403, "M_FORBIDDEN", "is there already"}
	case "invite":
		return empty{}, nil
	}
	s.member(room, u.id, in.User, "invite", nil)
	return empty{}, nil
}

func (s *Server) kick(r *http.Request, u *user, room *room) (any, *failure) {
	var in person
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	s.member(room, u.id, in.User, "leave", nil)
	return empty{}, nil
}

func (s *Server) leave(_ *http.Request, u *user, room *room) (any, *failure) {
	s.member(room, u.id, u.id, "leave", nil)
	return empty{}, nil
}
