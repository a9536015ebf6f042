package doctor

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"postern/connector/admin"
	"postern/connector/issuer"
	"postern/database"
)

// lookForBridge finds out whether the bridge of this configuration runs. If it does not, this process listens in its place from here on.
func lookForBridge(ctx context.Context, e *examination) []Result {
	where := listens(e.Config.AppService.Hostname, e.Config.AppService.Port)
	if e.base != nil {
		var err error
		if e.held, err = e.base.Held(ctx); err != nil {
			e.blocked = "the database does not tell who uses it"
			return fail("it cannot be found out whether another process uses the database: "+errText(err), "see whether the bridge's user may read the database and the file beside it that ends with .lock")
		}
	}
	err := e.askBridge(ctx)
	if errors.Is(err, admin.ErrNobody) && e.held != nil {
		e.held = e.stillHeld(ctx)
	}
	switch {
	case errors.Is(err, admin.ErrNobody) && e.held != nil:
		e.blocked = "another process uses the database"
		return fail("another process uses the database, and nobody listens on "+where,
			"find and stop the other process; if the bridge was started with another configuration, give that one with -c")
	case errors.Is(err, admin.ErrNobody):
		return e.listenInstead(where)
	case errors.Is(err, errNameless):
		e.nameless = true
		e.blocked = "without the right key file it cannot be told whether the bridge is what listens on " + where
		return skip(e.blocked)
	case errors.Is(err, admin.ErrSecret), errors.Is(err, admin.ErrTooMany):
		e.blocked = "another bridge listens there"
		return fail("the bridge that listens on "+where+" runs with another key file", "give each bridge a port of its own in appservice.port and appservice.address, or name that bridge's configuration with -c")
	case errors.Is(err, admin.ErrNotBridge):
		e.blocked = "another program listens there"
		return fail("what listens on "+where+" is not this bridge", "give the bridge a free port in appservice.port and appservice.address, and write the registration anew")
	case errors.Is(err, admin.ErrNotReady):
		e.runs = true
		return warn("the bridge is starting or stopping", "see its log, and try again when /_matrix/mau/ready answers with 200")
	case err != nil:
		e.blocked = "the bridge does not answer"
		return fail("the bridge on "+where+" does not answer: "+errText(err), "see its log; restart it if it says nothing")
	case e.base != nil && e.held == nil:
		e.runs = true
		return fail("the bridge that runs does not use this database", "database.uri was changed since the bridge was started: restart it, or name its configuration with -c")
	}
	e.runs = true
	return fine("it runs, and listens on %s", where)
}

// grace is how long a lock may outlive the process that had it, since a server has to notice.
const grace = 2 * time.Second

// stillHeld waits for a process that has just ended.
func (e *examination) stillHeld(ctx context.Context) *database.LeaseHeldError {
	tick := time.NewTicker(grace / 20)
	defer tick.Stop()
	for end := time.Now().Add(grace); time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return e.held
		}
		if held, err := e.base.Held(ctx); err == nil && held == nil {
			return nil
		}
	}
	return e.held
}

// errNameless: somebody listens who wants a secret, and the key that it follows from, with which the database was made, is not to be had.
var errNameless = errors.New("doctor: the bridge cannot be told without its key")

// askBridge asks the running bridge something that costs nothing.
func (e *examination) askBridge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, question)
	defer cancel()
	secret, err := admin.Secret(e.key[:])
	if err != nil {
		return err
	}
	_, err = admin.NewClient(e.Config.AppService.Hostname, e.Config.AppService.Port, secret).DeadLetters(ctx, "", 0, 1)
	switch refused := errors.Is(err, admin.ErrSecret) || errors.Is(err, admin.ErrTooMany); {
	case !refused || e.haveKey:
		return err
	case e.base != nil && e.base.Schema > 0:
		return errNameless
	}
	return admin.ErrNotBridge
}

