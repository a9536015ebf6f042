//go:build unix

package interop_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/binxml"
	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/stanza"
	"postern/database/databasetest"
)

// cpu is the processor time of this process, user and system.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchStream feeds an account and answers at once.
type benchStream struct {
	h     gatekeeper.Handler
	codec binxml.Codec
	in    chan stanza.Stanza
	acks  atomic.Int64
	gate  *fakeGate
}

func (s *benchStream) Run(ctx context.Context) error {
	s.h.State(gatekeeper.State{Phase: gatekeeper.Draining})
	s.h.State(gatekeeper.State{Phase: gatekeeper.Live})
	for {
		select {
		case st := <-s.in:
			s.h.Stanza(ctx, st)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *benchStream) Send(_ context.Context, st stanza.Stanza) error {
	if _, err := s.codec.Append(nil, st.Node()); err != nil {
		return err
	}
	switch st := st.(type) {
	case *stanza.Ack:
		s.acks.Add(1)
	case *stanza.Receipt:
		go func() { s.in <- &stanza.Ack{Class: "receipt", ID: st.ID, From: st.To} }()
	}
	return nil
}

func (s *benchStream) SendFrame(_ context.Context, frame []byte) error {
	node, err := s.codec.Decode(frame)
	if err != nil {
		return err
	}
	st, err := stanza.Parse(node)
	if err != nil {
		return err
	}
	m := st.(*stanza.Message)
	go func() { s.in <- &stanza.Ack{Class: "message", ID: m.ID, From: m.To} }()
	return nil
}

func (s *benchStream) Request(ctx context.Context, iq *stanza.IQ) (*stanza.IQ, error) {
	return (&fakeStream{g: s.gate, up: true}).Request(ctx, iq)
}

// counter is an Upcalls that only counts.
type counter struct{ delivered, sent atomic.Int64 }

func (c *counter) Deliver(context.Context, *interop.Inbound) error { c.delivered.Add(1); return nil }
func (c *counter) Status(context.Context, interop.OutStatus) error { c.sent.Add(1); return nil }
func (c *counter) Connection(context.Context, interop.ConnState)   {}
func (c *counter) Attached(context.Context, []byte) error          { return nil }
func (c *counter) Drained()                                        {}
func (c *counter) Typing(context.Context, interop.Typing)          {}
func (c *counter) Prepare(context.Context, *interop.Preparing) (*interop.Prepared, error) {
	return nil, &interop.Unsendable{Reason: interop.ReasonInternal}
}

const (
	benchPhones = 50
	benchEach   = 20
)

type benchRig struct {
	b      *bench
	s      *benchStream
	c      *counter
	phones []*fakePhone
	chats  []string
	text   []byte
}

func newBenchRig(b *testing.B, store interop.Store) *benchRig {
	r := &benchRig{b: newBench(b, store), c: &counter{}, s: &benchStream{in: make(chan stanza.Stanza)}}
	r.s.gate = r.b.g
	r.s.codec = binxml.Codec{Read: r.b.g.prof.WriteDialect, Write: r.b.g.prof.WriteDialect}
	r.start(b, nil)
	return r
}

// start runs the account, with a meter if there is one, and says something each way.
func (r *benchRig) start(b *testing.B, meter interop.Meter) {
	r.b.edit = func(c *interop.Config) {
		c.Upcalls, c.Meter = r.c, meter
		c.NewStream = func(gc gatekeeper.Config) interop.Stream { r.s.h = gc.Handler; return r.s }
	}
	r.text = must(proto.Marshal(&waE2E.Message{Conversation: proto.String(string(bytes.Repeat([]byte("text "), 18)))}))
	for i := range benchPhones {
		r.phones = append(r.phones, r.b.g.phone(fmt.Sprint(100+i)))
	}
	r.b.run()
	b.Cleanup(func() { r.b.end() })
	for _, p := range r.phones {
		r.chats = append(r.chats, r.b.chatWith(p))
	}
	// Both directions once, so that sessions are established and acknowledged.
	r.sendAll(b, "$warm", 1)
	r.feed(r.sealed("warm", 1))
}

// sealed makes messages of all phones, count each.
func (r *benchRig) sealed(id string, count int) (list []stanza.Stanza) {
	for i := range count {
		for _, p := range r.phones {
			list = append(list, r.b.g.seal(p, fmt.Sprint(id, "-", i), string(r.text[2:]), 0))
		}
	}
	return list
}

// feed hands messages to the account and waits until Matrix has them.
func (r *benchRig) feed(list []stanza.Stanza) {
	want := r.c.delivered.Load() + int64(len(list))
	for _, m := range list {
		r.s.in <- m
	}
	for r.c.delivered.Load() < want {
		time.Sleep(100 * time.Microsecond)
	}
}

// sendAll sends count events to all phones and waits until Matrix knows that they are sent.
func (r *benchRig) sendAll(b *testing.B, event string, count int) {
	want := r.c.sent.Load() + int64(count*benchPhones)
	var wg sync.WaitGroup
	for _, chat := range r.chats { // rooms side by side, as the homeserver's events are handled
		wg.Go(func() {
			for i := range count {
				out := interop.Outgoing{EventID: fmt.Sprintf("%s-%d-%s", event, i, chat), Chat: chat, Type: "text", Parts: [][]byte{r.text}}
				if _, err := r.b.a.Send(context.Background(), out, nil); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for r.c.sent.Load() < want {
		time.Sleep(100 * time.Microsecond)
	}
}

// bareIn is what no receiver can do without: hash, Signal on sessions as bytes, parsing.
func bareIn(list []stanza.Stanza, signal *e2ee.Signal) time.Duration {
	start := cpu()
	for _, s := range list {
		m := s.(*stanza.Message)
		_ = sha256.Sum256(m.Enc.Data)
		err := signal.Decrypt(context.Background(), m.From, m.Enc.Type, m.Enc.Data, func(_ context.Context, plain []byte, _ e2ee.Opened) error {
			return proto.Unmarshal(plain[:len(plain)-1], &waE2E.Message{})
		})
		if err != nil {
			panic(err)
		}
	}
	return cpu() - start
}

// copySignal makes a Signal on a copy of the account's sessions, in memory.
func (r *benchRig) copySignal() *e2ee.Signal {
	ctx, to := context.Background(), e2eetest.NewMemStore()
	for _, p := range r.phones {
		addr := p.jid.SignalAddress()
		c := &e2ee.Change{Addr: addr, Session: must(r.b.store.LoadSession(ctx, addr)), Identity: must(r.b.store.LoadIdentity(ctx, addr))}
		if err := to.Commit(ctx, c, nil); err != nil {
			panic(err)
		}
	}
	return e2ee.New(r.b.device, to)
}

// benchStores are the stores that are measured. (The one in memory is made for tests, not for speed.)
func benchStores(b *testing.B, fn func(b *testing.B, store interop.Store)) {
	b.Run("sqlite", func(b *testing.B) {
		fn(b, accountStore(b, databasetest.Open(b, databasetest.SQLiteConfig(b))))
	})
}

// BenchmarkInbound is the processor time of one message from the stream to Matrix, beside what Signal alone takes for
// the same messages; the figure is the ratio.
func BenchmarkInbound(b *testing.B) {
	benchStores(b, func(b *testing.B, store interop.Store) {
		r := newBenchRig(b, store)
		var whole, bare time.Duration
		n := 0
		for i := 0; b.Loop(); i++ {
			list := r.sealed(fmt.Sprint("in", i), benchEach)
			bare += bareIn(list, r.copySignal())
			start := cpu()
			r.feed(list)
			whole += cpu() - start
			n += len(list)
		}
		report(b, whole, bare, n)
	})
}

// BenchmarkOutbound is the processor time of one message from Send to the status after the ack, beside what Signal and
// the codec alone take.
func BenchmarkOutbound(b *testing.B) {
	benchStores(b, func(b *testing.B, store interop.Store) {
		r := newBenchRig(b, store)
		var whole, bare time.Duration
		n := 0
		for i := 0; b.Loop(); i++ {
			signal := r.copySignal()
			start := cpu()
			for range benchEach {
				for _, p := range r.phones {
					sealed := must(signal.Encrypt(context.Background(), p.jid, r.text, nil))
					m := &stanza.Message{ID: "3EB0000000000000000000", To: p.jid, Type: "text", DisplayName: "Matilda",
						Enc: stanza.Enc{V: 2, Type: sealed.Type, Data: sealed.Body}}
					must(r.s.codec.Append(nil, m.Node()))
				}
			}
			bare += cpu() - start
			start = cpu()
			r.sendAll(b, fmt.Sprint("$out", i), benchEach)
			whole += cpu() - start
			n += benchEach * benchPhones
		}
		report(b, whole, bare, n)
	})
}

func report(b *testing.B, whole, bare time.Duration, n int) {
	b.ReportMetric(float64(whole.Microseconds())/float64(n), "cpu-µs/msg")
	b.ReportMetric(float64(bare.Microseconds())/float64(n), "bare-µs/msg")
	b.ReportMetric(float64(whole)/float64(bare), "ratio")
	b.ReportMetric(0, "ns/op")
}
