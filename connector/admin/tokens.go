package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Tokens is what can be asked about tokens for the provisioning interface, and about the audit log.
type Tokens interface {
	// AddToken makes a token for a Matrix user, with scopes out of the list of package provisioning, for a number of days (1 to
	// MaxTokenDays). The token itself is in the answer and nowhere else. Errors: ErrTokens, ErrScope.
	AddToken(ctx context.Context, user string, scopes []string, days int) (*NewToken, error)
	// Tokens lists them, also those that are no good any more, the oldest first; after the first offset, at most limit (1 to MaxPage).
	Tokens(ctx context.Context, offset, limit int) ([]Token, error)
	// RevokeTokens ends tokens for good: Done, Already, or Unknown for each.
	RevokeTokens(ctx context.Context, ids []string) ([]Result, error)
	// Audit lists what was done since a time and behind an entry, the oldest first, at most limit (1 to MaxPage).
	Audit(ctx context.Context, since time.Time, after int64, limit int) ([]AuditEntry, error)
}

// MaxTokenDays is how long a token is good at most.
const MaxTokenDays = 366

// ErrTokens says that there are as many tokens as there may be.
var ErrTokens = errors.New("admin: there are too many tokens: revoke some")

// ErrScope says that there is no such scope.
var ErrScope = errors.New("admin: there is no such scope")

// States of a token.
const (
	TokenGood    = "good"
	TokenExpired = "expired"
	TokenRevoked = "revoked"
)

// Token is what may be seen of a token.
type Token struct {
	ID     string   `json:"id"`
	User   string   `json:"user_id"`
	Scopes []string `json:"scopes"`
	// State is one of the words above.
	State   string    `json:"state"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`
}

// NewToken is a token with its secret.
type NewToken struct {
	Token
	Secret string `json:"token"`
}

// AuditEntry is one thing that was done.
type AuditEntry struct {
	Seq int64     `json:"seq"`
	At  time.Time `json:"at"`
	// Actor is who: operator, offline, admin and a Matrix ID, token and its id, shared-secret, matrix-token.
	Actor  string `json:"actor"`
	Action string `json:"action"`
	// Subject is a local id, "" for none.
	Subject string `json:"subject,omitempty"`
	// Outcome is how it ended; asked if it did not, or goes on.
	Outcome string `json:"outcome"`
}

// validWords says whether scopes are words of ours.
func validWords(scopes []string) bool {
	for _, s := range scopes {
		if !ValidID(s) {
			return false
		}
	}
	return len(scopes) > 0 && len(scopes) <= 20
}

func (t *Token) valid() bool {
	return ValidID(t.ID) && ValidUser(t.User) && validWords(t.Scopes) && ValidID(t.State)
}

func (e *AuditEntry) valid() bool {
	return ValidReason(e.Actor) && ValidID(e.Action) && (e.Subject == "" || ValidID(e.Subject)) && validWord(e.Outcome)
}

// The bodies.
type (
	tokenWish struct {
		User   string   `json:"user_id"`
		Scopes []string `json:"scopes"`
		Days   int      `json:"days"`
	}
	tokenList struct {
		Tokens []Token `json:"tokens"`
	}
	auditList struct {
		Audit []AuditEntry `json:"audit"`
	}
)

// serveTokens adds the requests about tokens and the audit log.
func (h *Handler) serveTokens() {
	h.mux.HandleFunc("GET "+Prefix+"tokens", h.listTokens)
	h.mux.HandleFunc("POST "+Prefix+"tokens/add", h.addToken)
	h.mux.HandleFunc("POST "+Prefix+"tokens/revoke", func(w http.ResponseWriter, r *http.Request) {
		h.change(w, r, "revoke tokens", h.service.RevokeTokens)
	})
	h.mux.HandleFunc("GET "+Prefix+"audit", h.listAudit)
}

