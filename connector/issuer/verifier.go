package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Skew is how far the two clocks may be apart (PROTOCOL.md 2.4).
const Skew = 120 * time.Second

// What Verify answers; a caller tells them apart with errors.Is.
var (
	// ErrInvalid: not a token for us, for good.
	ErrInvalid = errors.New("issuer: token is invalid")
	// ErrExpired: signed and meant for us, but too old.
	ErrExpired = errors.New("issuer: token has expired")
	// ErrTemporary: the keys to check it with cannot be had right now.
	ErrTemporary = errors.New("issuer: key set is not reachable")
)

// VerifierConfig is what a Verifier needs.
type VerifierConfig struct {
	// JWKSURL is where the sender publishes its keys. It comes from the profile, never from a token.
	JWKSURL string
	// Issuer is the iss that tokens must have, byte for byte.
	Issuer string
	// Audience must be the token's aud or one of them.
	Audience string
	// RequireSubject refuses tokens without sub. (One that is there must be valid in any case.)
	RequireSubject bool
	// HTTP fetches the keys; nil means a client with a time-out of 10 seconds. Redirects are not
	// followed whatever it says.
	HTTP *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Claims is what a good token says.
type Claims struct {
	Issuer   string
	Audience []string
	// Subject is "" if the token has none.
	Subject string
	// IssuedAt and Expires are Unix seconds.
	IssuedAt, Expires int64
}

// Verifier checks tokens that others have made, by the rules of PROTOCOL.md 2.4. It remembers no
// token: one works until it expires. All its methods may be called from any goroutine.
//
// At most half of the machine's cores check signatures at the same time, however many tokens come.
type Verifier struct {
	cfg    VerifierConfig
	keys   *remoteKeys
	checks chan struct{}
}

// NewVerifier makes a Verifier. It fetches no keys before the first token comes.
func NewVerifier(cfg VerifierConfig) *Verifier {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{
		cfg: cfg, keys: newRemoteKeys(cfg.JWKSURL, cfg.HTTP, cfg.Now), checks: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
}

// Verify checks a compact token and returns its claims. Errors: ErrInvalid, ErrExpired, ErrTemporary, or ctx's.
//
// Nothing in it depends on a secret of ours: what is compared is public, and the signature is checked with
// public keys. So no comparison needs constant time.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	u, err := takeApart(token)
	if err != nil {
		return nil, err
	}
	// First what costs nothing: a token that could never be accepted must not make us fetch keys.
	expired, err := v.checkClaims(u)
	if err != nil {
		return nil, err
	}
	key, err := v.keys.find(ctx, u.keyID)
	if err != nil {
		return nil, err
	}
	select {
	case v.checks <- struct{}{}:
		defer func() { <-v.checks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, reject("not a compact JWS")
	}
	if _, err = signed.Verify(key); err != nil {
		return nil, reject("signature is wrong")
	}
	if expired {
		return nil, ErrExpired
	}
	return &u.claims, nil
}

// checkClaims says whether the token would be good once its signature is, and whether it has expired.
func (v *Verifier) checkClaims(u *unverified) (expired bool, err error) {
	now := v.cfg.Now().Unix()
	skew := int64(Skew / time.Second)
	switch {
	case u.claims.Issuer != v.cfg.Issuer:
		return false, reject("iss is another")
	case !slices.Contains(u.claims.Audience, v.cfg.Audience):
		return false, reject("aud is another")
	case v.cfg.RequireSubject && u.claims.Subject == "":
		return false, reject("no sub")
	case u.claims.Expires < u.claims.IssuedAt:
		return false, reject("exp is before iat")
	case u.claims.Expires-u.claims.IssuedAt > int64(MaxLifetime/time.Second):
		return false, reject("lifetime is too long")
	case u.claims.IssuedAt > now+skew:
		return false, reject("iat is in the future")
	case u.nbf > now+skew:
		return false, reject("nbf is in the future")
	}
	return u.claims.Expires < now-skew, nil
}

// temporary wraps the cause, which names no token.
func temporary(cause error) error { return fmt.Errorf("%w: %w", ErrTemporary, cause) }
