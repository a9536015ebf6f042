package gatekeeper

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// These tests use real sockets on loopback, and so the real clock, which none of them
// reads.

// webWorld is a world whose gatekeeper is reached by websocket.
type webWorld struct {
	*world
	server *httptest.Server

	mu      sync.Mutex
	headers []http.Header
	closed  chan websocket.StatusCode
}

// webStream makes a carrier's server side into a byte stream; the split is the test's.
type webStream struct {
	io.Reader
	ws    *websocket.Conn
	split func([]byte) [][]byte
}

func (s *webStream) Write(p []byte) (int, error) {
	for _, part := range s.split(p) {
		if err := s.ws.Write(context.Background(), websocket.MessageBinary, part); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func whole(p []byte) [][]byte { return [][]byte{p} }

func newWebWorld(t *testing.T, split func([]byte) [][]byte, play script) *webWorld {
	t.Helper()
	w := &webWorld{world: newWorld(t), closed: make(chan websocket.StatusCode, 100)}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.headers = append(w.headers, r.Header.Clone())
		w.mu.Unlock()
		ws, err := websocket.Accept(rw, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		w.serveWeb(t, ws, split, play)
	}))
	t.Cleanup(w.server.Close)
	p := profile.WhatsApp().WithEndpoints(profile.Endpoints{ChatWS: "ws" + strings.TrimPrefix(w.server.URL, "http") + "/ws/chat"})
	p.Noise.RootKey = w.authority.Root.Public
	w.cfg.Profile, w.cfg.Dial = p, nil
	w.cfg.Jitter = func(time.Duration) time.Duration { return 0 }
	return w
}

// serveWeb checks that each message is one whole frame, and plays the script.
func (w *webWorld) serveWeb(t *testing.T, ws *websocket.Conn, split func([]byte) [][]byte, play script) {
	ws.SetReadLimit(1 << 24)
	in, out := io.Pipe()
	go func() {
		first := true
		for {
			typ, p, err := ws.Read(context.Background())
			if err != nil {
				w.closed <- websocket.CloseStatus(err)
				_ = out.CloseWithError(io.EOF)
				return
			}
			frame := p
			if first {
				frame, first = bytes.TrimPrefix(p, noise.DefaultIntro[:]), false
			}
			if n := int(frame[0])<<16 | int(frame[1])<<8 | int(frame[2]); typ != websocket.MessageBinary || n != len(frame)-3 {
				t.Errorf("a message of %d bytes is not one frame", len(p))
			}
			_, _ = out.Write(p)
		}
	}()
	chain, err := w.authority.Issue(w.world.server.Public, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Error(err)
		return
	}
	conn, peer, err := noise.Server(context.Background(), &webStream{Reader: in, ws: ws, split: split},
		noise.ServerConfig{Static: w.world.server, Chain: chain})
	if err != nil {
		t.Errorf("handshake: %v", err)
		return
	}
	s := &session{w: w.world, t: t, conn: conn, peer: peer, incoming: make(chan stanza.Stanza, 100)}
	if err = proto.Unmarshal(peer.Payload, &s.login); err != nil {
		t.Error(err)
		return
	}
	go s.read()
	play(s)
}

