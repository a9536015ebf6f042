package gatekeeper

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/noise"
	"postern/connector/stanza"
)

// Stream is the stream of one account. Make one with New, run it with Run.
type Stream struct {
	cfg Config

	mu      sync.Mutex
	running bool
	phase   Phase
	current *link // set while logged in
	// woken: by a push; again: by what was missing here. asleep is closed when one of them is set, nil if nobody sleeps.
	woken, again bool
	asleep       chan struct{}
}

// dialer is for streams that are given none.
var dialer net.Dialer

// New makes a stream. What is wrong with cfg is said by Run.
func New(cfg Config) *Stream {
	if cfg.Dial == nil {
		cfg.Dial = dialer.DialContext
	}
	if cfg.Log == nil {
		cfg.Log = new(zerolog.Nop())
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Jitter == nil {
		cfg.Jitter = uniformJitter
	}
	return &Stream{cfg: cfg}
}

func (c *Config) check() error {
	missing := func(what string) error { return fmt.Errorf("%w: no %s", ErrConfig, what) }
	switch {
	case c.Profile == nil:
		return missing("profile")
	case c.Profile.Endpoints.ChatTCP == "" && c.Profile.Endpoints.ChatWS == "":
		return missing("chat endpoint")
	case c.Token == nil:
		return missing("token function")
	case c.Handler == nil:
		return missing("handler")
	case c.AccountID == 0:
		return missing("account")
	}
	if want, err := noise.KeyPairFromPrivate(c.Static.Private); err != nil || want != c.Static {
		return fmt.Errorf("%w: static key pair", ErrConfig)
	}
	return nil
}

// Run connects and stays connected, by the state table, until ctx ends, when it
// returns the context's error, or until the gatekeeper has said something that
// another attempt cannot mend, when it returns a *StopError. It may be called again
// afterwards, for one run at a time (ErrRunning). Errors wrapping ErrConfig come
// before anything is done.
func (s *Stream) Run(ctx context.Context) error {
	if err := s.cfg.check(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return ErrRunning
	}
	s.running, s.phase = true, Idle
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running = false
		s.mu.Unlock()
	}()
	timing := s.cfg.Profile.Timing
	w := &walker{
		s: s, ctx: context.WithValue(ctx, inHandler{}, s),
		reason:  waWa6.ClientPayload_USER_ACTIVATED,
		backoff: backoff{min: timing.BackoffMin, max: timing.BackoffMax, jitter: s.cfg.Jitter},
	}
	return w.walk()
}

// Wake says that the gatekeeper has pushed (PROTOCOL.md 8.2): a wait for backoff
// ends, and the next login says so. On a stream that is connected or told to keep
// away it does nothing.
func (s *Stream) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.phase {
	case Idle, Connecting, Waiting:
	default:
		return
	}
	s.woken = true
	s.rouse()
}

// Again says that what an attempt has failed for may be there now, on our side: a wait for backoff ends.
func (s *Stream) Again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != Waiting {
		return
	}
	s.again = true
	s.rouse()
}

// rouse has who sleeps look why; s.mu is held.
func (s *Stream) rouse() {
	if s.asleep != nil {
		close(s.asleep)
		s.asleep = nil
	}
}

// takeWoken says whether a push has come, once.
func (s *Stream) takeWoken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	woken := s.woken
	s.woken = false
	return woken
}

// takeWake says why not to sleep any longer, once; else it returns what is closed when there is a reason.
func (s *Stream) takeWake() (woken, again bool, asleep <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.woken:
		s.woken = false
		return true, false, nil
	case s.again:
		s.again = false
		return false, true, nil
	}
	if s.asleep == nil {
		s.asleep = make(chan struct{})
	}
	return false, false, s.asleep
}

// Send writes one stanza. It returns once the bytes are on their way, which says
// nothing of their arrival. It works while logged in, from any goroutine;
// ErrNotConnected otherwise, and when the connection breaks in the middle. An error of
// binxml or noise.ErrFrameTooLarge says that the stanza cannot be written, and leaves
// the stream alone. ctx is looked at once, before writing: a frame cannot be taken
// back half-way.
func (s *Stream) Send(ctx context.Context, st stanza.Stanza) error {
	l, err := s.link(ctx)
	if err != nil {
		return err
	}
	return l.send(st)
}

