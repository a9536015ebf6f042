package interop_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/stanza"
)

// asksAgain makes a phone ask for messages again.
func (b *bench) asksAgain(p *fakePhone, ids ...string) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	for _, id := range ids {
		b.g.ask(p, id, 7)
	}
}

// answered counts the answers to retry receipts that went over the wire.
func (b *bench) answered() (n int) {
	b.sees(func() {
		for _, w := range b.g.wire {
			if w.count > 0 {
				n++
			}
		}
	})
	return n
}

func TestAFloodOfRetryRequestsIsAnsweredAtAPaceAcrossARestartAndHoldsUpNobody(t *testing.T) {
	log := &logBuffer{}
	inBubbleWith(t, func(b *bench) { b.edit = log.withLog }, func(t *testing.T, b *bench) {
		p, other := b.g.phone("1"), b.g.phone("2")
		var ids []string
		for i := range 150 {
			ids = append(ids, b.send(b.chatWith(p), fmt.Sprint("$", i), "text")...)
		}
		settle()
		for range 3 { // the same again and again, with other counts
			b.asksAgain(p, ids...)
			settle()
		}
		if n := b.answered(); n > 64 {
			t.Fatalf("%d answers at once, want at most 64", n)
		}
		b.send(b.chatWith(other), "$other", "not held up")
		b.send(b.chatWith(p), "$same", "nor is what is new in the chat")
		settle()
		b.wantPhone(other, "not held up")
		b.sees(func() {
			if p.texts[len(p.texts)-1] != "nor is what is new in the chat" {
				t.Error("the flood holds up the chat")
			}
		})
		pass(20 * time.Second)
		if n := b.answered(); n > 64+11 || n < 64+9 {
			t.Errorf("%d answers after twenty seconds, want ten more", n)
		}
		b.end()
		b.run()
		pass(10 * time.Minute)
		last := map[string]int{}
		b.sees(func() {
			for _, w := range b.g.wire {
				last[w.id] = max(last[w.id], w.count)
			}
		})
		for _, id := range ids {
			if last[id] != 3 {
				t.Errorf("the last answer to a message has count %d, want 3", last[id])
			}
		}
		if n := log.count("answers are spread"); n != 2 {
			t.Errorf("%d lines in the log, want one in each run", n)
		}
	})
}

func TestARetryRequestBeforeARestartIsAnsweredAfterIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		ids := b.send(b.chatWith(p), "$1", "hello")
		settle()
		b.end()
		b.asksAgain(p, ids...) // waits at the gatekeeper
		b.run()
		settle()
		if n := b.answered(); n != 1 {
			t.Errorf("%d answers, want 1", n)
		}
		b.end()
		b.run()
		settle()
		if n := b.answered(); n != 1 {
			t.Errorf("%d answers after another restart, want 1", n)
		}
	})
}

// TestThePlaintextsOfTheLastTwoThousandMessagesOfSevenDaysAreKept looks at both bounds, at the message before and the one behind. The
// ordinary run has a smaller count, since the store in memory looks at every row each time.
func TestThePlaintextsOfTheLastTwoThousandMessagesOfSevenDaysAreKept(t *testing.T) {
	keep := 60
	if os.Getenv("POSTERN_ALL") == "1" {
		keep = 2_000
	}
	inBubbleWith(t, func(b *bench) {
		if keep != 2_000 { // else it is the default
			b.limits.RetryKeep = keep
		}
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		var ids []string
		for i := range keep + 1 {
			ids = append(ids, b.send(chat, fmt.Sprint("$", i), "text")...)
			if i%100 == 0 {
				settle()
			}
		}
		settle()
		pass(10 * time.Hour) // the chores have been done
		has := func(id string) bool {
			row := must(b.store.OutboundStanza(context.Background(), id))
			return row.Plaintext != nil && row.State >= interop.PartSent
		}
		if has(ids[0]) || !has(ids[1]) || !has(ids[keep]) {
			t.Errorf("of %d messages the first is kept: %v, the second: %v, the last: %v", keep+1, has(ids[0]), has(ids[1]), has(ids[keep]))
		}
		b.asksAgain(p, ids[0], ids[1])
		settle()
		if n := b.answered(); n != 1 {
			t.Errorf("%d answers, want one", n)
		}
		pass(6*24*time.Hour + 12*time.Hour)
		late := b.send(chat, "$late", "later")
		settle()
		if !has(ids[2]) {
			t.Error("a plaintext is gone before seven days")
		}
		pass(24 * time.Hour)
		if has(ids[keep]) || !has(late[0]) {
			t.Errorf("after eight days the old one is kept: %v, the later one: %v", has(ids[keep]), has(late[0]))
		}
	})
}

// TestWhatIsThirtyDaysLateIsReadAndWhatComesAgainThenIsKnown: the gatekeeper may keep a message for so long. One is of a session that has
// gone on since, one would begin a session, under a signed prekey that was replaced four times, and one came before.
func TestWhatIsThirtyDaysLateIsReadAndWhatComesAgainThenIsKnown(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, q := b.g.phone("1"), b.g.phone("2")
		chat := b.chatWith(p)
		b.g.says(p, "A", "in time")
		settle()
		b.send(chat, "$1", "answer")
		settle()
		b.g.mu.Lock()
		seen := b.g.seal(p, "B", "also in time", 0)
		late := b.g.seal(p, "C", "late", 0)
		first := b.g.seal(q, "D", "late, and the first", 0)
		p.sent["C"], q.sent["D"] = "late", "late, and the first"
		b.g.push(seen)
		b.g.mu.Unlock()
		for day := range 30 {
			b.send(chat, fmt.Sprint("$day", day), "text")
			b.g.says(p, fmt.Sprint("day", day), "text")
			pass(24 * time.Hour)
		}
		b.g.mu.Lock()
		for _, m := range []stanza.Stanza{seen, late, first} {
			b.g.push(m)
		}
		b.g.mu.Unlock()
		settle()
		b.sees(func() {
			texts := b.m.texts()
			if len(texts) != 2+30+2 || !slices.Contains(texts, "late, and the first") || !slices.Contains(texts, "late") {
				t.Errorf("Matrix has %d messages: %q", len(texts), texts[max(0, len(texts)-3):])
			}
			if len(b.g.queue) != 0 {
				t.Errorf("%d stanzas are not acked", len(b.g.queue))
			}
			// A session keeps the last five chains: what is of an older one is asked for.
			if len(p.retry) != 1 || len(q.retry) != 0 {
				t.Errorf("%d and %d messages had to be asked for, want 1 and 0", len(p.retry), len(q.retry))
			}
			if b.g.rotates < 4 {
				t.Errorf("%d rotations in thirty days", b.g.rotates)
			}
		})
	})
}
