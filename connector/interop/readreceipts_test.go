package interop_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/stanza"
)

func (b *bench) markRead(p *fakePhone, id string) {
	b.t.Helper()
	if err := b.a.MarkRead(context.Background(), b.chatWith(p), id); err != nil {
		b.t.Fatal(err)
	}
}

// wantReads checks which messages the phone knows to be read, one string for each receipt.
func (b *bench) wantReads(p *fakePhone, want ...string) {
	b.t.Helper()
	b.sees(func() {
		var got []string
		for _, r := range p.receipts {
			if r.Type == stanza.ReceiptRead {
				got = append(got, strings.Join(r.IDs, " "))
			}
		}
		if !slices.Equal(got, want) {
			b.t.Errorf("read receipts %q, want %q", got, want)
		}
	})
}

// says makes a phone say so many texts, with ids that begin with a letter.
func (b *bench) says(p *fakePhone, letter string, n int) {
	for i := range n {
		b.g.says(p, fmt.Sprint(letter, i), fmt.Sprint("text ", letter, i))
	}
}

func TestOneReadReceiptNamesAllThatWasReadAndComesAfterTheDelivery(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, q := b.g.phone("1"), b.g.phone("2")
		b.says(p, "A", 4)
		b.says(q, "Q", 1)
		settle()
		b.wantReads(p)
		b.markRead(p, "A2")
		settle()
		b.wantReads(p, "A0 A1 A2")
		b.wantReads(q)
		b.wantReceipts(p, "A0", "A1", "A2", "A3", "readA0", "readA1", "readA2")
		b.markRead(p, "A2")
		b.markRead(p, "A0")
		b.markRead(p, "unknown")
		b.markRead(p, "Q0")
		settle()
		b.wantReads(p, "A0 A1 A2")
		b.markRead(p, "A3")
		settle()
		b.wantReads(p, "A0 A1 A2", "A3")
		pass(time.Minute)
		b.g.breaks(errors.New("cut"))
		pass(time.Minute)
		b.wantReads(p, "A0 A1 A2", "A3")
		if err := b.a.MarkRead(context.Background(), "nowhere", "A3"); !errors.Is(err, interop.ErrNoChat) {
			t.Errorf("in a chat that is none: %v", err)
		}
	})
}

func TestReadReceiptsAreSentAgainAfterEachLoginUntilTheyAreAcked(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.quiet[stanza.ReceiptRead] = true
		b.says(p, "A", 2)
		settle()
		b.markRead(p, "A1")
		pass(time.Minute)
		b.wantReads(p, "A0 A1")
		b.says(p, "B", 1)
		settle()
		b.markRead(p, "B0")
		settle()
		b.wantReads(p, "A0 A1", "B0") // what is on the wire is not repeated on the same stream
		b.g.breaks(errors.New("cut"))
		pass(5 * time.Second)
		b.wantReads(p, "A0 A1", "B0", "A0 A1 B0")
		b.end()
		b.run()
		settle()
		b.wantReads(p, "A0 A1", "B0", "A0 A1 B0", "A0 A1 B0")
		b.g.mu.Lock()
		clear(b.g.quiet)
		b.g.mu.Unlock()
		b.g.breaks(errors.New("cut"))
		pass(5 * time.Second)
		b.g.breaks(errors.New("cut"))
		pass(5 * time.Second)
		b.wantReads(p, "A0 A1", "B0", "A0 A1 B0", "A0 A1 B0", "A0 A1 B0")
		if rows := must(b.store.DueReads(context.Background(), "", 0, 10)); len(rows) != 0 {
			t.Errorf("%d are due after the ack", len(rows))
		}
	})
}

// hookStore calls a function when a row is finished, before anybody else knows.
type hookStore struct {
	interop.Store
	hook func(row *interop.InRow)
}

func (s *hookStore) FinishInbound(ctx context.Context, row *interop.InRow, state interop.InState, r interop.ReceiptState) error {
	err := s.Store.FinishInbound(ctx, row, state, r)
	s.hook(row)
	return err
}

func TestTheReadReceiptDoesNotOvertakeTheDeliveryReceipt(t *testing.T) {
	store := &hookStore{}
	inBubbleWith(t, func(b *bench) {
		store.Store = b.store
		b.store = store
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		store.hook = func(row *interop.InRow) {
			b.markRead(p, row.ID)
			time.Sleep(100 * time.Millisecond) // less than acked receipts wait to be noted
		}
		b.says(p, "A", 1)
		pass(5 * time.Second)
		b.wantReceipts(p, "A0", "readA0")
	})
}

