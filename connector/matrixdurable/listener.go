package matrixdurable

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/killpoint"
)

// MaxTransaction is the largest transaction body accepted, in bytes. A
// transaction has at most 100 events of at most 64 KiB each.
const MaxTransaction = 16 << 20

// ListenerConfig says what a Listener needs.
type ListenerConfig struct {
	// Token is the hs_token of the registration.
	Token string
	// Journal takes the transactions.
	Journal Journal
	// Sink gets what was accepted, in order, after the commit.
	Sink Sink
	// Own tells our own users (bot and ghosts), whose messages are not journalled.
	Own func(user string) bool
	// Alive, if not nil, is told of users of whom a transaction shows signs of life. It must return at once.
	Alive func(user string)
	// Order keeps the order of the journal and that of the sink the same; CatchUp shares it.
	Order sync.Locker
	// Health, if set, serves /_matrix/mau/live and /_matrix/mau/ready.
	Health http.Handler
	// Fallback serves every other path: ping, provisioning.
	Fallback http.Handler
	// Log gets counts and opaque ids only.
	Log zerolog.Logger
}

// Sink receives accepted events.
type Sink interface {
	// Enqueue takes journalled entries in order. fresh says that the homeserver, or we, may have been restarted a moment ago, so that
	// it may have lost earlier events or may bring them later. The channel is closed when that was looked into; nil if
	// there is nothing to wait for.
	Enqueue(entries []Entry, fresh bool) <-chan struct{}
	// Pass takes events that are not kept: typing.
	Pass(entries []Entry)
	// Doubt says that entries may be in the journal that were not enqueued, since the outcome of a commit is not known. Resolve
	// enqueues them, and does nothing without a doubt; the caller holds Order.
	Doubt()
	Resolve(ctx context.Context) error
}

// Listener is the private HTTP listener. It has to run before the framework's connectors start, which make
// the homeserver ping us.
type Listener struct {
	cfg    ListenerConfig
	token  [sha256.Size]byte
	server *http.Server
	// unsettled is until when transactions count as fresh, in Unix nanoseconds.
	unsettled atomic.Int64
	// failed says that a transaction was not taken. The homeserver repeats it after a while, and may push later ones before, so the next
	// one counts as fresh.
	failed atomic.Bool
}

type connKey struct{}

const (
	// settling is how long after the first transaction on a connection the later ones count as fresh too. While Synapse recovers from a
	// failed push, one that it puts together in the moment of recovery stays behind until the next failure, and
	// the later ones pass it by.
	settling = 5 * time.Second
	// lookPatience bounds how long the answer to a fresh transaction waits until the homeserver was asked for what it left out. It sends the
	// next one only then, so that each of them is looked into before the next comes.
	lookPatience = 2 * time.Second
)

// NewListener makes a Listener; Serve starts it.
func NewListener(cfg ListenerConfig) *Listener {
	if cfg.Order == nil {
		cfg.Order = new(sync.Mutex)
	}
	l := &Listener{cfg: cfg, token: sha256.Sum256([]byte(cfg.Token))}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /_matrix/app/v1/transactions/{txnID}", l.putTransaction)
	mux.HandleFunc("PUT /transactions/{txnID}", l.putTransaction)
	mux.Handle("/", cfg.Fallback)
	if cfg.Health != nil {
		mux.Handle("/_matrix/mau/live", cfg.Health)
		mux.Handle("/_matrix/mau/ready", cfg.Health)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	l.server = &http.Server{
		Handler:           l.contained(mux),
		ErrorLog:          silent, // it names addresses
		Protocols:         protocols,
		ReadHeaderTimeout: 15 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, new(atomic.Bool))
		},
	}
	return l
}

// silent takes what net/http says of connections, which names their addresses.
var silent = log.New(io.Discard, "", 0)

// contained ends a request in which something panics, and nothing else: the homeserver repeats what it gets no good answer to.
func (l *Listener) contained(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // it is compared so by net/http
				panic(p) //nolint:forbidigo // and this is how it ends a connection
			}
			l.failed.Store(true)
			l.cfg.Log.Error().Str("panic", fmt.Sprintf("%T", p)).Bytes(zerolog.ErrorStackFieldName, debug.Stack()).Msg("Panic in a request of the homeserver")
			respond(w, http.StatusInternalServerError, "M_UNKNOWN", "Something went wrong here, please repeat")
		}()
		next.ServeHTTP(w, r)
	})
}

// Listen opens the listener's socket: host and port, or the absolute path of
// a unix socket, which is replaced.
func Listen(host string, port uint16) (net.Listener, error) {
	if strings.HasPrefix(host, "/") {
		if err := os.Remove(host); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		return net.Listen("unix", host)
	}
	return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
}

