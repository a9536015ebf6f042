// Package push is the door at which a gatekeeper knocks when something waits for a user who has no stream: it checks who
// knocks, and passes the user's identifier on.
//
// Layer: beneath connector, which serves it on the public listener. It must not import Matrix, the database, gatekeeper or
// interop; the signature is issuer's work.
//
// It implements docs/PROTOCOL.md 8.2.
//
// A push carries nothing but a name, so a repeated one, an old one within its time, or one out of order does nothing but have
// the user's stream opened, which is where that is bounded: Wake must be idempotent, and return at once. Whoever cannot sign
// gets a bounded piece of work: the header is read, at most one signature in two cores' time is checked, no body is read,
// nothing is remembered, and nothing of it is logged.
package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"postern/connector/issuer"
)

const (
	// Path is where pushes come in, below the public base.
	Path = "/push"
	// MaxBody is the greatest length of a body, in bytes: an identifier has at most 100 characters.
	MaxBody = 4 << 10
	// maxIdentifier is the most characters of an identifier (PROTOCOL.md 1.5).
	maxIdentifier = 100
	// atOnce is how many pushes are looked at at the same time. One takes a fraction of a millisecond unless a key set has to
	// be fetched for it; what comes beyond that is told to come later.
	atOnce = 128
	// bodyTime bounds how long the body of a signed push may take.
	bodyTime = 10 * time.Second
)

// Sender is a gatekeeper that may push.
type Sender struct {
	// Name is the profile's.
	Name string
	// Issuer is the iss of its tokens, JWKSURL has its keys.
	Issuer, JWKSURL string
}

// Config is what a Handler needs.
type Config struct {
	// Base is our public base URL; the tokens' aud is its origin.
	Base string
	// Senders are the gatekeepers.
	Senders []Sender
	// Wake is told of a good push: who sent it and the identifier, as it stood there, with the request's header. It must return
	// at once, whether the identifier is known or not.
	Wake func(sender, identifier string, header http.Header)
	// HTTP fetches the senders' keys; nil means issuer's own client.
	HTTP *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Counts are pushes since the start, by what became of them.
type Counts struct {
	// Good were passed on. Refused were not signed for us, Malformed were, but had no identifier. Unchecked could not be
	// checked, because there were too many at once, or no keys.
	Good, Refused, Malformed, Unchecked uint64
}

// Handler serves Path. All its methods may be called from any goroutine.
type Handler struct {
	senders []sender
	wake    func(sender, identifier string, header http.Header)
	slots   chan struct{}

	good, refused, malformed, unchecked atomic.Uint64
}

type sender struct {
	name     string
	verifier *issuer.Verifier
}

// New makes a Handler. Its error says that the base is no URL.
func New(cfg Config) (*Handler, error) {
	base, err := url.Parse(cfg.Base)
	if err != nil || base.Host == "" {
		return nil, errors.New("push: public base is not a URL")
	}
	h := &Handler{wake: cfg.Wake, slots: make(chan struct{}, atOnce)}
	for _, s := range cfg.Senders {
		h.senders = append(h.senders, sender{s.Name, issuer.NewVerifier(issuer.VerifierConfig{
			JWKSURL: s.JWKSURL, Issuer: s.Issuer, Audience: base.Scheme + "://" + base.Host, HTTP: cfg.HTTP, Now: cfg.Now,
		})})
	}
	return h, nil
}

// Counts returns what became of the pushes so far.
func (h *Handler) Counts() Counts {
	return Counts{Good: h.good.Load(), Refused: h.refused.Load(), Malformed: h.malformed.Load(), Unchecked: h.unchecked.Load()}
}

// ServeHTTP answers a push: 200 with an empty body if its token is good, for an identifier that nobody has too; 401 if it is
// not; 400 if it is, and the body is not what it should be; 503 if it could not be checked.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		h.later(w)
		return
	}
	from, err := h.check(r)
	switch {
	case errors.Is(err, issuer.ErrTemporary), r.Context().Err() != nil:
		h.later(w)
		return
	case err != nil:
		h.refused.Add(1)
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	// An error only says that this kind of connection has no deadlines; then the server's own stand.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	identifier, err := h.read(w, r)
	if err != nil {
		h.malformed.Add(1)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	h.good.Add(1)
	h.wake(from, identifier, r.Header)
	w.WriteHeader(http.StatusOK)
}

func (h *Handler) later(w http.ResponseWriter) {
	h.unchecked.Add(1)
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusServiceUnavailable)
}

// check says which sender has signed a request. Errors: issuer's.
func (h *Handler) check(r *http.Request) (name string, err error) {
	token, ok := bearer(r.Header)
	if !ok {
		return "", issuer.ErrInvalid
	}
	return h.verify(r.Context(), token)
}

// verify asks each sender's verifier; all but one see another issuer, and look no further. That a sender's keys cannot be had
// outweighs that another does not know the token.
func (h *Handler) verify(ctx context.Context, token string) (name string, err error) {
	err = issuer.ErrInvalid
	for _, s := range h.senders {
		_, no := s.verifier.Verify(ctx, token)
		if no == nil {
			return s.name, nil
		}
		if !errors.Is(no, issuer.ErrInvalid) {
			err = no
		}
	}
	return "", err
}

// bearer takes the token out of the one Authorization header there may be.
func bearer(header http.Header) (token string, ok bool) {
	values := header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

func (h *Handler) read(w http.ResponseWriter, r *http.Request) (identifier string, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		return "", fmt.Errorf("push: %w", errBody) // the cause may name addresses
	}
	return parse(body)
}

var errBody = errors.New("body is not one JSON object with the member to")

// parse reads the body: one JSON object in UTF-8, no member twice, nothing behind it, and in it `to`, a string of 1 to 100
// characters. Names count as they are written. Other members are passed over.
//
//nolint:gocyclo // one refusal for each rule
func parse(body []byte) (identifier string, err error) {
	if len(body) > MaxBody || !utf8.Valid(body) {
		return "", errBody
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return "", errBody
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		text, ok := name.(string)
		if err != nil || !ok || seen[text] {
			return "", errBody
		}
		seen[text] = true
		var value any
		if err := d.Decode(&value); err != nil {
			return "", errBody
		}
		if text != "to" {
			continue
		}
		if identifier, ok = value.(string); !ok {
			return "", errBody
		}
	}
	if end, err := d.Token(); err != nil || end != json.Delim('}') {
		return "", errBody
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errBody
	}
	if n := utf8.RuneCountInString(identifier); n < 1 || n > maxIdentifier {
		return "", errBody
	}
	return identifier, nil
}
