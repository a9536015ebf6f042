package mediastore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/connector/mediastore"
)

// served is a world with one object, 1000 bytes long, behind a server.
type served struct {
	*world
	server  *httptest.Server
	url     string
	client  *http.Client
	content []byte
	object  *mediastore.Object
	tag     string
}

// protocols are those that the public listener speaks.
var protocols = map[string]func(*http.Protocols){
	"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
	"HTTP/2":   func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
}

func newServed(t testing.TB, version string) *served {
	t.Helper()
	s := &served{world: newWorld(t, filesBackend(t, t.TempDir()), 0), content: random(1, 1000)}
	s.object = s.put(t, "a", s.content)
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	server := httptest.NewUnstartedServer(s.Handler())
	server.Config.Protocols = both
	server.Config.ReadTimeout, server.Config.WriteTimeout = 30*time.Second, time.Minute
	server.Start()
	t.Cleanup(server.Close)
	only := new(http.Protocols)
	protocols[version](only)
	s.server, s.url, s.client = server, server.URL, &http.Client{Transport: &http.Transport{Protocols: only}}
	t.Cleanup(s.client.CloseIdleConnections)
	s.tag = s.ask(t, "HEAD", nil).Header.Get("ETag")
	return s
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body []byte
}

// ask asks for the object with header fields, "Name: value" each.
func (s *served) ask(t testing.TB, method string, fields []string) answer {
	t.Helper()
	return s.askFor(t, method, "/"+s.object.Ref, fields)
}

func (s *served) askFor(t testing.TB, method, path string, fields []string) answer {
	t.Helper()
	req, err := http.NewRequest(method, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, body}
}

// each runs a test with both versions of HTTP.
func each(t *testing.T, run func(t *testing.T, s *served)) {
	for version := range protocols {
		t.Run(version, func(t *testing.T) { run(t, newServed(t, version)) })
	}
}

func TestAnObjectIsServedWholeWithTheHeadersOfCiphertext(t *testing.T) {
	each(t, func(t *testing.T, s *served) {
		for _, method := range []string{"GET", "HEAD"} {
			opened := s.backend.opened.Load()
			got := s.ask(t, method, nil)
			equal(t, "status", got.StatusCode, 200)
			for name, want := range map[string]string{
				"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff", "Accept-Ranges": "bytes",
				"Content-Length": "1000", "Cache-Control": "private, immutable, max-age=3888000", "Last-Modified": "", "Content-Range": "",
			} {
				equal(t, method+" "+name, got.Header.Get(name), want)
			}
			if tag := got.Header.Get("ETag"); len(tag) != 45 || tag[0] != '"' {
				t.Errorf("tag %q is not a strong one", tag)
			}
			if method == "GET" {
				same(t, "body", got.body, s.content)
			} else if len(got.body) != 0 || s.backend.opened.Load() != opened {
				t.Errorf("HEAD: %d bytes, and a file was opened", len(got.body))
			}
		}
	})
}

