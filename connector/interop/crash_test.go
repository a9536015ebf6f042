package interop_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/e2ee"
	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/interop/interoptest"
	"postern/connector/stanza"
)

// life is one process of the bridge, which dies at a point: before or after the nth thing it does to the world, be it a
// commit, a frame, or a call to Matrix. A dead process does nothing any more; what it had done stays.
type life struct {
	at    int64  // the point at which it dies, 0: never
	only  string // if set, points of this name alone count
	count atomic.Int64
	dead  atomic.Bool
	once  sync.Once
	died  chan struct{}
	mu    sync.Mutex
	where string
}

var errDead = errors.New("the process is dead")

func newLife(at int64) *life { return &life{at: at, died: make(chan struct{})} }

// point is one of those at which it may die.
func (l *life) point(where string) error {
	if (l.only == "" || l.only == where) && l.count.Add(1) == l.at {
		l.mu.Lock()
		l.where = where
		l.mu.Unlock()
		l.dead.Store(true)
		l.once.Do(func() { close(l.died) })
	}
	if l.dead.Load() {
		return errDead
	}
	return nil
}

// act does something to the world between two points.
func (l *life) act(what string, fn func() error) error {
	if err := l.point("before " + what); err != nil {
		return err
	}
	err := fn()
	if dead := l.point("after " + what); dead != nil {
		return dead
	}
	return err
}

// mortalStore is a store as a process that may die sees it.
type mortalStore struct {
	interop.Store
	l *life
}

// joined marks the context of a transaction, within which nothing is done to the world yet.
type joined struct{}

func (s mortalStore) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	if ctx.Value(joined{}) != nil {
		return s.Store.Do(ctx, fn)
	}
	return s.l.act("commit", func() error { return s.Store.Do(context.WithValue(ctx, joined{}, true), fn) })
}

func (s mortalStore) Commit(ctx context.Context, c *e2ee.Change, extra func(ctx context.Context) error) error {
	return s.l.act("ratchet commit", func() error { return s.Store.Commit(context.WithValue(ctx, joined{}, true), c, extra) })
}

// tx makes a single write of the store one thing done to the world.
func (s mortalStore) tx(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.Do(ctx, fn)
}

func (s mortalStore) InsertInbound(ctx context.Context, row *interop.InRow) error {
	return s.tx(ctx, func(ctx context.Context) error { return s.Store.InsertInbound(ctx, row) })
}

func (s mortalStore) UpdateInbound(ctx context.Context, row *interop.InRow) error {
	return s.tx(ctx, func(ctx context.Context) error { return s.Store.UpdateInbound(ctx, row) })
}

func (s mortalStore) FinishInbound(ctx context.Context, row *interop.InRow, state interop.InState, r interop.ReceiptState) error {
	return s.tx(ctx, func(ctx context.Context) error { return s.Store.FinishInbound(ctx, row, state, r) })
}

func (s mortalStore) HoldInbound(ctx context.Context, row *interop.InRow) error {
	return s.tx(ctx, func(ctx context.Context) error { return s.Store.HoldInbound(ctx, row) })
}

func (s mortalStore) MarkReadInbound(ctx context.Context, chat, id string, state interop.ReceiptState, limit int) (n int, err error) {
	err = s.tx(ctx, func(ctx context.Context) error {
		n, err = s.Store.MarkReadInbound(ctx, chat, id, state, limit)
		return err
	})
	return n, err
}

func (s mortalStore) SetReported(ctx context.Context, parts []*interop.OutRow, state interop.OutState) error {
	return s.tx(ctx, func(ctx context.Context) error { return s.Store.SetReported(ctx, parts, state) })
}

func (s mortalStore) SetAnswer(ctx context.Context, id string, b []byte) (ok bool, err error) {
	err = s.tx(ctx, func(ctx context.Context) error { ok, err = s.Store.SetAnswer(ctx, id, b); return err })
	return ok, err
}

func (s mortalStore) MarkPreKeysUploaded(ctx context.Context, ids []uint32) error {
	return s.tx(ctx, func(ctx context.Context) error { return s.Store.MarkPreKeysUploaded(ctx, ids) })
}

func (s mortalStore) PutPreKeys(ctx context.Context, keys []interop.KeyRecord) error {
	return s.tx(ctx, func(ctx context.Context) error { return s.Store.PutPreKeys(ctx, keys) })
}

