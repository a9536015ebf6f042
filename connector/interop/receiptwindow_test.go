package interop_test

import (
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
