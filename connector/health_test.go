package connector

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern/connector/metrics"
)

// TestASleepOfTheMachineIsNoticedByTheClockThatWentOn plays two clocks.
func TestASleepOfTheMachineIsNoticedByTheClockThatWentOn(t *testing.T) {
	start := time.Now().Round(0)
	for name, test := range map[string]struct {
		wall, ran time.Duration // from one tick to the next
		slept     time.Duration
	}{
		"nothing":                       {2 * time.Second, 2 * time.Second, 0},
		"a busy machine":                {9 * time.Second, 9 * time.Second, 0},
		"asleep for a night":            {8*time.Hour + 2*time.Second, 2 * time.Second, 8 * time.Hour},
		"the process was stopped":       {62 * time.Second, 62 * time.Second, time.Minute},
		"the clock was set back":        {-time.Hour, 2 * time.Second, 0},
		"the clock was set on a little": {5 * time.Second, 2 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			readings := []clocks{{start, 0}, {start.Add(test.wall), test.ran}}
			tick, done := make(chan time.Time), make(chan struct{})
			var woke []time.Duration
			go func() {
				defer close(done)
				watchSleep(ctx, tick, func() clocks {
					now := readings[0]
					if len(readings) > 1 {
						readings = readings[1:]
					}
					return now
				}, func(slept time.Duration) { woke = append(woke, slept) })
			}()
			tick <- time.Time{}
			tick <- time.Time{} // the same reading again: nothing more
			cancel()
			<-done
			if test.slept == 0 && len(woke) > 0 || test.slept != 0 && (len(woke) != 1 || woke[0] != test.slept) {
				t.Errorf("noticed %v, want %v", woke, test.slept)
			}
		})
	}
}

// answers is a homeserver's transport that gives one answer.
type answers struct {
	status int
	err    error
}

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{StatusCode: a.status, Body: io.NopCloser(bytes.NewReader(nil))}, nil
}

func TestTheHomeserverIsAwayWhenItGivesNoGoodAnswerForAWhile(t *testing.T) {
	base, now := &answers{status: http.StatusOK}, time.Now()
	w := newHomeWatch(base, "as-token", nil)
	w.now = func() time.Time { return now }
	ask := func(ctx context.Context, token string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://hs.example/_matrix/client/v3/sync", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := w.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, step := range []struct {
		what   string
		status int
		err    error
		ctx    context.Context
		token  string
		after  time.Duration
		reason string // "": ready
	}{
		{"a good answer", 200, nil, t.Context(), "as-token", time.Minute, ""},
		{"one error of its own", 502, nil, t.Context(), "as-token", time.Second, ""},
		{"errors for a while", 502, nil, t.Context(), "as-token", 5 * time.Second, "errors of its own"},
		{"an answer again", 200, nil, t.Context(), "as-token", 0, ""},
		{"silence", 0, errors.New("refused"), t.Context(), "as-token", 5 * time.Second, "does not answer"},
		{"a refusal is an answer", 403, nil, t.Context(), "as-token", time.Minute, ""},
		{"what we gave up says nothing", 0, context.Canceled, gone, "as-token", time.Minute, ""},
		{"a user's token that is unknown", 401, nil, t.Context(), "puppet", time.Minute, ""},
		{"ours that is unknown", 401, nil, t.Context(), "as-token", time.Minute, "registration"},
		{"too many requests are an answer", 429, nil, t.Context(), "as-token", time.Minute, ""},
	} {
		base.status, base.err = step.status, step.err
		ask(step.ctx, step.token)
		now = now.Add(step.after)
		got := w.condition()
		if got.OK != (step.reason == "") || !strings.Contains(got.Reason, step.reason) {
			t.Errorf("after %s: %+v, want %q", step.what, got, step.reason)
		}
	}
}

