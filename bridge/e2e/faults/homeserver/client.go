package homeserver

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// failure is a Matrix error.
type failure struct {
	status int
	code   string
	text   string
}

func (f *failure) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	_, _ = w.Write(marshal(map[string]string{"errcode": f.code, "error": f.text})) // kept in memory
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(marshal(v)) // kept in memory
}

// maxRequest bounds a request, in bytes.
const maxRequest = 64 << 20

// read reads the JSON of a request; an empty body is {}.
func read(r *http.Request, into any) *failure {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err != nil {
		return &failure{400, "M_UNKNOWN", "not read"}
	}
	if len(raw) == 0 {
		return nil
	}
	if json.Unmarshal(raw, into) != nil {
		return &failure{400, "M_BAD_JSON", "not the JSON of this call"}
	}
	return nil
}

// whoAsks is the Matrix ID behind a request, "" for nobody known.
func (s *Server) whoAsks(r *http.Request) string {
	u, fail := s.authorise(r)
	if fail != nil {
		return ""
	}
	return u.id
}

// authorise finds the user of a request: the token's, or who an appservice says it is.
func (s *Server) authorise(r *http.Request) (*user, *failure) {
	given, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found {
		return nil, &failure{401, "M_MISSING_TOKEN", "no token"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.services {
		if a.ASToken != given {
			continue
		}
		id := r.URL.Query().Get("user_id")
		if id == "" {
			id = a.bot
		}
		u := s.users[id]
		if u == nil || !a.owns(id) {
			return nil, &failure{403, "M_FORBIDDEN", "not a user of this appservice"}
		}
		return u, nil
	}
	if u := s.tokens[given]; u != nil {
		return u, nil
	}
	return nil, &failure{401, "M_UNKNOWN_TOKEN", "not a token"}
}

// asUser answers a call of somebody known, with s.mu held.
func (s *Server) asUser(do func(r *http.Request, u *user) (any, *failure)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u, fail := s.authorise(r)
		if fail != nil {
			fail.write(w)
			return
		}
		s.mu.Lock()
		out, fail := do(r, u)
		s.mu.Unlock()
		if fail != nil {
			fail.write(w)
			return
		}
		reply(w, out)
	}
}

// inRoom answers a call of a member of a room, with s.mu held.
func (s *Server) inRoom(w http.ResponseWriter, r *http.Request, do func(u *user, room *room) (any, *failure)) {
	s.asUser(func(r *http.Request, u *user) (any, *failure) {
		room := s.rooms[r.PathValue("room")]
		if room == nil || room.membership(u.id) != "join" {
			return nil, &failure{403, "M_FORBIDDEN", "not in the room"}
		}
		return do(u, room)
	})(w, r)
}

type roomCall func(r *http.Request, u *user, room *room) (any, *failure)

func (s *Server) byMember(do roomCall) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.inRoom(w, r, func(u *user, room *room) (any, *failure) { return do(r, u, room) })
	}
}

type empty struct{}

