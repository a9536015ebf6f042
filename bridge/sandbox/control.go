package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxControlBody = 128 << 20 // bytes; media comes in as base64
	maxWait        = 10 * time.Minute
)

// call is one request to the control API.
type call struct {
	s    *Server
	r    *http.Request
	body []byte
}

// controlHandler is the control API, version 1.
func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	for pattern, fn := range map[string]func(*call) (any, error){
		"GET /v1/info":                     (*call).info,
		"POST /v1/integrators":             (*call).addIntegrator,
		"GET /v1/integrators":              (*call).integrators,
		"POST /v1/users":                   (*call).addUser,
		"GET /v1/users":                    (*call).users,
		"POST /v1/users/{phone}/messages":  (*call).sendMessage,
		"POST /v1/users/{phone}/read":      (*call).read,
		"POST /v1/users/{phone}/typing":    (*call).typing,
		"POST /v1/users/{phone}/block":     (*call).block,
		"POST /v1/users/{phone}/opt":       (*call).opt,
		"POST /v1/users/{phone}/answer":    (*call).answer,
		"POST /v1/users/{phone}/reinstall": (*call).reinstall,
		"POST /v1/users/{phone}/profile":   (*call).setProfile,
		"POST /v1/users/{phone}/skip":      (*call).skip,
		"POST /v1/users/{phone}/lose":      (*call).lose,
		"GET /v1/users/{phone}/safety":     (*call).safety,
		"GET /v1/users/{phone}/events":     (*call).events,
		"GET /v1/partners":                 (*call).partners,
		"POST /v1/partners/unenlist":       (*call).unenlist,
		"POST /v1/partners/prekeys":        (*call).prekeys,
		"POST /v1/faults":                  (*call).addFault,
		"GET /v1/faults":                   (*call).faults,
		"DELETE /v1/faults":                (*call).deleteFaults,
		"DELETE /v1/faults/{id}":           (*call).deleteFaults,
		"POST /v1/clock":                   (*call).setClock,
		"GET /v1/complaints":               (*call).complaints,
		"GET /v1/pushes":                   (*call).pushes,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serveCall(w, r, fn) })
	}
	mux.HandleFunc("POST /v1/uploads", s.serveUpload)
	mux.HandleFunc("GET /v1/users/{phone}/media/{id...}", s.serveReceived)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "the control API has no such call"})
	})
	return mux
}

// fromWebPage says whether a page of somebody else's asks: a browser on this machine is not who this is for.
func fromWebPage(r *http.Request) bool { return r.Header.Get("Sec-Fetch-Site") == "cross-site" }

// serveCall runs one call. Its answer leaves when everything it rests on is on disk.
func (s *Server) serveCall(w http.ResponseWriter, r *http.Request, fn func(*call) (any, error)) {
	if fromWebPage(r) {
		writeJSON(w, http.StatusForbidden, map[string]string{"error": "the control API is not for web pages"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
	if err != nil {
		writeJSON(w, http.StatusRequestEntityTooLarge, map[string]string{"error": "the body is too long or was cut off"})
		return
	}
	answer, err := fn(&call{s: s, r: r, body: body})
	var no *refused
	switch {
	case errors.As(err, &no):
		writeJSON(w, no.status, map[string]string{"error": no.sentence})
		return
	case err != nil:
		s.log.Error().Err(err).Msg("a control call failed")
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "the sandbox failed: " + err.Error()})
		return
	}
	if err := s.settled(s.state.view(func() {})); err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "the state could not be written"})
		return
	}
	if answer == nil {
		answer = struct{}{}
	}
	writeJSON(w, http.StatusOK, answer)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error": "the answer could not be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the asker has gone
}

