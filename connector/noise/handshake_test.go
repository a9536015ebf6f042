package noise

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestBothSidesMeetAndTalkInBothDialects(t *testing.T) {
	for _, mode := range []Mode{ModeWhatsApp, ModeStrict} {
		m := established(t, mode)
		if m.client.HandshakeHash() != m.server.HandshakeHash() {
			t.Error("the transcript hashes differ")
		}
		exchange(t, m.client, m.server, []byte("one"), nil, []byte("three"), bytes.Repeat([]byte{7}, 100_000))
	}
}

func TestServerLearnsTheClientsProvenKeyAndPayload(t *testing.T) {
	p := newParty(t)
	c, s := pipe(t)
	m := meet(context.Background(), c, s, p.clientConfig(), p.serverConfig())
	if m.clientErr != nil || m.serverErr != nil {
		t.Fatal(m.clientErr, m.serverErr)
	}
	if m.peer.Static != p.client.Public || m.server.PeerStatic() != p.client.Public {
		t.Error("the server has another key than the client's")
	}
	if string(m.peer.Payload) != "login" {
		t.Errorf("payload %q", m.peer.Payload)
	}
	if m.client.PeerStatic() != p.server.Public {
		t.Error("the client has another key than the server's")
	}
}

func TestKeysAndHashesNeverRepeat(t *testing.T) {
	p := newParty(t)
	seen := map[string]string{}
	for range 20 {
		c, s := pipe(t)
		rc, rs := &recorder{ReadWriter: c}, &recorder{ReadWriter: s}
		m := meet(context.Background(), rc, rs, p.clientConfig(), p.serverConfig())
		if m.clientErr != nil || m.serverErr != nil {
			t.Fatal(m.clientErr, m.serverErr)
		}
		hash := m.client.HandshakeHash()
		for what, value := range map[string][]byte{
			"hash": hash[:], "client's bytes": rc.written.Bytes(), "server's bytes": rs.written.Bytes(),
		} {
			if before, ok := seen[string(value)]; ok {
				t.Fatalf("%s repeats an earlier %s", what, before)
			}
			seen[string(value)] = what
		}
	}
}

func TestTheFourKindsOfKeyMaterialAreAllMixedIn(t *testing.T) {
	// With both ephemeral keys fixed, another static key on either side has to give
	// another transcript and other transport keys.
	frames := map[string]bool{}
	hashes := map[[32]byte]bool{}
	for range 4 {
		p := newParty(t)
		cc, sc := p.clientConfig(), p.serverConfig()
		cc.Rand, sc.Rand = &testRand{seed: 1}, &testRand{seed: 2}
		c, s := pipe(t)
		rc := &recorder{ReadWriter: c}
		m := meet(context.Background(), rc, s, cc, sc)
		if m.clientErr != nil || m.serverErr != nil {
			t.Fatal(m.clientErr, m.serverErr)
		}
		rc.written.Reset()
		exchange(t, m.client, m.server, []byte("same plaintext"))
		frames[rc.written.String()] = true
		hashes[m.client.HandshakeHash()] = true
	}
	if len(frames) != 4 || len(hashes) != 4 {
		t.Errorf("%d distinct frames and %d hashes from 4 handshakes", len(frames), len(hashes))
	}
}

// recorder keeps what passes.
type recorder struct {
	io.ReadWriter
	written, read bytes.Buffer
	writes        [][]byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.written.Write(p)
	r.writes = append(r.writes, bytes.Clone(p))
	return r.ReadWriter.Write(p)
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.ReadWriter.Read(p)
	r.read.Write(p[:n])
	return n, err
}

func TestIntroGoesWithTheFirstFrameAndEachFrameIsOneWrite(t *testing.T) {
	p := newParty(t)
	c, s := pipe(t)
	rc := &recorder{ReadWriter: c}
	m := meet(context.Background(), rc, s, p.clientConfig(), p.serverConfig())
	if m.clientErr != nil {
		t.Fatal(m.clientErr)
	}
	exchange(t, m.client, m.server, []byte("frame"))
	if len(rc.writes) != 3 {
		t.Fatalf("%d writes for two handshake messages and a frame", len(rc.writes))
	}
	if !bytes.HasPrefix(rc.writes[0], []byte{'W', 'A', 6, 3}) {
		t.Errorf("begins with % x", rc.writes[0][:4])
	}
	for i, w := range rc.writes {
		if i == 0 {
			w = w[4:]
		}
		if n := int(w[0])<<16 | int(w[1])<<8 | int(w[2]); n != len(w)-3 {
			t.Errorf("write %d announces %d of %d bytes", i, n, len(w)-3)
		}
	}
}

