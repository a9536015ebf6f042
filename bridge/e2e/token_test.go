package e2e_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/parts"
)

func TestALoginWithAWrongTokenIsRefused(t *testing.T) {
	t.Parallel()
	keys := newKeyServer(t)
	s := open(t, setting{noLogin: true, config: keys.settings()})
	agree := func(base string) {
		s.ok(s.Gatekeeper.AddIntegrator(s.ctx, parts.Integrator{ID: parts.IntegratorID, Name: "Postern", IdentifierType: "username", PublicBase: base}))
	}
	// The agreement names another issuer than the bridge signs for.
	agree("http://127.0.0.1:1")
	s.refusedLogin("integrator")
	// The agreement is right, but the keys at its address are not those that sign.
	agree(s.Bridge.PublicBase)
	keys.foreign.Store(true)
	s.refusedLogin("token")
	if keys.asked.Load() == 0 {
		t.Error("the gatekeeper did not ask for the keys")
	}
	// With the right keys the same bridge and the same user are let in.
	keys.foreign.Store(false)
	s.identifier = must(s.LogIn(s.ctx, s.person))(t).Identifier
}

// keyServer is the bridge's public base as the gatekeeper sees it: a reverse proxy
// that can put somebody else's keys in the place of the bridge's.
type keyServer struct {
	base, listener string // of the proxy and of the bridge behind it
	foreign        atomic.Bool
	asked          atomic.Int64 // for the foreign keys
}

func newKeyServer(t *testing.T) *keyServer {
	port := must(parts.FreePort())(t)
	k := &keyServer{listener: fmt.Sprintf("127.0.0.1:%d", port)}
	key := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	set := fmt.Sprintf(`{"keys":[{"kty":"RSA","alg":"RS256","use":"sig","kid":"foreign","n":%q,"e":"AQAB"}]}`,
		base64.RawURLEncoding.EncodeToString(key.N.Bytes()))
	bridge := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: k.listener})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !k.foreign.Load() {
			bridge.ServeHTTP(w, r)
			return
		}
		k.asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(set)) // a gatekeeper that is gone asks for nothing more
	}))
	t.Cleanup(server.Close)
	k.base = server.URL
	return k
}

// settings put the bridge behind the proxy.
func (k *keyServer) settings() map[string]any {
	return map[string]any{"network.public.base": k.base, "network.public.address": k.listener}
}

// refusedLogin tries to log in and waits for a refusal that has word in it.
func (s *scene) refusedLogin(word string) {
	s.t.Helper()
	since := time.Now().Add(-time.Millisecond)
	room := must(s.person.CreateDM(s.ctx, s.Bot))(s.t)
	must(s.BotSays(s.ctx, s.person, room, since, "hello"))(s.t)
	must(s.person.SendText(s.ctx, room, "login "+s.Gatekeeper.Info.Profile))(s.t)
	must(s.BotSays(s.ctx, s.person, room, since, "please enter"))(s.t)
	must(s.person.SendText(s.ctx, room, "agree"))(s.t)
	must(s.BotSays(s.ctx, s.person, room, time.Now().Add(-time.Second), word))(s.t)
	partners := must(s.Gatekeeper.Partners(s.ctx))(s.t)
	for _, p := range partners {
		if p.Integrator == parts.IntegratorID && p.Connected {
			s.t.Fatalf("a refused login is connected")
		}
	}
	_ = s.Homeserver.Call(s.ctx, http.MethodPost, "/_matrix/client/v3/rooms/"+room+"/leave", s.person.Token, map[string]any{}, nil)
}