// handlers are the endpoints there are.
func (s *Server) handlers() *http.ServeMux {
	mux := http.NewServeMux()
	const v3, v1 = "/_matrix/client/v3", "/_matrix/client/v1"
	mux.HandleFunc("GET /_matrix/client/versions", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"versions": []string{"v1.1", "v1.4", "v1.7", "v1.11", "v1.12", "v1.13"}, "unstable_features": empty{}})
	})
	mux.HandleFunc("GET /_synapse/admin/v1/register", func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]string{"nonce": "n"}) })
	mux.HandleFunc("POST /_synapse/admin/v1/register", s.registerPerson)
	mux.HandleFunc("POST "+v3+"/register", s.registerGhost)
	mux.HandleFunc("POST "+v3+"/login", s.login)
	mux.HandleFunc("POST "+v1+"/appservice/{service}/ping", s.ping)
	mux.HandleFunc("GET "+v3+"/sync", s.sync)
	mux.HandleFunc("GET "+v3+"/rooms/{room}/messages", s.messages)
	for pattern, do := range map[string]func(*http.Request, *user) (any, *failure){
		"GET " + v3 + "/account/whoami":                  s.whoami,
		"GET " + v3 + "/capabilities":                    s.capabilities,
		"GET " + v1 + "/media/config":                    s.mediaConfig,
		"GET /_matrix/media/v3/config":                   s.mediaConfig,
		"POST /_matrix/media/v3/upload":                  s.upload,
		"GET " + v3 + "/profile/{user}":                  s.profile,
		"GET " + v3 + "/profile/{user}/{field}":          s.profile,
		"PUT " + v3 + "/profile/{user}/{field}":          s.setProfile,
		"POST " + v3 + "/createRoom":                     s.makeRoom,
		"GET " + v3 + "/joined_rooms":                    s.joinedRooms,
		"POST " + v3 + "/join/{room}":                    s.join,
		"POST " + v3 + "/rooms/{room}/join":              s.join,
		"GET " + v3 + "/directory/room/{alias}":          s.aliasOf,
		"PUT " + v3 + "/directory/room/{alias}":          s.setAlias,
		"DELETE " + v3 + "/directory/room/{alias}":       s.dropAlias,
		"PUT " + v3 + "/user/{user}/account_data/{type}": s.setData,
		"GET " + v3 + "/user/{user}/account_data/{type}": s.data,
	} {
		mux.HandleFunc(pattern, s.asUser(do))
	}
	const in = v3 + "/rooms/{room}"
	for pattern, do := range map[string]roomCall{
		"PUT " + in + "/send/{type}/{txn}":       s.send,
		"PUT " + in + "/redact/{event}/{txn}":    s.redact,
		"PUT " + in + "/state/{type}":            s.setState,
		"PUT " + in + "/state/{type}/{key...}":   s.setState,
		"GET " + in + "/state":                   s.allState,
		"GET " + in + "/state/{type}":            s.stateOf,
		"GET " + in + "/state/{type}/{key...}":   s.stateOf,
		"GET " + in + "/members":                 s.memberEvents,
		"GET " + in + "/joined_members":          s.joinedMembers,
		"GET " + in + "/event/{event}":           s.event,
		"POST " + in + "/invite":                 s.invite,
		"POST " + in + "/kick":                   s.kick,
		"POST " + in + "/leave":                  s.leave,
		"POST " + in + "/forget":                 s.nothing,
		"PUT " + in + "/typing/{user}":           s.setTyping,
		"POST " + in + "/receipt/{kind}/{event}": s.receipt,
		"POST " + in + "/read_markers":           s.nothing,
	} {
		mux.HandleFunc(pattern, s.byMember(do))
	}
	mux.HandleFunc("GET "+v1+"/media/download/{server}/{id}", s.download)
	mux.HandleFunc("/", s.notThere)
	return mux
}

var ids = regexp.MustCompile(`[!$@#][^/]+|/[^/]*%[^/]*`)

// notThere answers what this server does not have, and counts it.
func (s *Server) notThere(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.unknown[r.Method+" "+ids.ReplaceAllString(r.URL.Path, "*")]++
	s.mu.Unlock()
	(&failure{404, "M_UNRECOGNIZED", "there is no such call here"}).write(w)
}

func (s *Server) registerPerson(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Username, Password string
	}
	if fail := read(r, &in); fail != nil {
		fail.write(w)
		return
	}
	id := "@" + in.Username + ":" + s.name
	s.mu.Lock()
	taken := s.users[id] != nil
	if !taken {
		s.users[id] = &user{id: id, password: in.Password, name: in.Username, data: map[string][]byte{}}
	}
	s.mu.Unlock()
	if taken {
		(&failure{400, "M_USER_IN_USE", "taken"}).write(w)
		return
	}
	reply(w, map[string]string{"user_id": id})
}