// SendFrame writes finished bytes: the plaintext of one frame, flag byte and node, as
// binxml.Codec.Append gave them. Otherwise it is Send. Bytes that are no stanza are
// refused.
func (s *Stream) SendFrame(ctx context.Context, plaintext []byte) error {
	l, err := s.link(ctx)
	if err != nil {
		return err
	}
	// The ledger has to know what answer is due. Ours are short; decoding them costs
	// little beside encrypting, and garbage from a database never reaches the wire.
	codec := l.codec
	codec.Read = codec.Write
	node, err := codec.Decode(plaintext)
	if err != nil {
		return err
	}
	st, err := stanza.Parse(node)
	if err != nil {
		return err
	}
	key, owed := stanza.Expects(st)
	return l.write(plaintext, key, owed)
}

// Request sends an iq and returns the answer. It works on a copy of iq, in which it
// fills the id, and To where that is zero. An answer of type error is returned as its
// *stanza.IQError. ErrNotConnected means that no answer will come, because the stream
// is down or went down meanwhile; whether the iq had its effect is then unknown. From
// within a Handler method it returns ErrInHandler. The server's time to answer is
// bounded by the profile; ctx may bound it further.
func (s *Stream) Request(ctx context.Context, iq *stanza.IQ) (*stanza.IQ, error) {
	if ctx.Value(inHandler{}) == s {
		return nil, ErrInHandler
	}
	l, err := s.link(ctx)
	if err != nil {
		return nil, err
	}
	q := *iq
	if q.To.IsZero() {
		q.To = s.cfg.Profile.ServerJID
	}
	answer, err := l.request(ctx, q)
	if err != nil {
		return nil, err
	}
	if answer.Err != nil {
		return nil, answer.Err
	}
	return answer, nil
}

// inHandler is the key under which a handler's context carries its Stream.
type inHandler struct{}

// link returns the logged-in connection.
func (s *Stream) link(ctx context.Context) (*link, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil, ErrNotConnected
	}
	return s.current, nil
}

// connect makes a token, dials and shakes hands.
func (s *Stream) connect(ctx context.Context, reason waWa6.ClientPayload_ConnectReason) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Profile.Timing.Handshake)
	defer cancel()
	payload, err := s.loginPayload(ctx, reason)
	if err != nil {
		return nil, err
	}
	var prefix [4]byte
	if _, err = io.ReadFull(s.cfg.Rand, prefix[:]); err != nil {
		return nil, fmt.Errorf("gatekeeper: draw stream id: %w", err)
	}
	client := s.cfg.ClientAddress
	if s.cfg.FindAddress != nil {
		if client, err = s.cfg.FindAddress(ctx); err != nil {
			return nil, fmt.Errorf("gatekeeper: find client address: %w", err)
		}
	}
	c, err := s.dialCarrier(ctx, client)
	if err != nil {
		return nil, err
	}
	p := s.cfg.Profile
	conn, err := noise.Client(ctx, c, noise.ClientConfig{
		Static: s.cfg.Static, RootKey: p.Noise.RootKey, Mode: p.Noise.Mode, Intro: p.Noise.Intro,
		Payload: payload, Rand: s.cfg.Rand,
	})
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return newLink(s, c, conn, hex.EncodeToString(prefix[:])), nil
}

// publish makes a state known.
func (s *Stream) publish(st State) {
	s.mu.Lock()
	s.phase = st.Phase
	s.mu.Unlock()
	level := zerolog.InfoLevel
	if st.Phase == Connecting || st.Phase == LoggingIn || st.Phase == Draining {
		level = zerolog.DebugLevel // on the way to one that matters
	}
	e := s.cfg.Log.WithLevel(level).Stringer("state", st.Phase)
	if st.Code != 0 {
		e = e.Int("code", st.Code)
	}
	if st.Phase == Waiting {
		e = e.Dur("wait", st.Wait.Round(time.Millisecond)).Str("cause", st.Cause.Error())
	}
	e.Msg("stream")
	s.cfg.Handler.State(st)
}

// isCancelled says whether a cause is the end of Run's context.
func isCancelled(ctx context.Context, cause error) bool {
	return ctx.Err() != nil && (errors.Is(cause, context.Cause(ctx)) || errors.Is(cause, ctx.Err()))
}