func listens(host string, port uint16) string {
	if strings.HasPrefix(host, "/") {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// listenInstead opens both listeners for as long as we look.
func (e *examination) listenInstead(where string) []Result {
	if strings.HasPrefix(e.Config.AppService.Hostname, "/") {
		e.blocked = "without a running bridge nothing is tried on a socket file"
		return fine("it does not run")
	}
	private, err := net.Listen("tcp", where)
	if err != nil {
		e.blocked = "nobody can listen there"
		return fail("nothing can listen on "+where+": "+listenWords(err), "let appservice.hostname be an address of this machine and appservice.port a free port above 1023")
	}
	e.private = servePrivate(private, e.Config.AppService.HSToken)
	public, err := net.Listen("tcp", e.Network.Public.Address)
	if err != nil {
		e.blocked = "nobody can listen on the public address"
		return named("public-listener", fail("nothing can listen on "+e.Network.Public.Address+": "+listenWords(err),
			"let network.public.address be an address of this machine with a free port above 1023; the reverse proxy leads there"))
	}
	if e.issuer, err = e.ownIssuer(); err != nil {
		return append(fine("it does not run"), named("token-keys", fail("the keys that sign tokens cannot be read: "+errText(err),
			"restore the database and the key file that belong together"))...)
	}
	e.public = servePublic(public, e.issuer)
	return fine("it does not run; both its addresses are free, and are listened on for as long as this takes")
}

func listenWords(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "that is no address of this machine"
	case errors.Is(err, syscall.EACCES):
		return "that port is not for ordinary users"
	}
	return "the address is not usable"
}

// privateListener stands in for the bridge towards the homeserver: it answers a ping, and refuses all else so that it comes again.
type privateListener struct {
	server *http.Server
	// pinged counts pings with the right token, refused those with another.
	pinged, refused atomic.Int64
}

func servePrivate(socket net.Listener, token string) *privateListener {
	l := &privateListener{}
	l.server = quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case r.URL.Path != "/_matrix/app/v1/ping" || r.Method != http.MethodPost:
			answerJSON(w, http.StatusServiceUnavailable, map[string]string{"errcode": "M_UNKNOWN", "error": "the bridge does not run"})
		case subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1:
			l.refused.Add(1)
			answerJSON(w, http.StatusForbidden, map[string]string{"errcode": "M_FORBIDDEN", "error": "not the homeserver's token"})
		default:
			l.pinged.Add(1)
			answerJSON(w, http.StatusOK, struct{}{})
		}
	}))
	go func() { _ = l.server.Serve(socket) }() // ends with close
	return l
}

func (l *privateListener) close() { _ = l.server.Close() }

// publicListener stands in for the bridge towards the gatekeeper: it serves the keys, and answers the other paths as the bridge does to
// somebody without a token.
type publicListener struct{ server *http.Server }

func servePublic(socket net.Listener, keys *issuer.Issuer) *publicListener {
	handler := keys.Handler()
	l := &publicListener{quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/push") && r.Method == http.MethodPost:
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(r.URL.Path, "/media/"):
			w.Header().Set("Allow", mediaMethods)
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			handler.ServeHTTP(w, r)
		}
	}))}
	go func() { _ = l.server.Serve(socket) }() // ends with close
	return l
}

func (l *publicListener) close() { _ = l.server.Close() }

func quietServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: http.MaxBytesHandler(handler, 1<<20), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: question, ReadTimeout: patience,
		WriteTimeout: patience, MaxHeaderBytes: 32 << 10,
	}
}

func answerJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked has gone away
}

// heldKeys is the issuer's document in memory: whatever the issuer does with it, the database is not touched.
type heldKeys struct {
	document []byte
	version  int
}

func (k *heldKeys) Load(context.Context) ([]byte, int, error) { return k.document, k.version, nil }

func (k *heldKeys) Save(_ context.Context, document []byte, old int) (bool, error) {
	if old != k.version {
		return false, nil
	}
	k.document, k.version = document, old+1
	return true, nil
}

// ownIssuer signs with the bridge's keys, or with passing ones if it has none yet.
func (e *examination) ownIssuer() (*issuer.Issuer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), question)
	defer cancel()
	held := &heldKeys{}
	if e.base != nil && e.haveKey {
		load := e.base.IssuerKeys
		if e.sharing != nil {
			load = e.sharing.IssuerKeys().Load
		}
		var err error
		if held.document, held.version, err = load(ctx); err != nil {
			return nil, err
		}
	}
	return issuer.New(ctx, issuer.Config{Base: e.Network.Public.Base, Store: held})
}

// asking is how others' servers are asked.
var asking = &http.Client{Timeout: question, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// reply is what a server has answered.
type reply struct {
	status int
	header http.Header
	body   []byte
	// before and after are our clock's at the question and the answer.
	before, after time.Time
}

// maxReply is the most that is read of an answer, in bytes.
const maxReply = 1 << 20

// ask makes one request; the error's text is for people and names no more than the host.
func ask(ctx context.Context, method, address, token string, body any) (*reply, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = strings.NewReader(string(raw))
	}
	req, err := http.NewRequestWithContext(ctx, method, address, in)
	if err != nil {
		return nil, errors.New("the address is not usable")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	r := &reply{before: time.Now()}
	resp, err := asking.Do(req)
	if err != nil {
		return nil, errors.New(networkWords(err))
	}
	defer resp.Body.Close()
	r.after, r.status, r.header = time.Now(), resp.StatusCode, resp.Header
	if r.body, err = io.ReadAll(io.LimitReader(resp.Body, maxReply)); err != nil {
		return nil, errors.New("the answer broke off")
	}
	return r, nil
}

// json reads the answer as JSON.
func (r *reply) json(into any) bool { return json.Unmarshal(r.body, into) == nil }

// host is the part of an address that may be shown.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "the address"
	}
	return fmt.Sprintf("%s://%s", u.Scheme, u.Host)
}
