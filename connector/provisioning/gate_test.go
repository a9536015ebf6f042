package provisioning

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

const (
	alice = "@alice:test"
	bob   = "@bob:test"
)

// bridge is what a gate stands before: it knows tokens, and notes down what reaches the framework.
type bridge struct {
	t         *testing.T
	mu        sync.Mutex
	tokens    map[string]*Token
	looked    int
	suspended string
	away      bool
	failing   error
	full      error
	audit     []string
	reached   []string
	answer    func(w http.ResponseWriter, r *http.Request)
	log       bytes.Buffer
	gate      *Gate
}

func newBridge(t *testing.T, change func(cfg *Config)) *bridge {
	b := &bridge{t: t, tokens: map[string]*Token{}}
	cfg := Config{Keeper: b, Next: b.framework(), Secret: "the framework's own secret", PerMinute: 1000, Log: zerolog.New(&b.log)}
	if change != nil {
		change(&cfg)
	}
	b.gate = NewGate(cfg)
	return b
}

func (b *bridge) framework() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.reached = append(b.reached, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
		b.mu.Unlock()
		if b.answer != nil {
			b.answer(w, r)
		}
	})
}

// Token implements Keeper, like the methods below.
func (b *bridge) Token(_ context.Context, id string) (*Token, error) {
	b.looked++
	return b.tokens[id], b.failing
}
func (b *bridge) Ready() bool                { return !b.away }
func (b *bridge) Suspended(user string) bool { return user == b.suspended }
func (b *bridge) Begin(_ context.Context, actor, action, subject string) (func(string), error) {
	b.audit = append(b.audit, strings.TrimSpace(actor+" "+action+" "+subject))
	at := len(b.audit) - 1
	return func(outcome string) { b.audit[at] += ": " + outcome }, b.full
}

func (b *bridge) Refused(_ context.Context, actor, action string) {
	b.audit = append(b.audit, actor+" "+action+": refused")
}

// token makes one.
func (b *bridge) token(user string, scopes ...string) (id, token string) {
	id, token, hash := New()
	b.tokens[id] = &Token{ID: id, User: user, Scopes: scopes, Hash: hash, Expires: time.Now().Add(time.Hour)}
	return id, token
}

// ask makes a request and returns its status and answer.
func (b *bridge) ask(method, path, token string) (int, string) {
	b.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader("{}"))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	b.gate.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// example is a path of a route.
func example(r *Route) string {
	return Prefix + strings.NewReplacer("{identifier}", "%2B491520001", "{flow}", "whatsapp", "{process}", "proc", "{step}", "s", "{type}", "user_input", "{login}", "acc1").Replace(r.Path)
}

// TestEachRequestNeedsItsScopeAndTheTokensOwnUser tries every route with every scope, for the token's user and for another.
func TestEachRequestNeedsItsScopeAndTheTokensOwnUser(t *testing.T) {
	for i := range Routes {
		route := &Routes[i]
		for _, scope := range Scopes {
			for query, user := range map[string]string{"": alice, "?user_id=@alice:test": alice, "?user_id=@bob:test": bob, "?user_id=@alice:test&user_id=@bob:test": bob, "?user_id=": ""} {
				b := newBridge(t, nil)
				id, token := b.token(alice, scope)
				b.gate.processes.begin("proc", alice)
				status, said := b.ask(route.Method, example(route)+query, token)
				what := fmt.Sprintf("%s %s%s with %s", route.Method, route.Path, query, scope)
				allowed := scope == route.Scope && user == alice
				if (status == http.StatusOK) != allowed || (len(b.reached) == 1) != allowed || !allowed && status != http.StatusForbidden {
					t.Errorf("%s: %d %s, reached %q", what, status, said, b.reached)
				}
				if allowed && (!strings.Contains(b.reached[0], "user_id=%40alice%3Atest ") || !strings.HasSuffix(b.reached[0], "Bearer the framework's own secret") || strings.Contains(b.reached[0], token)) {
					t.Errorf("%s: the framework gets %q", what, b.reached[0])
				}
				want := []string{}
				switch {
				case !allowed:
					want = append(want, "token "+id+" "+route.name()+": refused")
				case route.Login != "":
					want = append(want, "token "+id+" "+route.Action+" acc1: done")
				case route.Action != "":
					want = append(want, "token "+id+" "+route.Action+": done")
				}
				if !slices.Equal(b.audit, want) {
					t.Errorf("%s: noted down %q, want %q", what, b.audit, want)
				}
			}
		}
	}
}

