package interop_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/e2ee"
	"postern/connector/interop"
	"postern/connector/interop/interoptest"
	"postern/connector/stanza"
)

// inBubble runs a test with a clock that stands still while anyone works, on a bench whose account runs and is live.
func inBubble(t *testing.T, fn func(t *testing.T, b *bench)) {
	inBubbleWith(t, nil, fn)
}

func inBubbleWith(t *testing.T, prepare func(b *bench), fn func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, interoptest.NewMemStore())
		if prepare != nil {
			prepare(b)
		}
		b.run()
		t.Cleanup(func() {
			if err := b.end(); err != nil {
				t.Errorf("run ended with %v", err)
			}
			b.blameless()
		})
		settle()
		fn(t, b)
	})
}

// pass lets time pass, and everything happen that happens by then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// settle lets everything happen that can happen now, and in the next moment.
func settle() { pass(10 * time.Millisecond) }

// blameless fails the test if the gate saw something wrong, or a panic was caught.
func (b *bench) blameless() {
	b.t.Helper()
	b.sees(func() {
		for _, what := range b.g.blunder {
			b.t.Errorf("the gate saw: %s", what)
		}
		for _, s := range b.m.conn {
			if s.Kind == interop.ConnFault {
				b.t.Error("a panic was caught")
			}
		}
	})
}

func (b *bench) wantTexts(want ...string) {
	b.t.Helper()
	b.sees(func() {
		if got := b.m.texts(); !slices.Equal(got, want) {
			b.t.Errorf("Matrix has %q, want %q", got, want)
		}
	})
}

func (b *bench) wantQueue(want int) {
	b.t.Helper()
	b.sees(func() {
		n := 0
		for _, q := range b.g.queue {
			if q.key.Class == "message" {
				n++
			}
		}
		if n != want {
			b.t.Errorf("the gate still has %d messages, want %d", n, want)
		}
	})
}

func TestAMessageIsAckedWhenStoredAndReceiptedWhenMatrixHasIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		var down atomic.Bool
		down.Store(true)
		b.m.deliver = func(*interop.Inbound) error {
			if down.Load() {
				return errors.New("Matrix is down")
			}
			return nil
		}
		b.g.says(p, "A", "one")
		b.g.says(p, "B", "two")
		settle()
		b.wantTexts()
		b.wantQueue(0)
		if len(p.read) != 0 {
			t.Fatalf("receipts %v before Matrix has anything", p.read)
		}
		pass(time.Hour)
		down.Store(false)
		b.a.Nudge()
		settle()
		b.wantTexts("one", "two")
		if !slices.Equal(p.read, []string{"A", "B"}) {
			t.Errorf("receipts %v, want A and B", p.read)
		}
	})
}

func TestAChatThatMatrixDoesNotTakeHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, q := b.g.phone("1"), b.g.phone("2")
		bad := b.chatWith(p)
		b.m.deliver = func(in *interop.Inbound) error {
			if in.Chat == bad {
				panic("a handler that cannot take it")
			}
			return nil
		}
		b.g.says(p, "A", "stuck")
		b.g.says(q, "B", "goes on")
		settle()
		b.wantTexts("goes on")
		b.m.mu.Lock()
		b.m.deliver, b.m.conn = nil, nil // the panic was meant
		b.m.mu.Unlock()
		pass(time.Minute)
		b.wantTexts("goes on", "stuck")
		b.m.conn = nil
	})
}

func TestWhatMatrixRefusesForGoodIsADeadLetterAndTheChatGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.m.deliver = func(in *interop.Inbound) error {
			if in.MessageID == "A" {
				return fmt.Errorf("wrapped: %w", &interop.Rejected{Reason: "too_large"})
			}
			return nil
		}
		b.g.says(p, "A", "huge")
		b.g.says(p, "B", "small")
		settle()
		b.wantTexts("small")
		b.wantQueue(0)
		if !slices.Equal(p.read, []string{"B"}) {
			t.Errorf("receipts %v, want none for what nobody sees", p.read)
		}
		row := must(b.store.Inbound(context.Background(), b.chatWith(p), interop.ClassMessage, "A"))
		if row.State != interop.InDead {
			t.Errorf("state %d, want dead", row.State)
		}
	})
}

