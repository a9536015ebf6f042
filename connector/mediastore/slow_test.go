package mediastore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/mediastore"
)

// pipes is a listener whose connections are pipes inside this process, so that their deadlines follow a test's clock.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// boundBackend is one whose readers end with the request, as those of an object store do.
type boundBackend struct{ mediastore.Backend }

func (b boundBackend) Open(ctx context.Context, name mediastore.Name, offset, length int64) (io.ReadCloser, error) {
	r, err := b.Backend.Open(ctx, name, offset, length)
	return &boundReader{r, ctx}, err
}

type boundReader struct {
	io.ReadCloser
	ctx context.Context
}

func (r *boundReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}

// slowly serves one object of that size with the public listener's time limits, inside a bubble, and asks for it; read is given the body.
func slowly(t *testing.T, size int, fields string, read func(t *testing.T, body io.Reader)) {
	backend, content := boundBackend{filesBackend(t, t.TempDir())}, random(1, size)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, backend, 0)
		o := w.put(t, "a", content)
		listener := newPipes()
		server := &http.Server{Handler: w.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
		go func() { _ = server.Serve(listener) }()
		conn := listener.dial()
		if _, err := fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: a\r\n%s\r\n", o.Ref, fields); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp.Body)
		conn.Close()
		_ = server.Close()
		synctest.Wait()
	})
}

func TestALongDownloadIsNotCutByTheServersLimits(t *testing.T) {
	for name, fields := range map[string]string{"whole": "", "one span": "Range: bytes=1-\r\n"} {
		t.Run(name, func(t *testing.T) {
			begin := time.Time{}
			slowly(t, 3<<20, fields, func(t *testing.T, body io.Reader) {
				begin = time.Now()
				block := make([]byte, 16<<10)
				for total := 0; ; {
					n, err := io.ReadFull(body, block)
					if total += n; errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
						if total < 3<<20-1 {
							t.Errorf("cut after %d bytes and %v", total, time.Since(begin))
						}
						break
					} else if err != nil {
						t.Fatalf("after %d bytes and %v: %v", total, time.Since(begin), err)
					}
					time.Sleep(3 * time.Second) // of the test's clock: 5.3 kB/s
				}
				if took := time.Since(begin); took < 9*time.Minute {
					t.Errorf("took %v: that was not slow", took)
				}
			})
		})
	}
}

func TestAReaderThatStopsIsCutOff(t *testing.T) {
	slowly(t, 3<<20, "", func(t *testing.T, body io.Reader) {
		if _, err := io.CopyN(io.Discard, body, 300_000); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute) // of the test's clock
		if n, err := io.Copy(io.Discard, body); err == nil {
			t.Errorf("went on for %d bytes after standing still", n)
		}
	})
}

// shortBackend gives less than was asked for.
type shortBackend struct{ mediastore.Backend }

func (b shortBackend) Open(ctx context.Context, name mediastore.Name, offset, length int64) (io.ReadCloser, error) {
	r, err := b.Backend.Open(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r, length-1), r}, nil
}

func TestABlobThatEndsTooEarlyIsNeverTakenForWhole(t *testing.T) {
	each(t, func(t *testing.T, s *served) {
		s.backend.Backend = shortBackend{s.backend.Backend}
		for _, fields := range []string{"", "bytes=0-9", "bytes=0-9,20-29"} {
			req, err := http.NewRequest("GET", s.url+"/"+s.object.Ref, nil)
			if err != nil {
				t.Fatal(err)
			}
			if fields != "" {
				req.Header.Set("Range", fields)
			}
			resp, err := s.client.Do(req)
			if err != nil {
				continue // cut before the headers were out
			}
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Errorf("%q: the body looks whole", fields)
			}
			resp.Body.Close()
		}
	})
}

func TestWhatWasOpenedToBeServedIsClosed(t *testing.T) {
	each(t, func(t *testing.T, s *served) {
		counter := &closeCounter{Backend: s.backend.Backend}
		s.backend.Backend = counter
		for _, header := range []string{"bytes=5-", "bytes=0-1,3-4,6-7", "bytes=0-,0-"} {
			s.ask(t, "GET", []string{"Range: " + header})
		}
		s.server.Close() // waits for the handlers
		if opened, closed := counter.opened.Load(), counter.closed.Load(); opened != 5 || opened != closed {
			t.Errorf("%d opened, %d closed", opened, closed)
		}
	})
}

type closeCounter struct {
	mediastore.Backend
	opened, closed atomic.Int64
}

func (c *closeCounter) Open(ctx context.Context, name mediastore.Name, offset, length int64) (io.ReadCloser, error) {
	r, err := c.Backend.Open(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	c.opened.Add(1)
	return &countedCloser{r, c}, nil
}

type countedCloser struct {
	io.ReadCloser
	c *closeCounter
}

func (r *countedCloser) Close() error {
	r.c.closed.Add(1)
	return r.ReadCloser.Close()
}