func TestTheAckOfADeliveryReceiptIsNoneOfAReadReceipt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.quiet[stanza.ReceiptDelivered], b.g.quiet[stanza.ReceiptRead] = true, true
		b.says(p, "A", 1)
		settle()
		b.markRead(p, "A0")
		settle()
		due := func() [2]int {
			ctx := context.Background()
			return [2]int{len(must(b.store.DueReceipts(ctx, 0, 10))), len(must(b.store.DueReads(ctx, "", 0, 10)))}
		}
		for _, c := range []struct {
			typ  string
			want [2]int
		}{{stanza.ReceiptRetry, [2]int{1, 1}}, {stanza.ReceiptDelivered, [2]int{0, 1}}, {stanza.ReceiptRead, [2]int{0, 0}}} {
			b.push(&stanza.Ack{Class: "receipt", ID: "A0", From: p.jid, Type: c.typ})
			pass(5 * time.Second)
			if got := due(); got != c.want {
				t.Errorf("after an ack of type %q %v are due, want %v", c.typ, got, c.want)
			}
		}
	})
}

func TestWhatIsReadWithoutAStreamIsToldAfterTheNextLogin(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.says(p, "A", 2)
		settle()
		b.end()
		b.markRead(p, "A1")
		b.wantReads(p)
		b.run()
		settle()
		b.wantReads(p, "A0 A1")
	})
}

func TestADeliveryReceiptThatWasLostGoesBeforeTheReadReceipt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.quiet[stanza.ReceiptDelivered] = true
		b.says(p, "A", 2)
		settle()
		b.end()
		b.markRead(p, "A1")
		b.g.mu.Lock()
		clear(b.g.quiet)
		p.read, p.receipts = nil, nil
		b.g.mu.Unlock()
		b.run()
		settle()
		b.wantReceipts(p, "A0", "A1", "readA0", "readA1")
	})
}

func TestWithoutReadReceiptsNothingIsSentNorEverMadeUpFor(t *testing.T) {
	inBubbleWith(t, func(b *bench) {
		b.edit = func(c *interop.Config) { c.ReadReceipts = false }
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.says(p, "A", 2)
		settle()
		b.markRead(p, "A1")
		b.sees(func() {
			if b.g.reads {
				t.Error("the gatekeeper was told that read receipts are on")
			}
		})
		b.a.SetReadReceipts(true)
		pass(5 * time.Second)
		b.sees(func() {
			if !b.g.reads || b.g.logins != 2 {
				t.Errorf("after %d logins the gatekeeper was told %v, want 2 and true", b.g.logins, b.g.reads)
			}
		})
		b.wantReads(p)
		b.says(p, "B", 1)
		settle()
		b.markRead(p, "B0")
		settle()
		b.wantReads(p, "B0")
		b.a.SetReadReceipts(true)
		pass(5 * time.Second)
		b.sees(func() {
			if b.g.logins != 2 {
				t.Errorf("%d logins, want none for what does not change", b.g.logins)
			}
		})
	})
}

func TestReadReceiptsThatAreDueWhenTheyAreSwitchedOffAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.says(p, "A", 3)
		settle()
		b.g.mu.Lock()
		b.g.quiet[stanza.ReceiptRead] = true
		b.g.mu.Unlock()
		b.markRead(p, "A1")
		settle()
		b.wantReads(p, "A0 A1")
		b.a.SetReadReceipts(false)
		pass(5 * time.Second)
		b.markRead(p, "A2")
		b.a.SetReadReceipts(true)
		pass(5 * time.Second)
		b.wantReads(p, "A0 A1")
		for _, id := range []string{"A0", "A1", "A2"} {
			if row := must(b.store.Inbound(context.Background(), b.chatWith(p), interop.ClassMessage, id)); row.Read != interop.ReceiptUnwanted {
				t.Errorf("%s is in state %d", id, row.Read)
			}
		}
	})
}

func TestAGatekeeperWithoutReadReceiptsGetsNone(t *testing.T) {
	inBubbleWith(t, func(b *bench) { b.g.prof.Features.ReadReceipts = false }, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.says(p, "A", 1)
		settle()
		b.markRead(p, "A0")
		settle()
		b.wantReads(p)
	})
}

func TestNoReadReceiptForWhatIsNotShown(t *testing.T) {
	inBubbleWith(t, func(b *bench) { b.limits.Resend = time.Minute }, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.m.deliver = func(in *interop.Inbound) error {
			if in.MessageID == "A1" {
				return &interop.Rejected{Reason: "too_large"}
			}
			return nil
		}
		b.says(p, "A", 2)
		settle()
		b.g.mu.Lock()
		p.sent["B"] = "" // it is never sent again
		b.g.push(mangled(b.g.seal(p, "B", "unreadable", 0)))
		b.g.mu.Unlock()
		pass(5 * time.Minute)
		b.says(p, "C", 1)
		settle()
		b.wantTexts("text A0", "undecryptable:"+interop.ReasonNotResent, "text C0")
		b.markRead(p, "B")
		settle()
		b.wantReads(p, "A0")
		b.markRead(p, "C0")
		settle()
		b.wantReads(p, "A0", "C0")
	})
}