// mortalStream is a stream of a process that may die.
type mortalStream struct {
	interop.Stream
	l *life
}

func (s mortalStream) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.l.died:
			stop() // the connection breaks when the process dies
		case <-done:
		}
	}()
	return s.Stream.Run(ctx)
}

func (s mortalStream) Send(ctx context.Context, st stanza.Stanza) error {
	return s.l.act("send "+st.Kind().String(), func() error { return s.Stream.Send(ctx, st) })
}

func (s mortalStream) SendFrame(ctx context.Context, b []byte) error {
	return s.l.act("send message", func() error { return s.Stream.SendFrame(ctx, b) })
}

func (s mortalStream) Request(ctx context.Context, iq *stanza.IQ) (answer *stanza.IQ, err error) {
	err = s.l.act("request", func() error { answer, err = s.Stream.Request(ctx, iq); return err })
	return answer, err
}

// mortalMatrix is Matrix as a process that may die calls it.
type mortalMatrix struct {
	*matrix
	l *life
}

func (m mortalMatrix) Deliver(ctx context.Context, in *interop.Inbound) error {
	return m.l.act("deliver", func() error { return m.matrix.Deliver(ctx, in) })
}

func (m mortalMatrix) Prepare(ctx context.Context, in *interop.Preparing) (p *interop.Prepared, err error) {
	err = m.l.act("prepare", func() error { p, err = m.matrix.Prepare(ctx, in); return err })
	return p, err
}

func (m mortalMatrix) Status(ctx context.Context, s interop.OutStatus) error {
	return m.l.act("status", func() error { return m.matrix.Status(ctx, s) })
}

// story is what happens in every crash test: two chats, both ways, parts, a message that cannot be read, one that the
// phone asks for again, one that is made of a recipe, one that the phone takes in its other form only, one that comes
// before what it is about, messages that are read, a cut.
type story struct {
	b    *bench
	p, q *fakePhone
	sent map[string]bool
	said bool
	read bool
}

func newStory(t *testing.T) *story {
	b := newBench(t, interoptest.NewMemStore())
	s := &story{b: b, p: b.g.phone("1"), q: b.g.phone("2"), sent: map[string]bool{}}
	s.p.deaf[idOf("$3", 1)] = -1 // asks for it once more
	// It is the first answer to it: nobody acks an ack, so one that follows a good one is lost with the process.
	b.ackWith(func(m *stanza.Message) int {
		if m.ID == idOf("$8", 0) {
			return 491
		}
		return 0
	})
	b.prepares(func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) { return madeOf(t, in), nil })
	b.targets()
	return s
}

// begin starts a process.
func (s *story) begin(l *life) {
	b := s.b
	b.edit = func(c *interop.Config) {
		c.Store = mortalStore{b.store, l}
		c.Upcalls = mortalMatrix{b.m, l}
		c.NewStream = func(gc gatekeeper.Config) interop.Stream { return mortalStream{b.g.newStream(gc), l} }
	}
	b.run()
}

// events are what Matrix wants sent, in the order of their chats. One has a recipe instead of a text, one another form of
// its only part; the others have two parts.
var events = []struct{ chat, event, text, recipe, instead string }{
	{chat: "p", event: "$1", text: "one"}, {chat: "q", event: "$2", text: "uno"}, {chat: "p", event: "$3", text: "two"},
	{chat: "p", event: "$4", text: "three"}, {chat: "q", event: "$5", text: "due"}, {chat: "p", event: "$6", text: "four"},
	{chat: "q", event: "$7", recipe: "tre"}, {chat: "q", event: "$8", text: "quattro", instead: "> quattro"},
}

// act plays one round of the story: each side says what it has not said yet. Matrix hands an event over again until it
// knows that it is stored.
func (s *story) act() {
	b := s.b
	if !s.said {
		s.said = true
		s.phonesSay()
	}
	chats := map[string]string{"p": b.chatWith(s.p), "q": b.chatWith(s.q)}
	for _, ev := range events {
		if s.sent[ev.event] {
			continue
		}
		out := interop.Outgoing{EventID: ev.event, Chat: chats[ev.chat], Type: "text", Parts: [][]byte{textOf(b.t, ev.text), textOf(b.t, ev.text+"+")}}
		switch {
		case ev.recipe != "":
			out.Type, out.Parts, out.Recipe = "", nil, []byte(ev.recipe)
		case ev.instead != "":
			out.Parts, out.Fallbacks = out.Parts[:1], [][]byte{textOf(b.t, ev.instead)}
		}
		if _, err := b.a.Send(context.Background(), out, nil); err != nil {
			return
		}
		s.sent[ev.event] = true
	}
}

