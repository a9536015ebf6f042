package interop_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// TestALoginThatTheClocksSpoilIsToldAndComesBackByItself: both clocks are days apart, in either direction, and somebody mends that after an hour.
func TestALoginThatTheClocksSpoilIsToldAndComesBackByItself(t *testing.T) {
	for name, c := range map[string]struct {
		code  int
		ahead time.Duration
	}{"the bridge is behind": {413, 24 * time.Hour}, "the bridge is ahead": {414, -24 * time.Hour}, "by little more than is allowed": {414, -2 * time.Minute}} {
		t.Run(name, func(t *testing.T) {
			var ahead, asked atomic.Int64
			ahead.Store(int64(c.ahead))
			inBubbleWith(t, func(b *bench) {
				b.edit = func(cfg *interop.Config) {
					cfg.ClockAhead = func(context.Context) (time.Duration, error) {
						if asked.Add(1) == 3 {
							return 0, errors.New("no answer") // now and then
						}
						return time.Duration(ahead.Load()), nil
					}
				}
			}, func(t *testing.T, b *bench) {
				if stop := b.stopped(stanza.ActionRefused, c.code); stop != nil {
					t.Fatalf("stopped with %v", stop)
				}
				b.wantConn(interop.ConnClock, c.code)
				pass(time.Hour)
				b.wantConn(interop.ConnClock, c.code)
				if n := asked.Load(); n < 60 || n > 600 {
					t.Errorf("the time was asked for %d times in an hour", n)
				}
				ahead.Store(int64(-110 * time.Second))
				pass(time.Minute)
				b.wantConn(interop.ConnLive, 0)
			})
		})
	}
}

func TestARefusedTokenThatTheClocksDoNotExplainEndsRun(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		ask  func(context.Context) (time.Duration, error)
	}{
		"they agree":      {414, func(context.Context) (time.Duration, error) { return 100 * time.Second, nil }},
		"nobody says":     {413, func(context.Context) (time.Duration, error) { return 0, errors.New("no answer") }},
		"another failure": {405, func(context.Context) (time.Duration, error) { return time.Hour, nil }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbleWith(t, func(b *bench) { b.edit = func(cfg *interop.Config) { cfg.ClockAhead = c.ask } }, func(t *testing.T, b *bench) {
				if stop := b.stopped(stanza.ActionRefused, c.code); stop == nil || stop.Kind != interop.ConnRefused {
					t.Errorf("stopped with %v", stop)
				}
			})
		})
	}
}

func TestTheGatekeepersTimeIsThatOfItsAnswers(t *testing.T) {
	date := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = []string{date}
		w.WriteHeader(http.StatusMethodNotAllowed)
	}))
	defer server.Close()
	p := profile.WhatsApp().WithEndpoints(profile.Endpoints{Enlist: server.URL})
	for _, apart := range []time.Duration{-24 * time.Hour, 0, 5 * time.Minute} {
		date = time.Now().Add(apart).UTC().Format(http.TimeFormat)
		if got, err := interop.ClockAhead(t.Context(), p); err != nil || (got-apart).Abs() > 30*time.Second {
			t.Errorf("%v apart: %v, %v", apart, got, err)
		}
	}
	for _, date = range []string{"", "yesterday"} {
		if _, err := interop.ClockAhead(t.Context(), p); err == nil {
			t.Errorf("the date %q was taken", date)
		}
	}
	server.Close()
	if _, err := interop.ClockAhead(t.Context(), p); err == nil {
		t.Error("nobody answered, and there is a time")
	}
}
