package gatekeeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"google.golang.org/protobuf/proto"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// world is one stream and the scripted gatekeeper it talks to.
type world struct {
	t         *testing.T
	authority *noise.Authority
	server    noise.KeyPair
	client    noise.KeyPair
	profile   *profile.Profile
	handler   *recorder
	stream    *Stream
	cfg       Config
	log       *bytes.Buffer

	scripts []script // for one connection each; the last goes on for ever

	mu     sync.Mutex
	dials  []time.Time
	tokens int
}

// script plays the gatekeeper on one connection, after the handshake. The connection
// is closed when it returns.
type script func(s *session)

// errNoRoute is what a dial without a script says.
var errNoRoute = errors.New("no route")

func newWorld(t *testing.T, scripts ...script) *world {
	t.Helper()
	w := &world{t: t, scripts: scripts, log: &bytes.Buffer{}}
	var err error
	if w.authority, err = noise.NewAuthority(nil); err != nil {
		t.Fatal(err)
	}
	if w.server, err = noise.GenerateKeyPair(nil); err != nil {
		t.Fatal(err)
	}
	if w.client, err = noise.GenerateKeyPair(nil); err != nil {
		t.Fatal(err)
	}
	w.profile = profile.WhatsApp().WithEndpoints(profile.Endpoints{ChatTCP: "tcp://chat.example:443"})
	w.profile.Noise.RootKey = w.authority.Root.Public
	w.handler = &recorder{changed: make(chan struct{}, 1)}
	w.cfg = Config{
		Profile: w.profile, Static: w.client, AccountID: 10853634039893, Handler: w.handler,
		Token:  func(context.Context) (string, error) { return w.token(), nil },
		Log:    new(zerolog.New(&lockedWriter{w: w.log})),
		Dial:   w.dial,
		Jitter: func(max time.Duration) time.Duration { return max }, // the clock then tells the bound
	}
	return w
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (w *world) token() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens++
	return fmt.Sprintf("token-%d", w.tokens)
}

// dial connects to the next script.
func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" || address != "chat.example:443" {
		w.t.Errorf("dialled %s %s", network, address)
	}
	w.mu.Lock()
	w.dials = append(w.dials, time.Now())
	var play script
	if n := len(w.dials); n <= len(w.scripts) {
		play = w.scripts[n-1]
	} else if len(w.scripts) > 0 {
		play = w.scripts[len(w.scripts)-1]
	}
	w.mu.Unlock()
	if play == nil {
		return nil, errNoRoute
	}
	a, b := net.Pipe()
	go w.serve(b, play)
	return a, nil
}

func (w *world) dialled() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.dials...)
}

// serve is the gatekeeper's side of one connection.
func (w *world) serve(raw net.Conn, play script) {
	defer raw.Close()
	chain, err := w.authority.Issue(w.server.Public, time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour))
	if err != nil {
		w.t.Error(err)
		return
	}
	conn, peer, err := noise.Server(context.Background(), raw, noise.ServerConfig{Static: w.server, Chain: chain})
	if err != nil {
		return // the client's side says why
	}
	s := &session{w: w, t: w.t, raw: raw, conn: conn, peer: peer, incoming: make(chan stanza.Stanza, 10000)}
	if err = proto.Unmarshal(peer.Payload, &s.login); err != nil {
		w.t.Error(err)
		return
	}
	go s.read()
	play(s)
}

// session is one connection as the gatekeeper sees it.
type session struct {
	w        *world
	t        *testing.T
	raw      net.Conn
	conn     *noise.Conn
	peer     *noise.Peer
	login    waWa6.ClientPayload
	incoming chan stanza.Stanza // closed at the end
	codec    binxml.Codec

	mu     sync.Mutex
	paused chan struct{} // not nil: nothing is read until it is closed
}

func (s *session) read() {
	defer close(s.incoming)
	for {
		s.mu.Lock()
		paused := s.paused
		s.mu.Unlock()
		if paused != nil {
			<-paused
		}
		frame, err := s.conn.ReadFrame()
		if err != nil {
			return
		}
		node, err := s.codec.Decode(frame)
		if err != nil {
			s.t.Errorf("the bridge wrote something unreadable: %v", err)
			return
		}
		st, err := stanza.Parse(node)
		if err != nil {
			s.t.Errorf("the bridge wrote something malformed: %v", err)
			return
		}
		s.incoming <- st
	}
}