func (h *Handler) listTokens(w http.ResponseWriter, r *http.Request) {
	offset, limit, err := page(r.URL.Query())
	if err != nil {
		h.done(w, "list tokens", http.StatusBadRequest, 0, failure{"offset or limit is not what it has to be"})
		return
	}
	list, err := h.service.Tokens(r.Context(), offset, limit)
	if err != nil {
		h.failed(w, "list tokens", err)
		return
	}
	h.done(w, "list tokens", http.StatusOK, len(list), tokenList{append([]Token{}, list...)})
}

func (h *Handler) addToken(w http.ResponseWriter, r *http.Request) {
	var wish tokenWish
	good := func() bool {
		return ValidUser(wish.User) && validWords(wish.Scopes) && wish.Days >= 1 && wish.Days <= MaxTokenDays
	}
	shape := "{\"user_id\": \"@…:…\", \"scopes\": [\"…\"], \"days\": 1 to " + strconv.Itoa(MaxTokenDays) + "}"
	if !h.read(w, r, "add token", &wish, good, shape) {
		return
	}
	made, err := h.service.AddToken(r.Context(), wish.User, wish.Scopes, wish.Days)
	if errors.Is(err, ErrScope) {
		h.done(w, "add token", http.StatusBadRequest, 0, failure{"there is no such scope"})
		return
	} else if errors.Is(err, ErrTokens) {
		h.done(w, "add token", http.StatusConflict, 0, failure{"there are too many tokens: revoke some"})
		return
	} else if err != nil {
		h.failed(w, "add token", err)
		return
	}
	h.done(w, "add token", http.StatusOK, 1, made)
}

func (h *Handler) listAudit(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	after, err1 := number(query.Get("after"), 0, 0, 1<<62)
	limit, err2 := number(query.Get("limit"), MaxPage, 1, MaxPage)
	var since time.Time
	var err3 error
	if text := query.Get("since"); text != "" {
		since, err3 = time.Parse(time.RFC3339, text)
	}
	if errors.Join(err1, err2, err3) != nil {
		h.done(w, "list audit", http.StatusBadRequest, 0, failure{"since, after or limit is not what it has to be"})
		return
	}
	list, err := h.service.Audit(r.Context(), since, int64(after), limit)
	if err != nil {
		h.failed(w, "list audit", err)
		return
	}
	h.done(w, "list audit", http.StatusOK, len(list), auditList{append([]AuditEntry{}, list...)})
}

// AddToken implements Tokens.
func (c *Client) AddToken(ctx context.Context, user string, scopes []string, days int) (*NewToken, error) {
	var made NewToken
	if err := c.do(ctx, http.MethodPost, "tokens/add", tokenWish{user, scopes, days}, &made); err != nil {
		return nil, err
	}
	if !made.valid() || !shown(made.Secret) {
		return nil, ErrNotBridge
	}
	return &made, nil
}

// Tokens implements Tokens.
func (c *Client) Tokens(ctx context.Context, offset, limit int) ([]Token, error) {
	var into tokenList
	query := url.Values{"offset": {strconv.Itoa(offset)}, "limit": {strconv.Itoa(limit)}}
	if err := c.do(ctx, http.MethodGet, "tokens?"+query.Encode(), nil, &into); err != nil {
		return nil, err
	}
	for i := range into.Tokens {
		if !into.Tokens[i].valid() {
			return nil, ErrNotBridge
		}
	}
	return into.Tokens, nil
}

// RevokeTokens implements Tokens.
func (c *Client) RevokeTokens(ctx context.Context, ids []string) ([]Result, error) {
	return c.change(ctx, "tokens/revoke", ids)
}

// Audit implements Tokens.
func (c *Client) Audit(ctx context.Context, since time.Time, after int64, limit int) ([]AuditEntry, error) {
	var into auditList
	query := url.Values{"after": {strconv.FormatInt(after, 10)}, "limit": {strconv.Itoa(limit)}}
	if !since.IsZero() {
		query.Set("since", since.UTC().Format(time.RFC3339))
	}
	if err := c.do(ctx, http.MethodGet, "audit?"+query.Encode(), nil, &into); err != nil {
		return nil, err
	}
	for i := range into.Audit {
		if !into.Audit[i].valid() {
			return nil, ErrNotBridge
		}
	}
	return into.Audit, nil
}
