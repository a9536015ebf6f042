// Package issuer makes the tokens that prove to a gatekeeper who a user of ours is, publishes the keys they
// are checked with, and checks the tokens that a gatekeeper sends to us.
//
// It is a leaf of the connector layer: besides the standard library it may import go-jose, zerolog and
// go.mau.fi/util, and nothing of this project. It implements PROTOCOL.md 2 (tokens, keys, rotation, the rules of a
// verifier) and the token of 8.2 (push).
package issuer

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"
)

const (
	// MaxToken is the greatest length of a token in bytes (PROTOCOL.md 2.1).
	MaxToken = 4096
	// MaxLifetime is the greatest time between iat and exp (PROTOCOL.md 2.2).
	MaxLifetime = time.Hour
	// MaxSubject is the greatest length of an identifier in characters (PROTOCOL.md 1.5).
	MaxSubject = 100

	// backdate is how far iat and nbf lie before now, and validity how far exp lies after it: a token
	// works although the two clocks are five minutes apart.
	backdate = 5 * time.Minute
	validity = 30 * time.Minute
)

// ErrSubject and its siblings say why a token was not made.
var (
	ErrSubject  = errors.New("issuer: identifier is not 1 to 100 printable characters")
	ErrAudience = errors.New("issuer: audience is empty")
	ErrClaim    = errors.New("issuer: claim name is not usable for an identifier")
	ErrBase     = errors.New("issuer: public base is not an absolute http or https URL without trailing slash, query and fragment")
)

// KeyStore keeps the signing keys as one document, sealed. database.IssuerKeyStore is one.
type KeyStore interface {
	// Load returns the document and its version, nil and 0 if none was ever saved.
	Load(ctx context.Context) (document []byte, version int, err error)
	// Save replaces the document if its version is still oldVersion, durably; the new version is
	// oldVersion+1. saved is false, and nothing is changed, if it is not.
	Save(ctx context.Context, document []byte, oldVersion int) (saved bool, err error)
}

// Config is what an Issuer needs.
type Config struct {
	// Base is the public base URL, agreed with the gatekeeper: the iss of every token, byte for byte,
	// no trailing slash.
	Base string
	// Store keeps the keys.
	Store KeyStore
	// RotateEvery is how long a key signs; 0 means 30 days, the least is 24 hours.
	RotateEvery time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Rand makes token ids; nil means crypto/rand. Keys always come from crypto/rand.
	Rand io.Reader
	// Log receives rotations and failures of Run, with key ids (which are public) and nothing else.
	Log zerolog.Logger
}

// Issuer signs tokens. All its methods may be called from any goroutine.
type Issuer struct {
	cfg Config

	mu      sync.RWMutex // held for writing while the set is changed, saving included
	set     keySet
	version int // of the stored document
}

// New loads the keys, or makes the first two (one that signs and the next one, which is published
// from the start).
func New(ctx context.Context, cfg Config) (*Issuer, error) {
	if !validBase(cfg.Base) {
		return nil, ErrBase
	}
	if cfg.RotateEvery == 0 {
		cfg.RotateEvery = 30 * 24 * time.Hour
	} else if cfg.RotateEvery < publishBefore {
		return nil, fmt.Errorf("issuer: keys cannot rotate more often than every %s", publishBefore)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	i := &Issuer{cfg: cfg}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.load(ctx); err != nil {
		return nil, err
	}
	return i, nil
}

func validBase(base string) bool {
	u, err := url.Parse(base)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil &&
		!strings.ContainsAny(base, "?#") && !strings.HasSuffix(base, "/") && u.String() == base
}

// Token makes a token for a user: sub is the normalised identifier (PROTOCOL.md 1.5), audience
// the profile's. It is signed with the current key and works for half an hour.
func (i *Issuer) Token(ctx context.Context, subject, audience string) (string, error) {
	return i.TokenWithClaim(ctx, "sub", subject, audience)
}

// TokenWithClaim is Token for a profile whose gatekeeper wants the identifier in another claim
// than sub (PROTOCOL.md 2.2). sub is then left out.
func (i *Issuer) TokenWithClaim(ctx context.Context, claim, identifier, audience string) (string, error) {
	switch claim {
	case "", "iss", "aud", "iat", "nbf", "exp", "jti":
		return "", ErrClaim
	}
	if !printable(identifier, MaxSubject) {
		return "", ErrSubject
	}
	if audience == "" {
		return "", ErrAudience
	}
	var id [16]byte
	if _, err := io.ReadFull(i.cfg.Rand, id[:]); err != nil {
		return "", fmt.Errorf("issuer: token id: %w", err)
	}
	now := i.cfg.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": i.cfg.Base,
		claim: identifier,
		"aud": audience,
		"iat": now.Add(-backdate).Unix(),
		"nbf": now.Add(-backdate).Unix(),
		"exp": now.Add(validity).Unix(),
		"jti": base64.RawURLEncoding.EncodeToString(id[:]),
	})
	if err != nil {
		return "", fmt.Errorf("issuer: token: %w", err)
	}
	key, err := i.signingKey(ctx)
	if err != nil {
		return "", err
	}
	token, err := key.sign(claims)
	if err != nil {
		return "", err
	}
	if len(token) > MaxToken {
		return "", fmt.Errorf("issuer: token is longer than %d bytes", MaxToken)
	}
	return token, nil
}

// signingKey is the key that signs, whatever the clock says: where that was set back the gatekeeper refuses the token, and the two clocks are compared.
func (i *Issuer) signingKey(ctx context.Context) (*key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	i.mu.RLock()
	defer i.mu.RUnlock()
	k := i.set.current()
	if k == nil || k.private == nil {
		return nil, errors.New("issuer: no key that may sign")
	}
	return k, nil
}

// sign makes a compact JWS with the header of PROTOCOL.md 2.1.
func (k *key) sign(claims []byte) (string, error) {
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: k.private, KeyID: k.ID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("issuer: sign: %w", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("issuer: sign: %w", err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("issuer: sign: %w", err)
	}
	return token, nil
}

// printable says whether text is 1 to limit characters that a person can see, in valid UTF-8.
func printable(text string, limit int) bool {
	if text == "" || len(text) > limit*utf8.UTFMax || !utf8.ValidString(text) || utf8.RuneCountInString(text) > limit {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r) || r == utf8.RuneError // what a broken escape in JSON becomes
	})
}
