package connector

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"postern/connector/metrics"
)

// homeserverPatience is how long the homeserver may fail before the bridge says that it is not ready. Something is asked each 30 s at least.
const homeserverPatience = 5 * time.Second

// homeWatch stands between the bridge and the homeserver, and follows how it answers.
type homeWatch struct {
	base  http.RoundTripper
	token string          // of the bridge
	meter *metrics.Matrix // may be nil
	now   func() time.Time

	mu      sync.Mutex
	reason  string // "" while it answers
	since   time.Time
	stopped time.Time // the first failure since the last good answer
}

func newHomeWatch(base http.RoundTripper, token string, meter *metrics.Matrix) *homeWatch {
	if base == nil {
		base = http.DefaultTransport
	}
	now := time.Now()
	return &homeWatch{base: base, token: token, meter: meter, now: time.Now, since: now}
}

// RoundTrip implements http.RoundTripper.
func (w *homeWatch) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := w.base.RoundTrip(req)
	if err != nil && req.Context().Err() != nil {
		return resp, err // given up here, which says nothing of the homeserver
	}
	kind := requestKind(req.Method, req.URL.Path)
	result, reason := "ok", ""
	switch {
	case err != nil:
		result, reason = "failed", "it does not answer"
	case resp.StatusCode >= http.StatusInternalServerError && forOthers(req.Method, kind):
		w.meter.Asked(kind, "failed", time.Since(began))
		return resp, err // that of somebody else is at fault, as likely as not
	case resp.StatusCode >= http.StatusInternalServerError:
		result, reason = "failed", "it answers with errors of its own"
	case resp.StatusCode == http.StatusTooManyRequests:
		result = "limited"
	case resp.StatusCode >= http.StatusBadRequest:
		result = "refused"
		if resp.StatusCode == http.StatusUnauthorized && req.Header.Get("Authorization") == "Bearer "+w.token {
			reason = "it does not know the bridge's token: is the registration in place?"
		}
	}
	w.note(reason)
	w.meter.Asked(kind, result, time.Since(began))
	return resp, err
}

// forOthers says whether the homeserver has to ask another one for its answer, for what belongs to people there: then an error of its own says
// nothing about itself.
func forOthers(method, kind string) bool {
	switch kind {
	case "profile", "download":
		return method == http.MethodGet
	case "membership":
		return true
	}
	return false
}

// watchHomeserver puts a homeWatch before the homeserver, and registers what is watched from outside.
func (c *Connector) watchHomeserver() {
	var meter *metrics.Matrix
	if c.metrics != nil {
		meter = c.metrics.Matrix()
	}
	client := c.matrix.AS.HTTPClient
	home := newHomeWatch(client.Transport, c.matrix.Config.AppService.ASToken, meter)
	client.Transport = home
	c.addWatchedChecks(home)
}

func (w *homeWatch) note(reason string) {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case reason == "" && w.reason != "":
		w.since = now
	case reason != "" && w.reason == "":
		w.stopped = now
	}
	w.reason = reason
}

// condition is for the readiness endpoint.
func (w *homeWatch) condition() Condition {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reason == "" || w.now().Sub(w.stopped) < homeserverPatience {
		return Condition{OK: true, Since: w.since}
	}
	return Condition{Reason: w.reason, Since: w.stopped}
}

// roomSteps are the kinds of requests about a room, by what stands behind its id.
var roomSteps = map[string]string{
	"send": "send", "redact": "send", "state": "state", "join": "membership", "invite": "membership", "leave": "membership", "kick": "membership",
	"forget": "membership",
}

// requestSteps are those of others, by a part of the path.
var requestSteps = []struct{ part, kind string }{
	{"/join/", "membership"}, {"/createRoom", "create_room"}, {"/sync", "sync"}, {"/profile/", "profile"}, {"/account/", "account"},
	{"/register", "account"},
}

// roomRequestKind is requestKind of what stands behind "/rooms/".
func roomRequestKind(room string) string {
	_, step, _ := strings.Cut(room, "/")
	step, _, _ = strings.Cut(step, "/")
	if kind := roomSteps[step]; kind != "" {
		return kind
	}
	return metrics.Other
}

// requestKind is what a request is for: one of metrics.Requests.
func requestKind(method, path string) string {
	if _, room, ok := strings.Cut(path, "/rooms/"); ok {
		return roomRequestKind(room)
	}
	if strings.Contains(path, "/media/") {
		if method == http.MethodGet {
			return "download"
		}
		return "upload"
	}
	for _, s := range requestSteps {
		if strings.Contains(path, s.part) {
			return s.kind
		}
	}
	return metrics.Other
}