// registerGhost is how an appservice makes a user.
func (s *Server) registerGhost(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Username string `json:"username"`
	}
	if fail := read(r, &in); fail != nil {
		fail.write(w)
		return
	}
	given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	id := "@" + in.Username + ":" + s.name
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.services {
		switch {
		case a.ASToken != given:
			continue
		case !a.owns(id):
			(&failure{400, "M_EXCLUSIVE", "not in the namespace"}).write(w)
		case s.users[id] != nil:
			(&failure{400, "M_USER_IN_USE", "taken"}).write(w)
		default:
			s.users[id] = &user{id: id, name: in.Username, service: a, data: map[string][]byte{}}
			reply(w, map[string]string{"user_id": id})
		}
		return
	}
	(&failure{401, "M_UNKNOWN_TOKEN", "not a token"}).write(w)
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Identifier struct{ User string }
		Password   string
	}
	if fail := read(r, &in); fail != nil {
		fail.write(w)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users["@"+in.Identifier.User+":"+s.name]
	if u == nil || u.service != nil || u.password != in.Password {
		(&failure{403, "M_FORBIDDEN", "wrong name or password"}).write(w)
		return
	}
	u.token = rand.Text()
	s.tokens[u.token] = u
	reply(w, map[string]string{"user_id": u.id, "access_token": u.token, "device_id": rand.Text()[:10]})
}

func (s *Server) whoami(_ *http.Request, u *user) (any, *failure) {
	return map[string]string{"user_id": u.id}, nil
}

func (s *Server) capabilities(*http.Request, *user) (any, *failure) {
	return map[string]any{"capabilities": map[string]any{"m.room_versions": map[string]any{
		"default": "11", "available": map[string]string{"10": "stable", "11": "stable"},
	}}}, nil
}

func (s *Server) mediaConfig(*http.Request, *user) (any, *failure) {
	return map[string]int{"m.upload.size": 50 << 20}, nil
}

func (s *Server) nothing(*http.Request, *user, *room) (any, *failure) { return empty{}, nil }

func (s *Server) upload(r *http.Request, _ *user) (any, *failure) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err != nil {
		return nil, &failure{400, "M_UNKNOWN", "not read"}
	}
	id := rand.Text()
	s.media[id] = &blob{r.Header.Get("Content-Type"), raw}
	return map[string]string{"content_uri": "mxc://" + s.name + "/" + id}, nil
}

func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	if _, fail := s.authorise(r); fail != nil {
		fail.write(w)
		return
	}
	s.mu.Lock()
	b := s.media[r.PathValue("id")]
	s.mu.Unlock()
	if b == nil {
		(&failure{404, "M_NOT_FOUND", "no such file"}).write(w)
		return
	}
	w.Header().Set("Content-Type", b.kind)
	_, _ = w.Write(b.data) // kept in memory
}

func (s *Server) profile(r *http.Request, _ *user) (any, *failure) {
	u := s.users[r.PathValue("user")]
	if u == nil {
		return nil, &failure{404, "M_NOT_FOUND", "nobody"}
	}
	all := map[string]string{"displayname": u.name, "avatar_url": u.avatar}
	if field := r.PathValue("field"); field != "" {
		return map[string]string{field: all[field]}, nil
	}
	return all, nil
}

func (s *Server) setProfile(r *http.Request, u *user) (any, *failure) {
	if r.PathValue("user") != u.id {
		return nil, &failure{403, "M_FORBIDDEN", "not yours"}
	}
	var in map[string]any
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	value, _ := in[r.PathValue("field")].(string) // what is no text is kept nowhere
	switch r.PathValue("field") {
	case "displayname":
		u.name = value
	case "avatar_url":
		u.avatar = value
	default:
		return empty{}, nil
	}
	for _, room := range s.rooms {
		if room.membership(u.id) == "join" {
			s.member(room, u.id, u.id, "join", nil)
		}
	}
	return empty{}, nil
}

func (s *Server) makeRoom(r *http.Request, u *user) (any, *failure) {
	var in createRoom
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	room, fail := s.create(u.id, &in)
	if fail != nil {
		return nil, fail
	}
	return map[string]string{"room_id": room.id}, nil
}

func (s *Server) joinedRooms(_ *http.Request, u *user) (any, *failure) {
	out := []string{}
	for id, room := range s.rooms {
		if room.membership(u.id) == "join" {
			out = append(out, id)
		}
	}
	return map[string]any{"joined_rooms": out}, nil
}