func TestWebsocketMessagesAreJoinedHoweverTheyAreSplit(t *testing.T) {
	var pending []byte
	held := false
	for name, split := range map[string]func([]byte) [][]byte{
		"one frame a message": whole,
		"one byte a message": func(p []byte) (parts [][]byte) {
			for i := range p {
				parts = append(parts, p[i:i+1])
			}
			return parts
		},
		"split inside the length": func(p []byte) [][]byte { return [][]byte{p[:2], p[2:]} },
		"with empty messages":     func(p []byte) [][]byte { return [][]byte{{}, p[:1], {}, {}, p[1:], {}} },
		"two frames a message after the handshake": func(p []byte) [][]byte {
			// success is kept back and goes with what follows it.
			if len(p) < 80 && !held {
				pending, held = bytes.Clone(p), true
				return nil
			}
			p = append(pending, p...)
			pending = nil
			return [][]byte{p}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWebWorld(t, split, func(s *session) {
				s.logIn()
				none := 0
				s.send(&stanza.IB{Offline: &none, Preview: &stanza.OfflinePreview{Count: 1, Message: 1, Receipt: 1, Notification: 1}})
				m := message("M", nil)
				m.Enc.Data = bytes.Repeat([]byte{7}, 70_000)
				s.send(m)
				s.answer()
			})
			got := make(chan *stanza.Message, 1)
			w.handler.onStanza = func(_ context.Context, st stanza.Stanza) {
				if m, ok := st.(*stanza.Message); ok {
					got <- m
				}
			}
			r := w.run()
			if m := <-got; len(m.Enc.Data) != 70_000 {
				t.Errorf("%d bytes arrived", len(m.Enc.Data))
			}
			if _, err := w.stream.Request(t.Context(), &stanza.IQ{Type: stanza.IQGet, XMLNS: stanza.NSKeepAlive}); err != nil {
				t.Error(err)
			}
			r.end()
		})
	}
}

func TestWebsocketIsClosedWithAFarewell(t *testing.T) {
	w := newWebWorld(t, whole, live)
	r := w.run()
	w.handler.waitFor(Live)
	r.end()
	if code := <-w.closed; code != websocket.StatusNormalClosure {
		t.Errorf("closed with status %d", code)
	}
}

func TestFarewellNobodyAnswersIsBounded(t *testing.T) {
	release := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(rw, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		<-release
		_ = ws.CloseNow()
	}))
	defer web.Close()
	defer close(release)
	s := New(Config{Profile: profile.WhatsApp()})
	c, err := s.dialWebsocket(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_, err := c.Read(make([]byte, 10))
		if err == nil {
			t.Error("something was read")
		}
		close(done)
	}()
	_ = c.Finish() // returns, which is the point; what it says does not matter
	<-done
}

func TestClientAddressIsToldOnlyIfConfigured(t *testing.T) {
	for _, test := range []struct {
		address netip.Addr
		want    string
	}{
		{netip.Addr{}, ""},
		{netip.MustParseAddr("192.0.2.7"), "192.0.2.7"},
		{netip.MustParseAddr("::ffff:192.0.2.7"), "192.0.2.7"},
		{netip.MustParseAddr("2001:db8::7"), "2001:db8::7"},
	} {
		w := newWebWorld(t, whole, live)
		w.cfg.ClientAddress = test.address
		r := w.run()
		w.handler.waitFor(Live)
		r.end()
		h := w.headers[0]
		if got := h.Get("X-Forwarded-For"); got != test.want {
			t.Errorf("%v: header %q", test.address, got)
		}
		if h.Get("Sec-WebSocket-Protocol") != "" {
			t.Error("a subprotocol was asked for")
		}
	}
}

func TestProxyHeaderSaysWhoConnects(t *testing.T) {
	const signature = "\r\n\r\n\x00\r\nQUIT\n"
	for name, test := range map[string]struct {
		client, server string
		want           string
	}{
		"IPv4": {"192.0.2.7", "198.51.100.1:443",
			"\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x00\x00\x01\xbb"},
		"IPv6": {"2001:db8::7", "[2001:db8::1]:443", "\x21\x21\x00\x24" +
			"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
			"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x01\xbb"},
		"IPv4 to an IPv6 server": {"192.0.2.7", "[2001:db8::1]:80", "\x21\x21\x00\x24" +
			"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07" +
			"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x50"},
		"IPv6 to an IPv4 server": {"2001:db8::7", "198.51.100.1:443", "\x21\x21\x00\x24" +
			"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
			"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x01" + "\x00\x00\x01\xbb"},
		"mapped IPv4 with a zone elsewhere": {"::ffff:192.0.2.7", "198.51.100.1:443",
			"\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x00\x00\x01\xbb"},
	} {
		got := proxyHeader(netip.MustParseAddr(test.client), netip.MustParseAddrPort(test.server))
		if string(got) != signature+test.want {
			t.Errorf("%s: % x", name, got)
		}
	}
	if got := proxyHeader(netip.MustParseAddr("192.0.2.7"), netip.AddrPort{}); len(got) != 16+36 {
		t.Errorf("server unknown: % x", got)
	}
}