// send writes stanzas; a connection that has ended is for the script to notice.
func (s *session) send(all ...stanza.Stanza) {
	for _, st := range all {
		s.sendNode(st.Node())
	}
}

func (s *session) sendNode(n *binxml.Node) {
	frame, err := s.codec.Append(nil, n)
	if err != nil {
		s.t.Error(err)
		return
	}
	_ = s.conn.WriteFrame(frame)
}

// next returns the next stanza, nil at the end.
func (s *session) next() stanza.Stanza { return <-s.incoming }

// toEnd waits for the bridge to close, and returns what came before that.
func (s *session) toEnd() (got []stanza.Stanza) {
	for st := range s.incoming {
		got = append(got, st)
	}
	return got
}

var ownJID = jid.JID{User: "10853634039893", Integrator: 1, Server: jid.Interop}
var aliceJID = jid.JID{User: "555", Server: jid.LID}

// logIn sends success.
func (s *session) logIn() { s.send(&stanza.Success{T: time.Now().Unix(), LID: ownJID}) }

// goLive sends success and an empty queue.
func (s *session) goLive() {
	s.logIn()
	none := 0
	s.send(&stanza.IB{Offline: &none})
}

// answer answers everything that wants an answer, until the end.
func (s *session) answer() {
	for st := range s.incoming {
		switch st := st.(type) {
		case *stanza.IQ:
			s.send(st.Result())
		default:
			if ack, ok := stanza.AckFor(st, 0); ok {
				s.send(ack)
			}
		}
	}
}

// live is the script of a gatekeeper with nothing wrong.
func live(s *session) {
	s.goLive()
	s.answer()
}

// recorder is a Handler that remembers.
type recorder struct {
	mu       sync.Mutex
	states   []State
	stanzas  []stanza.Stanza
	changed  chan struct{}
	onStanza func(ctx context.Context, s stanza.Stanza)
	onState  func(s State)
}

func (r *recorder) Stanza(ctx context.Context, s stanza.Stanza) {
	r.mu.Lock()
	r.stanzas = append(r.stanzas, s)
	f := r.onStanza
	r.mu.Unlock()
	if f != nil {
		f(ctx, s)
	}
}

func (r *recorder) State(s State) {
	r.mu.Lock()
	r.states = append(r.states, s)
	f := r.onState
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
	if f != nil {
		f(s)
	}
}

func (r *recorder) all() ([]State, []stanza.Stanza) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]State(nil), r.states...), append([]stanza.Stanza(nil), r.stanzas...)
}

func (r *recorder) phases() (got []Phase) {
	states, _ := r.all()
	for _, s := range states {
		got = append(got, s.Phase)
	}
	return got
}

func (r *recorder) last() State {
	states, _ := r.all()
	if len(states) == 0 {
		return State{}
	}
	return states[len(states)-1]
}

// waitFor blocks until the stream has been in the phase.
func (r *recorder) waitFor(p Phase) State { return r.waitForNth(p, 1) }

// waitForNth blocks until the stream has been in the phase n times, and returns the
// nth.
func (r *recorder) waitForNth(p Phase, n int) State {
	for {
		states, _ := r.all()
		seen := 0
		for _, s := range states {
			if s.Phase == p {
				if seen++; seen == n {
					return s
				}
			}
		}
		<-r.changed
	}
}

// waitForLiveAt blocks until the stream is live at its nth attempt or a later one.
func (r *recorder) waitForLiveAt(n int) {
	for {
		states, _ := r.all()
		attempts := 0
		for _, s := range states {
			if s.Phase == Connecting {
				attempts++
			}
		}
		if attempts >= n && states[len(states)-1].Phase == Live {
			return
		}
		<-r.changed
	}
}

// running is a Run in the background.
type running struct {
	*world
	cancel context.CancelFunc
	done   chan error
}

// run starts the stream. end must be called.
func (w *world) run() *running {
	w.t.Helper()
	w.stream = New(w.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{world: w, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- w.stream.Run(ctx) }()
	return r
}

// end cancels the stream and waits for Run.
func (r *running) end() {
	r.t.Helper()
	r.cancel()
	if err := <-r.done; !errors.Is(err, context.Canceled) {
		r.t.Errorf("Run returned %v", err)
	}
}

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func equal[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
