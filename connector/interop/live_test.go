package interop_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/bridge/sandbox"
	"postern/connector/e2ee"
	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/jid"
	"postern/connector/noise"
	"postern/connector/profile"
)

// patience is how long a test waits for what must come. It fails a test, it decides nothing.
const patience = 60 * time.Second

const (
	ada   = "+4915100000001"
	berta = "+4915100000002"
	user  = "matilda@example.org"
)

// gate is a running sandbox with a partner known to it.
type gate struct {
	t       testing.TB
	server  *sandbox.Server
	info    sandbox.Info
	control string
	prof    *profile.Profile
	key     *rsa.PrivateKey
	base    string // the partner's public base
}

var gateKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newGate(t testing.TB) *gate {
	t.Helper()
	g := &gate{t: t, key: gateKey()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth/openid/jwks", func(w http.ResponseWriter, _ *http.Request) {
		b64 := base64.RawURLEncoding.EncodeToString
		json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1",
			"n": b64(g.key.N.Bytes()), "e": b64(big.NewInt(int64(g.key.E)).Bytes()),
		}}})
	})
	mux.HandleFunc("POST /push", func(http.ResponseWriter, *http.Request) {})
	public := httptest.NewServer(mux)
	t.Cleanup(public.Close)
	g.base = public.URL
	s, err := sandbox.New(sandbox.Config{Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)})
	if err != nil {
		t.Fatal(err)
	}
	if err = s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	g.server, g.info, g.control = s, s.Info(), s.ControlURL()
	g.post("/v1/integrators", map[string]any{"id": 1, "name": "Test", "identifier_type": "email", "public_base": g.base})
	g.post("/v1/users", map[string]any{"phone": ada, "name": "Ada", "opted_in": true})
	g.post("/v1/users", map[string]any{"phone": berta, "name": "Berta", "opted_in": true})
	g.prof = profile.WhatsApp().WithEndpoints(profile.Endpoints{
		ChatTCP: g.info.ChatTCP, Enlist: g.info.EnlistURL, Media: g.info.MediaURL, JWKS: g.info.JWKSURL,
	})
	root, err := hex.DecodeString(g.info.NoiseRootKey)
	if err != nil {
		t.Fatal(err)
	}
	copy(g.prof.Noise.RootKey[:], root)
	g.prof.Timing.BackoffMin = 10 * time.Millisecond // so that a test of reconnecting is short
	return g
}