func TestWhatIsNotThereIsAnsweredInOneWayAndLookedFor(t *testing.T) {
	each(t, func(t *testing.T, s *served) {
		uncommitted, err := s.Put(context.Background(), "a", writes(random(2, 10)))
		if err != nil {
			t.Fatal(err)
		}
		expired := s.put(t, "a", random(3, 10))
		s.clock.add(45 * 24 * time.Hour)
		fresh := s.put(t, "a", random(4, 10))
		if got := s.askFor(t, "GET", "/"+fresh.Ref, nil); got.StatusCode != 200 {
			t.Fatalf("what is there: %d", got.StatusCode)
		}
		opened := s.backend.opened.Load()
		var first *answer
		for what, path := range map[string]string{
			"unknown":        "/" + strings.Repeat("A", 43),
			"expired":        "/" + expired.Ref,
			"not committed":  "/" + uncommitted.Ref,
			"malformed":      "/" + fresh.Ref[:42],
			"too long":       "/" + fresh.Ref + "A",
			"with a slash":   "/" + fresh.Ref + "/",
			"escaped":        fmt.Sprintf("/%%%02X%s", fresh.Ref[0], fresh.Ref[1:]),
			"nothing":        "/",
			"of other signs": "/" + strings.Repeat("+", 43),
			"very long":      "/" + strings.Repeat("a", 8000),
		} {
			looked := s.index.lookups.Load()
			got := s.askFor(t, "GET", path, []string{"Range: bytes=0-5", "If-None-Match: *"})
			equal(t, what+": status", got.StatusCode, 404)
			equal(t, what+": looks into the index", s.index.lookups.Load()-looked, 1)
			got.Header.Del("Date")
			if first == nil {
				first = &got
			}
			same(t, what+": body", got.body, first.body)
			if !maps.EqualFunc(got.Header, first.Header, func(a, b []string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
				t.Errorf("%s: headers %v, others' are %v", what, got.Header, first.Header)
			}
		}
		equal(t, "cache", first.Header.Get("Cache-Control"), "no-store")
		equal(t, "opened files", s.backend.opened.Load(), opened)
	})
}

func TestOtherMethodsAreRefused(t *testing.T) {
	each(t, func(t *testing.T, s *served) {
		opened := s.backend.opened.Load()
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "get"} {
			got := s.ask(t, method, nil)
			equal(t, method, got.StatusCode, 405)
			equal(t, method+": Allow", got.Header.Get("Allow"), "GET, HEAD")
		}
		equal(t, "opened files", s.backend.opened.Load(), opened)
	})
}

// rangeCases have what the 1000 bytes are asked for: the status and the spans that come.
var rangeCases = []struct {
	name, header string
	status       int
	spans        [][2]int // offset and length
}{
	{"the first byte", "bytes=0-0", 206, [][2]int{{0, 1}}},
	{"from the midst", "bytes=100-199", 206, [][2]int{{100, 100}}},
	{"from there to the end", "bytes=900-", 206, [][2]int{{900, 100}}},
	{"all as one span", "bytes=0-", 206, [][2]int{{0, 1000}}},
	{"the end beyond the end", "bytes=990-2000", 206, [][2]int{{990, 10}}},
	{"a suffix", "bytes=-10", 206, [][2]int{{990, 10}}},
	{"a suffix longer than all", "bytes=-5000", 206, [][2]int{{0, 1000}}},
	{"a number beyond all numbers at the end", "bytes=5-99999999999999999999999999", 206, [][2]int{{5, 995}}},
	{"a suffix beyond all numbers", "bytes=-99999999999999999999999999", 206, [][2]int{{0, 1000}}},
	{"leading zeros", "bytes=0000000000000000000000000000001-002", 206, [][2]int{{1, 2}}},
	{"a unit in capitals", "BYTES=1-2", 206, [][2]int{{1, 2}}},
	{"spaces around an element", "bytes= 1-2 ", 206, [][2]int{{1, 2}}},
	{"empty elements", "bytes=,,1-2,", 206, [][2]int{{1, 2}}},
	{"two spans", "bytes=0-9,500-509", 206, [][2]int{{0, 10}, {500, 10}}},
	{"three spans in any order, a suffix among them", "bytes=-5, 10-19 ,0-0", 206, [][2]int{{995, 5}, {10, 10}, {0, 1}}},
	{"one of two is beyond the end", "bytes=2000-3000,4-5", 206, [][2]int{{4, 2}}},
	{"sixteen spans", "bytes=" + strings.Repeat("1-1,", 15) + "1-1", 206, repeated([2]int{1, 1}, 16)},
	{"overlapping spans that are more than all of it", "bytes=0-,1-,2-", 200, nil},
	{"another unit", "lines=1-2", 200, nil},
	{"beyond the end", "bytes=1000-", 416, nil},
	{"far beyond the end", "bytes=99999999999999999999999999-", 416, nil},
	{"an empty suffix", "bytes=-0", 416, nil},
	{"backwards", "bytes=5-4", 416, nil},
	{"no numbers", "bytes=-", 416, nil},
	{"no dash", "bytes=5", 416, nil},
	{"letters", "bytes=a-b", 416, nil},
	{"a sign", "bytes=+1-2", 416, nil},
	{"a negative end", "bytes=1--2", 416, nil},
	{"a space inside", "bytes=1 - 2", 416, nil},
	{"nothing", "bytes=", 416, nil},
	{"only commas", "bytes=,,,", 416, nil},
	{"no unit", "=0-1", 200, nil},
	{"no equals sign", "bytes 0-1", 416, nil},
	{"one good and one bad", "bytes=0-1,x", 416, nil},
	{"seventeen spans", "bytes=" + strings.Repeat("1-1,", 16) + "1-1", 416, nil},
	{"many empty elements", "bytes=" + strings.Repeat(",", 200) + "1-1", 416, nil},
}