func TestIntroMayArriveAlone(t *testing.T) {
	p := newParty(t)
	c, s := pipe(t)
	m := meet(context.Background(), splitAfter{c, 4}, s, p.clientConfig(), p.serverConfig())
	if m.clientErr != nil || m.serverErr != nil {
		t.Fatal(m.clientErr, m.serverErr)
	}
}

// splitAfter writes the first n bytes of each Write on their own.
type splitAfter struct {
	net.Conn
	n int
}

func (s splitAfter) Write(p []byte) (int, error) {
	n := min(s.n, len(p))
	if k, err := s.Conn.Write(p[:n]); err != nil {
		return k, err
	}
	k, err := s.Conn.Write(p[n:])
	return n + k, err
}

type oneByte struct {
	io.Reader
	io.Writer
}

func TestOneByteAtATimeIsEnough(t *testing.T) {
	p := newParty(t)
	c, s := pipe(t)
	m := meet(context.Background(),
		oneByte{iotest.OneByteReader(c), c}, oneByte{iotest.OneByteReader(s), s}, p.clientConfig(), p.serverConfig())
	if m.clientErr != nil || m.serverErr != nil {
		t.Fatal(m.clientErr, m.serverErr)
	}
	exchange(t, m.client, m.server, []byte("drop by drop"), nil, bytes.Repeat([]byte("x"), 3000))
}

func TestOtherDialectIntroOrRootIsRefused(t *testing.T) {
	other := newParty(t)
	tests := []struct {
		name       string
		change     func(*ClientConfig, *ServerConfig)
		client     error
		clientStep string
		server     error
		serverStep string
	}{
		{"strict client, whatsapp server", func(c *ClientConfig, s *ServerConfig) { c.Mode = ModeStrict },
			ErrDecrypt, "server hello", io.EOF, "client finish"},
		{"whatsapp client, strict server", func(c *ClientConfig, s *ServerConfig) { s.Mode = ModeStrict },
			ErrDecrypt, "server hello", io.EOF, "client finish"},
		{"other intro", func(c *ClientConfig, s *ServerConfig) { c.Intro = [4]byte{'W', 'A', 6, 2} },
			nil, "", ErrIntro, "intro"},
		{"other root key", func(c *ClientConfig, s *ServerConfig) { c.RootKey = other.authority.Root.Public },
			ErrCertSignature, "certificate", io.EOF, "client finish"},
		{"chain of another server", func(c *ClientConfig, s *ServerConfig) { s.Static = other.server },
			ErrCertKey, "certificate", io.EOF, "client finish"},
		{"no chain", func(c *ClientConfig, s *ServerConfig) { s.Chain = nil },
			ErrCertMalformed, "certificate", io.EOF, "client finish"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newParty(t)
			cc, sc := p.clientConfig(), p.serverConfig()
			test.change(&cc, &sc)
			c, s := pipe(t)
			rc := &recorder{ReadWriter: c}
			m := meet(context.Background(), &closingRecorder{rc, c}, s, cc, sc)
			if test.client != nil && !errors.Is(m.clientErr, test.client) || m.clientErr == nil {
				t.Errorf("client: %v", m.clientErr)
			}
			if test.clientStep != "" && stepOf(m.clientErr) != test.clientStep {
				t.Errorf("client stopped at %q", stepOf(m.clientErr))
			}
			if !errors.Is(m.serverErr, test.server) && !errors.Is(m.serverErr, io.ErrUnexpectedEOF) {
				t.Errorf("server: %v", m.serverErr)
			}
			if stepOf(m.serverErr) != test.serverStep {
				t.Errorf("server stopped at %q", stepOf(m.serverErr))
			}
			if len(rc.writes) != 1 {
				t.Errorf("client wrote %d messages: its key and payload went to a server it refused", len(rc.writes))
			}
		})
	}
}

type closingRecorder struct {
	*recorder
	io.Closer
}