// token signs a token as PROTOCOL.md 2 says.
func (g *gate) token(sub string) string {
	now := time.Now().Unix()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			g.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]string{"alg": "RS256", "typ": "JWT", "kid": "k1"}) + "." + part(map[string]any{
		"iss": g.base, "sub": sub, "aud": g.prof.Token.Audience, "iat": now, "nbf": now, "exp": now + 3600, "jti": rand.Text(),
	})
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(nil, g.key, crypto.SHA256, sum[:])
	if err != nil {
		g.t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func (g *gate) call(method, path string, body any) map[string]any {
	g.t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			g.t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, g.control+path, r)
	if err != nil {
		g.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := map[string]any{}
	if err = json.NewDecoder(resp.Body).Decode(&answer); err != nil && !errors.Is(err, io.EOF) {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode >= 300 {
		g.t.Fatalf("%s %s: %d %v", method, path, resp.StatusCode, answer)
	}
	return answer
}

func (g *gate) post(path string, body any) map[string]any {
	g.t.Helper()
	return g.call("POST", path, body)
}

// says makes a phone send text and returns the message id.
func (g *gate) says(phone, text string) string {
	g.t.Helper()
	return g.post("/v1/users/"+phone+"/messages", map[string]any{"to": user, "text": text})["id"].(string)
}

// saw waits for an event of a phone.
func (g *gate) saw(phone, what string, want func(ev map[string]any) bool) map[string]any {
	g.t.Helper()
	after := 0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		answer := g.call("GET", fmt.Sprintf("/v1/users/%s/events?after=%d&wait=5s", phone, after), nil)
		events, _ := answer["events"].([]any)
		for _, e := range events {
			ev := e.(map[string]any)
			after = int(ev["seq"].(float64))
			if want(ev) {
				return ev
			}
		}
	}
	g.t.Fatalf("%s did not come", what)
	return nil
}

// texts returns the texts of all messages that a phone has so far, in order.
func (g *gate) texts(phone string) (texts []string) {
	events, _ := g.call("GET", "/v1/users/"+phone+"/events", nil)["events"].([]any)
	for _, e := range events {
		if ev := e.(map[string]any); ev["kind"] == "message" {
			texts = append(texts, ev["text"].(string))
		}
	}
	return texts
}

// blameless fails the test if the gatekeeper complained of us.
func (g *gate) blameless() {
	g.t.Helper()
	if list, _ := g.call("GET", "/v1/complaints", nil)["complaints"].([]any); len(list) > 0 {
		g.t.Errorf("the gatekeeper complains: %v", list)
	}
}

// matrix is an Upcalls that remembers.
type matrix struct {
	drains atomic.Int64
	mu     sync.Mutex
	in     []*interop.Inbound
	status []interop.OutStatus
	conn   []interop.ConnState
	typing []interop.Typing
	change chan struct{} // closed and replaced at each change
	// deliver, if set, says what Deliver returns.
	deliver func(in *interop.Inbound) error
	// prepare says what Prepare returns.
	prepare func(ctx context.Context, p *interop.Preparing) (*interop.Prepared, error)
	// attached, if set, is Attached.
	attached func(plaintext []byte) error
}

func newMatrix() *matrix { return &matrix{change: make(chan struct{})} }

func (m *matrix) changed() {
	close(m.change)
	m.change = make(chan struct{})
}

func (m *matrix) Deliver(_ context.Context, in *interop.Inbound) error {
	m.mu.Lock()
	deliver := m.deliver
	m.mu.Unlock()
	if deliver != nil {
		if err := deliver(in); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.in = append(m.in, in)
	m.changed()
	return nil
}

func (m *matrix) Status(_ context.Context, s interop.OutStatus) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = append(m.status, s)
	m.changed()
	return nil
}

func (m *matrix) Prepare(ctx context.Context, p *interop.Preparing) (*interop.Prepared, error) {
	m.mu.Lock()
	prepare := m.prepare
	m.mu.Unlock()
	return prepare(ctx, p)
}

func (m *matrix) Attached(_ context.Context, plaintext []byte) error {
	m.mu.Lock()
	attached := m.attached
	m.mu.Unlock()
	if attached == nil {
		return nil
	}
	return attached(plaintext)
}

func (m *matrix) Typing(_ context.Context, t interop.Typing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.typing = append(m.typing, t)
	m.changed()
}

func (m *matrix) Drained() { m.drains.Add(1) }

func (m *matrix) Connection(_ context.Context, s interop.ConnState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn = append(m.conn, s)
	m.changed()
}

// wait waits until the condition holds; it is called with the lock held.
func (m *matrix) wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		m.mu.Lock()
		done, change := ok(), m.change
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-change:
		case <-timeout:
			m.mu.Lock()
			defer m.mu.Unlock()
			t.Fatalf("%s did not happen; conn %v, status %v, %d items", what, m.conn, m.status, len(m.in))
		}
	}
}

func (m *matrix) texts() (texts []string) {
	for _, in := range m.in {
		if in.Kind == interop.KindMessage {
			texts = append(texts, in.Message.GetConversation())
		} else {
			texts = append(texts, string(in.Kind)+":"+in.Reason)
		}
	}
	return texts
}

func (m *matrix) states(event string) (states []interop.OutState) {
	for _, s := range m.status {
		if s.EventID == event {
			states = append(states, s.State)
		}
	}
	return states
}

// partner is an enlisted account and what it stands on.
type partner struct {
	g      *gate
	device *e2ee.Device
	static noise.KeyPair
	login  jid.JID
	store  interop.Store
	m      *matrix
	limits interop.Limits
	a      *interop.Account
	stop   context.CancelFunc
	done   chan error
	edit   func(*interop.Config)
	name   string // the identifier
}

// enlist makes an account at the gate, on a store.
func (g *gate) enlist(t testing.TB, store interop.Store) *partner {
	t.Helper()
	return g.enlistAs(t, user, store)
}

