package interop_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/stanza"
)

// recipe sends an event that is to be prepared.
func (b *bench) recipe(chat, event, recipe string) []string {
	b.t.Helper()
	out := interop.Outgoing{EventID: event, RoomID: "!" + chat, Chat: chat, Recipe: []byte(recipe)}
	ids, err := b.a.Send(context.Background(), out, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return ids
}

// prepares says how recipes are made.
func (b *bench) prepares(fn func(ctx context.Context, p *interop.Preparing) (*interop.Prepared, error)) {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.m.prepare = fn
}

// madeOf is the message that tests make of a recipe.
func madeOf(t testing.TB, p *interop.Preparing) *interop.Prepared {
	return &interop.Prepared{Plaintext: textOf(t, "made of "+string(p.Recipe)), Type: "media", MediaType: "image"}
}

func TestAnEventIsPreparedWhenItIsTheFirstOfItsChatAndOtherChatsGoOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, q := b.g.phone("1"), b.g.phone("2")
		chat := b.chatWith(p)
		ready := make(chan struct{})
		var calls []string
		also := 0
		b.prepares(func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			calls = append(calls, in.EventID)
			if in.RoomID != "!"+chat || in.Chat != chat || in.StanzaID != interop.StanzaID([32]byte{9}, in.EventID, 0) {
				t.Errorf("asked for %+v", in)
			}
			<-ready
			made := madeOf(t, in)
			made.Also = func(context.Context) error { also++; return nil }
			return made, nil
		})
		b.send(chat, "$0", "before")
		ids := b.recipe(chat, "$1", "a picture")
		b.recipe(chat, "$2", "another")
		b.send(chat, "$3", "behind")
		b.send(b.chatWith(q), "$4", "elsewhere")
		settle()
		b.wantPhone(p, "before")
		b.wantPhone(q, "elsewhere")
		if !slices.Equal(calls, []string{"$1"}) {
			t.Errorf("asked for %v, want the first alone", calls)
		}
		close(ready)
		settle()
		b.wantPhone(p, "before", "made of a picture", "made of another", "behind")
		if also != 2 || len(calls) != 2 {
			t.Errorf("%d calls, %d transactions with something more, want 2 and 2", len(calls), also)
		}
		row := must(b.store.OutboundStanza(context.Background(), ids[0]))
		if row.Recipe != nil || row.Type != "media" || row.MediaType != "image" || row.Plaintext == nil {
			t.Errorf("the row is %+v", row)
		}
		b.wantLast("$1", interop.OutDelivered)
		b.sees(func() {
			for _, s := range b.m.status {
				if want := map[bool]string{true: "image"}[s.EventID == "$1" || s.EventID == "$2"]; s.MediaType != want {
					t.Errorf("%s is told with mediatype %q", s.EventID, s.MediaType)
				}
			}
		})
	})
}

func TestNothingIsPreparedUntilTheStreamIsLive(t *testing.T) {
	inBubbleWith(t, func(b *bench) { b.g.slow = time.Hour }, func(t *testing.T, b *bench) {
		var calls atomic.Int32
		b.prepares(func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			calls.Add(1)
			return madeOf(t, in), nil
		})
		p := b.g.phone("1")
		b.recipe(b.chatWith(p), "$1", "it")
		pass(30 * time.Minute)
		if calls.Load() != 0 {
			t.Fatal("prepared without a stream")
		}
		pass(time.Hour)
		b.wantPhone(p, "made of it")
	})
}

func TestPreparingIsTriedAgainAfterErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func() error // of the first try
		also bool         // in the transaction
	}{
		{"of the work", func() error { return errors.New("no connection") }, false},
		{"of what belongs to the transaction", func() error { return errors.New("index is locked") }, true},
		{"that are panics", func() error { panic("out of order") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				var at []time.Time
				b.prepares(func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) {
					at = append(at, time.Now())
					made := madeOf(t, in)
					if len(at) > 1 {
						return made, nil
					}
					if !c.also {
						return nil, c.fail()
					}
					made.Also = func(context.Context) error { return c.fail() }
					return made, nil
				})
				ids := b.recipe(b.chatWith(p), "$1", "it")
				settle()
				if row := must(b.store.OutboundStanza(context.Background(), ids[0])); row.Recipe == nil || row.Plaintext != nil {
					t.Fatalf("after a failure the row is %+v", row)
				}
				pass(30 * time.Second)
				b.wantPhone(p, "made of it")
				b.wantLast("$1", interop.OutDelivered)
				if len(at) != 2 || at[1].Sub(at[0]) < 400*time.Millisecond {
					t.Errorf("tried at %v, want twice and not at once", at)
				}
				b.m.mu.Lock()
				b.m.conn = nil // the panic was meant
				b.m.mu.Unlock()
			})
		})
	}
}

func TestWhatCannotBePreparedFailsWithItsReasonAndTheChatGoesOn(t *testing.T) {
	never := &interop.Unsendable{Reason: interop.ReasonTooLarge, Err: errors.New("a limit")}
	for _, c := range []struct {
		name   string
		reason interop.Reason
		within time.Duration
		tries  int // 0: not counted
		make   func(ctx context.Context, in *interop.Preparing) (*interop.Prepared, error)
	}{
		{"for good", interop.ReasonTooLarge, time.Second, 1, func(context.Context, *interop.Preparing) (*interop.Prepared, error) {
			return nil, fmt.Errorf("wrapped: %w", never)
		}},
		{"for good, as the transaction finds", interop.ReasonTooLarge, time.Second, 1, func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			return &interop.Prepared{Plaintext: []byte("x"), Type: "text", Also: func(context.Context) error { return never }}, nil
		}},
		{"since no message was made", interop.ReasonInternal, time.Second, 1, func(context.Context, *interop.Preparing) (*interop.Prepared, error) {
			return &interop.Prepared{Type: "text"}, nil
		}},
		{"since its type is none", interop.ReasonInternal, time.Second, 1, func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			return &interop.Prepared{Plaintext: []byte("x"), Type: "media"}, nil
		}},
		{"a minute of errors long", interop.ReasonMedia, 90 * time.Second, 0, func(context.Context, *interop.Preparing) (*interop.Prepared, error) {
			return nil, errors.New("no connection")
		}},
		{"a minute without progress", interop.ReasonMedia, 90 * time.Second, 1, func(ctx context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			in.Progress()
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		{"time after time, however far it comes", interop.ReasonMedia, 10 * time.Minute, 8, func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			time.Sleep(20 * time.Second)
			in.Progress()
			return nil, errors.New("cut off")
		}},
		{"with panics", interop.ReasonInternal, 10 * time.Minute, 0, func(context.Context, *interop.Preparing) (*interop.Prepared, error) {
			panic("always")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				chat := b.chatWith(p)
				tries := 0
				b.prepares(func(ctx context.Context, in *interop.Preparing) (*interop.Prepared, error) {
					tries++
					return c.make(ctx, in)
				})
				ids := b.recipe(chat, "$1", "it")
				b.send(chat, "$2", "behind")
				pass(c.within)
				b.wantFailed("$1", c.reason, 0)
				b.wantPhone(p, "behind")
				if c.tries != 0 && tries != c.tries {
					t.Errorf("tried %d times, want %d", tries, c.tries)
				}
				if row := must(b.store.OutboundStanza(context.Background(), ids[0])); row.Recipe != nil {
					t.Error("the recipe of a failed event is still there")
				}
				b.m.mu.Lock()
				b.m.conn = nil // the panics were meant
				b.m.mu.Unlock()
			})
		})
	}
}

func TestPreparingMayTakeLongWhileItComesForward(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		var late func()
		b.prepares(func(ctx context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			for range 60 {
				in.Progress()
				time.Sleep(50 * time.Second)
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
			}
			late = in.Progress
			return madeOf(t, in), nil
		})
		chat := b.chatWith(p)
		b.recipe(chat, "$1", "much")
		pass(time.Hour)
		b.wantPhone(p, "made of much")
		b.wantLast("$1", interop.OutDelivered)
		b.ackWith(func(*stanza.Message) int { return -1 })
		b.send(chat, "$2", "stuck")
		for range 6 { // progress of what is done is none
			pass(30 * time.Second)
			late()
		}
		b.wantFailed("$2", interop.ReasonNoAnswer, 0)
	})
}