func TestUnusableConfigurationIsRefusedBeforeAnythingIsSent(t *testing.T) {
	p := newParty(t)
	mixed := KeyPair{Private: p.client.Private, Public: p.server.Public}
	low := [KeySize]byte{}
	cc := p.clientConfig()
	cc.Static = mixed
	if _, err := Client(context.Background(), nil, cc); err != ErrKeyPair {
		t.Errorf("client with mixed key pair: %v", err)
	}
	sc := p.serverConfig()
	sc.Static = mixed
	if _, _, err := Server(context.Background(), nil, sc); err != ErrKeyPair {
		t.Errorf("server with mixed key pair: %v", err)
	}
	for _, root := range append(lowOrderPoints(t), low) {
		cc = p.clientConfig()
		cc.RootKey = root
		if _, err := Client(context.Background(), nil, cc); err != ErrRootKey {
			t.Errorf("client with root key %x: %v", root[:4], err)
		}
	}
}

func TestPayloadTooLargeForAHandshakeMessageIsRefused(t *testing.T) {
	p := newParty(t)
	c, s := pipe(t)
	cc := p.clientConfig()
	cc.Payload = make([]byte, MaxHandshakeMessage)
	m := meet(context.Background(), c, s, cc, p.serverConfig())
	if !errors.Is(m.clientErr, ErrFrameTooLarge) {
		t.Errorf("client: %v", m.clientErr)
	}
}

// script plays the other side: what the tested side reads is given, what it writes is
// thrown away.
type script struct{ *bytes.Reader }

func (script) Write(p []byte) (int, error) { return len(p), nil }

func frameOf(body []byte) []byte { return append(appendFrameHeader(nil, len(body)), body...) }

func TestHandshakeMessagesAreBounded(t *testing.T) {
	p := newParty(t)
	large := appendFrameHeader(nil, MaxHandshakeMessage+1)
	_, err := Client(context.Background(), script{bytes.NewReader(large)}, p.clientConfig())
	if !errors.Is(err, ErrFrameTooLarge) || stepOf(err) != "server hello" {
		t.Errorf("client: %v", err)
	}
	_, _, err = Server(context.Background(), script{bytes.NewReader(append(DefaultIntro[:], large...))}, p.serverConfig())
	if !errors.Is(err, ErrFrameTooLarge) || stepOf(err) != "client hello" {
		t.Errorf("server: %v", err)
	}
}

func TestEndOfStreamAnywhereInTheHandshakeIsUnexpected(t *testing.T) {
	p := newParty(t)
	cc, sc := p.clientConfig(), p.serverConfig()
	cc.Rand, sc.Rand = &testRand{seed: 1}, &testRand{seed: 2}
	c, s := pipe(t)
	rc := &recorder{ReadWriter: c}
	m := meet(context.Background(), rc, s, cc, sc)
	if m.clientErr != nil || m.serverErr != nil {
		t.Fatal(m.clientErr, m.serverErr)
	}
	toServer, toClient := rc.written.Bytes(), rc.read.Bytes()
	for n := range toServer {
		sc.Rand = &testRand{seed: 2}
		_, _, err := Server(context.Background(), script{bytes.NewReader(toServer[:n])}, sc)
		if !errors.Is(err, io.ErrUnexpectedEOF) && !(n == 0 && errors.Is(err, io.EOF)) {
			t.Errorf("server, after %d bytes: %v", n, err)
		}
	}
	for n := range toClient {
		cc.Rand = &testRand{seed: 1}
		_, err := Client(context.Background(), script{bytes.NewReader(toClient[:n])}, cc)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("client, after %d bytes: %v", n, err)
		}
	}
}

func TestContextEndsAHandshakeThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t)
		for name, run := range map[string]func(context.Context, io.ReadWriter) error{
			"client": func(ctx context.Context, rw io.ReadWriter) error {
				_, err := Client(ctx, rw, p.clientConfig())
				return err
			},
			"server": func(ctx context.Context, rw io.ReadWriter) error {
				_, _, err := Server(ctx, rw, p.serverConfig())
				return err
			},
		} {
			for kind, wrap := range map[string]func(net.Conn) io.ReadWriter{
				"by deadline": func(c net.Conn) io.ReadWriter { return c },
				"by closing":  func(c net.Conn) io.ReadWriter { return onlyCloser{c} },
			} {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				a, b := net.Pipe()
				begun := time.Now()
				err := run(ctx, wrap(a))
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 20*time.Second {
					t.Errorf("%s, %s: %v after %v", name, kind, err, time.Since(begun))
				}
				cancel()
				_ = a.Close()
				_ = b.Close()
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := func() error { _, err := Client(ctx, nil, p.clientConfig()); return err }(); !errors.Is(err, context.Canceled) {
			t.Errorf("client with a context that has ended: %v", err)
		}
	})
}

