package provisioning

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

const (
	// wrongKept is how many wrong tokens of an address are answered and logged in a minute; all others are told to be slower.
	wrongKept = 20
	// maxBody is the largest body of a request, in bytes; maxSeen is how much of an answer is looked into for the id of a login.
	maxBody = 64 << 10
	// refusedKept is how many refusals of a token in a minute are noted down: whoever has one must not fill the log with them.
	refusedKept = 5
	maxSeen     = 64 << 10
)

// Actors that are no token.
const (
	ActorSecret = "shared-secret"
	ActorMatrix = "matrix-token"
	actorToken  = "token "
)

// Outcomes of what was begun.
const (
	outcomeDone    = "done"
	outcomeRefused = "refused"
	outcomeFailed  = "failed"
)

// Config says what a Gate needs.
type Config struct {
	Keeper Keeper
	// Next is the framework's handler, Secret the secret that it knows.
	Next   http.Handler
	Secret string
	// Shared: the operator has configured Secret for others to use. If not, whoever brings no token is refused.
	Shared bool
	// PerMinute is how many requests of a token are taken in a minute.
	PerMinute int
	// Log gets ids of tokens, routes and outcomes only.
	Log zerolog.Logger
}

// Gate is the handler in front of the framework's.
type Gate struct {
	cfg    Config
	secret [sha256.Size]byte
	mux    *http.ServeMux
	// wrong counts by address, used and refused by token.
	wrong, used, refused counter
	processes            processes
}

// NewGate makes a Gate for all paths below Prefix.
func NewGate(cfg Config) *Gate {
	g := &Gate{cfg: cfg, secret: sha256.Sum256([]byte(cfg.Secret)), mux: http.NewServeMux()}
	for i := range Routes {
		route := &Routes[i]
		g.mux.HandleFunc(route.Method+" "+Prefix+route.Path, func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, route) })
	}
	g.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, nil) })
	return g
}

// ServeHTTP serves one request.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions { // browsers ask without a token, and nothing is behind it
		g.cfg.Next.ServeHTTP(w, r)
		return
	}
	g.mux.ServeHTTP(w, r)
}

func (g *Gate) serve(w http.ResponseWriter, r *http.Request, route *Route) {
	given := bearer(r)
	switch {
	case given == "":
		refuse(w, http.StatusUnauthorized, "M_MISSING_TOKEN", "There is no token")
	case !g.cfg.Keeper.Ready():
		refuse(w, http.StatusServiceUnavailable, "M_UNKNOWN", "The bridge is starting or stopping, try again in a moment")
	case strings.HasPrefix(given, tokenPrefix):
		g.withToken(w, r, route, given)
	case !g.cfg.Shared:
		g.wrongToken(w, r)
	default:
		g.withoutToken(w, r, route, given)
	}
}

// withoutToken is for those whom the operator has given the framework's own secret, and for Matrix tokens: the framework decides.
func (g *Gate) withoutToken(w http.ResponseWriter, r *http.Request, route *Route, given string) {
	actor, sum := ActorMatrix, sha256.Sum256([]byte(given))
	if subtle.ConstantTimeCompare(sum[:], g.secret[:]) == 1 {
		actor = ActorSecret
	}
	if route == nil || route.Action == "" {
		g.cfg.Next.ServeHTTP(w, r)
		return
	}
	g.noted(w, r, route, actor, "")
}

// wrongToken answers who brings a token that is none; wrong, run out, revoked and never there look the same.
func (g *Gate) wrongToken(w http.ResponseWriter, r *http.Request) {
	if tooMany, wait := g.wrong.more(address(r), wrongKept); tooMany {
		slower(w, wait)
		return
	}
	g.cfg.Log.Warn().Str("action", "provisioning").Int("status_code", http.StatusUnauthorized).Msg("Refused a provisioning request: wrong token")
	refuse(w, http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "The token is not known, or no longer good")
}

func (g *Gate) withToken(w http.ResponseWriter, r *http.Request, route *Route, given string) {
	id, hash, err := parse(given)
	if err != nil {
		g.wrongToken(w, r)
		return
	}
	token, err := g.cfg.Keeper.Token(r.Context(), id)
	if err != nil {
		g.cfg.Log.Err(err).Str("action", "provisioning").Msg("Could not look for a token")
		refuse(w, http.StatusInternalServerError, "M_UNKNOWN", "The bridge cannot do it now")
		return
	}
	if !token.fits(hash) || token.Revoked || !token.Expires.After(time.Now()) {
		g.wrongToken(w, r)
		return
	}
	if tooMany, wait := g.used.more(token.ID, g.cfg.PerMinute); tooMany {
		slower(w, wait)
		return
	}
	if route == nil {
		refuse(w, http.StatusNotFound, "M_UNRECOGNIZED", "There is no such request")
		return
	}
	if why := g.forbidden(r, route, token); why != "" {
		g.cfg.Log.Warn().Str("action", "provisioning").Str("id", token.ID).Int("status_code", http.StatusForbidden).Msg("Refused a provisioning request")
		if tooMany, _ := g.refused.more(token.ID, refusedKept); !tooMany {
			g.cfg.Keeper.Refused(r.Context(), actorToken+token.ID, route.name())
		}
		refuse(w, http.StatusForbidden, "M_FORBIDDEN", why)
		return
	}
	switch {
	case route.Process != "" && !g.processes.of(r.PathValue(route.Process), token.User):
		refuse(w, http.StatusNotFound, "M_NOT_FOUND", "There is no such login under way")
	case route.Login != "" && r.PathValue(route.Login) == "all":
		refuse(w, http.StatusNotFound, "M_NOT_FOUND", "Name one login")
	default:
		g.pass(w, g.rewritten(w, r, token.User), route, token)
	}
}