func TestAMessageMayBeReadBeforeItIsSettled(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.m.deliver = func(in *interop.Inbound) error {
			if in.MessageID == "A1" {
				defer time.Sleep(time.Second)
				return b.a.MarkRead(context.Background(), in.Chat, "A1") // it is in the room while Deliver runs
			}
			return nil
		}
		b.says(p, "A", 2)
		pass(2 * time.Second)
		b.sees(func() {
			var read []string
			for _, id := range p.read {
				if after, ok := strings.CutPrefix(id, "read"); ok {
					read = append(read, after)
					if !slices.Contains(p.read[:slices.Index(p.read, id)], after) {
						t.Errorf("%s is read before it is delivered: %q", after, p.read)
					}
				}
			}
			slices.Sort(read)
			if !slices.Equal(read, []string{"A0", "A1"}) {
				t.Errorf("read are %q, want A0 and A1", read)
			}
		})
	})
}

// saysMarked makes a phone say a text whose stanza has an sts.
func (b *bench) saysMarked(p *fakePhone, id, sts string) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	m := b.g.seal(p, id, "text "+id, 0)
	m.STS = sts
	b.g.push(m)
}

func TestManyReadReceiptsGoInLotsWithTheMarkOfTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		sts := map[string]string{}
		for i := range 452 { // each with an sts of its own
			id := fmt.Sprint("A", i)
			sts[id] = fmt.Sprint(1000 + i)
			b.saysMarked(p, id, sts[id])
		}
		settle()
		b.markRead(p, "A451")
		pass(5 * time.Second)
		b.sees(func() {
			lots := 0
			read := map[string]bool{}
			for _, r := range p.receipts {
				if r.Type != stanza.ReceiptRead {
					continue
				}
				lots++
				if r.STS != sts[r.ID] || len(r.IDs) > 50 {
					t.Errorf("a lot of %d that begins with %s has the mark %q, want %q", len(r.IDs), r.ID, r.STS, sts[r.ID])
				}
				for _, id := range r.IDs {
					if read[id] {
						t.Errorf("%s is told twice", id)
					}
					read[id] = true
				}
			}
			if len(read) != 452 || lots < 10 || lots > 12 {
				t.Errorf("%d in %d lots, want 452 in ten or so", len(read), lots)
			}
		})
	})
}

func TestTheMarkIsOfTheFirstThatIsNotOnItsWayAlready(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.quiet[stanza.ReceiptRead] = true
		b.saysMarked(p, "A", "7")
		settle()
		b.markRead(p, "A")
		settle()
		b.saysMarked(p, "B", "8")
		b.saysMarked(p, "C", "9")
		settle()
		b.markRead(p, "C")
		settle()
		b.wantReads(p, "A", "B C")
		b.sees(func() {
			if last := p.receipts[len(p.receipts)-1]; last.STS != "8" {
				t.Errorf("the mark is %q, want that of B", last.STS)
			}
		})
	})
}

func TestADeliveryReceiptIsOnlyForMessagesWithItsMark(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.quiet[stanza.ReceiptDelivered] = true
		for _, m := range [][2]string{{"A", "7"}, {"B", "7"}, {"C", "8"}, {"D", "8"}} {
			b.saysMarked(p, m[0], m[1])
		}
		settle()
		b.end()
		b.sees(func() { p.receipts = nil })
		b.run() // all are due at once
		settle()
		b.sees(func() {
			var got []string
			for _, r := range p.receipts {
				got = append(got, r.STS+" "+strings.Join(r.IDs, " "))
			}
			if want := []string{"7 A B", "8 C D"}; !slices.Equal(got, want) {
				t.Errorf("receipts %q, want %q", got, want)
			}
		})
	})
}

func TestWhatTheOtherSideHasPlayedCountsAsRead(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.prepares(func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			return &interop.Prepared{Plaintext: textOf(t, "la la"), Type: "media", MediaType: "ptt"}, nil
		})
		ids := b.recipe(b.chatWith(p), "$1", "a song")
		settle()
		b.wantLast("$1", interop.OutDelivered)
		b.push(&stanza.Receipt{ID: ids[0], From: p.jid, Type: stanza.ReceiptPlayed})
		settle()
		b.wantLast("$1", interop.OutRead)
		b.sees(func() {
			if last := b.m.status[len(b.m.status)-1]; last.MediaType != "ptt" {
				t.Errorf("told with mediatype %q", last.MediaType)
			}
		})
	})
}
