package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"google.golang.org/protobuf/proto"

	"postern/connector/binxml"
	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
	"postern/connector/jid"
	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// patience is how long a test waits for what must come. It fails a test, it decides nothing.
const patience = 60 * time.Second

// lab is a sandbox, a partner's public face, and one WhatsApp user, Ada.
type lab struct {
	t      testing.TB
	s      *Server
	info   Info
	url    string // control
	prof   *profile.Profile
	public *publicFace
}

const (
	ada       = "+4915100000001"
	matilda   = "matilda@example.org"
	testTitle = "Matilda"
)

// publicFace is what a partner shows the gatekeeper: a key set, and an endpoint for pushes.
type publicFace struct {
	server *httptest.Server
	key    *rsa.PrivateKey
	mu     sync.Mutex
	kid    string
	down   bool
	gets   int
	status int
	pushes chan *http.Request
	bodies chan string
	media  *mediaFace
}

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newPublicFace(t testing.TB) *publicFace {
	p := &publicFace{key: testKey(), kid: "k1", status: 200, pushes: make(chan *http.Request, 100), bodies: make(chan string, 100), media: &mediaFace{blobs: map[string][]byte{}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth/openid/jwks", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.gets++
		if p.down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: p.kid, Algorithm: "RS256", Use: "sig"}}})
	})
	mux.Handle("/media/{ref}", p.media)
	mux.HandleFunc("POST /push", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		status := p.status
		p.mu.Unlock()
		w.WriteHeader(status)
		p.bodies <- string(body)
		p.pushes <- r
	})
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

type tokenEdit func(head, body map[string]any)

// token signs a token as PROTOCOL.md 2 says, then edited.
func (p *publicFace) token(sub, audience string, edits ...tokenEdit) string {
	now := time.Now().Unix()
	head := map[string]any{"alg": "RS256", "typ": "JWT", "kid": p.kid}
	body := map[string]any{
		"iss": p.server.URL, "sub": sub, "aud": audience, "iat": now, "nbf": now, "exp": now + 3600, "jti": newID("", 16),
	}
	for _, e := range edits {
		e(head, body)
	}
	return signRaw(p.key, head, body)
}

func newLab(t *testing.T, edits ...func(*Config)) *lab {
	t.Helper()
	cfg := Config{Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)}
	for _, e := range edits {
		e(&cfg)
	}
	l := &lab{t: t, public: newPublicFace(t)}
	l.start(cfg)
	l.post("/v1/integrators", map[string]any{"id": 1, "name": "Test", "identifier_type": "email", "public_base": l.public.server.URL}, nil)
	l.post("/v1/users", map[string]any{"phone": ada, "name": "Ada", "opted_in": true}, nil)
	return l
}

func (l *lab) start(cfg Config) {
	l.t.Helper()
	s, err := New(cfg)
	if err != nil {
		l.t.Fatalf("new sandbox: %v", err)
	}
	if err := s.Start(context.Background()); err != nil {
		l.t.Fatalf("start sandbox: %v", err)
	}
	l.t.Cleanup(func() { s.Close() })
	l.s, l.info, l.url, l.prof = s, s.Info(), s.ControlURL(), s.Profile()
}

// do makes a control call and returns the status.
func (l *lab) do(method, path string, in, out any) int {
	l.t.Helper()
	var body io.Reader
	if in != nil {
		if text, ok := in.(string); ok {
			body = strings.NewReader(text)
		} else {
			b, err := json.Marshal(in)
			if err != nil {
				l.t.Fatal(err)
			}
			body = bytes.NewReader(b)
		}
	}
	req, err := http.NewRequest(method, l.url+path, body)
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			l.t.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	}
	return resp.StatusCode
}