// Serve answers requests on the socket until Shutdown.
func (l *Listener) Serve(socket net.Listener) error {
	err := l.server.Serve(socket)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// ServeHTTP serves one request.
func (l *Listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.server.Handler.ServeHTTP(w, r)
}

// Shutdown stops accepting and waits for running requests until ctx ends.
func (l *Listener) Shutdown(ctx context.Context) error { return l.server.Shutdown(ctx) }

// authorised checks the homeserver's token in constant time, also as to its length.
func (l *Listener) authorised(w http.ResponseWriter, r *http.Request) bool {
	given, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found {
		respond(w, http.StatusUnauthorized, "M_MISSING_TOKEN", "Missing access token")
		return false
	}
	sum := sha256.Sum256([]byte(given))
	if subtle.ConstantTimeCompare(sum[:], l.token[:]) != 1 {
		respond(w, http.StatusForbidden, "M_FORBIDDEN", "Bad access token")
		return false
	}
	return true
}

func (l *Listener) putTransaction(w http.ResponseWriter, r *http.Request) {
	if !l.authorised(w, r) {
		return
	}
	txn := r.PathValue("txnID")
	if len(txn) > 255 {
		respond(w, http.StatusBadRequest, "M_INVALID_PARAM", "Transaction id too long")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxTransaction))
	if err != nil {
		l.failed.Store(true)
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			respond(w, http.StatusRequestEntityTooLarge, "M_TOO_LARGE", "Transaction too large")
		} else {
			respond(w, http.StatusBadRequest, "M_UNKNOWN", "Body could not be read")
		}
		return
	}
	var t transaction
	if !json.Valid(body) {
		respond(w, http.StatusBadRequest, "M_NOT_JSON", "Body is not JSON")
		return
	}
	if err = json.Unmarshal(body, &t); err != nil {
		respond(w, http.StatusBadRequest, "M_BAD_JSON", "Body is not a transaction")
		return
	}
	durable, passing, broken := t.entries(l.cfg.Own)
	if broken > 0 {
		l.cfg.Log.Warn().Int("count", broken).Msg("Left out events that cannot be read")
	}
	if len(durable) > 0 {
		killpoint.Hit(killpoint.OutTaken)
	}
	if err = l.take(r.Context(), txn, durable, fresh(r.Context())); err != nil {
		// The homeserver keeps the transaction and sends it again.
		l.failed.Store(true)
		l.cfg.Log.Debug().Err(err).Int("count", len(durable)).Msg("Could not journal a transaction")
		respond(w, http.StatusServiceUnavailable, "M_UNKNOWN", "Not stored, please repeat")
		return
	}
	if len(passing) > 0 {
		l.cfg.Sink.Pass(passing)
	}
	if l.cfg.Alive != nil {
		for _, user := range t.alive(l.cfg.Own) {
			l.cfg.Alive(user)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{}") // a homeserver that has gone away repeats the transaction
	if killpoint.Armed && len(durable) > 0 {
		_ = http.NewResponseController(w).Flush() // as above
		killpoint.Hit(killpoint.OutAnswered)
	}
}

// take journals a transaction and hands it on. One that has nothing to keep
// costs no commit: repeating it does no harm.
func (l *Listener) take(ctx context.Context, txn string, durable []Entry, fresh bool) error {
	fresh = l.stillFresh(l.failed.Swap(false) || fresh)
	looked, err := l.store(ctx, txn, durable, fresh)
	if err != nil || looked == nil {
		return err
	}
	patience := time.NewTimer(lookPatience)
	defer patience.Stop()
	select {
	case <-looked:
	case <-patience.C:
	case <-ctx.Done():
	}
	return nil
}

// stillFresh says whether a transaction counts as fresh, by itself or because one before it did.
func (l *Listener) stillFresh(fresh bool) bool {
	now := time.Now()
	if fresh {
		l.unsettled.Store(now.Add(settling).UnixNano())
		return true
	}
	return now.UnixNano() < l.unsettled.Load()
}

func (l *Listener) store(ctx context.Context, txn string, durable []Entry, fresh bool) (looked <-chan struct{}, err error) {
	if len(durable) == 0 {
		if fresh {
			return l.cfg.Sink.Enqueue(nil, true), nil
		}
		return nil, nil
	}
	l.cfg.Order.Lock()
	defer l.cfg.Order.Unlock()
	// The homeserver's patience must not decide over a commit that is under way.
	ctx = context.WithoutCancel(ctx)
	if err = l.cfg.Sink.Resolve(ctx); err != nil {
		return nil, err
	}
	stored, _, err := l.cfg.Journal.Accept(ctx, transactionKey(txn, durable), durable)
	if err != nil {
		l.cfg.Sink.Doubt() // when it comes again, it may be known
		return nil, err
	}
	// Deferred, since what is in the journal is handed on by nobody else before the next start.
	defer func() {
		if len(stored) > 0 || fresh {
			looked = l.cfg.Sink.Enqueue(stored, fresh)
		}
	}()
	killpoint.Hit(killpoint.OutJournalled)
	return nil, nil
}

// transactionKey is what a transaction is known by: its id and its events. The id alone will not do, since Synapse on SQLite
// counts from one again after a restart.
func transactionKey(txn string, entries []Entry) string {
	h := sha256.New()
	for _, e := range entries {
		id := []byte(e.EventID)
		if len(id) == 0 {
			id = e.Body
		}
		sum := sha256.Sum256(id)
		h.Write(sum[:])
	}
	return txn + " " + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

// fresh says whether this is the first transaction on its connection.
func fresh(ctx context.Context) bool {
	seen, ok := ctx.Value(connKey{}).(*atomic.Bool)
	return ok && !seen.Swap(true)
}

func respond(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	body, _ := json.Marshal(map[string]string{"errcode": code, "error": text}) // strings always marshal
	_, _ = w.Write(body)
}
