package sandbox

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	handshakeTime = 30 * time.Second
	idleTime      = 5 * time.Minute // a partner keeps alive every 25 s (PROTOCOL.md 4.6)
	writeTime     = 60 * time.Second
	maxStreams    = 1 << 16
)

// carrier is one connection of a partner, TCP or websocket, as a byte stream (PROTOCOL.md 4.1).
type carrier struct {
	kind    string // tcp or ws
	address string // client address handed over by a proxy (PROTOCOL.md 4.7), else empty
	rw      io.ReadWriteCloser
	conn    net.Conn // for deadlines
	abort   func()   // ends it without a farewell

	closeOnce sync.Once
}

func (c *carrier) Read(p []byte) (int, error)  { return c.rw.Read(p) }
func (c *carrier) Write(p []byte) (int, error) { return c.rw.Write(p) }

// Close ends the connection in the ordinary way.
func (c *carrier) Close() error {
	var err error
	c.closeOnce.Do(func() { err = c.rw.Close() })
	return err
}

// cut ends the connection as a lost network does: without a farewell.
func (c *carrier) cut() { c.closeOnce.Do(c.abort) }

func (s *Server) addCarrier(c *carrier) bool {
	s.runMu.Lock()
	defer s.runMu.Unlock()
	if s.closing || len(s.conns) >= maxStreams {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) removeCarrier(c *carrier) {
	c.Close()
	s.runMu.Lock()
	delete(s.conns, c)
	s.runMu.Unlock()
}

// acceptTCP serves the TCP carrier until its listener is closed.
func (s *Server) acceptTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select { // out of descriptors, for example: do not spin
			case <-s.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		s.run("stream", func() {
			if conn.SetDeadline(time.Now().Add(handshakeTime)) != nil {
				conn.Close()
				return
			}
			c := &carrier{kind: "tcp", conn: conn, abort: func() {
				if tcp, ok := conn.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0) // else the partner sees an ordinary end
				}
				conn.Close()
			}}
			reader := bufio.NewReaderSize(conn, 4096)
			c.rw = &bufferedConn{Conn: conn, r: reader}
			if !s.addCarrier(c) {
				conn.Close()
				return
			}
			defer s.removeCarrier(c)
			address, err := readProxyHeader(reader)
			if err != nil {
				return
			}
			c.address = address
			s.serveStream(c)
		})
	}
}

// bufferedConn is a connection of which the first bytes were looked at.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (b *bufferedConn) Read(p []byte) (int, error) { return b.r.Read(p) }

var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// readProxyHeader takes a PROXY protocol version 2 header off the start of the stream, if there is one, and
// returns the client address in it (PROTOCOL.md 4.7).
func readProxyHeader(r *bufio.Reader) (string, error) {
	first, err := r.Peek(1)
	if err != nil || first[0] != proxySignature[0] {
		return "", err
	}
	head, err := r.Peek(16)
	if err != nil {
		return "", err
	}
	if string(head[:12]) != string(proxySignature) || head[12]>>4 != 2 {
		return "", errors.New("read proxy header: not version 2")
	}
	n := int(binary.BigEndian.Uint16(head[14:]))
	if n > 2048 {
		return "", errors.New("read proxy header: too long")
	}
	local, family := head[12]&0x0f == 0, head[13]>>4
	all := make([]byte, 16+n)
	if _, err := io.ReadFull(r, all); err != nil {
		return "", err
	}
	body := all[16:]
	switch {
	case local:
		return "", nil
	case family == 1 && len(body) >= 12:
		return netip.AddrFrom4([4]byte(body[:4])).String(), nil
	case family == 2 && len(body) >= 36:
		return netip.AddrFrom16([16]byte(body[:16])).String(), nil
	default:
		return "", nil
	}
}

// handleWebsocket serves the websocket carrier. It answers any path: some partners are configured with a host
// alone.
func (s *Server) handleWebsocket(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // Accept has answered
	}
	c := &carrier{kind: "ws", abort: func() { _ = ws.CloseNow() }}
	c.address, _, _ = strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	c.address = strings.TrimSpace(c.address)
	conn := websocket.NetConn(s.ctx, ws, websocket.MessageBinary)
	c.conn, c.rw = conn, conn
	if conn.SetDeadline(time.Now().Add(handshakeTime)) != nil || !s.addCarrier(c) {
		_ = ws.CloseNow()
		return
	}
	done := make(chan struct{})
	started := s.run("stream", func() {
		defer close(done)
		s.serveStream(c)
	})
	if started {
		<-done
	}
	s.removeCarrier(c)
}