func (l *lab) post(path string, in, out any) {
	l.t.Helper()
	var answer json.RawMessage
	if status := l.do("POST", path, in, &answer); status != 200 {
		l.t.Fatalf("POST %s: %d %s", path, status, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *lab) say(phone, to, text string) string {
	l.t.Helper()
	var out struct{ ID string }
	l.post("/v1/users/"+phone+"/messages", map[string]any{"to": to, "text": text}, &out)
	return out.ID
}

// event waits for the first event of a phone after seq after that match accepts.
func (l *lab) event(phone string, after uint64, what string, match func(eventBody) bool) eventBody {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		var out struct{ Events []eventBody }
		if status := l.do("GET", fmt.Sprintf("/v1/users/%s/events?after=%d&wait=10s", phone, after), nil, &out); status != 200 {
			l.t.Fatalf("events: %d", status)
		}
		for _, e := range out.Events {
			after = e.Seq
			if match(e) {
				return e
			}
		}
	}
	l.t.Fatalf("never happened on the phone: %s", what)
	return eventBody{}
}

func kindIs(kind string) func(eventBody) bool {
	return func(e eventBody) bool { return e.Kind == kind }
}

func (l *lab) complaints() []complaint {
	l.t.Helper()
	var out struct{ Complaints []complaint }
	l.do("GET", "/v1/complaints", nil, &out)
	return out.Complaints
}

// noComplaints is how a story ends that provoked none.
func (l *lab) noComplaints() {
	l.t.Helper()
	for _, c := range l.complaints() {
		l.t.Errorf("complaint: %s %s (%d times)", c.Section, c.Text, c.Count)
	}
}

func (l *lab) complained(part string) {
	l.t.Helper()
	for _, c := range l.complaints() {
		if strings.Contains(c.Text, part) {
			return
		}
	}
	l.t.Errorf("no complaint about %q: %+v", part, l.complaints())
}

func (l *lab) partner(identifier string) shownPartner {
	l.t.Helper()
	var out struct{ Partners []shownPartner }
	l.do("GET", "/v1/partners", nil, &out)
	for _, p := range out.Partners {
		if p.Identifier == identifier {
			return p
		}
	}
	return shownPartner{}
}

// until waits for a condition that is reached without any more doing of the test's.
func (l *lab) until(what string, cond func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			l.t.Fatalf("never came to be: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // a poll of somebody else's state, not a wait for time to pass
	}
}

// scripted is a partner user driven by a test, step by step.
type scripted struct {
	l          *lab
	t          testing.TB
	prof       *profile.Profile
	identifier string
	static     noise.KeyPair
	device     *e2ee.Device
	signed     e2ee.SignedPreKey
	store      *e2eetest.MemStore
	signal     *e2ee.Signal
	jid        jid.JID
	nextKey    uint32
	readOff    bool

	raw    net.Conn
	conn   *noise.Conn
	in     chan *binxml.Node
	nextID int
	unread []*binxml.Node
}

func (l *lab) newPartner(identifier string) *scripted {
	l.t.Helper()
	static, err := noise.GenerateKeyPair(rand.Reader)
	must(l.t, err)
	p := &scripted{l: l, t: l.t, prof: l.prof, identifier: identifier, static: static, nextKey: 1}
	p.newIdentity()
	return p
}

func (p *scripted) newIdentity() {
	var err error
	p.device, err = e2ee.NewDevice(nil)
	must(p.t, err)
	p.signed, err = p.device.GenerateSignedPreKey(1)
	must(p.t, err)
	p.store = e2eetest.NewMemStore()
	must(p.t, p.store.StoreSignedPreKey(context.Background(), p.signed))
	p.signal = e2ee.New(p.device, p.store)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *scripted) form() url.Values {
	b64 := base64.RawURLEncoding.EncodeToString
	return url.Values{
		"authkey": {b64(p.static.Public[:])}, "e_keytype": {b64([]byte{5})}, "e_regid": {b64(be(p.device.RegistrationID, 4))},
		"e_ident": {b64(p.device.IdentityPublic[:])}, "e_skey_id": {b64(be(p.signed.ID, 3))}, "e_skey_val": {b64(p.signed.Public[:])},
		"e_skey_sig": {b64(p.signed.Signature[:])}, "token": {p.token()},
	}
}

func (p *scripted) token(edits ...tokenEdit) string {
	return p.l.public.token(p.identifier, p.prof.Token.Audience, edits...)
}

type enlistAnswer struct{ Status, Login, Identifier, Reason string }

func (l *lab) postForm(form url.Values) (enlistAnswer, int) {
	l.t.Helper()
	resp, err := http.PostForm(l.info.EnlistURL, form)
	must(l.t, err)
	defer resp.Body.Close()
	var a enlistAnswer
	if resp.StatusCode == 200 {
		must(l.t, json.NewDecoder(resp.Body).Decode(&a))
	}
	return a, resp.StatusCode
}

func (p *scripted) enlist() *scripted {
	p.t.Helper()
	a, status := p.l.postForm(p.form())
	if status != 200 || a.Status != "ok" {
		p.t.Fatalf("enlist: %d %+v", status, a)
	}
	j, err := jid.Parse(a.Login)
	must(p.t, err)
	p.jid = j
	return p
}

func (p *scripted) payload(edit func(*waWa6.ClientPayload)) []byte {
	number, _ := p.jid.Account()
	v := p.prof.Login.InteropVersion
	cp := &waWa6.ClientPayload{
		Product: p.prof.Login.Product.Enum(), Device: proto.Uint32(0), Passive: proto.Bool(false), Pull: proto.Bool(true),
		ConnectType: waWa6.ClientPayload_WIFI_UNKNOWN.Enum(), ConnectReason: waWa6.ClientPayload_USER_ACTIVATED.Enum(),
		UserAgent: &waWa6.ClientPayload_UserAgent{AppVersion: &waWa6.ClientPayload_UserAgent_AppVersion{
			Primary: &v[0], Secondary: &v[1], Tertiary: &v[2],
		}},
		InteropData: &waWa6.ClientPayload_InteropData{AccountID: &number, Token: []byte(p.token()), EnableReadReceipts: proto.Bool(!p.readOff)},
	}
	if edit != nil {
		edit(cp)
	}
	b, err := proto.Marshal(cp)
	must(p.t, err)
	return b
}

// dial connects over TCP, or over the websocket if ws, makes the handshake and starts reading.
func (p *scripted) dial(ws bool, edit func(*waWa6.ClientPayload)) {
	p.t.Helper()
	p.hangUp()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if ws {
		c, _, err := websocket.Dial(ctx, p.l.info.ChatWS, &websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {"192.0.2.7, 10.0.0.1"}}})
		must(p.t, err)
		p.raw = websocket.NetConn(context.Background(), c, websocket.MessageBinary)
	} else {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.l.info.ChatTCP, "tcp://"))
		must(p.t, err)
		p.raw = c
	}
	p.t.Cleanup(p.hangUp)
	p.handshake(ctx, edit)
}