func TestAMessageThatComesAgainIsAckedAgainAndNotDelivered(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "one")
		settle()
		b.g.mu.Lock()
		again := b.g.seal(p, "A", "one", 1) // the same id, another ciphertext
		b.g.push(again)
		b.g.push(again)
		b.g.mu.Unlock()
		settle()
		b.g.says(p, "B", "two")
		settle()
		b.wantTexts("one", "two")
		b.wantQueue(0)
		if len(p.retry) != 0 {
			t.Errorf("%d retry receipts for what is known", len(p.retry))
		}
	})
}

func TestPlaintextIsErasedOnceMatrixHasIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "CANARY")
		settle()
		b.wantTexts("CANARY")
		if strings.Contains(b.store.(*interoptest.MemStore).Dump(), "CANARY") {
			t.Error("the store still has the text")
		}
	})
}

// mangled makes a message of a phone that cannot be decrypted.
func mangled(m *stanza.Message) *stanza.Message {
	m.Enc.Data[len(m.Enc.Data)-8] ^= 1 // in the MAC, in either form
	return m
}

func TestAnUnreadableMessageIsAskedForAndComes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "one")
		settle()
		b.g.mu.Lock()
		p.sent["B"] = "two"
		b.g.push(mangled(b.g.seal(p, "B", "two", 0)))
		b.g.mu.Unlock()
		settle()
		b.g.says(p, "C", "three")
		settle()
		b.wantTexts("one", "two", "three")
		b.wantQueue(0)
		if len(p.retry) != 1 || p.retry[0].Retry.Count != 1 || p.retry[0].Retry.Keys == nil || p.retry[0].Retry.Keys.PreKey == nil || p.retry[0].Retry.Error == 0 {
			t.Fatalf("retry receipts: %+v", p.retry)
		}
		if b.m.in[1].Late {
			t.Error("a message that came in time is called late")
		}
		pass(time.Hour)
		b.wantTexts("one", "two", "three")
	})
}

func TestAMessageThatIsNotSentAgainBecomesANoticeAfterTenMinutes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.mu.Lock()
		b.g.push(mangled(b.g.seal(p, "A", "one", 0)))
		b.g.mu.Unlock()
		settle()
		b.g.says(p, "B", "two")
		pass(10*time.Minute - time.Second)
		b.wantTexts("two")
		pass(2 * time.Second)
		b.wantTexts("two", "undecryptable:not_resent")
		if b.m.in[1].MessageID != "A" {
			t.Errorf("the notice is for %s", b.m.in[1].MessageID)
		}
		b.g.mu.Lock()
		b.g.push(b.g.seal(p, "A", "one", 1))
		b.g.mu.Unlock()
		settle()
		b.wantTexts("two", "undecryptable:not_resent", "one")
		if in := b.m.in[2]; !in.Late || in.MessageID != "A" {
			t.Errorf("the late message is %+v", in)
		}
	})
}

func TestAMessageThatStaysUnreadableHasOneNotice(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		for range 2 {
			b.g.mu.Lock()
			b.g.push(mangled(b.g.seal(p, "A", "one", 1)))
			b.g.mu.Unlock()
			pass(time.Hour)
		}
		b.wantTexts("undecryptable:not_resent")
		b.g.mu.Lock()
		b.g.push(b.g.seal(p, "A", "one", 2))
		b.g.mu.Unlock()
		settle()
		b.wantTexts("undecryptable:not_resent", "one")
		if !b.m.in[1].Late {
			t.Error("not called late")
		}
	})
}