func TestProxyHeaderGoesAheadOfEverythingOnTCP(t *testing.T) {
	for _, on := range []bool{true, false} {
		w := newWorld(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		first := make(chan []byte, 1)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				br := bufio.NewReader(conn)
				want := []byte(nil)
				if on {
					want = proxyHeader(netip.MustParseAddr("192.0.2.7"), conn.LocalAddr().(*net.TCPAddr).AddrPort())
				}
				head := make([]byte, len(want))
				_, _ = io.ReadFull(br, head)
				if !bytes.Equal(head, want) {
					t.Errorf("header % x, want % x", head, want)
				}
				intro, _ := br.Peek(4)
				first <- bytes.Clone(intro)
				go w.serve(&bufferedConn{conn, br}, live)
			}
		}()
		w.profile = w.profile.WithEndpoints(profile.Endpoints{ChatTCP: "tcp://" + l.Addr().String()})
		w.cfg.Profile, w.cfg.Dial = w.profile, nil
		if on {
			w.cfg.ClientAddress = netip.MustParseAddr("192.0.2.7")
		}
		r := w.run()
		w.handler.waitFor(Live)
		r.end()
		_ = l.Close()
		if got := <-first; !bytes.Equal(got, noise.DefaultIntro[:]) {
			t.Errorf("then came % x", got)
		}
	}
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func TestCarrierIsChosenByTheProfileAndTheConfiguration(t *testing.T) {
	const tcp, ws = "tcp://tcp.example:1", "ws://ws.example:2/chat"
	for _, test := range []struct {
		e      profile.Endpoints
		prefer bool
		want   string
	}{
		{profile.Endpoints{ChatTCP: tcp}, false, "tcp.example:1"},
		{profile.Endpoints{ChatTCP: tcp}, true, "tcp.example:1"},
		{profile.Endpoints{ChatWS: ws}, false, "ws.example:2"},
		{profile.Endpoints{ChatTCP: tcp, ChatWS: ws}, false, "tcp.example:1"},
		{profile.Endpoints{ChatTCP: tcp, ChatWS: ws}, true, "ws.example:2"},
	} {
		dialled := ""
		s := New(Config{
			Profile: profile.WhatsApp().WithEndpoints(test.e), PreferWebsocket: test.prefer,
			Dial: func(_ context.Context, _, address string) (net.Conn, error) {
				dialled = address
				return nil, errNoRoute
			},
		})
		if _, err := s.dialCarrier(t.Context(), netip.Addr{}); !errors.Is(err, errNoRoute) {
			t.Errorf("%+v: %v", test.e, err)
		}
		if dialled != test.want {
			t.Errorf("%+v, preferring websocket %v: dialled %s", test.e, test.prefer, dialled)
		}
	}
}

func TestWebServersThatAreNoneAreRefused(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	for name, test := range map[string]struct {
		h    http.HandlerFunc
		want string
	}{
		"not found":  {http.NotFound, "upgrade refused (status 404)"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, "upgrade refused (status 302)"},
		"no upgrade": {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }, "upgrade refused (status 200)"},
		"endless headers": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*maxUpgradeHeader))
			w.WriteHeader(http.StatusTeapot)
		}, "failed"},
	} {
		web := httptest.NewServer(test.h)
		s := New(Config{Profile: profile.WhatsApp()})
		_, err := s.dialWebsocket(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), netip.Addr{})
		if err == nil || err.Error() != "gatekeeper: dial: "+test.want {
			t.Errorf("%s: %v", name, err)
		}
		web.Close()
	}
	if elsewhere != 0 {
		t.Error("a redirect was followed")
	}
}