func (p *scripted) handshake(ctx context.Context, edit func(*waWa6.ClientPayload)) {
	p.t.Helper()
	var err error
	p.conn, err = noise.Client(ctx, p.raw, noise.ClientConfig{
		Static: p.static, RootKey: p.prof.Noise.RootKey, Mode: p.prof.Noise.Mode, Intro: p.prof.Noise.Intro, Payload: p.payload(edit),
	})
	must(p.t, err)
	p.in, p.unread = make(chan *binxml.Node, 4096), nil
	go func(conn *noise.Conn, in chan *binxml.Node, codec binxml.Codec) {
		defer close(in)
		for {
			frame, err := conn.ReadFrame()
			if err != nil {
				return
			}
			n, err := codec.Decode(bytes.Clone(frame))
			if err != nil {
				return
			}
			in <- n
		}
	}(p.conn, p.in, p.codec())
}

func (p *scripted) codec() binxml.Codec {
	return binxml.Codec{Read: p.prof.ReadDialect, Write: p.prof.WriteDialect}
}

func (p *scripted) hangUp() {
	if p.raw != nil {
		p.raw.Close()
		p.raw = nil
	}
}

// login connects and gives back what came while the queue was drained.
func (p *scripted) login() []*binxml.Node {
	p.t.Helper()
	p.dial(false, nil)
	return p.drain()
}

func (p *scripted) drain() []*binxml.Node {
	p.t.Helper()
	ok := p.next("success")
	if lid, err := ok.AttrJID("lid"); ok.Tag != "success" || err != nil || lid != p.jid {
		p.t.Fatalf("login answered by %s", ok.Tag)
	}
	if preview := p.next("offline_preview"); preview.Child("offline_preview") == nil {
		p.t.Fatalf("no offline_preview but %s", preview.Tag)
	}
	var got []*binxml.Node
	for {
		n := p.next("offline")
		if n.Tag == "ib" && n.Child("offline") != nil {
			return got
		}
		got = append(got, n)
	}
}

