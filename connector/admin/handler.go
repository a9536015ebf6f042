package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Prefix begins the path of every request.
const Prefix = "/_postern/admin/v1/"

const (
	// failuresKept is how many refused requests in a minute are answered with a reason and logged. All others are told to be slower.
	failuresKept = 20
	// patience bounds how long one request takes.
	patience = 30 * time.Second
)

// Handler answers requests. Each has to bring the secret as a bearer token.
type Handler struct {
	service Service
	secret  [sha256.Size]byte
	log     zerolog.Logger
	mux     *http.ServeMux

	mu       sync.Mutex
	minute   time.Time
	failures int
}

// NewHandler makes a Handler for all paths below Prefix. The log gets a line for each request that was let in, and for refused ones up to
// a rate.
func NewHandler(service Service, secret string, log zerolog.Logger) *Handler {
	h := &Handler{service: service, secret: sha256.Sum256([]byte(secret)), log: log, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET "+Prefix+"dead-letters", h.list)
	h.mux.HandleFunc("POST "+Prefix+"dead-letters/retry", func(w http.ResponseWriter, r *http.Request) {
		h.change(w, r, "retry dead letters", service.RetryDeadLetters)
	})
	h.mux.HandleFunc("POST "+Prefix+"dead-letters/drop", func(w http.ResponseWriter, r *http.Request) {
		h.change(w, r, "drop dead letters", service.DropDeadLetters)
	})
	h.handleReports()
	h.serveSuspensions()
	h.serveOrders()
	h.serveTokens()
	h.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusNotFound, failure{"there is no such request"})
	})
	return h
}

// ServeHTTP serves one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.authorised(r) {
		if h.tooMany() {
			w.Header().Set("Retry-After", "60")
			answer(w, http.StatusTooManyRequests, failure{"too many refused requests"})
			return
		}
		h.log.Warn().Str("action", "admin").Int("status_code", http.StatusUnauthorized).Msg("Refused an admin request: wrong secret")
		w.Header().Set("WWW-Authenticate", "Bearer")
		answer(w, http.StatusUnauthorized, failure{"the secret is wrong"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	h.mux.ServeHTTP(w, r.WithContext(WithActor(ctx, ActorOperator)))
}

// authorised compares the secret in constant time, also as to its length.
func (h *Handler) authorised(r *http.Request) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(given))
	return ok && subtle.ConstantTimeCompare(sum[:], h.secret[:]) == 1
}

// tooMany counts a refused request. It never keeps out who has the secret.
func (h *Handler) tooMany() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); now.Sub(h.minute) >= time.Minute || now.Before(h.minute) {
		h.minute, h.failures = now, 0
	}
	h.failures++
	return h.failures > failuresKept
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	account := query.Get("account")
	offset, limit, err := page(query)
	if account != "" && !ValidID(account) || err != nil {
		h.done(w, "list dead letters", http.StatusBadRequest, 0, failure{"account, offset or limit is not what it has to be"})
		return
	}
	list, err := h.service.DeadLetters(r.Context(), account, offset, limit)
	if err != nil {
		h.failed(w, "list dead letters", err)
		return
	}
	if list == nil {
		list = []DeadLetter{}
	}
	h.done(w, "list dead letters", http.StatusOK, len(list), listed{list})
}

// read takes a request's body apart, and answers if it is not what it has to be, which shape says; good looks at what was read.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, action string, into any, good func() bool, shape string) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		h.done(w, action, http.StatusUnsupportedMediaType, 0, failure{"the body has to be application/json"})
		return false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		h.done(w, action, http.StatusRequestEntityTooLarge, 0, failure{"the body is too large"})
		return false
	}
	if err != nil || json.Unmarshal(body, into) != nil || !good() {
		h.done(w, action, http.StatusBadRequest, 0, failure{"the body has to be " + shape})
		return false
	}
	return true
}

// change serves the requests that name ids.
func (h *Handler) change(w http.ResponseWriter, r *http.Request, action string, do func(context.Context, []string) ([]Result, error)) {
	var asked named
	if !h.read(w, r, action, &asked, func() bool { return asked.check() == nil }, "{\"ids\": [...]} with 1 to "+strconv.Itoa(MaxIDs)+" ids") {
		return
	}
	results, err := do(r.Context(), asked.IDs)
	for _, result := range results {
		h.log.Info().Str("action", action).Str("id", result.ID).Str("state", string(result.Outcome)).Msg("Admin request")
	}
	if err != nil {
		h.failed(w, action, err, results...)
		return
	}
	h.done(w, action, http.StatusOK, len(results), changed{results})
}

// failed answers with an error of the service, whose text stays here, and with what was done before.
func (h *Handler) failed(w http.ResponseWriter, action string, err error, results ...Result) {
	if errors.Is(err, ErrNotReady) {
		h.done(w, action, http.StatusServiceUnavailable, len(results), halfway{ErrNotReady.Error(), results})
		return
	}
	h.log.Err(err).Str("action", action).Msg("Admin request failed")
	h.done(w, action, http.StatusInternalServerError, len(results), halfway{"the bridge could not do it; its log says why", results})
}

// done answers, and writes the line of the audit.
func (h *Handler) done(w http.ResponseWriter, action string, status, count int, body any) {
	h.log.Info().Str("action", action).Int("status_code", status).Int("count", count).Msg("Admin request")
	answer(w, status, body)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who has gone away asks again
}

// page is which part of a list is asked for.
func page(query url.Values) (offset, limit int, err error) {
	offset, err1 := number(query.Get("offset"), 0, 0, 1<<30)
	limit, err2 := number(query.Get("limit"), MaxPage, 1, MaxPage)
	return offset, limit, errors.Join(err1, err2)
}

func number(text string, otherwise, least, most int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err == nil && (n < least || n > most) {
		err = strconv.ErrRange
	}
	return n, err
}

// The bodies.
type (
	failure struct {
		Error string `json:"error"`
	}
	halfway struct {
		Error   string   `json:"error"`
		Results []Result `json:"results,omitempty"`
	}
	listed struct {
		DeadLetters []DeadLetter `json:"dead_letters"`
	}
	named struct {
		IDs []string `json:"ids"`
	}
	changed struct {
		Results []Result `json:"results"`
	}
)

var errIDs = errors.New("admin: not a list of ids")

func (n named) check() error {
	if len(n.IDs) == 0 || len(n.IDs) > MaxIDs {
		return errIDs
	}
	for _, id := range n.IDs {
		if !ValidID(id) {
			return errIDs
		}
	}
	return nil
}
