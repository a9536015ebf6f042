package connector

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/connector/gatekeeper"
)

func whoisAnswer(connections ...string) string {
	return `{"user_id":"@a:x","devices":{"":{"sessions":[{"connections":[` + strings.Join(connections, ",") + `]}]}}}`
}

func seen(ip string, ago time.Duration) string {
	return fmt.Sprintf(`{"ip":%q,"last_seen":%d,"user_agent":"x"}`, ip, time.Now().Add(-ago).UnixMilli())
}

func TestTheNewestAddressThatIsFitToBeToldCounts(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"one":                  {whoisAnswer(seen("192.0.2.7", time.Minute)), "192.0.2.7"},
		"the newest":           {whoisAnswer(seen("192.0.2.1", time.Hour), seen("192.0.2.2", time.Minute), seen("192.0.2.3", 2*time.Hour)), "192.0.2.2"},
		"IPv6":                 {whoisAnswer(seen("2001:db8::7", time.Minute)), "2001:db8::7"},
		"IPv4 within IPv6":     {whoisAnswer(seen("::ffff:192.0.2.7", time.Minute)), "192.0.2.7"},
		"older than a day":     {whoisAnswer(seen("192.0.2.7", 25*time.Hour)), ""},
		"a proxy's":            {whoisAnswer(seen("127.0.0.1", time.Minute), seen("10.0.0.1", time.Minute), seen("fe80::1", time.Minute), seen("0.0.0.0", 0)), ""},
		"a proxy's and a real": {whoisAnswer(seen("127.0.0.1", time.Second), seen("192.0.2.7", time.Minute)), "192.0.2.7"},
		"no address":           {whoisAnswer(`{"ip":"","last_seen":99999999999999}`, `{"ip":"a\nb","last_seen":99999999999999}`, `{}`), ""},
		"no devices":           {`{"user_id":"@a:x"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseWhois([]byte(c.body), time.Now())
			if err != nil || got.IsValid() != (c.want != "") || got.IsValid() && got.String() != c.want {
				t.Errorf("got %v, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestAnAddressIsAskedForOnceAMinuteAndRequiredWhereItIs(t *testing.T) {
	var asked atomic.Int64
	var answer atomic.Value
	answer.Store(whoisAnswer(seen("192.0.2.7", time.Minute)))
	homeserver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "Bearer secret" || !strings.HasPrefix(r.URL.EscapedPath(), "/_matrix/client/v3/admin/whois/@") {
			t.Errorf("asked for %s", r.URL.EscapedPath())
		}
		if text := answer.Load().(string); text != "" {
			_, _ = w.Write([]byte(text))
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer homeserver.Close()
	for _, require := range []bool{false, true} {
		a := newAddresses(homeserver.URL+"/", "secret", require)
		asked.Store(0)
		answer.Store(whoisAnswer(seen("192.0.2.7", time.Minute)))
		for range 3 {
			if got, err := a.find(t.Context(), "@a:x"); err != nil || got != netip.MustParseAddr("192.0.2.7") {
				t.Errorf("got %v, %v", got, err)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("the homeserver was asked %d times", n)
		}
		for _, text := range []string{"", "{", whoisAnswer(seen("10.0.0.1", 0)), strings.Repeat(" ", addressAnswer+1)} {
			answer.Store(text)
			got, err := a.find(t.Context(), "@b:x")
			if got.IsValid() || require != errors.Is(err, gatekeeper.ErrNoAddress) || !require && err != nil {
				t.Errorf("required: %v; got %v, %v", require, got, err)
			}
			a.known = map[id.UserID]knownAddress{}
		}
	}
}

// FuzzWhois looks for a panic, an address that must not be told, and allocation out of proportion.
//
// decoder: clientaddress.go:parseWhois
func FuzzWhois(f *testing.F) {
	now := time.UnixMilli(1_800_000_000_000)
	for _, text := range []string{
		whoisAnswer(`{"ip":"192.0.2.7","last_seen":1800000000000}`), whoisAnswer(`{"ip":"10.0.0.1","last_seen":1800000000000}`), whoisAnswer(`{"ip":"x"}`), `{`, `[]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := parseWhois(body, now)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20+512*uint64(len(body)) {
			t.Errorf("%d bytes allocated for %d", grown, len(body))
		}
		if got.IsValid() && (err != nil || !got.IsGlobalUnicast() || got.IsPrivate() || got.Zone() != "") {
			t.Errorf("took %v, %v", got, err)
		}
	})
}
