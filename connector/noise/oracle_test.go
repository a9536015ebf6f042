package noise

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	flynn "github.com/flynn/noise"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/socket"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// These tests put an implementation by others on one side. Its messages are the bare
// ones of the Noise specification; here they are put into the protobufs, by the
// published schema's own code.

func flynnState(t *testing.T, initiator bool, static KeyPair) *flynn.HandshakeState {
	t.Helper()
	hs, err := flynn.NewHandshakeState(flynn.Config{
		CipherSuite: flynn.NewCipherSuite(flynn.DH25519, flynn.CipherAESGCM, flynn.HashSHA256),
		Random:      rand.Reader, Pattern: flynn.HandshakeXX, Initiator: initiator, Prologue: DefaultIntro[:],
		StaticKeypair: flynn.DHKey{Private: static.Private[:], Public: static.Public[:]},
	})
	if err != nil {
		t.Fatal(err)
	}
	return hs
}

func writeMessage(w interface{ Write([]byte) (int, error) }, ahead []byte, m *waWa6.HandshakeMessage) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(bytes.Clone(ahead), frameOf(body)...))
	return err
}

func readMessage(fr *frameReader) (*waWa6.HandshakeMessage, error) {
	body, err := fr.next(MaxFrame)
	if err != nil {
		return nil, err
	}
	m := &waWa6.HandshakeMessage{}
	return m, proto.Unmarshal(body, m)
}

func TestFlynnNoiseInitiatesAgainstOurServerInStrictMode(t *testing.T) {
	p := newParty(t)
	c, s := pipe(t)
	var conn *Conn
	var peer *Peer
	done := make(chan error, 1)
	go func() {
		var err error
		sc := p.serverConfig()
		sc.Mode = ModeStrict
		conn, peer, err = Server(context.Background(), s, sc)
		done <- err
	}()

	hs := flynnState(t, true, p.client)
	frames := newFrameReader(c)
	first, _, _, err := hs.WriteMessage(nil, nil)
	must(t, err)
	must(t, writeMessage(c, DefaultIntro[:], &waWa6.HandshakeMessage{ClientHello: &waWa6.HandshakeMessage_ClientHello{Ephemeral: first}}))
	m, err := readMessage(frames)
	must(t, err)
	h := m.GetServerHello()
	chain, _, _, err := hs.ReadMessage(nil, bytes.Join([][]byte{h.GetEphemeral(), h.GetStatic(), h.GetPayload()}, nil))
	must(t, err)
	if !bytes.Equal(chain, p.chain) || !bytes.Equal(hs.PeerStatic(), p.server.Public[:]) {
		t.Fatal("the oracle saw another chain or key")
	}
	last, up, down, err := hs.WriteMessage(nil, []byte("login"))
	must(t, err)
	must(t, writeMessage(c, nil, &waWa6.HandshakeMessage{ClientFinish: &waWa6.HandshakeMessage_ClientFinish{Static: last[:48], Payload: last[48:]}}))
	must(t, <-done)
	if peer.Static != p.client.Public || string(peer.Payload) != "login" {
		t.Error("our server learnt something else")
	}
	compareHash(t, conn, hs)
	talk(t, conn, c, frames, up, down)
}

func TestFlynnNoiseAnswersOurClientInStrictMode(t *testing.T) {
	p := newParty(t)
	c, s := pipe(t)
	var conn *Conn
	done := make(chan error, 1)
	go func() {
		var err error
		cc := p.clientConfig()
		cc.Mode = ModeStrict
		conn, err = Client(context.Background(), c, cc)
		done <- err
	}()

	hs := flynnState(t, false, p.server)
	frames := newFrameReader(s)
	intro := make([]byte, 4)
	_, err := frames.from.Read(intro)
	must(t, err)
	m, err := readMessage(frames)
	must(t, err)
	_, _, _, err = hs.ReadMessage(nil, m.GetClientHello().GetEphemeral())
	must(t, err)
	second, _, _, err := hs.WriteMessage(nil, p.chain)
	must(t, err)
	must(t, writeMessage(s, nil, &waWa6.HandshakeMessage{ServerHello: &waWa6.HandshakeMessage_ServerHello{
		Ephemeral: second[:32], Static: second[32:80], Payload: second[80:]}}))
	m, err = readMessage(frames)
	must(t, err)
	f := m.GetClientFinish()
	payload, down, up, err := hs.ReadMessage(nil, append(f.GetStatic(), f.GetPayload()...))
	must(t, err)
	must(t, <-done)
	if string(payload) != "login" || !bytes.Equal(hs.PeerStatic(), p.client.Public[:]) {
		t.Error("the oracle learnt something else")
	}
	compareHash(t, conn, hs)
	talk(t, conn, s, frames, up, down)
}