// enlistAs is enlist under another name.
func (g *gate) enlistAs(t testing.TB, name string, store interop.Store) *partner {
	t.Helper()
	device, err := e2ee.NewDevice(nil)
	if err != nil {
		t.Fatal(err)
	}
	static, err := noise.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &partner{g: g, device: device, static: static, store: store, m: newMatrix(), name: name}
	ctx := context.Background()
	id, err := store.ReserveSignedPreKeyID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := device.GenerateSignedPreKey(id)
	if err != nil {
		t.Fatal(err)
	}
	err = store.PutSignedPreKey(ctx, interop.KeyRecord{ID: id, Record: signed.Marshal(), Created: time.Now().UnixMilli()})
	if err != nil {
		t.Fatal(err)
	}
	result, err := p.enlistAgain(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p.login = result
	return p
}

func (p *partner) enlistAgain(ctx context.Context) (jid.JID, error) {
	records, err := p.store.SignedPreKeys(ctx)
	if err != nil {
		return jid.JID{}, err
	}
	signed, err := e2ee.UnmarshalSignedPreKey(records[0].ID, records[0].Record)
	if err != nil {
		return jid.JID{}, err
	}
	result, err := interop.Enlist(ctx, interop.EnlistRequest{
		Profile: p.g.prof, NoiseKey: p.static.Public, RegistrationID: p.device.RegistrationID, IdentityKey: p.device.IdentityPublic,
		SignedPreKeyID: signed.ID, SignedPreKey: signed.Public, SignedPreKeySignature: signed.Signature, Token: p.g.token(p.name),
	})
	return result.Login, err
}

// run starts a new account on the store; the test stops it.
func (p *partner) run(t testing.TB) {
	t.Helper()
	p.make(t)
	p.begin(t)
}

// make makes a new account on the store, which does not run yet.
func (p *partner) make(t testing.TB) {
	t.Helper()
	c := interop.Config{
		ID: "account1", Profile: p.g.prof, JID: p.login, DisplayName: "Matilda", Device: p.device, StanzaKey: [32]byte{1, 2, 3},
		ReadReceipts: true,
		Gatekeeper: gatekeeper.Config{
			Static: p.static,
			Token:  func(context.Context) (string, error) { return p.g.token(p.name), nil },
		},
		Store: p.store, Upcalls: p.m, Reenlist: p.enlistAgain,
		Limits: p.limits, Log: new(zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)),
	}
	if p.edit != nil {
		p.edit(&c)
	}
	p.a = interop.New(c)
}

// begin runs the account.
func (p *partner) begin(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.done = stop, make(chan error, 1)
	go func() { p.done <- p.a.Run(ctx) }()
	t.Cleanup(p.end)
}

// end stops the account and waits for it.
func (p *partner) end() {
	if p.done == nil {
		return
	}
	p.stop()
	<-p.done
	p.done = nil
}

// live waits until the account is.
func (p *partner) live(t testing.TB) {
	t.Helper()
	p.m.wait(t, "live", func() bool {
		return len(p.m.conn) > 0 && p.m.conn[len(p.m.conn)-1].Kind == interop.ConnLive
	})
}

// chat looks a phone up and returns its chat.
func (p *partner) chat(t testing.TB, phone string) string {
	t.Helper()
	found, err := p.a.Lookup(context.Background(), []string{phone})
	if err != nil || found[0].Err != nil {
		t.Fatalf("lookup: %v %v", err, found)
	}
	return found[0].Peer.Chat
}

// textOf is a message with a text.
func textOf(t testing.TB, text string) []byte {
	t.Helper()
	b, err := proto.Marshal(&waE2E.Message{Conversation: proto.String(text)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// send sends a text as an event.
func (p *partner) send(t testing.TB, chat, event, text string) []string {
	t.Helper()
	ids, err := p.a.Send(context.Background(), interop.Outgoing{
		EventID: event, RoomID: "!room", Chat: chat, Parts: [][]byte{textOf(t, text)}, Type: "text",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func isKind(kind string) func(ev map[string]any) bool {
	return func(ev map[string]any) bool { return ev["kind"] == kind }
}

func isText(text string) func(ev map[string]any) bool {
	return func(ev map[string]any) bool { return ev["kind"] == "message" && ev["text"] == text }
}