// next is the next stanza, whatever it is. What is only for the wait's message.
func (p *scripted) next(what string) *binxml.Node {
	p.t.Helper()
	select {
	case n, ok := <-p.in:
		if !ok {
			p.t.Fatalf("the stream ended while waiting for %s", what)
		}
		return n
	case <-time.After(patience):
		p.t.Fatalf("never came: %s", what)
	}
	return nil
}

// want is the next stanza that match accepts; the others are kept for later calls.
func (p *scripted) want(what string, match func(*binxml.Node) bool) *binxml.Node {
	p.t.Helper()
	for i, n := range p.unread {
		if match(n) {
			p.unread = append(p.unread[:i:i], p.unread[i+1:]...)
			return n
		}
	}
	for {
		n := p.next(what)
		if match(n) {
			return n
		}
		p.unread = append(p.unread, n)
	}
}

func tagIs(tag string) func(*binxml.Node) bool {
	return func(n *binxml.Node) bool { return n.Tag == tag }
}

func isAck(class, id string) func(*binxml.Node) bool {
	return func(n *binxml.Node) bool { return n.Tag == "ack" && n.Attr("class") == class && n.Attr("id") == id }
}

func isReceipt(id, typ string) func(*binxml.Node) bool {
	return func(n *binxml.Node) bool { return n.Tag == "receipt" && n.Attr("id") == id && n.Attr("type") == typ }
}

// ended waits until the stream is closed and gives back what came before.
func (p *scripted) ended() []*binxml.Node {
	p.t.Helper()
	got := p.unread
	p.unread = nil
	timeout := time.After(patience)
	for {
		select {
		case n, ok := <-p.in:
			if !ok {
				return got
			}
			got = append(got, n)
		case <-timeout:
			p.t.Fatal("the stream did not end")
		}
	}
}

func (p *scripted) sendNode(n *binxml.Node) {
	p.t.Helper()
	frame, err := p.codec().Append(nil, n)
	must(p.t, err)
	must(p.t, p.conn.WriteFrame(frame))
}

func (p *scripted) send(s stanza.Stanza) {
	p.t.Helper()
	p.sendNode(s.Node())
}

// iqMaker is any typed request.
type iqMaker interface{ IQ() (*stanza.IQ, error) }

// ask makes a request and gives back the answer.
func (p *scripted) ask(r iqMaker) *stanza.IQ {
	p.t.Helper()
	q, err := r.IQ()
	must(p.t, err)
	return p.askIQ(q)
}

func (p *scripted) askIQ(q *stanza.IQ) *stanza.IQ {
	p.t.Helper()
	p.nextID++
	q.ID, q.To = fmt.Sprint("q", p.nextID), jid.ServerJID
	p.send(q)
	n := p.want("answer to "+q.XMLNS, func(n *binxml.Node) bool { return n.Tag == "iq" && n.Attr("id") == q.ID })
	s, err := stanza.Parse(n)
	must(p.t, err)
	return s.(*stanza.IQ)
}

// upload gives the server n fresh one-time prekeys.
func (p *scripted) upload(n int) *stanza.IQ {
	p.t.Helper()
	keys, err := p.device.GeneratePreKeys(p.nextKey, n)
	must(p.t, err)
	p.nextKey += uint32(n)
	must(p.t, p.store.StorePreKeys(context.Background(), keys))
	u := &stanza.Upload{
		RegistrationID: p.device.RegistrationID, Identity: p.device.IdentityPublic,
		Signed: stanza.SignedPreKey{ID: p.signed.ID, Key: p.signed.Public, Signature: p.signed.Signature},
	}
	for _, k := range keys {
		u.PreKeys = append(u.PreKeys, stanza.PreKey{ID: k.ID, Key: k.Public})
	}
	return p.ask(u)
}

// find looks a phone number up.
func (p *scripted) find(phone string) jid.JID {
	p.t.Helper()
	r, err := stanza.ParseUsers(p.ask(&stanza.UsersRequest{ExternalIDs: []string{phone}}))
	must(p.t, err)
	if len(r) != 1 || r[0].Err != nil {
		p.t.Fatalf("look up: %+v", r)
	}
	return r[0].JID
}