func TestWebsocketEndsAreTold(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*websocket.Conn)
		want error
		text string
	}{
		"farewell":      {func(ws *websocket.Conn) { _ = ws.Close(websocket.StatusNormalClosure, "") }, io.EOF, "EOF"},
		"going away":    {func(ws *websocket.Conn) { _ = ws.Close(websocket.StatusGoingAway, "") }, io.EOF, "EOF"},
		"server error":  {func(ws *websocket.Conn) { _ = ws.Close(websocket.StatusInternalError, "secret") }, nil, "gatekeeper: read: websocket closed (status 1011)"},
		"text message":  {func(ws *websocket.Conn) { _ = ws.Write(context.Background(), websocket.MessageText, []byte("hi")) }, errNotBinary, "gatekeeper: read: text message"},
		"no farewell":   {func(ws *websocket.Conn) { _ = ws.CloseNow() }, nil, "gatekeeper: read: unexpected end"},
		"nothing wrong": {func(ws *websocket.Conn) { _ = ws.Write(context.Background(), websocket.MessageBinary, []byte("ok")) }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			read := make(chan struct{})
			web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				ws, err := websocket.Accept(rw, r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				test.end(ws)
				<-read
				_ = ws.CloseNow()
			}))
			defer web.Close()
			c, err := New(Config{Profile: profile.WhatsApp()}).dialWebsocket(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), netip.Addr{})
			if err != nil {
				t.Fatal(err)
			}
			n, err := c.Read(make([]byte, 10))
			close(read)
			switch {
			case test.text == "" && (err != nil || n != 2):
				t.Errorf("%d, %v", n, err)
			case test.text != "" && (err == nil || err.Error() != test.text):
				t.Errorf("got %v, want %s", err, test.text)
			case test.want != nil && !errors.Is(err, test.want):
				t.Errorf("got %v", err)
			}
			_ = c.Close()
			if _, err = c.Write([]byte("x")); err == nil {
				t.Error("written after the end")
			}
		})
	}
}

func TestSecureWebsocketChecksTheCertificate(t *testing.T) {
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if ws, err := websocket.Accept(rw, r, nil); err == nil {
			_ = ws.Write(context.Background(), websocket.MessageBinary, []byte("ok"))
			_, _, _ = ws.Read(context.Background())
			_ = ws.CloseNow()
		}
	}))
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	defer web.Close()
	endpoint := "wss" + strings.TrimPrefix(web.URL, "https")
	_, err := New(Config{Profile: profile.WhatsApp()}).dialWebsocket(t.Context(), endpoint, netip.Addr{})
	if err == nil || err.Error() != "gatekeeper: dial: certificate of the web server not accepted" {
		t.Errorf("unknown authority: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	c, err := New(Config{Profile: profile.WhatsApp(), TLS: &tls.Config{RootCAs: pool}}).dialWebsocket(t.Context(), endpoint, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 10)); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	_ = c.Close()
}

func TestErrorsOfTheNetworkTellNoAddress(t *testing.T) {
	address := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}
	for want, cause := range map[string]error{
		"connection reset by peer": &net.OpError{Op: "read", Net: "tcp", Source: address, Addr: address,
			Err: os.NewSyscallError("read", syscall.ECONNRESET)},
		"connection refused":  &net.OpError{Op: "dial", Net: "tcp", Addr: address, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		"timed out":           &net.OpError{Op: "read", Net: "tcp", Addr: address, Err: os.ErrDeadlineExceeded},
		"host not found":      &net.DNSError{Err: "no such host", Name: "secret.example", Server: "192.0.2.7", IsNotFound: true},
		"name service failed": &net.DNSError{Err: "server misbehaving", Name: "secret.example", Server: "192.0.2.7"},
		"closed":              &net.OpError{Op: "read", Addr: address, Err: net.ErrClosed},
		"unexpected end":      fmt.Errorf("read 192.0.2.7: %w", io.ErrUnexpectedEOF),
		"cancelled":           fmt.Errorf("dial 192.0.2.7: %w", context.Canceled),
		"certificate of the web server not accepted": fmt.Errorf("tls: %w", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "192.0.2.7"}),
		"failed": errors.New("something about 192.0.2.7"),
	} {
		err := &CarrierError{Op: "read", Err: cause}
		if got := err.Error(); got != "gatekeeper: read: "+want {
			t.Errorf("got %q, want %q", got, want)
		}
		if !errors.Is(err, cause) {
			t.Errorf("%s: the cause is lost", want)
		}
	}
}