func repeated[T any](v T, n int) (list []T) {
	for range n {
		list = append(list, v)
	}
	return list
}

func TestRangesAreThoseOfTheStandard(t *testing.T) {
	each(t, func(t *testing.T, s *served) {
		for _, c := range rangeCases {
			t.Run(c.name, func(t *testing.T) {
				opened := s.backend.opened.Load()
				got := s.ask(t, "GET", []string{"Range: " + c.header})
				equal(t, "status", got.StatusCode, c.status)
				if c.status == 416 {
					equal(t, "Content-Range", got.Header.Get("Content-Range"), "bytes */1000")
					equal(t, "opened files", s.backend.opened.Load(), opened)
					return
				}
				s.checkSpans(t, got, c.spans)
				// The length of a HEAD is that of a GET without Range.
				head := s.ask(t, "HEAD", []string{"Range: " + c.header})
				equal(t, "HEAD", head.StatusCode, 200)
				equal(t, "HEAD's length", head.Header.Get("Content-Length"), "1000")
			})
		}
	})
}

// checkSpans compares an answer with the spans that it should have; none means everything.
func (s *served) checkSpans(t *testing.T, got answer, spans [][2]int) {
	t.Helper()
	equal(t, "length", got.Header.Get("Content-Length"), strconv.Itoa(len(got.body)))
	equal(t, "tag", got.Header.Get("ETag"), s.tag)
	switch len(spans) {
	case 0:
		same(t, "body", got.body, s.content)
		return
	case 1:
		at := spans[0]
		same(t, "body", got.body, s.content[at[0]:at[0]+at[1]])
		equal(t, "Content-Range", got.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/1000", at[0], at[0]+at[1]-1))
		equal(t, "type", got.Header.Get("Content-Type"), "application/octet-stream")
		return
	}
	kind, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" || got.Header.Get("Content-Range") != "" {
		t.Fatalf("type %q, %v", kind, err)
	}
	parts := multipart.NewReader(bytes.NewReader(got.body), params["boundary"])
	for _, at := range spans {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "part", body, s.content[at[0]:at[0]+at[1]])
		equal(t, "part's range", part.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/1000", at[0], at[0]+at[1]-1))
		equal(t, "part's type", part.Header.Get("Content-Type"), "application/octet-stream")
	}
	if _, err := parts.NextRawPart(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last part: %v", err)
	}
}

// TestRangesAreAnsweredAsTheStandardLibraryDoes takes its file server as a second opinion, where the two do not differ on purpose.
func TestRangesAreAnsweredAsTheStandardLibraryDoes(t *testing.T) {
	s := newServed(t, "HTTP/1.1")
	differ := map[string]bool{ // it is laxer, or stricter, or lets more ranges through
		"seventeen spans": true, "many empty elements": true, "a unit in capitals": true, "another unit": true, "no unit": true,
		"a number beyond all numbers at the end": true, "a suffix beyond all numbers": true, "far beyond the end": true, "a space inside": true,
		"only commas": true, "nothing": true, "a sign": true, "an empty suffix": true,
	}
	for _, c := range rangeCases {
		if differ[c.name] {
			continue
		}
		recorder := httptest.NewRecorder()
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("Range", c.header)
		recorder.Header().Set("ETag", s.tag)
		recorder.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(recorder, req, "", time.Time{}, bytes.NewReader(s.content))
		got := s.ask(t, "GET", []string{"Range: " + c.header})
		equal(t, c.name+": status", got.StatusCode, recorder.Code)
		if c.status == 416 {
			continue // it leaves Content-Range out if the field is malformed
		}
		equal(t, c.name+": Content-Range", got.Header.Get("Content-Range"), recorder.Header().Get("Content-Range"))
		if len(c.spans) < 2 {
			same(t, c.name, got.body, recorder.Body.Bytes())
		}
	}
}