// session starts a session with a phone from its bundle.
func (p *scripted) session(with jid.JID) {
	p.t.Helper()
	r, err := stanza.ParseKeys(p.ask(&stanza.KeyRequest{Users: []jid.JID{with}}))
	must(p.t, err)
	if len(r) != 1 || r[0].Err != nil {
		p.t.Fatalf("bundle: %+v", r)
	}
	_, err = p.signal.StartSession(context.Background(), with, bundleOf(r[0].Bundle), nil)
	must(p.t, err)
}

func bundleOf(b *stanza.Bundle) e2ee.Bundle {
	out := e2ee.Bundle{
		RegistrationID: b.RegistrationID, Identity: b.Identity,
		Signed: e2ee.BundleSignedKey{ID: b.Signed.ID, Key: b.Signed.Key, Signature: b.Signed.Signature},
	}
	if b.PreKey != nil {
		out.PreKey = &e2ee.BundleKey{ID: b.PreKey.ID, Key: b.PreKey.Key}
	}
	return out
}

// seal encrypts text as a message under a fresh id.
func (p *scripted) seal(to jid.JID, text string) *stanza.Message {
	p.t.Helper()
	return p.sealMessage(to, &waE2E.Message{Conversation: proto.String(text)}, "text", "")
}

func (p *scripted) sealMessage(to jid.JID, m *waE2E.Message, typ, mediaType string) *stanza.Message {
	p.t.Helper()
	plain, err := proto.Marshal(m)
	must(p.t, err)
	return p.sealBytes(to, append(plain, 1), typ, mediaType)
}

func (p *scripted) sealBytes(to jid.JID, padded []byte, typ, mediaType string) *stanza.Message {
	p.t.Helper()
	sealed, err := p.signal.Encrypt(context.Background(), to, padded, nil)
	must(p.t, err)
	return &stanza.Message{
		ID: newID("3EB0", 9), To: to, Type: typ, DisplayName: testTitle,
		Enc: stanza.Enc{V: 2, Type: sealed.Type, MediaType: mediaType, Data: sealed.Body},
	}
}

// open decrypts a message from a phone.
func (p *scripted) open(n *binxml.Node) *waE2E.Message {
	p.t.Helper()
	msg, err := p.tryOpen(n)
	must(p.t, err)
	return msg
}

func (p *scripted) tryOpen(n *binxml.Node) (*waE2E.Message, error) {
	p.t.Helper()
	s, err := stanza.Parse(n)
	must(p.t, err)
	m, ok := s.(*stanza.Message)
	if !ok {
		p.t.Fatalf("not a message but %s", n.Tag)
	}
	var padded []byte
	err = p.signal.Decrypt(context.Background(), m.From, m.Enc.Type, m.Enc.Data, func(_ context.Context, plain []byte, _ e2ee.Opened) error {
		padded = plain
		return nil
	})
	if err != nil {
		return nil, err
	}
	plain, _, ok := unpad(padded)
	if !ok {
		p.t.Fatal("bad padding from the phone")
	}
	msg := &waE2E.Message{}
	must(p.t, proto.Unmarshal(plain, msg))
	return msg, nil
}

// ack acknowledges a stanza, with an error code if code is not 0.
func (p *scripted) ack(n *binxml.Node, code int) {
	p.t.Helper()
	s, err := stanza.Parse(n)
	must(p.t, err)
	a, ok := stanza.AckFor(s, code)
	if !ok {
		p.t.Fatalf("%s is not acknowledged", n.Tag)
	}
	p.send(a)
}

// receipt says what became of a message of a phone.
func (p *scripted) receipt(n *binxml.Node, typ string) {
	p.t.Helper()
	from, err := n.AttrJID("from")
	must(p.t, err)
	p.send(&stanza.Receipt{ID: n.Attr("id"), To: from, Type: typ, STS: n.Attr("sts")})
}

// connected is a partner user, enlisted, logged in and with prekeys, who knows Ada's address.
func (l *lab) connected() (*scripted, jid.JID) {
	l.t.Helper()
	p := l.newPartner(matilda).enlist()
	p.login()
	if a := p.upload(50); a.Err != nil {
		l.t.Fatalf("upload: %v", a.Err)
	}
	return p, p.find(ada)
}

func TestMain(m *testing.M) {
	if os.Getenv("POSTERN_SANDBOX_CHILD") != "" {
		os.Exit(Main(context.Background(), strings.Split(os.Getenv("POSTERN_SANDBOX_CHILD"), " "), os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}