// reads is the person reading what is there. Matrix hands that over again until it knows that it is stored.
func (s *story) reads() {
	there := false
	s.b.sees(func() {
		there = slices.ContainsFunc(s.b.m.in, func(in *interop.Inbound) bool { return in.MessageID == "P2" })
	})
	if there && !s.read {
		s.read = s.b.a.MarkRead(context.Background(), s.b.chatWith(s.p), "P2") == nil
	}
}

// phonesSay is what comes from the other side.
func (s *story) phonesSay() {
	g := s.b.g
	g.says(s.p, "PL", "like about ziel")
	for i, text := range []string{"eins", "zwei", "drei"} {
		g.says(s.p, fmt.Sprint("P", i), text)
		g.says(s.q, fmt.Sprint("Q", i), text)
	}
	g.mu.Lock()
	s.q.sent["Q9"] = "kaputt"
	g.push(mangled(g.seal(s.q, "Q9", "kaputt", 0)))
	g.mu.Unlock()
	g.says(s.q, "Q3", "vier")
	g.says(s.p, "PZ", "ziel")
}

func (s *story) check(t *testing.T, where string) {
	t.Helper()
	b := s.b
	b.sees(func() {
		bad := func(format string, args ...any) {
			t.Helper()
			t.Errorf("died %s: %s", where, fmt.Sprintf(format, args...))
		}
		// What the phone asked for again may come behind what followed it, nothing else moves.
		again := interop.StanzaID([32]byte{9}, "$3", 1)
		wantP := []string{"one", "one+", "two", "three", "three+", "four", "four+"}
		gotP := slices.DeleteFunc(slices.Clone(s.p.texts), func(text string) bool { return text == "two+" })
		if !slices.Equal(gotP, wantP) || len(s.p.texts) != len(wantP)+1 || s.p.count[again] != 1 {
			bad("phone p has %q after %d requests", s.p.texts, s.p.count[again])
		}
		if want := []string{"uno", "uno+", "due", "due+", "made of tre", "> quattro"}; !slices.Equal(s.q.texts, want) {
			bad("phone q has %q", s.q.texts)
		}
		// Deliver may be repeated after a crash, with the same id: Matrix knows it by that.
		got := map[string][]string{}
		known := map[string]bool{}
		for _, in := range b.m.in {
			key := in.Chat + "/" + string(in.Kind) + "/" + in.MessageID
			if !known[key] && in.MessageID != "Q9" {
				got[in.Chat] = append(got[in.Chat], in.Message.GetConversation())
			}
			known[key] = true
			if in.Kind != interop.KindMessage {
				bad("Matrix got a %s", in.Kind)
			}
		}
		if want := []string{"eins", "zwei", "drei", "ziel", "like about ziel"}; !slices.Equal(got[b.chatWith2(s.p)], want) {
			bad("Matrix has of p %q", got[b.chatWith2(s.p)])
		}
		if want := []string{"eins", "zwei", "drei", "vier"}; !slices.Equal(got[b.chatWith2(s.q)], want) || !known[b.chatWith2(s.q)+"/message/Q9"] {
			bad("Matrix has of q %q", got[b.chatWith2(s.q)])
		}
		s.checkWire(bad)
		s.checkStatus(bad)
		if len(b.g.queue) != 0 {
			bad("%d stanzas are not acked", len(b.g.queue))
		}
		for _, id := range []string{"P0", "P1", "P2", "PL", "PZ", "readP0", "readP1", "readP2"} {
			if !slices.Contains(s.p.read, id) {
				bad("no receipt for %s", id)
			}
		}
		for _, id := range []string{"Q0", "Q1", "Q2", "Q3", "Q9"} {
			if !slices.Contains(s.q.read, id) {
				bad("no receipt for %s", id)
			}
		}
		for _, due := range [][]*interop.InRow{
			must(b.store.DueReceipts(context.Background(), 0, 10)), must(b.store.DueReads(context.Background(), "", 0, 10)),
			must(b.store.AllHeld(context.Background())),
		} {
			if len(due) != 0 {
				bad("%d rows stay undone", len(due))
			}
		}
		for _, id := range []string{idOf("$7", 0), idOf("$8", 0), idOf("$8", interop.MaxParts)} {
			if row := must(b.store.OutboundStanza(context.Background(), id)); row == nil || row.Recipe != nil || row.Fallback != nil {
				bad("at the end a row is %+v", row)
			}
		}
		for _, what := range b.g.blunder {
			bad("the gate saw %s", what)
		}
	})
}

