package connector

import (
	"net/http"
	"testing"
	"time"
)

// answering is a homeserver that answers everything with one status.
type answering struct{ status int }

func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Body: http.NoBody, Request: r, Header: http.Header{}}, nil
}

// TestAnErrorAboutSomebodyElsesServerIsNoFaultOfTheHomeserver: neither does it end a fault that there is.
func TestAnErrorAboutSomebodyElsesServerIsNoFaultOfTheHomeserver(t *testing.T) {
	base := &answering{http.StatusBadGateway}
	w := newHomeWatch(base, "token", nil)
	now := time.Now()
	w.now = func() time.Time { return now }
	ask := func(method, path string) Condition {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://homeserver.test"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if err = resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		now = now.Add(homeserverPatience + time.Second)
		return w.condition()
	}
	others := []struct{ method, path string }{
		{http.MethodGet, "/_matrix/client/v3/profile/@x:far.test"},
		{http.MethodGet, "/_matrix/client/v1/media/download/far.test/abc"},
		{http.MethodPost, "/_matrix/client/v3/join/!a:far.test"},
		{http.MethodPost, "/_matrix/client/v3/rooms/!a:homeserver.test/invite"},
	}
	for _, x := range others {
		if c := ask(x.method, x.path); !c.OK {
			t.Errorf("%s %s: not ready: %s", x.method, x.path, c.Reason)
		}
	}
	own := []struct{ method, path string }{
		{http.MethodPut, "/_matrix/client/v3/profile/@ghost:homeserver.test/displayname"},
		{http.MethodPost, "/_matrix/media/v3/upload"},
		{http.MethodPut, "/_matrix/client/v3/rooms/!a:homeserver.test/send/m.room.message/1"},
		{http.MethodGet, "/_matrix/client/v3/account/whoami"},
	}
	for _, x := range own {
		base.status = http.StatusBadGateway
		if c := ask(x.method, x.path); c.OK {
			t.Errorf("%s %s: ready", x.method, x.path)
		}
		if c := ask(others[0].method, others[0].path); c.OK {
			t.Errorf("%s %s: ready again, for what another server did", x.method, x.path)
		}
		base.status = http.StatusOK
		if c := ask(x.method, x.path); !c.OK {
			t.Errorf("%s %s: not ready again: %s", x.method, x.path, c.Reason)
		}
	}
}