func TestConditionsAreThoseOfTheStandard(t *testing.T) {
	each(t, func(t *testing.T, s *served) {
		other := `"` + strings.Repeat("x", 43) + `"`
		for name, c := range map[string]struct {
			fields []string
			status int
		}{
			"the tag is known":                        {[]string{"If-None-Match: " + s.tag}, 304},
			"a weak form of the tag is known":         {[]string{"If-None-Match: W/" + s.tag}, 304},
			"the tag is in a list":                    {[]string{"If-None-Match: " + other + ", " + s.tag}, 304},
			"the tag is in a second field":            {[]string{"If-None-Match: " + other, "If-None-Match: " + s.tag}, 304},
			"anything is known":                       {[]string{"If-None-Match: *"}, 304},
			"another tag is known":                    {[]string{"If-None-Match: " + other}, 200},
			"a tag without quotes is none":            {[]string{"If-None-Match: " + strings.Trim(s.tag, `"`)}, 200},
			"a known tag counts more than a range":    {[]string{"If-None-Match: " + s.tag, "Range: bytes=0-1"}, 304},
			"the tag must match and does":             {[]string{"If-Match: " + s.tag}, 200},
			"anything must match":                     {[]string{"If-Match: *"}, 200},
			"another must match":                      {[]string{"If-Match: " + other}, 412},
			"a weak tag never matches strongly":       {[]string{"If-Match: W/" + s.tag}, 412},
			"a range if the tag is this one":          {[]string{"If-Range: " + s.tag, "Range: bytes=0-1"}, 206},
			"a range if the tag is another":           {[]string{"If-Range: " + other, "Range: bytes=0-1"}, 200},
			"a range if a weak tag":                   {[]string{"If-Range: W/" + s.tag, "Range: bytes=0-1"}, 200},
			"a range if a date":                       {[]string{"If-Range: Thu, 01 Jan 2026 00:00:00 GMT", "Range: bytes=0-1"}, 200},
			"a bad range if the tag is another":       {[]string{"If-Range: " + other, "Range: bytes=9999-"}, 200},
			"two Range fields":                        {[]string{"Range: bytes=0-1", "Range: bytes=3-4"}, 400},
			"two If-Range fields":                     {[]string{"If-Range: " + s.tag, "If-Range: " + other, "Range: bytes=3-4"}, 400},
			"dates are ignored, since there are none": {[]string{"If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"}, 200},
		} {
			for _, method := range []string{"GET", "HEAD"} {
				want := c.status
				if method == "HEAD" && want == 206 {
					want = 200
				}
				got := s.ask(t, method, c.fields)
				equal(t, method+", "+name, got.StatusCode, want)
				if want == 304 && (got.Header.Get("ETag") != s.tag || len(got.body) != 0 || got.Header.Get("Cache-Control") == "") {
					t.Errorf("%s: a 304 with %d bytes and %v", name, len(got.body), got.Header)
				}
			}
		}
	})
}

func TestATroubleOfOursIsSaidWithoutDetails(t *testing.T) {
	each(t, func(t *testing.T, s *served) {
		broken := errors.New("disk is on fire")
		s.backend.failing.Store(&broken)
		for _, fields := range [][]string{nil, {"Range: bytes=1-5"}, {"Range: bytes=1-5,7-9"}} {
			got := s.ask(t, "GET", fields)
			equal(t, "a backend that fails", got.StatusCode, 503)
			if bytes.Contains(got.body, []byte("fire")) || got.Header.Get("ETag") != "" || got.Header.Get("Content-Range") != "" {
				t.Errorf("says %q, %v", got.body, got.Header)
			}
		}
		gone := mediastore.ErrNotFound
		s.backend.failing.Store(&gone)
		equal(t, "a blob that is gone", s.ask(t, "GET", nil).StatusCode, 404)
		s.index.failing.Store(true)
		equal(t, "an index that fails", s.ask(t, "GET", nil).StatusCode, 503)
	})
}
