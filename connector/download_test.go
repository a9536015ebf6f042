package connector

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// take downloads into memory.
func (h *mediaHost) take(ctx context.Context, path string, limit int64) ([]byte, error) {
	var got bytes.Buffer
	_, err := h.download(ctx, path, limit, func() (io.Writer, error) { got.Reset(); return &got, nil })
	return got.Bytes(), err
}

func testHost(t *testing.T, f *fakeHost, below string) *mediaHost {
	t.Helper()
	h, err := newMediaHost(f.url + below)
	if err != nil {
		t.Fatal(err)
	}
	h.pause = time.Millisecond
	return h
}

func TestAFileIsAskedForByItsPathAndQueryExactly(t *testing.T) {
	f := newFakeHost(t)
	for _, path := range []string{"/v/t/1?a=b&c=%2F..%2f&d", "/v/t/%41%2f?", "/o1/v/t24/f2/m2x?ccb=9-4&oh=01_Q5Aa&oe=67&_nc_sid=000000&mms3=true"} {
		f.files[path] = []byte(path)
		f.files["/base"+path] = []byte("below " + path)
		if got, err := testHost(t, f, "").take(t.Context(), path, 100); err != nil || string(got) != path {
			t.Errorf("%s: %q %v", path, got, err)
		}
		if got, err := testHost(t, f, "/base").take(t.Context(), path, 100); err != nil || string(got) != "below "+path {
			t.Errorf("%s below a path: %q %v", path, got, err)
		}
	}
}

func TestAPathLeadsNowhereButToTheMediaHost(t *testing.T) {
	f := newFakeHost(t)
	f.answers(func(http.ResponseWriter, *http.Request) bool { t.Error("the host was asked"); return false })
	for _, path := range []string{
		"", "v/t/1", "//elsewhere.test/1", "@elsewhere.test/", ".elsewhere.test/", ":81/", "/a/../../b", "/./a", "/%2e%2e/a", "/a#b", `/\elsewhere.test`,
		"/a b", "/a\r\nHost: elsewhere.test", "/\u00e4", "/a\x00", "/%", "?a=b", "/" + strings.Repeat("a", maxMediaPath), "https://elsewhere.test/a",
	} {
		if _, err := testHost(t, f, "/base").take(t.Context(), path, 100); !errors.Is(err, errMediaPath) {
			t.Errorf("%.40q: %v", path, err)
		}
	}
}

// FuzzAPathLeadsNowhereButToTheMediaHost makes addresses of paths that the other side has chosen: each is refused, or is one on the
// media host below its base.
//
// decoder: download.go:mediaHost.address
func FuzzAPathLeadsNowhereButToTheMediaHost(f *testing.F) {
	f.Add("/v/t/1?a=b")
	f.Add("//elsewhere")
	f.Add("/@elsewhere:80/%2e./")
	h, err := newMediaHost("https://media.test:444/base")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		boundedAllocation(t, 64<<10, func() {
			u, err := h.address(path)
			if err != nil {
				return
			}
			if u.Scheme != "https" || u.Host != "media.test:444" || u.User != nil || u.Fragment != "" || !strings.HasPrefix(u.String(), "https://media.test:444/base/") {
				t.Errorf("%q leads to %q", path, u)
			}
			if u.String() != "https://media.test:444/base"+path {
				t.Errorf("%q became %q", path, u)
			}
		})
	})
}

func TestARedirectIsFollowedWithinTheHostOnly(t *testing.T) {
	f, other := newFakeHost(t), newFakeHost(t)
	f.files["/real?x=1"] = []byte("here")
	other.files["/real"] = []byte("elsewhere")
	f.answers(func(w http.ResponseWriter, r *http.Request) bool {
		to := map[string]string{
			"/inside": "/real?x=1", "/outside": other.url + "/real", "/scheme": "https" + strings.TrimPrefix(f.url, "http") + "/real?x=1",
			"/loop": "/loop", "/named": strings.Replace(f.url, "://", "://name@", 1) + "/real?x=1",
		}[r.URL.Path]
		if to == "" {
			return false
		}
		http.Redirect(w, r, to, http.StatusFound)
		return true
	})
	h := testHost(t, f, "")
	if got, err := h.take(t.Context(), "/inside", 100); err != nil || string(got) != "here" {
		t.Errorf("inside: %q %v", got, err)
	}
	for _, path := range []string{"/outside", "/scheme", "/loop", "/named"} {
		if got, err := h.take(t.Context(), path, 100); !errors.Is(err, errMediaElsewhere) {
			t.Errorf("%s: %q %v", path, got, err)
		}
	}
	if len(other.asked) > 0 {
		t.Error("another host was asked")
	}
}