func TestAnEventThatWasBeingPreparedIsPreparedAgainAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		tries := 0
		b.prepares(func(ctx context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			if tries++; tries == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return madeOf(t, in), nil
		})
		ids := b.recipe(chat, "$1", "it")
		settle()
		if err := b.end(); err != nil {
			t.Fatal(err)
		}
		b.run()
		settle()
		b.wantPhone(p, "made of it")
		if again := b.recipe(chat, "$1", "it"); !slices.Equal(again, ids) {
			t.Errorf("the same event again has ids %v, want %v", again, ids)
		}
		settle()
		b.wantPhone(p, "made of it")
		if tries != 2 {
			t.Errorf("prepared %d times, want 2", tries)
		}
	})
}

func TestWhatWasMadeWhileTheAccountIsStoppedIsNotMadeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		tries := 0
		b.prepares(func(ctx context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			tries++
			<-ctx.Done()
			return madeOf(t, in), nil
		})
		b.recipe(b.chatWith(p), "$1", "it")
		settle()
		b.end()
		b.run()
		settle()
		b.wantPhone(p, "made of it")
		if tries != 1 {
			t.Errorf("made %d times, want once", tries)
		}
	})
}

// doubtStore commits, and says that it did not, once when it is told to.
type doubtStore struct {
	interop.Store
	doubt atomic.Bool
}

func (s *doubtStore) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	err := s.Store.Do(ctx, fn)
	if err == nil && s.doubt.Swap(false) {
		return errDisk
	}
	return err
}

func TestAMessageThatWasStoredInASilentCommitIsNotMadeAgain(t *testing.T) {
	store := &doubtStore{}
	inBubbleWith(t, func(b *bench) {
		store.Store = b.store
		b.store = store
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		tries := 0
		b.prepares(func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			tries++
			made := madeOf(t, in)
			made.Also = func(context.Context) error { store.doubt.Store(true); return nil }
			return made, nil
		})
		b.recipe(b.chatWith(p), "$1", "it")
		pass(10 * time.Second)
		b.wantPhone(p, "made of it")
		if tries != 1 {
			t.Errorf("made %d times, want once", tries)
		}
	})
}

func TestEventsThatBreakTheRulesAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		chat := b.chatWith(b.g.phone("1"))
		text := [][]byte{textOf(t, "x")}
		for name, out := range map[string]interop.Outgoing{
			"an empty recipe":              {Recipe: []byte{}},
			"a recipe that is too long":    {Recipe: make([]byte, interop.MaxRecipe+1)},
			"a recipe beside parts":        {Recipe: []byte("r"), Parts: text},
			"a recipe beside fall-backs":   {Recipe: []byte("r"), Fallbacks: text},
			"a recipe with a type":         {Recipe: []byte("r"), Type: "media"},
			"a recipe with a mediatype":    {Recipe: []byte("r"), MediaType: "image"},
			"nothing":                      {Type: "text"},
			"no type":                      {Parts: text},
			"media of no kind":             {Parts: text, Type: "media"},
			"text of a kind":               {Parts: text, Type: "text", MediaType: "image"},
			"more fall-backs than parts":   {Parts: text, Type: "text", Fallbacks: [][]byte{nil, nil}},
			"a fall-back that is empty":    {Parts: text, Type: "text", Fallbacks: [][]byte{{}}},
			"a fall-back that is too long": {Parts: text, Type: "text", Fallbacks: [][]byte{make([]byte, 1<<24)}},
		} {
			out.EventID, out.Chat = "$1", chat
			if _, err := b.a.Send(context.Background(), out, nil); !errors.Is(err, interop.ErrBadOutgoing) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