func TestTheNoticeOfAMissingMessageComesAfterARestartToo(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.mu.Lock()
		b.g.push(mangled(b.g.seal(p, "A", "one", 0)))
		b.g.mu.Unlock()
		settle()
		b.end()
		pass(time.Hour)
		b.wantTexts()
		b.run()
		settle()
		b.wantTexts("undecryptable:not_resent")
	})
}

func TestARepetitionInTheQueueComesBeforeTheNoticeAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.mu.Lock()
		b.g.push(mangled(b.g.seal(p, "A", "one", 0)))
		b.g.mu.Unlock()
		settle()
		b.end()
		b.g.mu.Lock()
		b.g.push(b.g.seal(p, "A", "one", 1))
		b.g.slow = time.Hour // the gatekeeper is away for longer than the message may take
		b.g.mu.Unlock()
		pass(time.Hour)
		b.run()
		pass(2 * time.Hour)
		b.wantTexts("one")
	})
}

func TestAfterTheFifthRequestAMessageIsRefusedAndTheRoomTold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		for range 7 {
			b.g.mu.Lock()
			b.g.push(mangled(b.g.seal(p, "A", "one", 1)))
			b.g.mu.Unlock()
			settle()
		}
		b.wantQueue(0)
		if len(p.retry) != 5 || p.retry[4].Retry.Count != 5 {
			t.Errorf("%d retry receipts, want 5", len(p.retry))
		}
		b.wantTexts("undecryptable:not_resent")
		if !slices.Contains(b.g.blunder, "nack 500") {
			t.Error("no ack with error 500")
		}
		b.g.blunder = nil
	})
}

func TestContentThatIsNoMessageIsRefusedAndShown(t *testing.T) {
	for _, c := range []struct {
		name  string
		plain []byte
		v     int
	}{
		{"padding of zero", []byte{10, 1, 'x', 0}, 2},
		{"padding above sixteen", append(make([]byte, 30), 17), 2},
		{"padding above the length", []byte{9}, 2},
		{"nothing at all", nil, 2},
		{"no protobuf", []byte{0xFF, 0xFF, 1}, 2},
		{"another version", []byte{10, 1, 'x', 1}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				b.g.says(p, "A", "one")
				settle()
				b.g.mu.Lock()
				sealed := must(p.signal.Encrypt(context.Background(), partnerJID, c.plain, nil))
				b.g.push(&stanza.Message{ID: "B", From: p.jid, Type: "text", T: 5, Enc: stanza.Enc{V: c.v, Type: sealed.Type, Data: sealed.Body}})
				b.g.mu.Unlock()
				b.g.says(p, "C", "three")
				settle()
				b.wantTexts("one", "undecryptable:no_content", "three")
				b.wantQueue(0)
				if !slices.Contains(b.g.blunder, "nack 491") {
					t.Error("no ack with error 491")
				}
				b.g.blunder = nil
			})
		})
	}
}

func TestPaddingUpToSixteenIsRead(t *testing.T) {
	for _, n := range []int{1, 2, 15, 16} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				b.g.says(p, "A", "one")
				plain := append([]byte{10, 1, 'x'}, make([]byte, n)...) // only the last byte is looked at
				plain[len(plain)-1] = byte(n)
				b.g.mu.Lock()
				sealed := must(p.signal.Encrypt(context.Background(), partnerJID, plain, nil))
				b.g.push(&stanza.Message{ID: "B", From: p.jid, Type: "text", T: 5, Enc: stanza.Enc{V: 2, Type: sealed.Type, Data: sealed.Body}})
				b.g.mu.Unlock()
				settle()
				b.wantTexts("one", "x")
			})
		})
	}
}

