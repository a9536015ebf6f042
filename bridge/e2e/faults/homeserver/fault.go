package homeserver

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Seen is one request that was answered, or not.
type Seen struct {
	At     time.Time
	Method string
	Path   string // as it was sent, without the query
	User   string // who asked
	Status int    // of the answer; 0: the connection was ended without one
	Event  string // the event that it has led to
	Again  bool   // the transaction id was known: nothing new was sent
	Wrong  bool   // a fault was played
}

// Requests are all requests so far that match accepts; nil accepts all.
func (s *Server) Requests(match func(*Seen) bool) []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Seen
	for i := range s.seen {
		if match == nil || match(&s.seen[i]) {
			out = append(out, s.seen[i])
		}
	}
	return out
}

// ForgetRequests empties that list.
func (s *Server) ForgetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = nil
}

// Fault is a misbehaviour towards requests. Without more than a place it does nothing.
type Fault struct {
	// Method and Path say which requests it is for: "" for any, and a part of the path, unescaped.
	Method, Path string
	// Users says whose; nil for everybody's.
	Users func(id string) bool
	// Count is how many requests it is played to; 0: until it is removed.
	Count int

	// Before is called before anything else, Between after the request was carried out (or would have been) and before the
	// answer.
	Before, Between func()
	// Delay is slept before the answer.
	Delay time.Duration
	// Status answers with that and Kind and Body in place of carrying the request out; Late carries it out all the same.
	Status     int
	Kind, Body string
	Header     http.Header
	Late       bool
	// Cut ends the connection in place of an answer.
	Cut bool
	// Trickle sends the answer byte by byte with that pause.
	Trickle time.Duration
}

// AddFault begins a misbehaviour; the function ends it. Older ones come first.
func (s *Server) AddFault(f Fault) (remove func()) {
	mine := &f
	s.mu.Lock()
	s.faults = append(s.faults, mine)
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(other *Fault) bool { return other == mine })
	}
}

// fault finds what is to be played to a request and counts it.
func (s *Server) fault(r *http.Request, who string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Method != "" && f.Method != r.Method || !strings.Contains(r.URL.Path, f.Path) || f.Users != nil && !f.Users(who) {
			continue
		}
		if f.Count > 0 {
			if f.Count--; f.Count == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return f
	}
	return nil
}

// answer is what a handler writes, kept until it is known whether it is to be sent.
type answer struct {
	header http.Header
	status int
	body   []byte
	event  string
	again  bool
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, b...)
	return len(b), nil
}

// serve answers one request, or does not.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	who := s.whoAsks(r)
	f := s.fault(r, who)
	if f == nil {
		f = &Fault{}
	}
	if f.Before != nil {
		f.Before()
	}
	a := &answer{header: http.Header{}}
	if f.Status == 0 || f.Late {
		s.routes.ServeHTTP(a, r.WithContext(context.WithValue(r.Context(), noteKey{}, a)))
	} else {
		_, _ = io.Copy(io.Discard, r.Body) // what a client sends is not of interest
	}
	if f.Status != 0 {
		a.status, a.body, a.header = f.Status, []byte(f.Body), f.Header.Clone()
		if a.header == nil {
			a.header = http.Header{}
		}
		if f.Kind != "" {
			a.header.Set("Content-Type", f.Kind)
		}
	}
	if f.Between != nil {
		f.Between()
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		}
	}
	wrong := f.Status != 0 || f.Cut || f.Delay > 0 || f.Trickle > 0
	s.note(r, who, a, f.Cut, wrong)
	if f.Cut {
		panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http ends a connection without a word
	}
	send(w, r, a, f.Trickle)
}

// send writes an answer, byte by byte if there is a pause.
func send(w http.ResponseWriter, r *http.Request, a *answer, pause time.Duration) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	w.WriteHeader(a.status)
	if pause == 0 {
		_, _ = w.Write(a.body) // a client that has gone away asks again
		return
	}
	for i := range a.body {
		if _, err := w.Write(a.body[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush() // as above
		select {
		case <-time.After(pause):
		case <-r.Context().Done():
			return
		}
	}
}

// keptRequests bounds the list; the older half goes.
const keptRequests = 200_000

func (s *Server) note(r *http.Request, who string, a *answer, cut, wrong bool) {
	path, err := url.PathUnescape(r.URL.EscapedPath())
	if err != nil {
		path = r.URL.Path
	}
	seen := Seen{At: time.Now(), Method: r.Method, Path: path, User: who, Status: a.status, Event: a.event, Again: a.again, Wrong: wrong}
	if cut {
		seen.Status = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) >= keptRequests {
		s.seen = slices.Clone(s.seen[keptRequests/2:])
	}
	s.seen = append(s.seen, seen)
}
