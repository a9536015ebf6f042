//go:build unix

package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/binxml"
	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
	"postern/connector/noise"
	"postern/connector/stanza"
)

// bareGroup is how many messages share a commit in the bare loop.
const bareGroup = 32

// bare does, in a loop, what nobody can do without: a Noise frame, binary XML,
// Signal on sessions that are rows of bytes, a row in a durable commit, and an HTTP
// request. There is no chat, no order, no status and no framework.
type bare struct {
	b      *testing.B
	me     *e2eetest.Party
	phones []*e2eetest.Party
	codec  binxml.Codec
	client *noise.Conn // the bridge's end
	server *noise.Conn
	toMe   bytes.Buffer
	db     *sql.DB
	put    string // takes any request
	text   []byte
	rows   int
}

// pipe is one end of the link: it reads from and writes to what it is told.
type pipe struct {
	io.Reader
	io.Writer
}

func newBare(b *testing.B, put string) *bare {
	r := &bare{b: b, put: put, codec: binxml.Codec{}}
	r.text = must(proto.Marshal(&waE2E.Message{Conversation: proto.String(benchText)}))
	r.me = e2eetest.NewParty(b, e2eetest.NewMemStore(), 1)
	for i := range benchChats {
		phone := e2eetest.NewParty(b, e2eetest.NewMemStore(), i+2)
		must(r.me.Signal.StartSession(b.Context(), phone.Address, phone.Bundle(b, true), nil))
		r.me.Exchange(b, phone, []byte("hello"))
		phone.Exchange(b, r.me, []byte("hello"))
		r.phones = append(r.phones, phone)
	}
	r.link()
	r.db = must(sql.Open("sqlite3", "file:"+filepath.Join(b.TempDir(), "bare.db")+"?_journal_mode=WAL&_synchronous=FULL"))
	b.Cleanup(func() { r.db.Close() })
	r.db.SetMaxOpenConns(1)
	must(r.db.Exec("CREATE TABLE message (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"))
	return r
}

// link shakes hands over a pipe and then lets the server write into a buffer.
func (r *bare) link() {
	ctx := r.b.Context()
	authority, keys, mine := must(noise.NewAuthority(nil)), must(noise.GenerateKeyPair(nil)), must(noise.GenerateKeyPair(nil))
	chain := must(authority.Issue(keys.Public, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)))
	left, right := net.Pipe()
	near, far := &pipe{left, left}, &pipe{right, right}
	done := make(chan error, 1)
	go func() {
		var err error
		r.server, _, err = noise.Server(ctx, far, noise.ServerConfig{Static: keys, Chain: chain})
		done <- err
	}()
	r.client = must(noise.Client(ctx, near, noise.ClientConfig{Static: mine, RootKey: authority.Root.Public, Payload: []byte("x")}))
	if err := <-done; err != nil {
		r.b.Fatal(err)
	}
	near.Reader, near.Writer, far.Writer = &r.toMe, io.Discard, &r.toMe
}

// commit stores one group of rows.
func (r *bare) commit(bodies [][]byte) {
	tx := must(r.db.Begin())
	insert := must(tx.Prepare("INSERT INTO message (id, body) VALUES (?, ?)"))
	for _, body := range bodies {
		r.rows++
		must(insert.Exec(fmt.Sprintf("%022d", r.rows), body))
	}
	if err := tx.Commit(); err != nil {
		r.b.Fatal(err)
	}
}

// request sends about what a message is for a homeserver.
func (r *bare) request() {
	body := []byte(`{"msgtype":"m.text","body":"` + benchText + `","m.mentions":{},"eu.postern.id":"0123456789abcdef0123456789"}`)
	req := must(http.NewRequest(http.MethodPut, r.put, bytes.NewReader(body)))
	resp := must(http.DefaultClient.Do(req))
	_, _ = io.Copy(io.Discard, resp.Body) // the connection is to be used again
	resp.Body.Close()
}

// in opens count messages and returns processor time for each, and the median time
// of one alone, commit included.
func (r *bare) in(count int) (cpu, alone time.Duration) {
	for i := range count {
		phone := r.phones[i%len(r.phones)]
		sealed := must(phone.Signal.Encrypt(r.b.Context(), r.me.Address, r.text, nil))
		m := &stanza.Message{ID: fmt.Sprintf("%022X", i), From: phone.Address, Type: "text", Notify: "Ben", T: 1795478400,
			Enc: stanza.Enc{V: 2, Type: sealed.Type, Data: sealed.Body}}
		if err := r.server.WriteFrame(must(r.codec.Append(nil, m.Node()))); err != nil {
			r.b.Fatal(err)
		}
	}
	return r.loop(count, func(int) []byte {
		frame := must(r.client.ReadFrame())
		m := must(stanza.Parse(must(r.codec.Decode(frame)))).(*stanza.Message)
		var body []byte
		err := r.me.Signal.Decrypt(r.b.Context(), m.From, m.Enc.Type, m.Enc.Data, func(_ context.Context, plain []byte, _ e2ee.Opened) error {
			body = bytes.Clone(plain)
			return proto.Unmarshal(plain, &waE2E.Message{})
		})
		if err != nil {
			r.b.Fatal(err)
		}
		return body
	})
}

// out seals count messages.
func (r *bare) out(count int) (cpu, alone time.Duration) {
	return r.loop(count, func(i int) []byte {
		to := r.phones[i%len(r.phones)].Address
		sealed := must(r.me.Signal.Encrypt(r.b.Context(), to, r.text, nil))
		m := &stanza.Message{ID: fmt.Sprintf("%022X", i), To: to, Type: "text", DisplayName: "Alice",
			Enc: stanza.Enc{V: 2, Type: sealed.Type, Data: sealed.Body}}
		frame := must(r.codec.Append(nil, m.Node()))
		if err := r.client.WriteFrame(frame); err != nil {
			r.b.Fatal(err)
		}
		return frame
	})
}

// loop does the first part of the work alone, to see how long one takes, and the
// rest in groups, to see what one costs.
func (r *bare) loop(count int, one func(i int) []byte) (cpu, alone time.Duration) {
	singles := min(count/4, 100)
	var took []time.Duration
	for i := range singles {
		start := time.Now()
		r.commit([][]byte{one(i)})
		r.request()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	start := ownCPU()
	var group [][]byte
	for i := singles; i < count; i++ {
		group = append(group, one(i))
		if len(group) == bareGroup || i == count-1 {
			r.commit(group)
			group = group[:0]
		}
		r.request()
	}
	return (ownCPU() - start) / time.Duration(count-singles), took[len(took)/2]
}

// ownCPU is the processor time of this process, user and system.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
