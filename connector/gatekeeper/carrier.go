package gatekeeper

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// carrier is the byte stream under the Noise link, whatever carries it. One Write is
// one frame.
type carrier interface {
	io.ReadWriter
	// Close ends the carrier at once and makes a blocked Read or Write return.
	Close() error
	// Finish ends it as the protocol of the carrier wants it, in a bounded time.
	Finish() error
	// CloseWrite tells the other side that nothing more comes, and leaves what it
	// has sent to be read; it does nothing where the connection has no such half.
	CloseWrite() error
}

// finishTime bounds a carrier's own farewell.
const finishTime = time.Second

// dialCarrier connects by the carrier that the profile has an address for; where it
// has both, TCP, unless told otherwise (PROTOCOL.md 4.1).
func (s *Stream) dialCarrier(ctx context.Context, client netip.Addr) (carrier, error) {
	e := s.cfg.Profile.Endpoints
	if e.ChatTCP != "" && (e.ChatWS == "" || !s.cfg.PreferWebsocket) {
		return s.dialTCP(ctx, e.ChatTCP, client)
	}
	return s.dialWebsocket(ctx, e.ChatWS, client)
}

func (s *Stream) dialTCP(ctx context.Context, endpoint string, client netip.Addr) (carrier, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, &CarrierError{Op: "dial", Err: err}
	}
	conn, err := s.cfg.Dial(ctx, "tcp", u.Host)
	if err != nil {
		return nil, &CarrierError{Op: "dial", Err: err}
	}
	if client.IsValid() {
		if err = writeProxyHeader(conn, client, s.cfg.Profile.Timing.Answer); err != nil {
			_ = conn.Close()
			return nil, &CarrierError{Op: "dial", Err: err}
		}
	}
	return &tcpCarrier{Conn: conn, patience: s.cfg.Profile.Timing.Answer}, nil
}

// tcpCarrier is a connection whose writes do not wait for ever: a server that stops
// reading would otherwise hold every goroutine that has something to send.
type tcpCarrier struct {
	net.Conn
	patience time.Duration
}

// Read keeps io.EOF as it is and dresses every other error.
func (c *tcpCarrier) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, dress("read", err)
}

// Write fails when the whole of p was not taken in time.
func (c *tcpCarrier) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, dress("write", err)
	}
	n, err := c.Conn.Write(p)
	return n, dress("write", err)
}

// Finish closes: TCP's own farewell carries what is still unsent.
func (c *tcpCarrier) Finish() error { return c.Close() }

// CloseWrite ends our half.
func (c *tcpCarrier) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return dress("close", half.CloseWrite())
	}
	return nil
}

// CarrierError is an error of the network under a stream. Its text says what failed
// in general words, never an address; the cause behind Unwrap may hold one and is not
// for logs.
type CarrierError struct {
	// Op is "dial", "read" or "write".
	Op string
	// Err is the cause.
	Err error
}

// Error returns the operation and the kind of failure.
func (e *CarrierError) Error() string {
	return fmt.Sprintf("gatekeeper: %s: %s", e.Op, failureKind(e.Err))
}

// Unwrap returns the cause.
func (e *CarrierError) Unwrap() error { return e.Err }

func dress(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // what wraps io.EOF is no orderly end
		return err
	}
	return &CarrierError{Op: op, Err: err}
}

// failureKind puts a network error into words that hold no address: the texts of
// package net all do.
func failureKind(err error) string {
	var (
		errno   syscall.Errno
		dns     *net.DNSError
		upgrade *upgradeError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timed out"
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return "closed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "unexpected end"
	case errors.As(err, &upgrade):
		return upgrade.Error()
	case errors.Is(err, errNotBinary):
		return errNotBinary.Error()
	case websocket.CloseStatus(err) != -1:
		return fmt.Sprintf("websocket closed (status %d)", websocket.CloseStatus(err))
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return "host not found"
		}
		return "name service failed"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid):
		return "certificate of the web server not accepted"
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "timed out"
	}
	return "failed"
}