func TestFlynnNoiseDoesNotSpeakWhatsAppsDialect(t *testing.T) {
	// If this passed, the two modes would not differ and the tests above prove nothing.
	p := newParty(t)
	c, s := pipe(t)
	go func() { _, _, _ = Server(context.Background(), s, p.serverConfig()) }()
	hs := flynnState(t, true, p.client)
	first, _, _, err := hs.WriteMessage(nil, nil)
	must(t, err)
	must(t, writeMessage(c, DefaultIntro[:], &waWa6.HandshakeMessage{ClientHello: &waWa6.HandshakeMessage_ClientHello{Ephemeral: first}}))
	m, err := readMessage(newFrameReader(c))
	must(t, err)
	h := m.GetServerHello()
	if _, _, _, err = hs.ReadMessage(nil, bytes.Join([][]byte{h.GetEphemeral(), h.GetStatic(), h.GetPayload()}, nil)); err == nil {
		t.Error("the strict oracle understood WhatsApp's dialect")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func compareHash(t *testing.T, conn *Conn, hs *flynn.HandshakeState) {
	t.Helper()
	if hash := conn.HandshakeHash(); !bytes.Equal(hash[:], hs.ChannelBinding()) {
		t.Error("the transcript hashes differ")
	}
}

// talk exchanges frames between our link and the oracle's two ciphers.
func talk(t *testing.T, conn *Conn, rw interface{ Write([]byte) (int, error) }, frames *frameReader, up, down *flynn.CipherState) {
	t.Helper()
	for i := range 20 {
		text := bytes.Repeat([]byte{byte(i)}, i*40)
		ciphertext, err := up.Encrypt(nil, nil, text)
		must(t, err)
		sent := make(chan error, 1)
		go func() {
			_, err := rw.Write(frameOf(ciphertext))
			sent <- err
		}()
		got, err := conn.ReadFrame()
		must(t, err)
		must(t, <-sent)
		go func() { sent <- conn.WriteFrame(text) }()
		body, err := frames.next(MaxFrame)
		must(t, err)
		must(t, <-sent)
		back, err := down.Decrypt(nil, nil, body)
		must(t, err)
		if !bytes.Equal(got, text) || !bytes.Equal(back, text) {
			t.Fatalf("frame %d changed", i)
		}
	}
}

// whatsmeow's handshake and socket log in to our server by websocket.
func TestWhatsmeowsHandshakeMeetsOurServerInWhatsAppsDialect(t *testing.T) {
	p := newParty(t)
	type outcome struct {
		peer *Peer
		err  error
	}
	served := make(chan outcome, 1)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			served <- outcome{err: err}
			return
		}
		defer ws.CloseNow()
		conn, peer, err := Server(r.Context(), websocket.NetConn(r.Context(), ws, websocket.MessageBinary), p.serverConfig())
		served <- outcome{peer, err}
		for err == nil { // an echo, until the client has had enough
			var frame []byte
			if frame, err = conn.ReadFrame(); err == nil {
				err = conn.WriteFrame(append([]byte("echo "), frame...))
			}
		}
	}))
	defer web.Close()

	fs := socket.NewFrameSocket(waLog.Noop, http.DefaultClient)
	fs.URL = "ws" + strings.TrimPrefix(web.URL, "http")
	must(t, fs.Connect(t.Context()))
	echoes := make(chan string, 8)
	ns, err := whatsmeowHandshake(t, fs, p, func(_ context.Context, frame []byte) { echoes <- string(frame) })
	must(t, err)
	defer ns.Stop(true, false)
	got := <-served
	must(t, got.err)
	if got.peer.Static != p.client.Public || string(got.peer.Payload) != "login" {
		t.Error("our server learnt something else")
	}
	compared := 0
	for i := range 50 {
		text := fmt.Sprint("frame ", i, strings.Repeat(".", i*30))
		must(t, ns.SendFrame(t.Context(), []byte(text)))
		if echo := <-echoes; echo != "echo "+text {
			t.Fatalf("frame %d came back changed", i)
		}
		compared++
	}
	if compared < 50 {
		t.Errorf("only %d frames compared", compared)
	}
}

// whatsmeowHandshake runs the initiator's steps on whatsmeow's symmetric state.
func whatsmeowHandshake(t *testing.T, fs *socket.FrameSocket, p party, onFrame socket.FrameHandler) (*socket.NoiseSocket, error) {
	t.Helper()
	e, err := GenerateKeyPair(nil)
	must(t, err)
	nh := socket.NewNoiseHandshake()
	nh.Start(socket.NoiseStartPattern, fs.Header)
	nh.Authenticate(e.Public[:])
	body, err := proto.Marshal(&waWa6.HandshakeMessage{ClientHello: &waWa6.HandshakeMessage_ClientHello{Ephemeral: e.Public[:]}})
	must(t, err)
	must(t, fs.SendFrame(body))
	var answer waWa6.HandshakeMessage
	must(t, proto.Unmarshal(<-fs.Frames, &answer))
	h := answer.GetServerHello()
	nh.Authenticate(h.GetEphemeral())
	must(t, nh.MixSharedSecretIntoKey(e.Private, [32]byte(h.GetEphemeral())))
	static, err := nh.Decrypt(h.GetStatic())
	must(t, err)
	must(t, nh.MixSharedSecretIntoKey(e.Private, [32]byte(static)))
	chain, err := nh.Decrypt(h.GetPayload())
	must(t, err)
	if !bytes.Equal(chain, p.chain) || !bytes.Equal(static, p.server.Public[:]) {
		t.Fatal("the oracle saw another chain or key")
	}
	sealed := nh.Encrypt(p.client.Public[:])
	must(t, nh.MixSharedSecretIntoKey(p.client.Private, [32]byte(h.GetEphemeral())))
	body, err = proto.Marshal(&waWa6.HandshakeMessage{ClientFinish: &waWa6.HandshakeMessage_ClientFinish{
		Static: sealed, Payload: nh.Encrypt([]byte("login"))}})
	must(t, err)
	must(t, fs.SendFrame(body))
	return nh.Finish(t.Context(), fs, onFrame, func(context.Context, *socket.NoiseSocket, bool) {})
}