func (s *Server) join(r *http.Request, u *user) (any, *failure) {
	id := r.PathValue("room")
	if alias := s.aliases[id]; alias != "" {
		id = alias
	}
	room := s.rooms[id]
	if room == nil {
		return nil, &failure{404, "M_NOT_FOUND", "no such room"}
	}
	switch room.membership(u.id) {
	case "join":
	case "invite":
		s.member(room, u.id, u.id, "join", nil)
	default:
		return nil, &failure{403, "M_FORBIDDEN", "not invited"}
	}
	return map[string]string{"room_id": room.id}, nil
}

func (s *Server) aliasOf(r *http.Request, _ *user) (any, *failure) {
	id := s.aliases[r.PathValue("alias")]
	if id == "" {
		return nil, &failure{404, "M_NOT_FOUND", "no such alias"}
	}
	return map[string]any{"room_id": id, "servers": []string{s.name}}, nil
}

func (s *Server) setAlias(r *http.Request, _ *user) (any, *failure) {
	var in struct {
		Room string `json:"room_id"`
	}
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	if s.aliases[r.PathValue("alias")] != "" {
		return nil, &failure{409, "M_UNKNOWN", "taken"}
	}
	s.aliases[r.PathValue("alias")] = in.Room
	return empty{}, nil
}

func (s *Server) dropAlias(r *http.Request, _ *user) (any, *failure) {
	if s.aliases[r.PathValue("alias")] == "" {
		return nil, &failure{404, "M_NOT_FOUND", "no such alias"}
	}
	delete(s.aliases, r.PathValue("alias"))
	return empty{}, nil
}

func (s *Server) setData(r *http.Request, u *user) (any, *failure) {
	var in json.RawMessage
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	u.data[r.PathValue("type")] = in
	return empty{}, nil
}

func (s *Server) data(r *http.Request, u *user) (any, *failure) {
	raw := u.data[r.PathValue("type")]
	if raw == nil {
		return nil, &failure{404, "M_NOT_FOUND", "nothing there"}
	}
	return json.RawMessage(raw), nil
}

// ephemeralTo shows something passing to who is in the room, and to appservices that want it; s.mu is held.
func (s *Server) ephemeralTo(room *room, kind string, content any) ephemeral {
	s.lastPassing++
	e := ephemeral{seq: s.lastPassing, raw: marshal(map[string]any{"type": kind, "content": content})}
	full := marshal(map[string]any{"type": kind, "room_id": room.id, "content": content})
	for _, a := range s.services {
		if a.Receives && slices.ContainsFunc(room.members("join"), a.owns) {
			a.push.passing = append(a.push.passing, full)
		}
	}
	s.wake()
	return e
}

func (s *Server) setTyping(r *http.Request, u *user, room *room) (any, *failure) {
	var in struct {
		Typing bool `json:"typing"`
	}
	if fail := read(r, &in); fail != nil {
		return nil, fail
	}
	who := []string{}
	if in.Typing {
		who = append(who, u.id)
	}
	room.typing = s.ephemeralTo(room, "m.typing", map[string]any{"user_ids": who})
	return empty{}, nil
}

func (s *Server) receipt(r *http.Request, u *user, room *room) (any, *failure) {
	content := map[string]any{r.PathValue("event"): map[string]any{r.PathValue("kind"): map[string]any{u.id: map[string]any{"ts": time.Now().UnixMilli()}}}}
	room.receipts = append(room.receipts, s.ephemeralTo(room, "m.receipt", content))
	if n := len(room.receipts); n > 1000 {
		room.receipts = slices.Clone(room.receipts[n-500:])
	}
	return empty{}, nil
}

func (s *Server) event(r *http.Request, _ *user, room *room) (any, *failure) {
	for _, e := range room.timeline {
		if e.ID == r.PathValue("event") {
			return e, nil
		}
	}
	return nil, &failure{404, "M_NOT_FOUND", fmt.Sprintf("no such event in %d", len(room.timeline))}
}
