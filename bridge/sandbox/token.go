package sandbox

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// What can be wrong with a token (PROTOCOL.md 2.4). Enlistment and login have their own words for each.
var (
	errTokenIssuer    = errors.New("verify token: unknown issuer")
	errTokenInvalid   = errors.New("verify token: invalid")
	errTokenExpired   = errors.New("verify token: expired")
	errTokenTemporary = errors.New("verify token: key set not reachable")
)

const (
	tokenSkew     = 120 * time.Second
	tokenLifetime = 3600 * time.Second
	maxTokenSent  = 4096     // bytes; PROTOCOL.md 2.1
	maxTokenRead  = 16 << 10 // bytes; beyond it nothing is parsed
	maxJWKS       = 1 << 20  // bytes
	maxJWKSKeys   = 64
	jwksMaxAge    = 10 * time.Minute
	jwksMinGap    = time.Second
)

// claims is what the verifier reads of a token.
type claims struct {
	integrator *Integrator
	identifier string // as it stands in the token
	jti        string
	expires    int64
	oddities   []string // what 2.1 and 2.2 ask for and the verifier does not insist on
}

// verifier checks partners' tokens with the keys they publish.
type verifier struct {
	audience, identifierClaim string
	now                       func() time.Time
	client                    *http.Client

	mu   sync.Mutex
	sets map[string]*keySet // by public base
}

func newVerifier(audience, identifierClaim string, now func() time.Time) *verifier {
	return &verifier{
		audience:        audience,
		identifierClaim: identifierClaim,
		now:             now,
		sets:            map[string]*keySet{},
		client: &http.Client{
			Timeout: 10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
			Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		},
	}
}

// verify checks token as PROTOCOL.md 2.4 says. issuers finds the integrator whose agreed public base is the
// token's iss. The error is one of the four above.
func (v *verifier) verify(ctx context.Context, token string, issuers func(iss string) *Integrator) (*claims, error) {
	if len(token) > maxTokenRead {
		return nil, errTokenInvalid
	}
	head, body, err := splitToken(token)
	if err != nil {
		return nil, errTokenInvalid
	}
	iss, _ := body["iss"].(string)
	in := issuers(iss)
	if in == nil {
		return nil, errTokenIssuer
	}
	if alg, _ := head["alg"].(string); alg != string(jose.RS256) {
		return nil, errTokenInvalid
	}
	if typ, _ := head["typ"].(string); typ != "JWT" {
		return nil, errTokenInvalid
	}
	kid, _ := head["kid"].(string)
	if kid == "" {
		return nil, errTokenInvalid
	}
	key, err := v.set(in.PublicBase).key(ctx, kid)
	if err != nil {
		return nil, err
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, errTokenInvalid
	}
	if _, err := signed.Verify(key); err != nil {
		return nil, errTokenInvalid
	}
	c, err := v.claims(body)
	if err != nil {
		return nil, err
	}
	c.integrator = in
	if len(token) > maxTokenSent {
		c.oddities = append(c.oddities, "a token of more than 4096 bytes")
	}
	if key.N.BitLen() < 2048 {
		c.oddities = append(c.oddities, "a token signed with an RSA key below 2048 bits")
	}
	return c, nil
}

// splitToken reads header and body of a token in compact form without checking anything.
func splitToken(token string) (head, body map[string]any, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, errTokenInvalid
	}
	for i, into := range []*map[string]any{&head, &body} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, err
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return nil, nil, err
		}
	}
	return head, body, nil
}

func (v *verifier) claims(body map[string]any) (*claims, error) {
	c := &claims{}
	switch aud := body["aud"].(type) {
	case string:
		if aud != v.audience {
			return nil, errTokenInvalid
		}
	case []any:
		if !slices.Contains(aud, any(v.audience)) {
			return nil, errTokenInvalid
		}
	default:
		return nil, errTokenInvalid
	}
	exp, ok1 := seconds(body["exp"])
	iat, ok2 := seconds(body["iat"])
	nbf, ok3 := seconds(body["nbf"])
	if !ok1 || !ok2 {
		return nil, errTokenInvalid
	}
	if !ok3 {
		if body["nbf"] != nil {
			return nil, errTokenInvalid
		}
		c.oddities = append(c.oddities, "a token without nbf")
		nbf = iat
	}
	now := unix(v.now())
	skew := int64(tokenSkew / time.Second)
	if exp-iat > int64(tokenLifetime/time.Second) || iat > now+skew || nbf > now+skew {
		return nil, errTokenInvalid
	}
	c.identifier, _ = body[v.identifierClaim].(string)
	if n := utf8.RuneCountInString(c.identifier); n < 1 || n > 100 {
		return nil, errTokenInvalid
	}
	if exp < now-skew {
		return nil, errTokenExpired
	}
	c.expires = exp
	if c.jti, _ = body["jti"].(string); c.jti == "" {
		c.oddities = append(c.oddities, "a token without jti")
	}
	return c, nil
}

