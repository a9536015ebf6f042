package noise

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// tamperer changes one byte on its way out.
type tamperer struct {
	net.Conn
	at   int // offset in everything written
	mask byte
	sent int
}

func (c *tamperer) Write(p []byte) (int, error) {
	q := append([]byte(nil), p...)
	if i := c.at - c.sent; i >= 0 && i < len(q) {
		q[i] ^= c.mask
	}
	c.sent += len(q)
	return c.Conn.Write(q)
}

// handshakeSizes returns how many bytes each side sends in a handshake.
func handshakeSizes(t *testing.T, p party) (client, server int) {
	t.Helper()
	c, s := pipe(t)
	rc := &recorder{ReadWriter: c}
	m := meet(context.Background(), rc, s, p.clientConfig(), p.serverConfig())
	if m.clientErr != nil || m.serverErr != nil {
		t.Fatal(m.clientErr, m.serverErr)
	}
	return rc.written.Len(), rc.read.Len()
}

func TestEveryTamperedByteOfTheHandshakeIsNoticed(t *testing.T) {
	p := newParty(t)
	fromClient, fromServer := handshakeSizes(t, p)
	if fromClient < 100 || fromServer < 300 {
		t.Fatalf("handshake of %d and %d bytes: too small to be true", fromClient, fromServer)
	}
	tried := 0
	for _, side := range []struct {
		name  string
		bytes int
	}{{"client", fromClient}, {"server", fromServer}} {
		for at := range side.bytes {
			// Every bit of every byte on request; ordinarily one bit of each, another for its
			// neighbour.
			masks := []byte{1 << (at % 8)}
			if os.Getenv("POSTERN_ALL") != "" {
				masks = []byte{1, 2, 4, 8, 16, 32, 64, 128, 255}
			}
			for _, mask := range masks {
				synctest.Test(t, func(t *testing.T) {
					if err := tamperedMeeting(p, side.name, at, mask); err != nil {
						t.Errorf("byte %d of the %s, mask %#x: %v", at, side.name, mask, err)
					}
				})
				tried++
			}
		}
	}
	if tried < fromClient+fromServer {
		t.Errorf("%d bytes tried of %d", tried, fromClient+fromServer)
	}
}

// tamperedMeeting reports a handshake that went through although a byte was changed. A
// changed length can make a side wait for bytes that never come; the clock of the
// bubble ends that.
func tamperedMeeting(p party, side string, at int, mask byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	c, s := a, b
	if side == "client" {
		c = &tamperer{Conn: a, at: at, mask: mask}
	} else {
		s = &tamperer{Conn: b, at: at, mask: mask}
	}
	m := meet(ctx, c, s, p.clientConfig(), p.serverConfig())
	if m.serverErr == nil {
		return fmt.Errorf("the server accepted it (client: %v)", m.clientErr)
	}
	if m.clientErr != nil {
		return nil
	}
	// Only the last message can fail without the client's knowing; the client finds out
	// with the first frame it reads.
	if _, err := m.client.ReadFrame(); err == nil {
		return fmt.Errorf("the client read a frame")
	}
	return nil
}
