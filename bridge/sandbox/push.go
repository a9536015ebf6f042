package sandbox

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	pushGap     = time.Second // at most one a second for a user; PROTOCOL.md 8.2
	pushTimeout = 10 * time.Second
	pushExpires = 300 // seconds a push token lives
	keptPushes  = 10000
)

// pusher wakes partners that have a stanza waiting and no stream (PROTOCOL.md 8.2).
type pusher struct {
	s      *Server
	client *http.Client

	mu    sync.Mutex
	key   *rsa.PrivateKey
	keyID string
}

func newPusher(s *Server) *pusher {
	return &pusher{s: s, client: &http.Client{
		Timeout:       pushTimeout,
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// wake sends a push for a if it has no stream and none was sent within a second. The request goes out when
// the change is on disk.
func (c change) wake(s *Server, a *account) {
	in := c.integrators[a.Integrator]
	if a.stream != nil || in == nil || !a.Enlisted || s.ctx.Err() != nil {
		return
	}
	now := s.now()
	if !a.pushAt.IsZero() && now.Sub(a.pushAt) < pushGap && !now.Before(a.pushAt) {
		return
	}
	a.pushAt = now
	if c.takeFault("push_off", a.Integrator, a.Identifier, "") != nil {
		return
	}
	base, id, identifier, n := in.PublicBase, in.ID, a.Identifier, c.seq
	s.run("push", func() {
		if s.settled(n) != nil {
			return
		}
		status := s.pusher.send(s.ctx, base, identifier)
		_ = s.settled(s.state.update(func(c change) { c.notePush(s, id, identifier, status) }))
	})
}

// send makes one push; it is not repeated. The result is the HTTP status, or 0 without an answer.
func (p *pusher) send(ctx context.Context, base, identifier string) int {
	token, err := p.token(base)
	if err != nil {
		p.s.log.Error().Msg("a push token could not be signed")
		return 0
	}
	body, err := json.Marshal(map[string]string{"to": identifier})
	if err != nil {
		return 0
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/push", bytes.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := p.client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // the body says nothing; the status has arrived
	return resp.StatusCode
}

// token signs a push token for the partner at base.
func (p *pusher) token(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("sign push token: %w", err)
	}
	key, keyID, err := p.signingKey()
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: keyID}},
		(&jose.SignerOptions{}).WithType("JWT"),
	)
	if err != nil {
		return "", fmt.Errorf("sign push token: %w", err)
	}
	now := unix(p.s.now())
	payload, err := json.Marshal(map[string]any{
		"iss": p.s.prof.Push.Issuer,
		"aud": u.Scheme + "://" + u.Host,
		"iat": now,
		"exp": now + pushExpires,
	})
	if err != nil {
		return "", fmt.Errorf("sign push token: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign push token: %w", err)
	}
	return signed.CompactSerialize()
}

func (c change) notePush(s *Server, in uint16, identifier string, status int) {
	p := &pushed{Seq: 1, T: unix(s.now()), Identifier: identifier, Integrator: in, Status: status}
	if len(c.pushes) > 0 {
		p.Seq = c.pushes[len(c.pushes)-1].Seq + 1
	}
	c.state.pushes = append(c.pushes, p)
	c.put(p)
	for len(c.pushes) > keptPushes {
		c.drop(c.pushes[0])
		c.state.pushes = c.pushes[1:]
	}
}

// handleJWKS answers the URL under which the gatekeeper's own keys are.
func (s *Server) handleJWKS(w http.ResponseWriter, _ *http.Request) {
	key, keyID, err := s.pusher.signingKey()
	if err != nil {
		s.log.Error().Err(err).Msg("no key for pushes")
		http.Error(w, "no key set", http.StatusInternalServerError)
		return
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: key.Public(), KeyID: keyID, Algorithm: string(jose.RS256), Use: "sig",
	}}}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(set) // fails only when the asker has gone
}

// publicHandler is the HTTP listener: enlistment, key set, media of phones and, relayed, media of partners.
func (s *Server) publicHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(s.prof.Paths.Enlist, s.handleEnlist)
	mux.HandleFunc("GET "+s.prof.Paths.JWKS, s.handleJWKS)
	mux.HandleFunc("/v/", s.handleMedia)
	mux.HandleFunc("/interop/", s.handleRelay)
	return mux
}
