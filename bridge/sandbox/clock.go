package sandbox

import (
	"net/http"
	"time"
)

// maxAhead is how far the clock may be set, in either direction.
const maxAhead = 366 * 24 * time.Hour

// now is the clock for everything that is dated. It may be set to another time than the machine's.
func (s *Server) now() time.Time { return s.cfg.Now().Add(time.Duration(s.ahead.Load())) }

// dated puts the clock's time above the answers.
func (s *Server) dated(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
		h.ServeHTTP(w, r)
	})
}

// setClock is POST /v1/clock.
func (c *call) setClock() (any, error) {
	var in struct {
		AheadSeconds int64 `json:"ahead_seconds"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if most := int64(maxAhead / time.Second); in.AheadSeconds < -most || in.AheadSeconds > most {
		return nil, refusal(400, "the clock can be set up to 366 days ahead or back")
	}
	c.s.ahead.Store(int64(time.Duration(in.AheadSeconds) * time.Second))
	return map[string]int64{"now": unix(c.s.now())}, nil
}
