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
)

// refusing makes Matrix refuse for good what is among the ids, until the function is called.
func (b *bench) refusing(ids ...string) (end func()) {
	set := func(deliver func(in *interop.Inbound) error) {
		b.m.mu.Lock()
		defer b.m.mu.Unlock()
		b.m.deliver = deliver
	}
	set(func(in *interop.Inbound) error {
		if slices.Contains(ids, in.MessageID) {
			return fmt.Errorf("wrapped: %w", &interop.Rejected{Reason: "forbidden"})
		}
		return nil
	})
	return func() { set(nil) }
}

// letters are the dead letters on disk.
func (b *bench) letters() []*interop.Letter {
	b.t.Helper()
	return must(b.store.DeadLetters(context.Background()))
}

func (b *bench) wantRetry(id string, want error) {
	b.t.Helper()
	if err := b.a.RetryLetter(context.Background(), id); !errors.Is(err, want) {
		b.t.Errorf("retry got %v, want %v", err, want)
	}
}

func TestADeadLetterThatIsTriedAgainComesOnceLateAndLast(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		mend := b.refusing("A")
		for _, id := range []string{"A", "B"} {
			b.g.says(p, id, "text "+id)
		}
		settle()
		list := b.letters()
		if len(list) != 1 || list[0].Reason != "forbidden" || list[0].Tries != 1 || list[0].Chat != b.chatWith(p) {
			t.Fatalf("dead letters %+v", list)
		}
		id := list[0].ID
		b.wantRetry(id, nil)
		settle()
		if list = b.letters(); len(list) != 1 || list[0].ID != id || list[0].Tries != 2 {
			t.Fatalf("after a try that was refused too: %+v", list)
		}
		mend()
		b.wantRetry(id, nil)
		b.wantRetry("nobody", interop.ErrNoLetter)
		b.g.says(p, "C", "text C")
		settle()
		b.wantRetry(id, interop.ErrNoLetter)
		settle()
		b.wantTexts("text B", "text A", "text C")
		b.sees(func() {
			for _, in := range b.m.in {
				if in.Late != (in.MessageID == "A") {
					t.Errorf("%s is late: %v", in.MessageID, in.Late)
				}
			}
			if !slices.Equal(p.read, []string{"B", "A", "C"}) {
				t.Errorf("receipts %v", p.read)
			}
		})
		if list = b.letters(); len(list) != 0 {
			t.Errorf("dead letters %+v", list)
		}
		b.g.says(p, "A", "text A") // the gatekeeper brings it once more
		settle()
		b.wantTexts("text B", "text A", "text C")
	})
}

// Two at once, or one after the other before Matrix has it, are one.
func TestADeadLetterIsTriedAgainOnceHoweverOftenItIsAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.refusing("A")
		b.g.says(p, "A", "text A")
		settle()
		id := b.letters()[0].ID
		b.m.mu.Lock()
		b.m.deliver = func(*interop.Inbound) error { return errors.New("not now") }
		b.m.mu.Unlock()
		results := make(chan error, 4)
		for range cap(results) {
			go func() { results <- b.a.RetryLetter(context.Background(), id) }()
		}
		settle()
		good := 0
		for range cap(results) {
			if err := <-results; err == nil {
				good++
			} else if !errors.Is(err, interop.ErrLetterWaiting) {
				t.Error(err)
			}
		}
		if good != 1 {
			t.Errorf("%d of 4 have revived it", good)
		}
		b.m.mu.Lock()
		b.m.deliver = nil
		b.m.mu.Unlock()
		pass(time.Minute)
		b.wantTexts("text A")
	})
}

func TestADeadLetterIsTriedAgainByTheNextRun(t *testing.T) {
	for _, c := range []struct {
		name  string
		retry func(b *bench, id string) error
	}{
		{"by an account that has not run yet", func(b *bench, id string) error {
			return interop.New(b.config()).RetryLetter(context.Background(), id)
		}},
		{"by an account that does not run any more", func(b *bench, id string) error {
			return b.a.RetryLetter(context.Background(), id)
		}},
		{"without an account", func(b *bench, id string) error {
			return interop.RetryStoredLetter(context.Background(), b.store, id)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				mend := b.refusing("A")
				b.g.says(p, "A", "text A")
				settle()
				b.end()
				mend()
				b.g.says(p, "B", "text B")
				id := b.letters()[0].ID
				if err := c.retry(b, id); err != nil {
					t.Fatal(err)
				}
				if err := c.retry(b, id); !errors.Is(err, interop.ErrLetterWaiting) {
					t.Errorf("the second time got %v", err)
				}
				b.run()
				settle()
				b.wantTexts("text A", "text B")
			})
		})
	}
}

func TestOldAndManyDeadLettersAreDropped(t *testing.T) {
	prepare := func(b *bench) { b.limits = interop.Limits{LetterKeep: 3, LetterTime: 24 * time.Hour} }
	inBubbleWith(t, prepare, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		ids := []string{"A", "B", "C", "D", "E"}
		b.refusing(ids...)
		for _, id := range ids {
			b.g.says(p, id, "text "+id)
			settle()
		}
		if list := b.letters(); len(list) != 3 {
			t.Errorf("%d dead letters, want the newest 3", len(list))
		}
		pass(40 * time.Hour) // there are chores every nine hours at most
		if list := b.letters(); len(list) != 0 {
			t.Errorf("after their time there are %d dead letters", len(list))
		}
		b.g.says(p, "A", "text A")
		settle()
		b.wantTexts() // it is known still
	})
}