func TestRequestsToTheHomeserverAreOfAKind(t *testing.T) {
	for path, want := range map[string]string{
		"GET /_matrix/client/v3/sync": "sync", "PUT /_matrix/client/v3/rooms/!a:b/send/m.room.message/x": "send",
		"PUT /_matrix/client/v3/rooms/!a:b/redact/$e/x": "send", "PUT /_matrix/client/v3/rooms/!a:b/state/m.room.name/": "state",
		"POST /_matrix/client/v3/rooms/!a:b/invite": "membership", "POST /_matrix/client/v3/join/!a:b": "membership",
		"POST /_matrix/client/v3/createRoom": "create_room", "POST /_matrix/media/v3/upload": "upload",
		"GET /_matrix/client/v1/media/download/b/c": "download", "GET /_matrix/client/v3/profile/@a:b/displayname": "profile",
		"POST /_matrix/client/v3/register": "account", "GET /_matrix/client/versions": metrics.Other,
	} {
		method, path, _ := strings.Cut(path, " ")
		if got := requestKind(method, path); got != want {
			t.Errorf("%s %s is %s, want %s", method, path, got, want)
		}
	}
}

func TestTooFewConnectedUsersMakeTheBridgeUnreadyAfterAWhile(t *testing.T) {
	var h healthWatch
	h.users = Condition{OK: true}
	now := time.Now()
	for i, step := range []struct {
		connected, wanted, percent int
		after                      time.Duration
		ready                      bool
	}{
		{0, 0, 50, 0, true}, {1, 2, 50, time.Hour, true}, {4, 10, 50, time.Second, true}, {4, 10, 50, 4 * time.Minute, true},
		{4, 10, 50, time.Minute, false}, {5, 10, 50, 0, true}, {4, 10, 50, time.Minute, true}, {5, 10, 50, time.Minute, true},
		{4, 10, 50, 4 * time.Minute, true}, {0, 10, 0, time.Hour, true}, {9, 10, 100, time.Second, true}, {9, 10, 100, 5 * time.Minute, false},
	} {
		now = now.Add(step.after)
		h.sawUsers(now, step.connected, step.wanted, step.percent, 5*time.Minute)
		if h.users.OK != step.ready {
			t.Errorf("step %d: ready %v, want %v", i, h.users.OK, step.ready)
		}
	}
}

func TestMistakesInTheSectionsOnMetricsAndHealthAreNamed(t *testing.T) {
	const token = "0123456789abcdef"
	for _, test := range []struct {
		metrics MetricsConfig
		health  HealthConfig
		want    string // "": good
	}{
		{MetricsConfig{Address: "0.0.0.0:1"}, HealthConfig{}, ""}, // switched off
		{MetricsConfig{Enabled: true, Address: "127.0.0.1:29342"}, HealthConfig{Connected: 50, Patience: "5m"}, ""},
		{MetricsConfig{Enabled: true, Address: "[::1]:1"}, HealthConfig{}, ""},
		{MetricsConfig{Enabled: true, Address: "localhost:1"}, HealthConfig{}, ""},
		{MetricsConfig{Enabled: true, Address: "0.0.0.0:1", Token: token}, HealthConfig{}, ""},
		{MetricsConfig{Enabled: true, Address: "0.0.0.0:1", TokenFile: "f"}, HealthConfig{}, ""},
		{MetricsConfig{Enabled: true, Token: token}, HealthConfig{}, ""},
		{MetricsConfig{Enabled: true}, HealthConfig{}, "network.metrics.token is not set"},
		{MetricsConfig{Enabled: true, Address: ":9000"}, HealthConfig{}, "network.metrics.token is not set"},
		{MetricsConfig{Enabled: true, Address: "10.0.0.1:9000"}, HealthConfig{}, "network.metrics.token is not set"},
		{MetricsConfig{Enabled: true, Address: "127.0.0.1"}, HealthConfig{}, "network.metrics.address"},
		{MetricsConfig{Enabled: true, Token: "short"}, HealthConfig{}, "network.metrics.token needs"},
		{MetricsConfig{Enabled: true, Token: token, TokenFile: "f"}, HealthConfig{}, "token_file"},
		{MetricsConfig{}, HealthConfig{Connected: 101}, "network.health.connected"},
		{MetricsConfig{}, HealthConfig{Connected: -1}, "network.health.connected"},
		{MetricsConfig{}, HealthConfig{Patience: "long"}, "network.health.patience"},
		{MetricsConfig{}, HealthConfig{Patience: "-1s"}, "network.health.patience"},
	} {
		err := errors.Join(test.metrics.prepare(), test.health.prepare())
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%+v %+v: %v", test.metrics, test.health, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%+v %+v: %v, want %q", test.metrics, test.health, err, test.want)
		case err != nil && strings.Contains(err.Error(), token):
			t.Error("the token is in the error")
		}
	}
}