// name is what a request is called where it is refused.
func (r *Route) name() string {
	if r.Action != "" {
		return r.Action
	}
	return "read-" + r.Scope
}

// forbidden says in words why a token is not good for a request, "" if it is.
func (g *Gate) forbidden(r *http.Request, route *Route, token *Token) string {
	for _, user := range r.URL.Query()["user_id"] {
		if user != token.User {
			return "The token is for another user"
		}
	}
	switch {
	case !token.may(route.Scope):
		return "The token does not have the scope " + route.Scope
	case g.cfg.Keeper.Suspended(token.User):
		return "The user is suspended by whoever runs the bridge"
	}
	return ""
}

// rewritten is the request as the framework gets it: of the user of the token, and with nothing that it does not need.
func (g *Gate) rewritten(w http.ResponseWriter, r *http.Request, user string) *http.Request {
	to := r.Clone(r.Context())
	to.Header.Set("Authorization", "Bearer "+g.cfg.Secret)
	query := url.Values{"user_id": {user}}
	if login := r.URL.Query().Get("login_id"); login != "" {
		query.Set("login_id", login)
	}
	to.URL.RawQuery = query.Encode()
	to.RequestURI = to.URL.RequestURI()
	to.Body = http.MaxBytesReader(w, r.Body, maxBody)
	return to
}

// pass hands a request on, and notes down what it changes.
func (g *Gate) pass(w http.ResponseWriter, r *http.Request, route *Route, token *Token) {
	if route.Action == "" {
		g.cfg.Next.ServeHTTP(w, r)
		return
	}
	g.noted(w, r, route, actorToken+token.ID, token.User)
}

// noted hands on a request that changes something. user is whose login a new one is, "" if only the framework knows.
func (g *Gate) noted(w http.ResponseWriter, r *http.Request, route *Route, actor, user string) {
	subject := ""
	if route.Login != "" {
		subject = localID(r.PathValue(route.Login))
	}
	end, err := g.cfg.Keeper.Begin(r.Context(), actor, route.Action, subject)
	if err != nil {
		g.cfg.Log.Err(err).Str("action", route.Action).Msg("Could not note down a provisioning request, so it is not done")
		refuse(w, http.StatusInternalServerError, "M_UNKNOWN", "The bridge cannot do it now")
		return
	}
	seen, outcome := &watched{ResponseWriter: w}, outcomeFailed
	defer func() { end(outcome) }() // also when there is a panic
	if user != "" && route.Action == actionStart {
		seen.look = func(answer []byte) { g.begun(answer, user) }
	}
	g.cfg.Next.ServeHTTP(seen, r)
	if seen.status != 0 || r.Context().Err() == nil { // without an answer, unless somebody has gone away, it is a good one
		outcome = seen.outcome()
	}
}

// begun remembers whose the login is that an answer tells of.
func (g *Gate) begun(answer []byte, user string) {
	var begun struct {
		Login string `json:"login_id"`
	}
	if json.Unmarshal(answer, &begun) == nil && begun.Login != "" {
		g.processes.begin(begun.Login, user)
	}
}

// watched lets an answer through and looks at it.
type watched struct {
	http.ResponseWriter
	status int
	// look is called with what has been answered so far, before the rest of it is sent; body is that.
	look func(answer []byte)
	body []byte
}

// WriteHeader implements http.ResponseWriter.
func (s *watched) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (s *watched) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if s.look != nil && s.status < http.StatusBadRequest && len(s.body) < maxSeen {
		s.body = append(s.body, p[:min(len(p), maxSeen-len(s.body))]...)
		s.look(s.body)
	}
	return s.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (s *watched) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *watched) outcome() string {
	switch {
	case s.status >= http.StatusInternalServerError:
		return outcomeFailed
	case s.status >= http.StatusBadRequest:
		return outcomeRefused
	}
	return outcomeDone
}

// localID is what may be a local id, "" for anything else: a path says whatever its writer likes.
func localID(text string) string {
	if len(text) > 64 || strings.ContainsFunc(text, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }) {
		return ""
	}
	return text
}

// bearer is the token of a request, "" for none.
func bearer(r *http.Request) string {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return given
}

// address is where a request comes from; all who come over a unix socket are one.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "socket"
	}
	return host
}

func slower(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
	refuse(w, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "Too many requests, try again later")
}

func refuse(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	body, _ := json.Marshal(map[string]string{"errcode": code, "error": text}) // strings always marshal
	_, _ = w.Write(body)                                                       // who has gone away asks again
}