// Outside oracle for the messages alone: the schema's code reads what we write and we
// read what it writes, unknown fields included.
func TestHandshakeMessagesAgreeWithTheSchema(t *testing.T) {
	key, static, payload := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 48), bytes.Repeat([]byte{3}, 300)
	var m waWa6.HandshakeMessage
	must(t, proto.Unmarshal(hello{key, static, payload}.marshal(fieldServerHello), &m))
	h := m.GetServerHello()
	if !bytes.Equal(h.GetEphemeral(), key) || !bytes.Equal(h.GetStatic(), static) || !bytes.Equal(h.GetPayload(), payload) {
		t.Error("server hello read differently")
	}
	must(t, proto.Unmarshal(finish{static, payload}.marshal(), &m))
	if f := m.GetClientFinish(); !bytes.Equal(f.GetStatic(), static) || !bytes.Equal(f.GetPayload(), payload) {
		t.Error("client finish read differently")
	}

	raw, err := proto.Marshal(&waWa6.HandshakeMessage{ClientHello: &waWa6.HandshakeMessage_ClientHello{
		Ephemeral: key, UseExtended: proto.Bool(true), ExtendedCiphertext: payload, PaddedBytes: static}})
	must(t, err)
	if got, err := parseClientHello(raw); err != nil || !bytes.Equal(got.ephemeral, key) {
		t.Errorf("client hello with extensions: %v", err)
	}
	raw, err = proto.Marshal(&waWa6.HandshakeMessage{ServerHello: &waWa6.HandshakeMessage_ServerHello{
		Ephemeral: key, Static: static, Payload: payload, PaddingBytes: payload}})
	must(t, err)
	if got, err := parseServerHello(raw); err != nil || !bytes.Equal(got.payload, payload) {
		t.Errorf("server hello with padding: %v", err)
	}
	raw, err = proto.Marshal(&waWa6.HandshakeMessage{ClientFinish: &waWa6.HandshakeMessage_ClientFinish{
		Static: static, Payload: payload, SimulateXxkemFs: proto.Bool(true)}})
	must(t, err)
	if got, err := parseClientFinish(raw); err != nil || !bytes.Equal(got.static, static) {
		t.Errorf("client finish with extensions: %v", err)
	}
}

func TestMalformedHandshakeMessagesAreRefused(t *testing.T) {
	key, static := make([]byte, 32), make([]byte, 48)
	good := hello{ephemeral: key}.marshal(fieldClientHello)
	server := func(h hello) error { _, err := parseServerHello(h.marshal(fieldServerHello)); return err }
	clientHello := func(b []byte) error { _, err := parseClientHello(b); return err }
	clientFinish := func(b []byte) error { _, err := parseClientFinish(b); return err }
	for name, err := range map[string]error{
		"nothing":                      clientHello(nil),
		"another message":              clientHello(hello{ephemeral: key}.marshal(fieldServerHello)),
		"cut":                          clientHello(good[:len(good)-1]),
		"a message twice":              clientHello(append(bytes.Clone(good), good...)),
		"a key twice":                  clientHello(appendBytes(nil, fieldClientHello, appendBytes(appendBytes(nil, 1, key), 1, key))),
		"a short ephemeral":            clientHello(hello{ephemeral: key[:31]}.marshal(fieldClientHello)),
		"a long ephemeral":             clientHello(hello{ephemeral: static}.marshal(fieldClientHello)),
		"no ephemeral":                 clientHello(appendBytes(nil, fieldClientHello, nil)),
		"the IK pattern":               clientHello(hello{ephemeral: key, static: static}.marshal(fieldClientHello)),
		"an early payload":             clientHello(hello{ephemeral: key, payload: key}.marshal(fieldClientHello)),
		"a number for a key":           clientHello([]byte{0x12, 2, 0x08, 1}),
		"a server without static":      server(hello{ephemeral: key, payload: key}),
		"a server with a short static": server(hello{ephemeral: key, static: static[:47], payload: key}),
		"a server without payload":     server(hello{ephemeral: key, static: static}),
		"a server with a tiny payload": server(hello{ephemeral: key, static: static, payload: key[:15]}),
		"a finish without payload":     clientFinish(finish{static: static}.marshal()),
		"a finish without static":      clientFinish(finish{payload: static}.marshal()),
		"a finish that is none":        clientFinish(good),
		"a group left open":            clientHello([]byte{0x13}),
	} {
		if err != ErrMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
