package faults_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// pgProxy stands between the bridge and a Postgres server, and cuts a connection in the moment of a COMMIT when it is told to.
type pgProxy struct {
	dir, server string
	listener    net.Listener

	mu   sync.Mutex
	cut  cut
	left int // COMMITs until then
	hit  chan struct{}
}

// cut says what becomes of a COMMIT.
type cut int

const (
	noCut cut = iota
	// cutBefore: the server never sees it.
	cutBefore
	// cutAfter: the server has done it, and the bridge never sees the answer.
	cutAfter
)

const pgSocket = ".s.PGSQL.5432"

// startProxy listens for a server that is reached by a DSN in words with the folder of its socket as host, and returns the DSN that goes
// through the proxy.
func startProxy(t testing.TB, dsn string) (*pgProxy, string) {
	t.Helper()
	host := ""
	for _, word := range strings.Fields(dsn) {
		if value, ok := strings.CutPrefix(word, "host="); ok {
			host = value
		}
	}
	dir, err := os.MkdirTemp("/tmp", "postern-px-") // socket paths are short by law
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &pgProxy{dir: dir, server: filepath.Join(host, pgSocket)}
	if p.listener, err = net.Listen("unix", filepath.Join(dir, pgSocket)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.listener.Close() })
	go p.serve()
	return p, strings.Replace(dsn, "host="+host, "host="+dir, 1)
}

// next cuts the nth COMMIT from now; the channel is closed when that has happened.
func (p *pgProxy) next(c cut, nth int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.left, p.hit = c, nth, make(chan struct{})
	return p.hit
}

// commit counts one, and says what becomes of it.
func (p *pgProxy) commit() cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == noCut {
		return noCut
	}
	if p.left--; p.left > 0 {
		return noCut
	}
	c := p.cut
	p.cut = noCut
	close(p.hit)
	return c
}

func (p *pgProxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("unix", p.server)
			if err != nil {
				return // the server is away
			}
			defer server.Close()
			muted := make(chan struct{})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer client.Close()
				p.answers(client, server, muted)
			}()
			p.requests(client, server, muted)
			_ = server.Close()
			<-ended
		}()
	}
}

// answers passes on what the server says until it is muted: then the next answer is read, and nobody hears it.
func (p *pgProxy) answers(client io.Writer, server io.Reader, muted <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-muted:
			return
		default:
		}
		if _, err = client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// requests passes on what the bridge says, message by message.
func (p *pgProxy) requests(client io.Reader, server io.Writer, muted chan struct{}) {
	for first := true; ; first = false {
		message, err := readMessage(client, first)
		if err != nil {
			return
		}
		what := noCut
		if !first && message[0] == 'Q' && bytes.HasPrefix(message[5:], []byte("COMMIT")) {
			what = p.commit()
		}
		if what == cutBefore {
			return
		}
		if what == cutAfter {
			close(muted) // before the server can answer
		}
		if _, err = server.Write(message); err != nil {
			return
		}
		if what == cutAfter {
			_, _ = io.Copy(io.Discard, client) // until the answer has come, and the other half has hung up
			return
		}
	}
}

// readMessage reads one message of a client: its type, unless it is the first, its length, and the rest.
func readMessage(from io.Reader, first bool) ([]byte, error) {
	head := 5
	if first {
		head = 4
	}
	message := make([]byte, head)
	if _, err := io.ReadFull(from, message); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(message[head-4:])
	if n < 4 || n > 64<<20 {
		return nil, errors.New("not a message")
	}
	message = append(message, make([]byte, n-4)...)
	if _, err := io.ReadFull(from, message[head:]); err != nil {
		return nil, fmt.Errorf("message cut: %w", err)
	}
	return message, nil
}