// chatWith2 is chatWith for who holds the locks.
func (b *bench) chatWith2(p *fakePhone) string {
	return must(b.store.PeerByJID(context.Background(), p.jid)).Chat
}

// checkWire looks for two different originals under one id.
func (s *story) checkWire(bad func(string, ...any)) {
	first := map[string]string{}
	for _, w := range s.b.g.wire {
		key := fmt.Sprint(w.id, "/", w.count)
		if old, ok := first[key]; ok && old != w.frame {
			bad("two ciphertexts under one id (count %d)", w.count)
		}
		first[key] = w.frame
	}
}

// checkStatus looks at the states of each event: forward, and delivered at the end.
func (s *story) checkStatus(bad func(string, ...any)) {
	for _, ev := range events {
		states := slices.Compact(s.b.m.states(ev.event)) // one may be told twice if the process died in between
		if !slices.IsSorted(states) || len(states) == 0 || states[len(states)-1] != interop.OutDelivered {
			bad("states of %s: %v", ev.event, states)
		}
	}
}

// play runs the story with a process that dies at a point, and another one after it that lives. It says how many points
// the first one passed, and where it died.
func play(t *testing.T, at int64, only string) (points int64, where string) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t)
		first := newLife(at)
		first.only = only
		s.begin(first)
		settle()
		s.act()
		pass(20 * time.Second)
		s.reads()
		pass(5 * time.Second)
		s.b.g.breaks(errors.New("cut"))
		pass(20 * time.Second)
		points = first.count.Load()
		first.mu.Lock()
		where = first.where
		first.mu.Unlock()
		first.once.Do(func() { close(first.died) })
		first.dead.Store(true)
		s.b.end()
		s.begin(newLife(0))
		t.Cleanup(func() { s.b.end() })
		settle()
		s.act()
		pass(time.Minute)
		s.reads()
		pass(5 * time.Minute)
		s.check(t, fmt.Sprintf("at point %d, %s", at, where))
	})
	return points, where
}

func TestCrashAtEveryPointLosesNothingAndDoublesNothing(t *testing.T) {
	points, _ := play(t, 0, "")
	if points < 200 {
		t.Fatalf("the story has only %d points", points)
	}
	step := int64(13)
	if testing.Short() {
		step = 25
	}
	if os.Getenv("POSTERN_ALL") != "" {
		step = 1
	}
	seen := map[string]int{}
	for at := int64(1); at <= points; at += step {
		_, where := play(t, at, "")
		seen[where]++
	}
	for _, only := range []string{"before prepare", "after prepare"} { // which come once in a life
		_, where := play(t, 1, only)
		seen[where]++
	}
	for _, where := range []string{
		"before ratchet commit", "after ratchet commit", "before commit", "after commit", "before send ack", "after send ack",
		"before deliver", "after deliver", "before send message", "after send message", "before status", "after status",
		"before send receipt", "after send receipt", "before request", "after request", "before prepare", "after prepare",
	} {
		if seen[where] == 0 && step == 1 {
			t.Errorf("no process died %s", where)
		}
	}
	t.Logf("%d points, died %v", points, seen)
}

func TestCrashAfterCrashLosesNothingAndDoublesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t)
		for i := range 30 {
			l := newLife(int64(15 + i*7%40))
			s.begin(l)
			pass(2 * time.Second)
			s.act()
			pass(2 * time.Second)
			s.reads()
			l.dead.Store(true)
			l.once.Do(func() { close(l.died) })
			s.b.end()
		}
		s.begin(newLife(0))
		t.Cleanup(func() { s.b.end() })
		settle()
		s.act()
		pass(time.Minute)
		s.reads()
		pass(5 * time.Minute)
		s.check(t, "thirty times")
	})
}