// seconds reads a time claim. Anything that could overflow what is done with it is no time.
func seconds(claim any) (int64, bool) {
	f, ok := claim.(float64)
	if !ok || math.IsNaN(f) || f < 0 || f > 1<<40 {
		return 0, false
	}
	return int64(f), true
}

func (v *verifier) set(base string) *keySet {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.sets[base]
	if s == nil {
		s = &keySet{url: base + "/.well-known/oauth/openid/jwks", client: v.client, busy: make(chan struct{}, 1)}
		v.sets[base] = s
	}
	return s
}

// keySet is one partner's published keys. Whoever has put the token into busy may fetch.
type keySet struct {
	url    string
	client *http.Client
	busy   chan struct{}

	mu    sync.Mutex
	keys  map[string]*rsa.PublicKey
	good  time.Time // when the last fetch that worked began
	tried time.Time // when the last fetch began
	err   error     // of the last fetch
}

// key finds kid. An unknown kid and an old set lead to a fetch, at most one a second; whoever comes in the
// meantime waits for that fetch and takes its answer, so a flood of unknown kids costs one fetch a second
// and does not delay tokens whose key is known.
func (s *keySet) key(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	arrived := time.Now()
	if key, err, ok := s.cached(kid, arrived.Add(-jwksMaxAge), arrived); ok {
		return key, err
	}
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return nil, errTokenTemporary
	}
	if key, err, ok := s.cached(kid, arrived, arrived); ok {
		return key, err
	}
	s.mu.Lock()
	gap := jwksMinGap - time.Since(s.tried)
	s.mu.Unlock()
	if gap > 0 {
		timer := time.NewTimer(gap)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, errTokenTemporary
		}
	}
	began := time.Now()
	keys, err := s.fetch(ctx)
	s.mu.Lock()
	s.tried, s.err = began, err
	if err == nil {
		s.keys, s.good = keys, began
	}
	s.mu.Unlock()
	key, err, _ := s.cached(kid, time.Time{}, began)
	return key, err
}

// cached answers from what is known: with the key if it was fetched at good or later; with "there is none"
// if a fetch has begun since asked.
func (s *keySet) cached(kid string, good, asked time.Time) (*rsa.PublicKey, error, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.keys[kid]
	switch fetched := !s.tried.IsZero() && !s.tried.Before(asked); {
	case key != nil && (fetched || !s.good.Before(good)):
		return key, nil, true
	case !fetched:
		return nil, nil, false
	case s.err != nil:
		return nil, errTokenTemporary, true
	default:
		return nil, errTokenInvalid, true
	}
}

func (s *keySet) fetch(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch key set: %w", err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, errors.New("fetch key set: no answer")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch key set: status %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err != nil || len(data) > maxJWKS {
		return nil, errors.New("fetch key set: body cut off or too long")
	}
	return parseKeySet(data)
}

// parseKeySet takes the RSA signing keys out of a JWK set; keys of other kinds are none of ours.
func parseKeySet(data []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || set.Keys == nil {
		return nil, errors.New("fetch key set: not a JWK set")
	}
	if len(set.Keys) > maxJWKSKeys {
		return nil, errors.New("fetch key set: too many keys")
	}
	keys := map[string]*rsa.PublicKey{}
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if err := jwk.UnmarshalJSON(raw); err != nil {
			continue
		}
		pub, ok := jwk.Key.(*rsa.PublicKey)
		if !ok || jwk.KeyID == "" || jwk.Algorithm != string(jose.RS256) || jwk.Use != "sig" || pub.N.BitLen() > 8192 {
			continue
		}
		keys[jwk.KeyID] = pub
	}
	return keys, nil
}