// damagedStore is a store whose disk does not give back what it has of some rows.
type damagedStore struct {
	interop.Store
	in, out *[]string // ids
}

func (s damagedStore) spoil(rows []*interop.InRow, err error) ([]*interop.InRow, error) {
	for _, r := range rows {
		if slices.Contains(*s.in, r.ID) {
			r.Payload, r.Notify, r.Damaged = nil, "", true
		}
	}
	return rows, err
}

func (s damagedStore) PendingInbound(ctx context.Context, chat string, after int64, limit int) ([]*interop.InRow, error) {
	return s.spoil(s.Store.PendingInbound(ctx, chat, after, limit))
}

func (s damagedStore) HeldInbound(ctx context.Context, chat string, after int64, limit int) ([]*interop.InRow, error) {
	return s.spoil(s.Store.HeldInbound(ctx, chat, after, limit))
}

func (s damagedStore) LetterInbound(ctx context.Context, id string) (*interop.InRow, error) {
	row, err := s.Store.LetterInbound(ctx, id)
	if row == nil || err != nil {
		return nil, err
	}
	_, err = s.spoil([]*interop.InRow{row}, nil)
	return row, err
}

func (s damagedStore) PendingOutbound(ctx context.Context, chat string, after int64, limit int) ([]*interop.OutRow, error) {
	rows, err := s.Store.PendingOutbound(ctx, chat, after, limit)
	for _, r := range rows {
		if slices.Contains(*s.out, r.EventID) {
			r.Recipe, r.Plaintext, r.Fallback, r.Stanza, r.Damaged = nil, nil, nil, nil, true
		}
	}
	return rows, err
}

// damages puts a store under the account that has lost the payload of the rows with these ids, messages and events.
func (b *bench) damages(in, out []string) (mend func()) {
	b.store = damagedStore{b.store, &in, &out}
	return func() { in, out = nil, nil }
}

func TestARowThatTheDiskDoesNotGiveBackIsANoticeAndADeadLetterAndTheChatGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, other := b.g.phone("1"), b.g.phone("2")
		b.m.deliver = func(*interop.Inbound) error { return errors.New("not now") }
		for _, id := range []string{"A", "B", "C"} {
			b.g.says(p, id, "text "+id)
		}
		b.g.says(other, "D", "text D")
		settle()
		b.end()
		mend := b.damages([]string{"B"}, nil)
		b.m.deliver = nil
		b.run()
		settle()
		b.sees(func() {
			var got []string
			for _, in := range b.m.in {
				got = append(got, in.MessageID+" "+string(in.Kind)+" "+in.Reason)
			}
			slices.SortStableFunc(got, func(x, y string) int { return strings.Compare(x[:1], y[:1]) })
			want := []string{"A message ", "B undecryptable damaged", "C message ", "D message "}
			if !slices.Equal(got, want) {
				t.Errorf("delivered %q, want %q", got, want)
			}
			if !slices.Contains(p.read, "C") || slices.Contains(p.read, "B") {
				t.Errorf("receipts %v, want none for what cannot be read", p.read)
			}
		})
		list := b.letters()
		if len(list) != 1 || list[0].Reason != interop.LetterDamaged {
			t.Fatalf("dead letters %+v", list)
		}
		b.wantRetry(list[0].ID, interop.ErrLetterDamaged)
		mend() // from a copy
		b.wantRetry(list[0].ID, nil)
		settle()
		b.sees(func() {
			if last := b.m.in[len(b.m.in)-1]; last.MessageID != "B" || !last.Late || last.Message.GetConversation() != "text B" {
				t.Errorf("the last is %+v", last)
			}
		})
	})
}

func TestARowThatWasSetAsideAndIsDamagedIsADeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.targets()
		p := b.g.phone("1")
		b.g.says(p, "A", "like about M")
		settle()
		b.end()
		b.damages([]string{"A"}, nil)
		b.run()
		settle()
		b.g.says(p, "B", "M")
		settle()
		if list := b.letters(); len(list) != 1 || list[0].Reason != interop.LetterDamaged {
			t.Errorf("dead letters %+v", list)
		}
	})
}

func TestAnEventThatTheDiskDoesNotGiveBackFailsAndTheChatGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		b.end()
		for _, event := range []string{"$a", "$b", "$c"} {
			b.send(chat, event, "text "+event)
		}
		b.damages(nil, []string{"$b"})
		b.run()
		settle()
		b.wantPhone(p, "text $a", "text $c")
		b.wantFailed("$b", interop.ReasonDamaged, 0)
		list := b.letters()
		if len(list) != 1 || !list[0].Outgoing || list[0].Reason != string(interop.ReasonDamaged) {
			t.Fatalf("dead letters %+v", list)
		}
		b.wantRetry(list[0].ID, interop.ErrNoLetter) // nothing replaces failed
	})
}