func TestADownloadIsTriedAgainOnlyWhereThatMayHelp(t *testing.T) {
	for _, c := range []struct {
		status, tries int
		want          error
	}{
		{404, 1, errMediaGone}, {410, 1, errMediaGone}, {403, 1, errMediaGone}, {206, 1, errMediaGone}, {304, 1, errMediaGone},
		{500, 3, errMediaAway}, {503, 3, errMediaAway}, {429, 3, errMediaAway}, {408, 3, errMediaAway},
	} {
		f := newFakeHost(t)
		f.answers(func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(c.status); return true })
		if _, err := testHost(t, f, "").take(t.Context(), "/a", 100); !errors.Is(err, c.want) || f.times("/a") != c.tries {
			t.Errorf("status %d: %v after %d tries", c.status, err, f.times("/a"))
		}
	}
	f := newFakeHost(t)
	f.files["/a"] = []byte("whole")
	f.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if len(f.asked) > 1 {
			return false
		}
		w.Header().Set("Content-Length", "5")
		_, _ = w.Write([]byte("wh")) // and then the connection ends
		return true
	})
	if got, err := testHost(t, f, "").take(t.Context(), "/a", 100); err != nil || string(got) != "whole" {
		t.Errorf("after a cut: %q %v", got, err)
	}
}

func TestNoMoreIsTakenThanAllowed(t *testing.T) {
	f := newFakeHost(t)
	f.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/told" {
			w.Header().Set("Content-Length", strconv.Itoa(1000))
		}
		for range 10 {
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return true
			}
			if r.URL.Path != "/told" {
				w.(http.Flusher).Flush()
			}
		}
		return true
	})
	h := testHost(t, f, "")
	for _, path := range []string{"/told", "/untold"} {
		if got, err := h.take(t.Context(), path, 999); !errors.Is(err, errMediaLong) || len(got) > 999 {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
		if got, err := h.take(t.Context(), path, 1000); err != nil || len(got) != 1000 {
			t.Errorf("%s within the limit: %d bytes, %v", path, len(got), err)
		}
	}
}

// drip is a body of which a byte comes now and then, for ever.
type drip struct {
	ctx   context.Context
	every time.Duration
}

func (d drip) Read(p []byte) (int, error) {
	select {
	case <-time.After(d.every):
		return copy(p, "x"), nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}
func (d drip) Close() error { return nil }

type tripper func(r *http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestADownloadEndsWithoutProgressAndInAnyCase(t *testing.T) {
	for _, c := range []struct {
		name      string
		every     time.Duration
		low, high time.Duration
	}{
		{"nothing comes", time.Hour, 90 * time.Second, 3 * time.Minute},
		{"a byte comes now and then", 29 * time.Second, downloadBase, downloadBase + time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, err := newMediaHost("http://media.test")
				if err != nil {
					t.Fatal(err)
				}
				h.client.Transport = tripper(func(r *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200, Body: drip{r.Context(), c.every}, ContentLength: -1, Request: r, Header: http.Header{}}, nil
				})
				began := time.Now()
				_, err = h.take(t.Context(), "/a", 100)
				if took := time.Since(began); !errors.Is(err, errMediaSlow) || took < c.low || took > c.high {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

func TestNothingOfANetworkErrorIsRepeated(t *testing.T) {
	h, err := newMediaHost("http://media.test:4711")
	if err != nil {
		t.Fatal(err)
	}
	h.pause = time.Millisecond
	h.client.Transport = tripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("dial 10.0.0.1: no") })
	_, err = h.take(t.Context(), "/secret?key=1", 100)
	if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "10.0") || strings.Contains(err.Error(), "4711") {
		t.Errorf("the error says %v", err)
	}
}
