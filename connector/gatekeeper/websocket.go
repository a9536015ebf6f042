package gatekeeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxUpgradeHeader bounds the server's answer to the upgrade, in bytes.
	maxUpgradeHeader = 64 << 10
)

// errNotBinary: the server sent a text message.
var errNotBinary = errors.New("text message")

// upgradeError says that the web server did not switch to websocket.
type upgradeError struct{ status int }

func (e *upgradeError) Error() string { return fmt.Sprintf("upgrade refused (status %d)", e.status) }

// dialWebsocket connects by websocket. Redirects are not followed: the token goes
// where the profile says, or nowhere. The link is encrypted to a pinned key in
// itself, so that nothing rests on TLS.
func (s *Stream) dialWebsocket(ctx context.Context, endpoint string, client netip.Addr) (carrier, error) {
	var raw atomic.Pointer[net.Conn]
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := s.cfg.Dial(ctx, network, address)
			if err == nil {
				raw.Store(&conn)
			}
			return conn, err
		},
		TLSClientConfig:        s.cfg.TLS,
		MaxResponseHeaderBytes: maxUpgradeHeader,
		DisableKeepAlives:      true,
	}
	header := http.Header{}
	if client.IsValid() {
		header.Set("X-Forwarded-For", client.Unmap().WithZone("").String())
	}
	//nolint:bodyclose // the library closes the body of the answer itself
	conn, resp, err := websocket.Dial(ctx, endpoint, &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		HTTPHeader: header,
	})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			err = &upgradeError{resp.StatusCode}
		}
		return nil, &CarrierError{Op: "dial", Err: err}
	}
	// Messages are read as they come, whatever their size: the limit is on the frames
	// inside, which need not match them.
	conn.SetReadLimit(-1)
	return &wsCarrier{conn: conn, raw: *raw.Load(), patience: s.cfg.Profile.Timing.Answer}, nil
}

// wsCarrier joins the binary messages of a websocket into one byte stream. The ends
// of messages mean nothing on reading (PROTOCOL.md 4.1).
type wsCarrier struct {
	conn     *websocket.Conn
	raw      net.Conn
	message  io.Reader // the message being read, nil between two
	patience time.Duration
}

// Read is for one goroutine.
func (c *wsCarrier) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if c.message == nil {
			typ, r, err := c.conn.Reader(context.Background())
			if err != nil {
				return 0, c.readError(err)
			}
			if typ != websocket.MessageBinary {
				return 0, &CarrierError{Op: "read", Err: errNotBinary}
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		if err == io.EOF {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, dress("read", err)
		}
	}
}

// readError takes the farewell of the other side for the end of the stream.
func (c *wsCarrier) readError(err error) error {
	switch websocket.CloseStatus(err) {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
		return io.EOF
	}
	return &CarrierError{Op: "read", Err: err}
}

// Write sends p as one binary message.
func (c *wsCarrier) Write(p []byte) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience)
	defer cancel()
	if err := c.conn.Write(ctx, websocket.MessageBinary, p); err != nil {
		return 0, &CarrierError{Op: "write", Err: err}
	}
	return len(p), nil
}

// Close ends the connection without a word.
func (c *wsCarrier) Close() error { return dress("close", c.conn.CloseNow()) }

// CloseWrite ends our half of the connection beneath: a farewell of the websocket's own would have the
// library throw away what comes before its answer.
func (c *wsCarrier) CloseWrite() error { return closeWrite(c.raw) }

// Finish says farewell and waits a moment for the answer.
func (c *wsCarrier) Finish() error {
	timer := time.AfterFunc(finishTime, func() { _ = c.raw.Close() })
	defer timer.Stop()
	return dress("close", c.conn.Close(websocket.StatusNormalClosure, ""))
}
