package admin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"postern/connector/admin"
)

// posted is a request's body and kind, and the status that answers it.
type posted struct {
	kind, body string
	want       int
}

// answers posts requests to a path of the interface, each with the right secret.
func answers(t *testing.T, h http.Handler, path string, requests map[string]posted) {
	t.Helper()
	for name, c := range requests {
		r := httptest.NewRequest(http.MethodPost, admin.Prefix+path, strings.NewReader(c.body))
		r.Header.Set("Authorization", "Bearer secret")
		r.Header.Set("Content-Type", c.kind)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != c.want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// minting makes tokens, and remembers for whom.
type minting struct {
	admin.Service
	made []string
}

func (m *minting) AddToken(_ context.Context, user string, scopes []string, _ int) (*admin.NewToken, error) {
	m.made = append(m.made, user)
	if scopes[0] == "fly" {
		return nil, admin.ErrScope
	}
	return nil, admin.ErrTokens
}

func TestAWishForATokenThatIsNotWhatItHasToBeIsRefused(t *testing.T) {
	service := &minting{}
	h := admin.NewHandler(service, "secret", zerolog.Nop())
	const good = `{"user_id":"@anna:example.org","scopes":["status"],"days":30}`
	answers(t, h, "tokens/add", map[string]posted{
		"no user":      {"application/json", `{"scopes":["status"],"days":30}`, 400},
		"no scopes":    {"application/json", `{"user_id":"@anna:example.org","days":30}`, 400},
		"no days":      {"application/json", `{"user_id":"@anna:example.org","scopes":["status"]}`, 400},
		"a long time":  {"application/json", `{"user_id":"@anna:example.org","scopes":["status"],"days":367}`, 400},
		"not JSON":     {"application/json", `anna`, 400},
		"another kind": {"text/plain", good, 415},
		"too large":    {"application/json", strings.Repeat(" ", 64<<10) + good, 413},
	})
	if len(service.made) > 0 {
		t.Errorf("asked for %v", service.made)
	}
	answers(t, h, "tokens/add", map[string]posted{
		"too many":      {"application/json", good, 409},
		"another scope": {"application/json", strings.Replace(good, "status", "fly", 1), 400},
	})
	if len(service.made) != 2 {
		t.Errorf("asked for %v", service.made)
	}
}
