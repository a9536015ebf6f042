package admin_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/admin"
)

// fakeService notes what it is asked and answers as it is told.
type fakeService struct {
	admin.Service
	asked   []string
	letters []admin.DeadLetter
	outcome admin.Outcome
	err     error
}

func (s *fakeService) DeadLetters(_ context.Context, account string, offset, limit int) ([]admin.DeadLetter, error) {
	s.asked = append(s.asked, "list "+account+" "+strconv.Itoa(offset)+" "+strconv.Itoa(limit))
	return s.letters, s.err
}

func (s *fakeService) results(what string, ids []string) ([]admin.Result, error) {
	s.asked = append(s.asked, what+" "+strings.Join(ids, ","))
	if s.err != nil {
		return nil, s.err
	}
	list := make([]admin.Result, len(ids))
	for i, id := range ids {
		list[i] = admin.Result{ID: id, Outcome: s.outcome}
	}
	return list, nil
}

func (s *fakeService) RetryDeadLetters(_ context.Context, ids []string) ([]admin.Result, error) {
	return s.results("retry", ids)
}

func (s *fakeService) DropDeadLetters(_ context.Context, ids []string) ([]admin.Result, error) {
	return s.results("drop", ids)
}

// serve runs a handler and returns a client with a secret.
func serve(t *testing.T, h http.Handler) func(secret string) *admin.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(at.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return func(secret string) *admin.Client { return admin.NewClient(at.Hostname(), uint16(port), secret) }
}

var letter = admin.DeadLetter{
	ID: "abc", Account: "acc", Chat: "chat", Direction: admin.Incoming, Kind: "message", Reason: "too_large", Tries: 1, Parts: 1,
	At: time.UnixMilli(1_700_000_000_123).UTC(), Bytes: 99, Retryable: true,
}

func TestTheClientSaysWhatTheServiceSays(t *testing.T) {
	var log bytes.Buffer
	service := &fakeService{letters: []admin.DeadLetter{letter}, outcome: admin.Retried}
	client := serve(t, admin.NewHandler(service, "secret", zerolog.New(&log)))("secret")
	list, err := client.DeadLetters(t.Context(), "acc", 3, 7)
	if err != nil || !slices.Equal(list, service.letters) {
		t.Errorf("list: %+v (%v)", list, err)
	}
	results, err := client.RetryDeadLetters(t.Context(), []string{"abc", "def"})
	if want := []admin.Result{{"abc", admin.Retried}, {"def", admin.Retried}}; err != nil || !slices.Equal(results, want) {
		t.Errorf("retry: %+v (%v)", results, err)
	}
	service.outcome = admin.Dropped
	if results, err = client.DropDeadLetters(t.Context(), []string{"abc"}); err != nil || len(results) != 1 || results[0].Outcome != admin.Dropped {
		t.Errorf("drop: %+v (%v)", results, err)
	}
	if want := []string{"list acc 3 7", "retry abc,def", "drop abc"}; !slices.Equal(service.asked, want) {
		t.Errorf("asked %q, want %q", service.asked, want)
	}
	for _, part := range []string{`"action":"retry dead letters"`, `"id":"def"`, `"state":"dropped"`, `"status_code":200`} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("%s is not in the log:\n%s", part, log.String())
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Error("the secret is in the log")
	}
}

func TestWithoutTheSecretNothingIsDoneAndTheLogIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		service := &fakeService{}
		h := admin.NewHandler(service, "secret", zerolog.New(&log))
		ask := func(header string) int {
			r := httptest.NewRequest(http.MethodGet, admin.Prefix+"dead-letters", nil)
			if header != "" {
				r.Header.Set("Authorization", header)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		for _, header := range []string{"", "Bearer ", "Bearer secre", "Bearer secrets", "bearer secret", "Basic secret", "secret"} {
			if got := ask(header); got != http.StatusUnauthorized {
				t.Errorf("%q: %d", header, got)
			}
		}
		last := 0
		for range 100 {
			last = ask("Bearer guess")
		}
		if last != http.StatusTooManyRequests {
			t.Errorf("after many: %d", last)
		}
		if lines := strings.Count(log.String(), "\n"); lines > 20 {
			t.Errorf("%d lines in the log", lines)
		}
		if len(service.asked) > 0 {
			t.Errorf("the service was asked %q", service.asked)
		}
		if got := ask("Bearer secret"); got != http.StatusOK {
			t.Errorf("who has the secret was kept out: %d", got)
		}
		time.Sleep(time.Minute)
		if got := ask("Bearer guess"); got != http.StatusUnauthorized {
			t.Errorf("a minute later: %d", got)
		}
	})
}

