package sandbox

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/noise"
	"postern/connector/profile"
)

// Config is how a sandbox starts. The zero value of every field but Profile works.
type Config struct {
	// Profile is the gatekeeper to be. Nil means WhatsApp. Its endpoints and root key are not used: the
	// sandbox has its own, see Info.
	Profile *profile.Profile
	// Dir is where the state is kept over restarts; empty means in memory only. One process per directory.
	Dir string
	// Control, Chat, ChatWS and HTTP are listener addresses, host:port. Empty means loopback and a free port,
	// or with Dir the port of the last start if it is still free.
	Control, Chat, ChatWS, HTTP string
	// PhoneServer is the server part of WhatsApp users' addresses, jid.LID or jid.User (PROTOCOL.md 1.3);
	// empty means the profile's first.
	PhoneServer jid.Server
	// Reads and Writes are the coding of partner addresses in each direction, seen from the sandbox
	// (PROTOCOL.md 1.2). Nil means the mirror of the profile's.
	Reads, Writes *binxml.Dialect
	// Strict selects the strict Noise transcript whatever the profile says (PROTOCOL.md 4.2).
	Strict bool
	// Now is the clock for everything that is dated; nil means time.Now.
	Now   func() time.Time
	fetch *fetchRules // nil: a gatekeeper's
	// Record is a file to which everything is added that partners let a gatekeeper see, as text; empty means none.
	Record string
	// Log gets what goes wrong inside; it never gets anything about a person.
	Log zerolog.Logger
}

// JIDDialect names the codings of partner addresses that the sandbox reads and writes.
type JIDDialect struct {
	Reads  string `json:"reads"`
	Writes string `json:"writes"`
}

// Info is the answer of GET /v1/info: what a partner has to be told. URLs are complete, without trailing
// slash; the root key is 64 hex digits.
type Info struct {
	Profile      string       `json:"profile"`
	ChatTCP      string       `json:"chat_tcp"`
	ChatWS       string       `json:"chat_ws"`
	EnlistURL    string       `json:"enlist_url"`
	MediaURL     string       `json:"media_url"`
	JWKSURL      string       `json:"jwks_url"`
	NoiseRootKey string       `json:"noise_root_key"`
	JIDDialect   JIDDialect   `json:"jid_dialect"`
	Integrators  []Integrator `json:"integrators"`
}

// Server is a running sandbox.
type Server struct {
	cfg      Config
	prof     *profile.Profile
	codec    binxml.Codec
	state    *state
	verifier *verifier
	pusher   *pusher
	depot    *depot
	uploads  uploads
	fetch    fetchRules
	keys     serverKeys
	ahead    atomic.Int64 // of cfg.Now, in nanoseconds
	log      zerolog.Logger
	witness  *witness

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	unlock func()

	control, chat, chatWS, http net.Listener
	servers                     []*http.Server
	mediaClient                 *http.Client

	runMu   sync.Mutex // guards closing and conns, and keeps run from starting after Close
	closing bool
	conns   map[*carrier]struct{}

	closeOnce sync.Once
	closeErr  error
	failed    chan struct{} // closed when the state can no longer be written
	failOnce  sync.Once
}