// onlyCloser hides the deadlines.
type onlyCloser struct{ io.ReadWriteCloser }

// lowOrderPoints are the u coordinates of small order, canonical ones.
func lowOrderPoints(t testing.TB) [][KeySize]byte {
	t.Helper()
	minusOne := [KeySize]byte{0xec}
	for i := 1; i < 31; i++ {
		minusOne[i] = 0xff
	}
	minusOne[31] = 0x7f
	return [][KeySize]byte{
		{},
		{1},
		{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
			0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
		{0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
			0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57},
		minusOne,
	}
}

func TestLowOrderKeysOfTheOtherSideAreRefused(t *testing.T) {
	p := newParty(t)
	for _, point := range lowOrderPoints(t) {
		body := hello{ephemeral: point[:]}.marshal(fieldClientHello)
		_, _, err := Server(context.Background(),
			script{bytes.NewReader(append(DefaultIntro[:], frameOf(body)...))}, p.serverConfig())
		if !errors.Is(err, ErrLowOrder) {
			t.Errorf("server given ephemeral %x: %v", point[:4], err)
		}
		body = hello{ephemeral: point[:], static: make([]byte, 48), payload: make([]byte, 16)}.marshal(fieldServerHello)
		_, err = Client(context.Background(), script{bytes.NewReader(frameOf(body))}, p.clientConfig())
		if !errors.Is(err, ErrLowOrder) {
			t.Errorf("client given ephemeral %x: %v", point[:4], err)
		}
	}
}

func TestLowOrderStaticKeysAreRefused(t *testing.T) {
	// The static keys travel encrypted, so the cheater has to take part properly.
	for _, point := range lowOrderPoints(t) {
		p := newParty(t)
		c, s := pipe(t)
		done := make(chan error, 1)
		go func() {
			_, _, err := Server(context.Background(), s, p.serverConfig())
			_ = s.Close()
			done <- err
		}()
		if err := cheatingClient(c, p, point); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrLowOrder) || stepOf(err) != "client finish" {
			t.Errorf("server given static %x: %v", point[:4], err)
		}
	}
}

// cheatingClient finishes a handshake with a static key of its choice.
func cheatingClient(rw io.ReadWriter, p party, static [KeySize]byte) error {
	hs, err := newHandshake(rw, [4]byte{}, ModeWhatsApp, nil)
	if err != nil {
		return err
	}
	e, err := hs.ephemeral()
	if err != nil {
		return err
	}
	hs.firstMessage(e.PublicKey().Bytes())
	if err = hs.send(hello{ephemeral: e.PublicKey().Bytes()}.marshal(fieldClientHello), hs.intro[:]); err != nil {
		return err
	}
	frame, err := hs.receive()
	if err != nil {
		return err
	}
	msg, err := parseServerHello(frame)
	if err != nil {
		return err
	}
	hs.sym.mixHash(msg.ephemeral)
	se, err := e.Curve().NewPublicKey(msg.ephemeral)
	if err != nil {
		return err
	}
	if err = hs.sym.mixDH(e, se); err != nil {
		return err
	}
	ss, err := hs.readStatic(msg.static)
	if err != nil {
		return err
	}
	if err = hs.sym.mixDH(e, ss); err != nil {
		return err
	}
	if _, err = hs.sym.decryptAndHash(msg.payload); err != nil {
		return err
	}
	sealed, err := hs.sym.encryptAndHash(static[:])
	if err != nil {
		return err
	}
	if err = hs.sym.mixKey(make([]byte, 32)); err != nil {
		return err
	}
	payload, err := hs.sym.encryptAndHash(nil)
	if err != nil {
		return err
	}
	return hs.send(finish{static: sealed, payload: payload}.marshal(), nil)
}

func TestErrorsSayStepAndReasonWithoutTheOtherSidesBytes(t *testing.T) {
	for want, err := range map[string]error{
		"noise: handshake: certificate: noise: leaf certificate: expired": &HandshakeError{"certificate",
			&CertificateError{"leaf", ErrCertExpired}},
		"noise: handshake: intro: noise: not the intro of this protocol": &HandshakeError{"intro", ErrIntro},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}