func TestARequestThatIsNotWhatItHasToBeIsRefused(t *testing.T) {
	service := &fakeService{outcome: admin.Retried}
	h := admin.NewHandler(service, "secret", zerolog.Nop())
	many := `{"ids":["a"` + strings.Repeat(`,"a"`, admin.MaxIDs) + `]}`
	for name, c := range map[string]struct {
		method, path, kind, body string
		want                     int
	}{
		"an offset that is no number": {"GET", "dead-letters?offset=x", "", "", 400},
		"a negative offset":           {"GET", "dead-letters?offset=-1", "", "", 400},
		"a page that is too long":     {"GET", "dead-letters?limit=501", "", "", 400},
		"an account that is none":     {"GET", "dead-letters?account=%40alice%3Atest", "", "", 400},
		"a list by POST":              {"POST", "dead-letters", "application/json", "{}", 404},
		"another path":                {"GET", "users", "", "", 404},
		"no ids":                      {"POST", "dead-letters/retry", "application/json", `{"ids":[]}`, 400},
		"an id that is none":          {"POST", "dead-letters/drop", "application/json", `{"ids":["A b"]}`, 400},
		"an id that is too long":      {"POST", "dead-letters/drop", "application/json", `{"ids":["` + strings.Repeat("a", 65) + `"]}`, 400},
		"too many ids":                {"POST", "dead-letters/retry", "application/json", many, 400},
		"not JSON":                    {"POST", "dead-letters/retry", "application/json", `ids`, 400},
		"another kind of body":        {"POST", "dead-letters/retry", "text/plain", `{"ids":["a"]}`, 415},
		"a body that is too large":    {"POST", "dead-letters/retry", "application/json", strings.Repeat(" ", 64<<10) + `{"ids":["a"]}`, 413},
	} {
		r := httptest.NewRequest(c.method, admin.Prefix+c.path, strings.NewReader(c.body))
		r.Header.Set("Authorization", "Bearer secret")
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want || !strings.Contains(w.Body.String(), `"error"`) {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, c.want)
		}
	}
	if len(service.asked) > 0 {
		t.Errorf("the service was asked %q", service.asked)
	}
}

func TestTheClientTellsItsTroublesApart(t *testing.T) {
	service := &fakeService{}
	client := serve(t, admin.NewHandler(service, "secret", zerolog.Nop()))
	ask := func(c *admin.Client) error {
		_, err := c.RetryDeadLetters(t.Context(), []string{"abc"})
		return err
	}
	if err := ask(client("other")); !errors.Is(err, admin.ErrSecret) {
		t.Errorf("another secret: %v", err)
	}
	service.err = admin.ErrNotReady
	if err := ask(client("secret")); !errors.Is(err, admin.ErrNotReady) {
		t.Errorf("not ready: %v", err)
	}
	service.err = errors.New("the words of the database")
	if err := ask(client("secret")); !errors.Is(err, admin.ErrRefused) || strings.Contains(err.Error(), "words of the database") {
		t.Errorf("a fault: %v", err)
	}
	for name, answer := range map[string]string{
		"a page of HTML": "<html>", "no results": "{}", "results of others": `{"results":[{"id":"xyz","outcome":"retried"}]}`,
		"an outcome with a control sequence": `{"results":[{"id":"abc","outcome":"\u001b[2J"}]}`,
	} {
		other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
		if err := ask(other("secret")); !errors.Is(err, admin.ErrNotBridge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	evil := letter
	evil.Reason = "\x1b[2J"
	service.err, service.letters = nil, []admin.DeadLetter{evil}
	if _, err := client("secret").DeadLetters(t.Context(), "", 0, 1); !errors.Is(err, admin.ErrNotBridge) {
		t.Errorf("a control sequence in a list: %v", err)
	}
	elsewhere := serve(t, http.RedirectHandler("http://127.0.0.1:1/", http.StatusTemporaryRedirect))
	if err := ask(elsewhere("secret")); !errors.Is(err, admin.ErrNotBridge) {
		t.Errorf("a redirect: %v", err)
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := socket.Addr().(*net.TCPAddr).Port
	if err = socket.Close(); err != nil {
		t.Fatal(err)
	}
	if err = ask(admin.NewClient("0.0.0.0", uint16(port), "secret")); !errors.Is(err, admin.ErrNobody) {
		t.Errorf("nobody: %v", err)
	}
	if err = ask(admin.NewClient(filepath.Join(t.TempDir(), "none.sock"), 0, "secret")); !errors.Is(err, admin.ErrNobody) {
		t.Errorf("no socket: %v", err)
	}
	if err = ask(admin.NewClient("/"+strings.Repeat("long", 100), 0, "secret")); err == nil || errors.Is(err, admin.ErrNobody) {
		t.Errorf("a socket that cannot be asked: %v", err)
	}
}

func TestABridgeOnAUnixSocketIsAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: admin.NewHandler(&fakeService{letters: []admin.DeadLetter{letter}}, "secret", zerolog.Nop())}
	done := make(chan error, 1)
	go func() { done <- server.Serve(socket) }()
	list, err := admin.NewClient(path, 0, "secret").DeadLetters(t.Context(), "", 0, 1)
	if err != nil || len(list) != 1 {
		t.Errorf("got %v (%v)", list, err)
	}
	if err = server.Close(); err != nil {
		t.Error(err)
	}
	<-done
}

func TestTheSecretFollowsFromTheKeyAlone(t *testing.T) {
	one, err := admin.Secret(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	again, _ := admin.Secret(bytes.Repeat([]byte{1}, 32))
	other, _ := admin.Secret(bytes.Repeat([]byte{2}, 32))
	if one != again || one == other || len(one) != 43 {
		t.Errorf("secrets %q %q %q", one, again, other)
	}
}