// decode reads the body into v. An unknown field is most often a misspelt one, so it is an error.
func (c *call) decode(v any) error {
	dec := json.NewDecoder(bytes.NewReader(c.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return refusal(400, "the body is not the JSON this call takes: %s", err)
	}
	if dec.More() {
		return refusal(400, "the body has more than one JSON value")
	}
	return nil
}

// change runs fn in one change of the state; fn's error is the call's.
func (c *call) change(fn func(ch change) error) error {
	var err error
	c.s.state.update(func(ch change) { err = fn(ch) })
	return err
}

// user finds the WhatsApp user of the path.
func (c *call) user(ch change) (*user, error) {
	digits, ok := e164(c.r.PathValue("phone"))
	if !ok {
		return nil, refusal(400, "the phone number is not E.164")
	}
	u := ch.users[digits]
	if u == nil {
		return nil, refusal(404, "there is no WhatsApp user with this phone number")
	}
	return u, nil
}

// partner is how calls name a partner user.
type partner struct {
	To         string `json:"to"`
	Identifier string `json:"identifier"`
	Integrator uint16 `json:"integrator"`
}

// integrator picks the integrator: the one named, or the only one.
func (ch change) integrator(id uint16) (*Integrator, error) {
	if id != 0 {
		if in := ch.integrators[id]; in != nil {
			return in, nil
		}
		return nil, refusal(404, "there is no integrator %d", id)
	}
	switch len(ch.integrators) {
	case 0:
		return nil, refusal(404, "there is no integrator yet")
	case 1:
		for _, in := range ch.integrators {
			return in, nil
		}
	}
	return nil, refusal(400, "there are several integrators, so the call has to name one")
}

// account finds the partner user a call names.
func (ch change) account(p partner) (*account, error) {
	name := p.To
	if name == "" {
		name = p.Identifier
	}
	if name == "" {
		return nil, refusal(400, "to is missing")
	}
	in, err := ch.integrator(p.Integrator)
	if err != nil {
		return nil, err
	}
	a := ch.accountByIdentifier(in.ID, normalise(in.IdentifierType, name))
	if a == nil {
		return nil, refusal(404, "no partner user with this identifier has enlisted")
	}
	return a, nil
}

// both finds the user of the path and the partner user of the body.
func (c *call) both(ch change, p partner) (*user, *account, error) {
	u, err := c.user(ch)
	if err != nil {
		return nil, nil, err
	}
	a, err := ch.account(p)
	return u, a, err
}

// able says in words why u cannot send anything to a; nil if u can.
func (ch change) able(u *user, a *account) error {
	switch ct := u.contacts[a]; {
	case !a.Enlisted:
		return refusal(409, "the partner user is not enlisted any more")
	case !u.OptIn.has(a.Integrator):
		return refusal(409, "the WhatsApp user has not opted in to this integrator")
	case ct != nil && ct.Blocked:
		return refusal(409, "the WhatsApp user has blocked this partner user")
	}
	return nil
}

func (c *call) info() (any, error) { return c.s.Info(), nil }

func (c *call) addIntegrator() (any, error) {
	in := &Integrator{}
	if err := c.decode(in); err != nil {
		return nil, err
	}
	if in.ID < 1 || in.ID > 999 {
		return nil, refusal(400, "an integrator id is 1 to 999")
	}
	switch in.IdentifierType {
	case "email", "pn", "username":
	default:
		return nil, refusal(400, "identifier_type is email, pn or username")
	}
	if !goodBase(in.PublicBase) {
		return nil, refusal(400, "public_base is an http or https URL without a slash at its end")
	}
	if in.MediaBase == "" {
		in.MediaBase = in.PublicBase + "/media"
	}
	if !goodBase(in.MediaBase) {
		return nil, refusal(400, "media_base is an http or https URL without a slash at its end")
	}
	err := c.change(func(ch change) error {
		for _, other := range ch.integrators {
			if other.ID != in.ID && other.PublicBase == in.PublicBase {
				return refusal(409, "integrator %d has this public_base", other.ID)
			}
		}
		if old := ch.integrators[in.ID]; old != nil && old.IdentifierType != in.IdentifierType {
			for _, a := range ch.accounts {
				if a.Integrator == in.ID && !a.Deleted {
					return refusal(409, "the identifier type cannot change while partner users are enlisted")
				}
			}
		}
		ch.integrators[in.ID] = in
		ch.put(in)
		return nil
	})
	return in, err
}

func goodBase(base string) bool {
	u, err := url.Parse(base)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && !strings.HasSuffix(base, "/") &&
		u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

func (c *call) integrators() (any, error) {
	list := []Integrator{}
	c.s.state.view(func() {
		for _, in := range c.s.state.integratorsInOrder() {
			list = append(list, *in)
		}
	})
	return map[string]any{"integrators": list}, nil
}

// shownUser is a WhatsApp user as the API shows one.
type shownUser struct {
	Phone   string `json:"phone"`
	Name    string `json:"name"`
	JID     string `json:"jid"`
	OptedIn any    `json:"opted_in"`
}

func (u *user) shown() shownUser {
	out := shownUser{Phone: "+" + u.Phone, Name: u.Name, JID: u.Address, OptedIn: u.OptIn.All}
	if !u.OptIn.All && len(u.OptIn.IDs) > 0 {
		out.OptedIn = append([]uint16(nil), u.OptIn.IDs...)
	}
	return out
}

// readOptIn reads true, false or a list of integrator ids.
func readOptIn(raw json.RawMessage) (optIn, error) {
	var o optIn
	if json.Unmarshal(raw, &o.All) == nil {
		return o, nil
	}
	if json.Unmarshal(raw, &o.IDs) == nil {
		return o, nil
	}
	return o, refusal(400, "opted_in is true, false or a list of integrator ids")
}

func (c *call) addUser() (any, error) {
	var in struct {
		Phone   string          `json:"phone"`
		Name    *string         `json:"name"`
		OptedIn json.RawMessage `json:"opted_in"`
		JID     string          `json:"jid"` // as answered; not taken
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	digits, ok := e164(in.Phone)
	if !ok {
		return nil, refusal(400, "the phone number is not E.164")
	}
	if in.Name != nil && (len(*in.Name) > maxName || !utf8.ValidString(*in.Name)) {
		return nil, refusal(400, "the name is too long")
	}
	var opt *optIn
	if in.OptedIn != nil && string(in.OptedIn) != "null" {
		o, err := readOptIn(in.OptedIn)
		if err != nil {
			return nil, err
		}
		opt = &o
	}
	var out shownUser
	err := c.change(func(ch change) error {
		u := ch.users[digits]
		if u == nil {
			var err error
			if u, err = ch.newUser(c.s, digits, ""); err != nil {
				return err
			}
		}
		if in.Name != nil {
			u.Name = *in.Name
		}
		if opt != nil {
			u.OptIn = *opt
		}
		ch.put(u)
		ch.retell(c.s, u)
		out = u.shown()
		return nil
	})
	return out, err
}

func (c *call) users() (any, error) {
	list := []shownUser{}
	c.s.state.view(func() {
		for _, u := range c.s.state.usersInOrder() {
			list = append(list, u.shown())
		}
	})
	return map[string]any{"users": list}, nil
}

// events is the long poll for what happened on a phone.
func (c *call) events() (any, error) {
	q := c.r.URL.Query()
	var after uint64
	if text := q.Get("after"); text != "" {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return nil, refusal(400, "after is the seq of an event")
		}
		after = n
	}
	wait, err := readWait(q.Get("wait"))
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		list := []eventBody{}
		var news chan struct{}
		c.s.state.view(func() {
			var u *user
			if u, err = c.user(change{c.s.state}); err != nil {
				return
			}
			for i := len(u.events); i > 0 && u.events[i-1].Body.Seq > after; i-- {
				list = append(list, u.events[i-1].Body)
			}
			news = u.news
		})
		if err != nil {
			return nil, err
		}
		if len(list) > 0 || wait <= 0 {
			for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
				list[i], list[j] = list[j], list[i]
			}
			return map[string]any{"events": list}, nil
		}
		select {
		case <-news:
		case <-timer.C:
			wait = 0
		case <-c.r.Context().Done():
			wait = 0
		case <-c.s.ctx.Done():
			wait = 0
		}
	}
}

// readWait reads a duration, "30s" or a number of seconds.
func readWait(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil {
		seconds, serr := strconv.Atoi(text)
		if serr != nil || seconds > int(maxWait/time.Second) {
			return 0, refusal(400, "wait is a duration such as 30s")
		}
		wait = time.Duration(seconds) * time.Second
	}
	if wait < 0 || wait > maxWait {
		return 0, refusal(400, "wait is at most ten minutes")
	}
	return wait, nil
}
