package connector

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/mediastore"
	"postern/database"
)

// neighbours are a connector and the servers of other instances.
func neighbours(t *testing.T, others ...http.HandlerFunc) *Connector {
	t.Helper()
	c := New()
	c.ctx, c.cancel = context.WithCancel(t.Context())
	c.passing, c.instances = newPassing(), &instances{c: c, name: "here"}
	for _, other := range others {
		server := httptest.NewServer(other)
		t.Cleanup(server.Close)
		c.instances.others = append(c.instances.others, database.Instance{Name: "there", Address: server.URL})
	}
	return c
}

var testReference = strings.Repeat("r", mediastore.RefLength)

func refuses(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Local", "yes")
	http.Error(w, "not here", http.StatusNotFound)
}

func ask(t *testing.T, c *Connector, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.anywhere(http.HandlerFunc(refuses)).ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAnAttachmentThatIsElsewhereIsPassedOnWithItsRanges(t *testing.T) {
	asked := make(chan http.Header, 10)
	c := neighbours(t, refuses, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header
		if r.URL.Path != "/media/"+testReference {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Set-Cookie", "no")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	})
	res := ask(t, c, http.MethodGet, "/"+testReference, "Range", "bytes=2-4", "Authorization", "no")
	if got := bodyOf(t, res); res.StatusCode != http.StatusPartialContent || got != "234" || res.Header.Get("Content-Range") != "bytes 2-4/10" ||
		res.Header.Get("Etag") != `"x"` || res.Header.Get("Set-Cookie") != "" || res.Header.Get("Local") != "" {
		t.Errorf("%d %q %v", res.StatusCode, got, res.Header)
	}
	if h := <-asked; h.Get(askedBy) != "here" || h.Get("Authorization") != "" {
		t.Errorf("asked with %v", h)
	}
}

func TestWhatNoInstanceHasIsNotThereAndWhatOneThatIsAwayMayHaveIsForLater(t *testing.T) {
	if res := ask(t, neighbours(t, refuses, refuses), http.MethodGet, "/"+testReference); res.StatusCode != http.StatusNotFound || bodyOf(t, res) != "not here\n" {
		t.Errorf("nowhere: %d", res.StatusCode)
	}
	away := neighbours(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, refuses)
	if res := ask(t, away, http.MethodGet, "/"+testReference); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("away: %d", res.StatusCode)
	}
}

func TestWhoIsAskedByAnInstanceAsksNobodyElse(t *testing.T) {
	c := neighbours(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	for _, request := range [][]string{
		{http.MethodGet, "/" + testReference, askedBy, "there"}, {http.MethodPost, "/" + testReference}, {http.MethodGet, "/short"},
		{http.MethodGet, "/" + testReference + "/"}, {http.MethodGet, "/%72" + testReference[1:]},
	} {
		if res := ask(t, c, request[0], request[1], request[2:]...); res.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %d", request, res.StatusCode)
		}
	}
	c.passPush(http.Header{askedBy: {"there"}}, "anna")
	c.work.Wait()
}

func TestAPushForSomebodyElseIsPassedToAllOthersAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := neighbours(t)
		c.instances.others = []database.Instance{{Name: "a", Address: "http://a"}, {Name: "b", Address: "http://b"}}
		var mu sync.Mutex
		got := map[string][]string{}
		c.passing.client = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			text, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			got[r.URL.String()] = append(got[r.URL.String()], r.Header.Get("Authorization")+" "+r.Header.Get(askedBy)+" "+string(text))
			status := http.StatusOK
			if r.URL.Host == "a" && len(got[r.URL.String()]) < 3 {
				status = http.StatusBadGateway
			}
			return &http.Response{StatusCode: status, Body: http.NoBody}, nil
		})}
		c.passPush(http.Header{"Authorization": {"Bearer t"}}, `an"na`)
		c.work.Wait()
		want := `Bearer t here {"to":"an\"na"}`
		if a, b := got["http://a/push"], got["http://b/push"]; len(a) != 3 || len(b) != 1 || a[2] != want || b[0] != want {
			t.Errorf("passed on: %q", got)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