// New opens the state and makes the keys. Nothing listens yet.
func New(cfg Config) (*Server, error) {
	if cfg.Profile == nil {
		cfg.Profile = profile.WhatsApp()
	}
	p := cfg.Profile.Clone()
	if cfg.Strict {
		p.Noise.Mode = noise.ModeStrict
	}
	if cfg.PhoneServer == "" {
		cfg.PhoneServer = p.UserServers[0]
	}
	if cfg.PhoneServer != jid.LID && cfg.PhoneServer != jid.User {
		return nil, errors.New("start sandbox: the server of phones is lid or s.whatsapp.net")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{
		cfg:    cfg,
		prof:   p,
		codec:  binxml.Codec{Read: p.WriteDialect, Write: p.ReadDialect},
		state:  newState(),
		log:    cfg.Log,
		conns:  map[*carrier]struct{}{},
		failed: make(chan struct{}),
		unlock: func() {},
	}
	s.verifier = newVerifier(p.Token.Audience, p.Token.IdentifierClaim, s.now)
	s.pusher = newPusher(s)
	s.depot, s.mediaClient = &depot{state: cfg.Dir}, newMediaClient()
	s.fetch = defaultFetchRules()
	if cfg.fetch != nil {
		s.fetch = *cfg.fetch
	}
	if cfg.Reads != nil {
		s.codec.Read = *cfg.Reads
	}
	if cfg.Writes != nil {
		s.codec.Write = *cfg.Writes
	}
	if cfg.Record != "" {
		out, err := os.OpenFile(cfg.Record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("start sandbox: %w", err)
		}
		s.witness = &witness{out: out} // closed with the process
	}
	if err := s.openState(); err != nil {
		s.unlock()
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (s *Server) openState() error {
	if s.cfg.Dir != "" {
		if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
			return fmt.Errorf("start sandbox: make state directory: %w", err)
		}
		unlock, err := lockDir(s.cfg.Dir)
		if err != nil {
			return fmt.Errorf("start sandbox: %w", err)
		}
		s.unlock = unlock
		if err := s.state.open(s.cfg.Dir); err != nil {
			return fmt.Errorf("start sandbox: %w", err)
		}
	}
	s.state.finishLoading()
	if err := s.sweepDepot(); err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	var failure error
	n := s.state.update(func(c change) { failure = s.makeKeys(c) })
	if failure != nil {
		return fmt.Errorf("start sandbox: %w", failure)
	}
	if err := s.state.settle(n); err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	return nil
}

// Start listens on every address and serves until Close or until ctx ends.
func (s *Server) Start(ctx context.Context) error {
	if err := s.listen(ctx); err != nil {
		s.Close()
		return err
	}
	s.run("chat", func() { s.acceptTCP(s.chat) })
	s.serve("chat websocket", s.chatWS, http.HandlerFunc(s.handleWebsocket))
	s.serve("http", s.http, s.dated(s.publicHandler()))
	s.serve("control", s.control, s.controlHandler())
	s.run("sweep", s.sweepLoop)
	s.state.update(func(c change) {
		c.fetches.on = true
		c.startFetches(s)
	})
	context.AfterFunc(ctx, func() { s.Close() })
	return nil
}

// listen opens the listeners and remembers the ports that were free, for the next start.
func (s *Server) listen(ctx context.Context) error {
	var last meta
	s.state.view(func() { last = *s.state.meta })
	for _, l := range []struct {
		into       *net.Listener
		what       string
		want, last string
	}{
		{&s.chat, "chat", s.cfg.Chat, last.ChatTCP},
		{&s.chatWS, "chat websocket", s.cfg.ChatWS, last.ChatWS},
		{&s.http, "http", s.cfg.HTTP, last.HTTP},
		{&s.control, "control", s.cfg.Control, ""},
	} {
		var err error
		if *l.into, err = listenOn(ctx, l.want, l.last); err != nil {
			return fmt.Errorf("start sandbox: listen for %s: %w", l.what, err)
		}
	}
	n := s.state.update(func(c change) {
		m := c.meta
		m.ChatTCP, m.ChatWS, m.HTTP = s.chat.Addr().String(), s.chatWS.Addr().String(), s.http.Addr().String()
		c.put(m)
	})
	return s.state.settle(n)
}

func listenOn(ctx context.Context, want, last string) (net.Listener, error) {
	var lc net.ListenConfig
	if want != "" {
		return lc.Listen(ctx, "tcp", want)
	}
	if last != "" {
		if l, err := lc.Listen(ctx, "tcp", last); err == nil {
			return l, nil
		}
	}
	return lc.Listen(ctx, "tcp", "127.0.0.1:0")
}

// Info says where the sandbox is and how to speak to it. It is complete after Start.
func (s *Server) Info() Info {
	info := Info{
		Profile:      s.prof.Name,
		ChatTCP:      "tcp://" + s.chat.Addr().String(),
		ChatWS:       "ws://" + s.chatWS.Addr().String() + s.prof.Paths.ChatWS,
		EnlistURL:    "http://" + s.http.Addr().String() + s.prof.Paths.Enlist,
		MediaURL:     "http://" + s.http.Addr().String(),
		JWKSURL:      "http://" + s.http.Addr().String() + s.prof.Paths.JWKS,
		NoiseRootKey: hex.EncodeToString(s.keys.root[:]),
		JIDDialect:   JIDDialect{Reads: s.codec.Read.String(), Writes: s.codec.Write.String()},
		Integrators:  []Integrator{},
	}
	s.state.view(func() {
		for _, in := range s.state.integratorsInOrder() {
			info.Integrators = append(info.Integrators, *in)
		}
	})
	return info
}

// ControlURL is the address of the control API, without trailing slash. It is known after Start.
func (s *Server) ControlURL() string { return "http://" + s.control.Addr().String() }

// Profile is what a partner of this sandbox has to be configured with: the profile it was started with, with
// the sandbox's own endpoints, root key and dialects. It is complete after Start.
func (s *Server) Profile() *profile.Profile {
	info := s.Info()
	p := s.prof.WithEndpoints(profile.Endpoints{
		ChatTCP: info.ChatTCP, ChatWS: info.ChatWS, Enlist: info.EnlistURL, Media: info.MediaURL, JWKS: info.JWKSURL,
	})
	p.Noise.RootKey = s.keys.root
	p.ReadDialect, p.WriteDialect = s.codec.Write, s.codec.Read
	return p
}

// Close ends every stream and listener, writes what is not on disk yet and waits for all of it. It is safe to
// call more than once.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.cancel()
		for _, l := range []net.Listener{s.chat, s.chatWS, s.http, s.control} {
			if l != nil {
				l.Close()
			}
		}
		for _, h := range s.servers {
			h.Close()
		}
		s.runMu.Lock()
		s.closing = true
		for c := range s.conns {
			c.cut()
		}
		s.runMu.Unlock()
		s.wg.Wait()
		s.mediaClient.CloseIdleConnections()
		s.depot.close()
		if s.state.journal != nil {
			s.closeErr = s.state.journal.close()
		}
		s.unlock()
	})
	return s.closeErr
}

