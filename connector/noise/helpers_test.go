package noise

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// party is everything two sides need to meet.
type party struct {
	authority      *Authority
	client, server KeyPair
	chain          []byte
	now            time.Time
}

var testNow = time.Unix(1_760_000_000, 0)

func newParty(t testing.TB) party {
	t.Helper()
	p := party{now: testNow}
	var err error
	if p.authority, err = NewAuthority(nil); err != nil {
		t.Fatal(err)
	}
	if p.client, err = GenerateKeyPair(nil); err != nil {
		t.Fatal(err)
	}
	if p.server, err = GenerateKeyPair(nil); err != nil {
		t.Fatal(err)
	}
	p.chain, err = p.authority.Issue(p.server.Public, testNow.Add(-time.Hour), testNow.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p party) clientConfig() ClientConfig {
	return ClientConfig{
		Static: p.client, RootKey: p.authority.Root.Public, Payload: []byte("login"),
		Now: func() time.Time { return p.now },
	}
}

func (p party) serverConfig() ServerConfig {
	return ServerConfig{Static: p.server, Chain: p.chain}
}

// met is the outcome of a handshake on both sides.
type met struct {
	client, server       *Conn
	peer                 *Peer
	clientErr, serverErr error
}

// meet runs both sides over the two ends of a pipe, which are closed by a side that
// fails.
func meet(ctx context.Context, c, s io.ReadWriter, cc ClientConfig, sc ServerConfig) met {
	var m met
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.server, m.peer, m.serverErr = Server(ctx, s, sc)
		if m.serverErr != nil {
			closeIfCloser(s)
		}
	}()
	m.client, m.clientErr = Client(ctx, c, cc)
	if m.clientErr != nil {
		closeIfCloser(c)
	}
	<-done
	return m
}

func closeIfCloser(rw io.ReadWriter) {
	if c, ok := rw.(io.Closer); ok {
		_ = c.Close()
	}
}

// pipe returns two connected ends that are closed when the test ends.
func pipe(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// established returns both ends of a link.
func established(t testing.TB, mode Mode) met {
	t.Helper()
	p := newParty(t)
	c, s := pipe(t)
	cc, sc := p.clientConfig(), p.serverConfig()
	cc.Mode, sc.Mode = mode, mode
	m := meet(context.Background(), c, s, cc, sc)
	if m.clientErr != nil || m.serverErr != nil {
		t.Fatalf("handshake failed: client %v, server %v", m.clientErr, m.serverErr)
	}
	return m
}

// exchange sends frames both ways, turn and turn about.
func exchange(t *testing.T, a, b *Conn, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		for _, dir := range [][2]*Conn{{a, b}, {b, a}} {
			sent := make(chan error, 1)
			go func() { sent <- dir[0].WriteFrame(f) }()
			got, err := dir[1].ReadFrame()
			if err != nil {
				t.Fatalf("read: %v", err)
			}
			if err = <-sent; err != nil {
				t.Fatalf("write: %v", err)
			}
			if string(got) != string(f) {
				t.Fatalf("frame of %d bytes arrived changed", len(f))
			}
		}
	}
}

// stepOf returns the step of a handshake error.
func stepOf(err error) string {
	var h *HandshakeError
	if errors.As(err, &h) {
		return h.Step
	}
	return ""
}

// testRand is a reproducible stream of bytes: what is drawn from it repeats with the
// seed.
type testRand struct {
	seed, n uint64
}

func (r *testRand) Read(p []byte) (int, error) {
	for i := 0; i < len(p); {
		var block [16]byte
		binary.BigEndian.PutUint64(block[:], r.seed)
		binary.BigEndian.PutUint64(block[8:], r.n)
		r.n++
		sum := sha256.Sum256(block[:])
		i += copy(p[i:], sum[:])
	}
	return len(p), nil
}
