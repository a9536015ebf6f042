package interop_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/stanza"
)

// TestReceiptsThatNobodyAcksAreNotPiledUpAndAllGoOutInTheEnd: as behind a long queue of the gatekeeper's, whose acks come when that is through.
func TestReceiptsThatNobodyAcksAreNotPiledUpAndAllGoOutInTheEnd(t *testing.T) {
	const window, count = 8, 70
	prepare := func(b *bench) {
		b.limits = interop.Limits{Receipts: window}
		b.g.quiet[stanza.ReceiptDelivered] = true
	}
	inBubbleWith(t, prepare, func(t *testing.T, b *bench) {
		phones := []*fakePhone{b.g.phone("1"), b.g.phone("2"), b.g.phone("3")}
		out := func() (list []*stanza.Receipt) {
			b.sees(func() {
				for _, p := range phones {
					list = append(list, p.receipts...)
				}
			})
			return list
		}
		var want []string
		for i := range count {
			id := fmt.Sprintf("M%02d", i)
			want = append(want, id)
			b.g.says(phones[i%len(phones)], id, "text "+id)
			if i%10 == 0 {
				settle()
			}
		}
		pass(time.Minute)
		waiting := out()
		if len(waiting) == 0 || len(waiting) > window {
			t.Fatalf("%d receipts wait for their acks, want %d at most", len(waiting), window)
		}
		b.sees(func() {
			b.g.quiet[stanza.ReceiptDelivered] = false
			for _, r := range waiting {
				b.g.push(&stanza.Ack{Class: "receipt", ID: r.ID, From: r.To, Type: r.Type})
			}
		})
		pass(5 * time.Minute)
		var got []string
		for _, r := range out() {
			got = append(got, r.IDs...)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("receipts for %d messages: %v", len(got), got)
		}
	})
}

// unacked has a contact's receipts never acked, more of them than may be on the wire.
func unacked(b *bench, p *fakePhone) {
	for i := range 20 {
		b.g.says(p, fmt.Sprint("P", i), "text")
		pass(30 * time.Second)
	}
	b.sees(func() { b.g.quiet[stanza.ReceiptDelivered] = false })
}

func silent(b *bench) {
	b.limits = interop.Limits{Receipts: 8}
	b.g.quiet[stanza.ReceiptDelivered] = true
}

// TestReceiptsOfOneContactThatNobodyAcksKeepNobodyElsesBack: neither on the stream on which they are not acked nor on the next.
func TestReceiptsOfOneContactThatNobodyAcksKeepNobodyElsesBack(t *testing.T) {
	inBubbleWith(t, silent, func(t *testing.T, b *bench) {
		p, q := b.g.phone("1"), b.g.phone("2")
		want := func(n int) {
			t.Helper()
			b.sees(func() {
				if len(q.receipts) != n {
					t.Errorf("the other contact has %d receipts, want %d", len(q.receipts), n)
				}
			})
		}
		unacked(b, p)
		b.g.says(q, "Q1", "text")
		pass(time.Minute)
		want(1)
		b.sees(func() { b.g.mute = p })
		b.g.breaks(errors.New("hung up"))
		b.g.says(q, "Q2", "text")
		pass(time.Minute)
		want(2)
		// Nothing of it is lost: the rest goes when the gatekeeper acks again.
		b.sees(func() {
			b.g.mute = nil
			for _, r := range p.receipts {
				b.g.push(&stanza.Ack{Class: "receipt", ID: r.ID, From: r.To, Type: r.Type})
			}
		})
		pass(10 * time.Minute)
		b.sees(func() {
			ids := map[string]bool{}
			for _, r := range p.receipts {
				for _, id := range r.IDs {
					ids[id] = true
				}
			}
			if len(ids) != 20 {
				t.Errorf("receipts for %d messages of 20", len(ids))
			}
		})
	})
}

// TestAReceiptThatNobodyAcksKeepsNoStreamOpenForEver where streams are open only while they are needed.
func TestAReceiptThatNobodyAcksKeepsNoStreamOpenForEver(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.sees(func() { b.g.quiet[stanza.ReceiptDelivered] = true })
		b.g.says(p, "M", "text")
		b.a.Wake()
		pass(4 * time.Minute)
		b.wantLogins(2, true)
		pass(10 * time.Minute)
		b.wantLogins(2, false)
	})
}