// Failed is closed when the state can no longer be written. The sandbox then answers nothing any more.
func (s *Server) Failed() <-chan struct{} { return s.failed }

// run starts a goroutine that Close waits for; after Close it starts nothing. A panic in it is contained and logged without its value, which
// could hold something of a person's.
func (s *Server) run(what string, fn func()) bool {
	s.runMu.Lock()
	defer s.runMu.Unlock()
	if s.closing {
		return false
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer s.contain(what)
		fn()
	}()
	return true
}

func (s *Server) contain(what string) {
	if r := recover(); r != nil {
		s.log.Error().Str("in", what).Str("type", fmt.Sprintf("%T", r)).Bytes("stack", debug.Stack()).Msg("contained a panic")
	}
}

func (s *Server) serve(what string, l net.Listener, h http.Handler) {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 20 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          nil,
	}
	s.servers = append(s.servers, server)
	s.run(what, func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && s.ctx.Err() == nil {
			s.log.Error().Str("listener", what).Msg("listener ended")
		}
	})
}

// settled waits for change n; a failure to write stops the sandbox from answering anything.
func (s *Server) settled(n uint64) error {
	err := s.state.settle(n)
	if err != nil && s.ctx.Err() == nil {
		s.failOnce.Do(func() {
			s.log.Error().Msg("the state cannot be written any more")
			close(s.failed)
		})
	}
	return err
}

func (s *Server) sweepLoop() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			_ = s.settled(s.state.update(func(c change) { c.sweep(s) }))
		}
	}
}