func TestATokenThatIsNoGoodReachesNothingAndIsNotLogged(t *testing.T) {
	b := newBridge(t, nil)
	_, good := b.token(alice, Scopes...)
	revokedID, revoked := b.token(alice, Scopes...)
	b.tokens[revokedID].Revoked = true
	expiredID, expired := b.token(alice, Scopes...)
	b.tokens[expiredID].Expires = time.Now().Add(-time.Second)
	_, stranger, _ := New()
	mixed := good[:len(tokenPrefix)+2*idSize] + stranger[len(tokenPrefix)+2*idSize:]
	for what, c := range map[string]struct {
		token string
		want  int
	}{
		"none": {"", 401}, "revoked": {revoked, 401}, "expired": {expired, 401}, "never made": {stranger, 401}, "the id of one with the secret of another": {mixed, 401},
		"cut off": {good[:len(good)-1], 401}, "nothing behind the prefix": {tokenPrefix, 401}, "the framework's own secret": {"the framework's own secret", 401},
		"some Matrix token": {"syt_alice", 401}, "capitals in the id": {tokenPrefix + "ABCDEF012345" + good[len(tokenPrefix)+12:], 401},
	} {
		status, said := b.ask("GET", Prefix+"whoami", c.token)
		if status != c.want || len(b.reached) > 0 {
			t.Errorf("%s: %d %s, reached %q", what, status, said, b.reached)
		}
		if what != "none" && !strings.Contains(said, "not known, or no longer good") {
			t.Errorf("%s is told apart: %s", what, said)
		}
		if c.token != "" && len(c.token) > 10 && strings.Contains(b.log.String(), c.token) {
			t.Errorf("%s: the log holds the token", what)
		}
	}
	if status, said := b.ask("GET", Prefix+"whoami", good); status != 200 {
		t.Errorf("the good one: %d %s", status, said)
	}
	if log := b.log.String(); strings.Contains(log, "alice") || strings.Contains(log, "192.0.2.1") {
		t.Errorf("the log: %s", log)
	}
}

func TestWhatIsNotOfferedIsNotThere(t *testing.T) {
	b := newBridge(t, nil)
	_, token := b.token(alice, Scopes...)
	for _, c := range [][2]string{
		{"POST", "create_group/group"}, {"POST", "backfill/!room:test"}, {"POST", "session_transfer/init"}, {"POST", "login/client_http/a/b/c"},
		{"GET", "image_pack/list"}, {"POST", "whoami"}, {"DELETE", "logout/acc1"}, {"POST", "logout/all"},
	} {
		if status, said := b.ask(c[0], Prefix+c[1], token); status != 404 || len(b.reached) > 0 {
			t.Errorf("%v: %d %s, reached %q", c, status, said, b.reached)
		}
	}
	if _, _ = b.ask("OPTIONS", Prefix+"whoami", ""); len(b.reached) != 1 || strings.Contains(b.reached[0], "Bearer the") {
		t.Errorf("a browser's question: %q", b.reached)
	}
}

// TestALoginGoesOnOnlyForWhomItWasBegun: the framework itself looks at nothing but its id.
func TestALoginGoesOnOnlyForWhomItWasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBridge(t, nil)
		_, mine := b.token(alice, ScopeLogin)
		_, theirs := b.token(bob, ScopeLogin)
		step := Prefix + "login/step/the-process/consent/user_input"
		b.answer = func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/start/") {
				return
			}
			// In two pieces: whoever has read the last may go on at once.
			_, _ = io.WriteString(w, `{"login_id": "the-pro`)
			_, _ = io.WriteString(w, `cess", "type": "user_input"}`)
			if !b.gate.processes.of("the-process", alice) {
				t.Error("the answer is out, and nobody knows whose login it is")
			}
		}
		if status, _ := b.ask("POST", step, mine); status != 404 {
			t.Errorf("before it was begun: %d", status)
		}
		if status, said := b.ask("POST", Prefix+"login/start/whatsapp", mine); status != 200 || !json.Valid([]byte(said)) {
			t.Errorf("beginning it: %d %s", status, said)
		}
		for _, path := range []string{step, strings.Replace(step, "user_input", "cancel", 1), Prefix + "login/cancel/the-process"} {
			if status, _ := b.ask("POST", path, theirs); status != 404 {
				t.Errorf("another user at %s: %d", path, status)
			}
			if status, _ := b.ask("POST", path, mine); status != 200 {
				t.Errorf("its user at %s: %d", path, status)
			}
		}
		time.Sleep(processLife)
		if status, _ := b.ask("POST", step, mine); status == 200 {
			t.Error("it goes on after its end")
		}
		for i := range 2 * maxProcesses {
			b.gate.processes.begin(fmt.Sprint(i), alice)
		}
		if n := len(b.gate.processes.known); n > maxProcesses {
			t.Errorf("%d logins are remembered", n)
		}
	})
}

func TestGuessingIsSlowedDownAndKeepsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBridge(t, nil)
		_, good := b.token(alice, ScopeStatus)
		statuses := map[int]int{}
		for range wrongKept + 30 {
			_, guess, _ := New()
			status, _ := b.ask("GET", Prefix+"whoami", guess)
			statuses[status]++
		}
		if statuses[401] != wrongKept || statuses[429] != 30 {
			t.Errorf("answers to guesses: %v", statuses)
		}
		if lines := strings.Count(b.log.String(), "\n"); lines != wrongKept {
			t.Errorf("%d lines in the log", lines)
		}
		if status, _ := b.ask("GET", Prefix+"whoami", good); status != 200 {
			t.Errorf("who has a good token is kept out: %d", status)
		}
		time.Sleep(time.Minute)
		if status, _ := b.ask("GET", Prefix+"whoami", "pst_no"); status != 401 {
			t.Errorf("a minute later: %d", status)
		}
		for i := range 3 * maxCounted {
			b.gate.wrong.more(fmt.Sprint("2001:db8::", i), wrongKept)
		}
		if n := len(b.gate.wrong.counts); n > maxCounted+1 {
			t.Errorf("%d addresses are remembered", n)
		}
	})
}

func TestATokenHasARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBridge(t, func(cfg *Config) { cfg.PerMinute = 5 })
		_, mine := b.token(alice, ScopeStatus)
		_, theirs := b.token(bob, ScopeStatus)
		for i := range 7 {
			want := 200
			if i >= 5 {
				want = 429
			}
			// Refused ones count as well, or the audit log could be filled.
			path := []string{"whoami", "contacts"}[i%2]
			if status, said := b.ask("GET", Prefix+path, mine); status != want && !(path == "contacts" && want == 200 && status == 403) {
				t.Errorf("request %d: %d %s, want %d", i, status, said, want)
			}
		}
		if status, _ := b.ask("GET", Prefix+"whoami", theirs); status != 200 {
			t.Errorf("another token: %d", status)
		}
		time.Sleep(time.Minute)
		if status, _ := b.ask("GET", Prefix+"whoami", mine); status != 200 {
			t.Errorf("a minute later: %d", status)
		}
	})
}

func TestNothingIsDoneForSuspendedUsersUnreadyBridgesAndWhatCannotBeNotedDown(t *testing.T) {
	b := newBridge(t, nil)
	id, token := b.token(alice, Scopes...)
	logout := Prefix + "logout/acc1"
	b.suspended = alice
	if status, said := b.ask("POST", logout, token); status != 403 || !strings.Contains(said, "suspended") || !slices.Equal(b.audit, []string{"token " + id + " logout: refused"}) {
		t.Errorf("suspended: %d %s, %q", status, said, b.audit)
	}
	b.suspended, b.away = "", true
	if status, _ := b.ask("POST", logout, token); status != 503 {
		t.Errorf("not ready: %d", status)
	}
	b.away, b.failing = false, errors.New("the disk is full")
	if status, said := b.ask("POST", logout, token); status != 500 || strings.Contains(said, "disk") {
		t.Errorf("no token can be read: %d %s", status, said)
	}
	b.failing, b.full = nil, errors.New("the disk is full")
	if status, said := b.ask("POST", logout, token); status != 500 || strings.Contains(said, "disk") {
		t.Errorf("nothing can be noted down: %d %s", status, said)
	}
	if len(b.reached) > 0 {
		t.Errorf("the framework got %q", b.reached)
	}
}

// TestTheOperatorsOwnSecretWorksOnlyWhereItIsConfigured and what is done with it is noted down.
func TestTheOperatorsOwnSecretWorksOnlyWhereItIsConfigured(t *testing.T) {
	b := newBridge(t, func(cfg *Config) { cfg.Shared = true })
	for token, actor := range map[string]string{"the framework's own secret": ActorSecret, "syt_alice": ActorMatrix} {
		b.audit, b.reached = nil, nil
		_, _ = b.ask("GET", Prefix+"whoami?user_id=@bob:test", token)
		_, _ = b.ask("POST", Prefix+"logout/acc1?user_id=@bob:test", token)
		if len(b.reached) != 2 || !slices.Equal(b.audit, []string{actor + " logout acc1: done"}) {
			t.Errorf("%s: reached %q, noted down %q", token, b.reached, b.audit)
		}
	}
	b.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	b.audit = nil
	_, _ = b.ask("POST", Prefix+"logout/Not+an+id%20@bob:test", "the framework's own secret")
	if !slices.Equal(b.audit, []string{"shared-secret logout: failed"}) {
		t.Errorf("what fails, about something with a strange name: %q", b.audit)
	}
}