func TestPastABoundTheGatekeeperKeepsTheRestAndItComesInOrder(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits interop.Limits
	}{
		{"of the account", interop.Limits{MaxPending: 8}},
		{"of one chat", interop.Limits{MaxPendingChat: 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubbleWith(t, func(b *bench) { b.limits = c.limits }, func(t *testing.T, b *bench) {
				p, q := b.g.phone("1"), b.g.phone("2")
				var takes atomic.Int32 // as many Matrix takes of that chat
				bad := b.chatWith(p)
				b.m.deliver = func(in *interop.Inbound) error {
					if in.Chat == bad && takes.Add(-1) < 0 {
						return errors.New("no")
					}
					return nil
				}
				var want []string
				for i := range 50 {
					text := fmt.Sprint("text ", i)
					want = append(want, text)
					b.g.says(p, fmt.Sprint("A", i), text)
					settle()
				}
				b.wantQueue(42)
				if c.limits.MaxPendingChat > 0 {
					b.g.says(q, "Z", "another chat")
					settle()
					b.wantTexts("another chat")
					want = append([]string{"another chat"}, want...)
				}
				b.sees(func() {
					if k := b.m.conn[len(b.m.conn)-1].Kind; k != interop.ConnBackPressure {
						t.Errorf("connection %s, want back-pressure", k)
					}
				})
				takes.Store(1)
				b.a.Nudge()
				settle()
				b.g.says(p, "A50", "text 50") // there is room for it, but others were refused before it
				settle()
				takes.Store(1000)
				b.a.Nudge()
				pass(5 * time.Minute)
				b.wantTexts(append(want, "text 50")...)
				b.wantQueue(0)
			})
		})
	}
}

// brokenStore fails commits while it is told to.
type brokenStore struct {
	interop.Store
	broken atomic.Bool
}

var errDisk = errors.New("disk full")

func (s *brokenStore) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	if s.broken.Load() {
		return errDisk
	}
	return s.Store.Do(ctx, fn)
}

func (s *brokenStore) Commit(ctx context.Context, c *e2ee.Change, extra func(ctx context.Context) error) error {
	if s.broken.Load() {
		return errDisk
	}
	return s.Store.Commit(ctx, c, extra)
}

func TestWhatCannotBeStoredIsNotAckedAndComesWhenTheDiskIsWell(t *testing.T) {
	store := &brokenStore{}
	inBubbleWith(t, func(b *bench) {
		store.Store = b.store
		b.store = store
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "one")
		settle()
		store.broken.Store(true)
		for i := range 20 {
			b.g.says(p, fmt.Sprint("B", i), fmt.Sprint("text ", i))
		}
		pass(time.Minute)
		b.wantTexts("one")
		b.wantQueue(20)
		b.sees(func() {
			if !slices.ContainsFunc(b.m.conn, func(s interop.ConnState) bool { return s.Kind == interop.ConnStorage }) {
				t.Error("nobody was told that storing fails")
			}
			if b.g.logins > 12 {
				t.Errorf("%d logins in a minute", b.g.logins)
			}
		})
		store.broken.Store(false)
		pass(time.Minute)
		want := []string{"one"}
		for i := range 20 {
			want = append(want, fmt.Sprint("text ", i))
		}
		b.wantTexts(want...)
		b.wantQueue(0)
	})
}

func TestAMessageFromAnUnknownKindOfSenderIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.mu.Lock()
		m := b.g.seal(p, "A", "one", 0)
		m.From.Server = "newsletter"
		b.g.push(m)
		b.g.mu.Unlock()
		settle()
		b.wantTexts()
		b.wantQueue(0)
	})
}

func TestReceiptsAreSentAgainUntilTheyAreAcked(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		ready := make(chan struct{})
		b.m.deliver = func(in *interop.Inbound) error {
			if in.MessageID == "A" {
				b.g.breaks(errors.New("cut")) // the receipt has no stream to go on
				<-ready
			}
			return nil
		}
		b.g.says(p, "A", "one")
		settle()
		close(ready)
		pass(time.Minute)
		b.wantTexts("one")
		if !slices.Equal(p.read, []string{"A"}) {
			t.Errorf("receipts %v, want A once", p.read)
		}
		pass(5 * time.Second)
		rows := must(b.store.DueReceipts(context.Background(), 0, 10))
		if len(rows) != 0 {
			t.Errorf("%d receipts due after the ack", len(rows))
		}
	})
}
