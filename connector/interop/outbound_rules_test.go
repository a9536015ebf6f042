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

func (b *bench) wantStates(event string, want ...interop.OutState) {
	b.t.Helper()
	b.sees(func() {
		if got := b.m.states(event); !slices.Equal(got, want) {
			b.t.Errorf("states of %s: %v, want %v", event, got, want)
		}
	})
}

// wantLast checks the last state of an event, and that it came there by going forward. (A state may be passed over
// when the next is there before it was told.)
func (b *bench) wantLast(event string, want interop.OutState) {
	b.t.Helper()
	b.sees(func() {
		got := b.m.states(event)
		if len(got) == 0 || got[len(got)-1] != want || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			b.t.Errorf("states of %s: %v, want forward to %v", event, got, want)
		}
	})
}

// wantFailed checks that an event failed with a reason, as the last of its states.
func (b *bench) wantFailed(event string, reason interop.Reason, code int) {
	b.t.Helper()
	b.sees(func() {
		var last interop.OutStatus
		for _, s := range b.m.status {
			if s.EventID == event {
				last = s
			}
		}
		if last.State != interop.OutFailed || last.Reason != reason || last.Code != code {
			b.t.Errorf("%s is %v (%s, %d), want failed (%s, %d)", event, last.State, last.Reason, last.Code, reason, code)
		}
	})
}

func (b *bench) wantPhone(p *fakePhone, want ...string) {
	b.t.Helper()
	b.sees(func() {
		if !slices.Equal(p.texts, want) {
			b.t.Errorf("the phone has %q, want %q", p.texts, want)
		}
	})
}

// ackWith makes the gate answer messages with a code: 0 good, -1 not at all.
func (b *bench) ackWith(code func(m *stanza.Message) int) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	b.g.ackCode = code
}

// frames returns what went over the wire under an id.
func (b *bench) frames(id string) (list []wired) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	for _, w := range b.g.wire {
		if w.id == id {
			list = append(list, w)
		}
	}
	return list
}

func TestEventsGoInOrderAndTheirStatesOnlyForward(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		var want []string
		for i := range 80 { // more than stay in memory
			text := fmt.Sprint("text ", i)
			want = append(want, text)
			b.send(chat, fmt.Sprint("$", i), text)
		}
		ids := b.send(chat, "$parts", "first part", "second part", "third part")
		settle()
		b.wantPhone(p, append(want, "first part", "second part", "third part")...)
		b.sees(func() {
			for _, event := range []string{"$0", "$79", "$parts"} {
				states := b.m.states(event)
				if !slices.IsSorted(states) || len(slices.Compact(slices.Clone(states))) != len(states) || states[len(states)-1] != interop.OutDelivered {
					t.Errorf("states of %s: %v", event, states)
				}
			}
			last := b.m.status[len(b.m.status)-1]
			if last.EventID == "$parts" && !slices.Equal(last.StanzaIDs, ids) {
				t.Errorf("ids %v, want %v", last.StanzaIDs, ids)
			}
		})
		b.g.mu.Lock()
		b.g.push(&stanza.Receipt{ID: ids[0], IDs: ids[:2], From: p.jid, Type: "read"})
		b.g.push(&stanza.Receipt{ID: "unknown", From: p.jid, Type: "read"})
		b.g.mu.Unlock()
		settle()
		b.sees(func() {
			if slices.Contains(b.m.states("$parts"), interop.OutRead) {
				t.Error("an event is read before all of its parts are")
			}
		})
		b.g.mu.Lock()
		b.g.push(&stanza.Receipt{ID: ids[2], From: p.jid, Type: "played"})
		b.g.push(&stanza.Receipt{ID: ids[2], From: p.jid})
		b.g.mu.Unlock()
		settle()
		b.sees(func() {
			if states := b.m.states("$parts"); states[len(states)-1] != interop.OutRead {
				t.Errorf("states: %v, want read at the end", states)
			}
		})
	})
}

func TestAnEventIsAsFarAsThePartThatIsLeastFar(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		p.silent = true
		ids := b.send(b.chatWith(p), "$1", "first part", "second part")
		settle()
		b.wantStates("$1", interop.OutSent)
		for i, want := range [][]interop.OutState{
			{interop.OutSent}, {interop.OutSent, interop.OutDelivered}, {interop.OutSent, interop.OutDelivered},
			{interop.OutSent, interop.OutDelivered, interop.OutRead},
		} {
			b.g.mu.Lock()
			b.g.push(&stanza.Receipt{ID: ids[i%2], From: p.jid, Type: []string{"", "read"}[i/2]})
			b.g.mu.Unlock()
			settle()
			b.wantStates("$1", want...)
		}
	})
}

func TestReceiptsOfSomebodyElseSayNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, q := b.g.phone("1"), b.g.phone("2")
		p.silent = true
		ids := b.send(b.chatWith(p), "$1", "hello")
		settle()
		b.g.mu.Lock()
		b.g.push(&stanza.Receipt{ID: ids[0], From: q.jid, Type: "read"})
		b.g.push(&stanza.Ack{Class: "message", ID: ids[0], From: q.jid, Error: 491})
		b.g.push(&stanza.Receipt{ID: ids[0], From: q.jid, Type: "retry", Retry: &stanza.Retry{Count: 1, ID: ids[0], Version: 1, RegistrationID: 5}})
		b.g.mu.Unlock()
		settle()
		b.wantStates("$1", interop.OutSent)
		if n := len(b.frames(ids[0])); n != 1 {
			t.Errorf("%d messages on the wire, want 1", n)
		}
	})
}

func TestWithoutAnAckTheSameBytesGoOutAfterReconnecting(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		b.ackWith(func(*stanza.Message) int { return -1 })
		ids := b.send(chat, "$1", "hello")
		b.send(chat, "$2", "behind it")
		settle()
		b.ackWith(nil)
		b.g.breaks(errors.New("cut"))
		pass(5 * time.Second)
		b.wantPhone(p, "hello", "behind it")
		b.wantLast("$1", interop.OutDelivered)
		frames := b.frames(ids[0])
		if len(frames) != 2 || frames[0].frame != frames[1].frame {
			t.Errorf("%d messages on the wire under one id, want the same twice", len(frames))
		}
	})
}

func TestErrorsOfAcksAreFinalOrTriedAgain(t *testing.T) {
	for _, c := range []struct {
		code   int
		reason interop.Reason
	}{
		{403, interop.ReasonBlocked}, {404, interop.ReasonGone}, {463, interop.ReasonMayNotStart}, {475, interop.ReasonChatCap},
		{479, interop.ReasonBadStanza}, {400, interop.ReasonBadStanza}, {491, interop.ReasonUnreadable}, {487, interop.ReasonUnreadable},
	} {
		t.Run(fmt.Sprint(c.code, " is final"), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				chat := b.chatWith(p)
				first := interop.StanzaID([32]byte{9}, "$1", 0)
				b.ackWith(func(m *stanza.Message) int {
					if m.ID == first {
						return c.code
					}
					return 0
				})
				b.send(chat, "$1", "refused", "its second part is not sent")
				b.send(chat, "$2", "goes on")
				settle()
				b.wantFailed("$1", c.reason, c.code)
				b.wantPhone(p, "goes on")
				if n := len(b.frames(first)); n != 1 {
					t.Errorf("tried %d times", n)
				}
			})
		})
	}
	for _, code := range []int{429, 500, 503} {
		t.Run(fmt.Sprint(code, " is tried again with the same bytes and keeps the order"), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p, q := b.g.phone("1"), b.g.phone("2")
				chat := b.chatWith(p)
				var refuse atomic.Int32
				refuse.Store(3)
				b.ackWith(func(m *stanza.Message) int {
					if m.To == p.jid && refuse.Add(-1) >= 0 {
						return code
					}
					return 0
				})
				ids := b.send(chat, "$1", "one")
				b.send(chat, "$2", "two")
				b.send(b.chatWith(q), "$3", "another chat")
				settle()
				b.wantPhone(q, "another chat")
				b.wantPhone(p)
				pass(30 * time.Second)
				b.wantPhone(p, "one", "two")
				frames := b.frames(ids[0])
				if len(frames) != 4 {
					t.Errorf("tried %d times, want 4", len(frames))
				}
				for i, f := range frames {
					if f.frame != frames[0].frame {
						t.Error("other bytes under the same id")
					}
					if i > 0 && f.at.Sub(frames[i-1].at) < 400*time.Millisecond {
						t.Error("tried again without a pause")
					}
				}
			})
		})
	}
}

func TestANackAfterTheAckMakesItFailedAndNothingUndoesThat(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		ids := b.send(b.chatWith(p), "$1", "hello")
		settle()
		b.wantLast("$1", interop.OutDelivered)
		b.g.breaks(errors.New("cut")) // it may come after a reconnect too
		pass(5 * time.Second)
		b.g.mu.Lock()
		b.g.push(&stanza.Ack{Class: "message", ID: ids[0], From: p.jid, Error: 491})
		b.g.push(&stanza.Receipt{ID: ids[0], From: p.jid, Type: "read"})
		b.g.push(&stanza.Ack{Class: "message", ID: ids[0], From: p.jid})
		b.g.mu.Unlock()
		settle()
		b.wantLast("$1", interop.OutFailed)
		b.wantFailed("$1", interop.ReasonUnreadable, 491)
	})
}

func TestAnOldCounterAfterTheAckIsNoFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		ids := b.send(b.chatWith(p), "$1", "hello")
		settle()
		b.g.mu.Lock()
		b.g.push(&stanza.Ack{Class: "message", ID: ids[0], From: p.jid, Error: 496})
		b.g.mu.Unlock()
		settle()
		b.wantLast("$1", interop.OutDelivered)
	})
}

func TestNothingWaitsLongerThanAMinuteOfBeingLive(t *testing.T) {
	for _, c := range []struct {
		name   string
		code   int
		reason interop.Reason
	}{
		{"without any answer", -1, interop.ReasonNoAnswer},
		{"while the rate is limited", 429, interop.ReasonRateLimited},
		{"while the server fails", 503, interop.ReasonServer},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				chat := b.chatWith(p)
				b.ackWith(func(*stanza.Message) int { return c.code })
				b.send(chat, "$1", "one")
				b.send(chat, "$2", "two")
				pass(30 * time.Second)
				b.send(chat, "$3", "younger")
				pass(29 * time.Second)
				b.wantStates("$1")
				pass(2 * time.Second)
				code := max(c.code, 0)
				b.wantFailed("$1", c.reason, code)
				b.wantFailed("$2", c.reason, code)
				b.wantStates("$3")
				b.ackWith(nil)
				b.g.breaks(errors.New("cut"))
				pass(28 * time.Second)
				b.wantPhone(p, "younger")
				b.wantStates("$1", interop.OutFailed)
			})
		})
	}
}

func TestTimeWithoutAStreamDoesNotCount(t *testing.T) {
	inBubbleWith(t, func(b *bench) {
		b.edit = func(c *interop.Config) { c.Limits.RetryMax = time.Second }
	}, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.end()
		b.send(b.chatWith(p), "$1", "hello")
		pass(24 * time.Hour)
		b.run()
		settle()
		b.wantPhone(p, "hello")
		b.wantLast("$1", interop.OutDelivered)
	})
}

func TestAStatusIsToldUntilItIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var told atomic.Int32
		b.edit = func(c *interop.Config) { c.Upcalls = refuser{b.m, &told} }
		b.end()
		b.run()
		settle()
		p := b.g.phone("1")
		b.send(b.chatWith(p), "$1", "hello")
		pass(time.Minute)
		b.wantStates("$1")
		if told.Load() < 2 {
			t.Fatalf("told %d times in a minute", told.Load())
		}
		b.edit = nil
		b.end()
		b.m.conn = nil // one of the panics was meant
		b.run()
		pass(time.Minute)
		b.wantStates("$1", interop.OutDelivered)
		b.end()
		b.run()
		pass(time.Minute)
		b.wantStates("$1", interop.OutDelivered)
	})
}

// refuser takes no status.
type refuser struct {
	*matrix
	told *atomic.Int32
}

func (r refuser) Status(context.Context, interop.OutStatus) error {
	if r.told.Add(1) == 2 {
		panic("a handler that cannot take it")
	}
	return errors.New("Matrix is down")
}

func TestAnEventIsStoredOnceWithWhatAlsoWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		out := interop.Outgoing{EventID: "$1", Chat: b.chatWith(p), Type: "text", Parts: [][]byte{textOf(t, "hello")}}
		boom := errors.New("boom")
		ctx := context.Background()
		if _, err := b.a.Send(ctx, out, func(context.Context) error { return boom }); !errors.Is(err, boom) {
			t.Fatal(err)
		}
		settle()
		b.wantPhone(p)
		calls := 0
		var ids []string
		for range 3 {
			got, err := b.a.Send(ctx, out, func(context.Context) error { calls++; return nil })
			if err != nil || ids != nil && !slices.Equal(got, ids) {
				t.Fatalf("got %v %v, want %v", got, err, ids)
			}
			ids = got
		}
		settle()
		if calls != 1 {
			t.Errorf("also ran %d times", calls)
		}
		b.wantPhone(p, "hello")
	})
}

func TestWhatCannotBeAnEventIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		good := interop.Outgoing{EventID: "$1", Chat: b.chatWith(b.g.phone("1")), Type: "text", Parts: [][]byte{{1}}}
		for _, c := range []struct {
			name string
			edit func(o *interop.Outgoing)
			want error
		}{
			{"no event id", func(o *interop.Outgoing) { o.EventID = "" }, interop.ErrBadOutgoing},
			{"no parts", func(o *interop.Outgoing) { o.Parts = nil }, interop.ErrBadOutgoing},
			{"an empty part", func(o *interop.Outgoing) { o.Parts = [][]byte{{}} }, interop.ErrBadOutgoing},
			{"too many parts", func(o *interop.Outgoing) { o.Parts = slices.Repeat([][]byte{{1}}, 65) }, interop.ErrBadOutgoing},
			{"a huge part", func(o *interop.Outgoing) { o.Parts = [][]byte{make([]byte, 1<<20)} }, interop.ErrBadOutgoing},
			{"an unknown type", func(o *interop.Outgoing) { o.Type = "pay" }, interop.ErrBadOutgoing},
			{"media without its type", func(o *interop.Outgoing) { o.Type = "media" }, interop.ErrBadOutgoing},
			{"text with a media type", func(o *interop.Outgoing) { o.MediaType = "image" }, interop.ErrBadOutgoing},
			{"an unknown chat", func(o *interop.Outgoing) { o.Chat = "nowhere" }, interop.ErrNoChat},
		} {
			out := good
			c.edit(&out)
			if _, err := b.a.Send(context.Background(), out, nil); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
	})
}

func TestWithoutABundleAnEventFailsOrWaits(t *testing.T) {
	for _, c := range []struct {
		code   int
		reason interop.Reason
	}{{403, interop.ReasonBlocked}, {404, interop.ReasonGone}, {406, interop.ReasonNoKeys}} {
		t.Run(fmt.Sprint(c.code, " is final"), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				b.g.iqCode = keysWith(c.code)
				b.send(b.chatWith(p), "$1", "hello")
				settle()
				b.wantFailed("$1", c.reason, c.code)
			})
		})
	}
	t.Run("503 is tried again", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			p, q := b.g.phone("1"), b.g.phone("2")
			b.g.iqCode = keysWith(503)
			b.send(b.chatWith(p), "$1", "hello")
			settle()
			b.g.mu.Lock()
			b.g.iqCode = nil
			b.g.mu.Unlock()
			b.send(b.chatWith(q), "$2", "another chat")
			settle()
			b.wantPhone(q, "another chat")
			pass(20 * time.Second)
			b.wantPhone(p, "hello")
		})
	})
}

func keysWith(code int) func(r stanza.Request) int {
	return func(r stanza.Request) int {
		if _, ok := r.(*stanza.KeyRequest); ok {
			return code
		}
		return 0
	}
}

func TestRetryRequestsAreAnsweredUnderTheSameIDUpToTen(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		id := interop.StanzaID([32]byte{9}, "$1", 0)
		p.deaf[id] = -100
		b.send(chat, "$1", "hello")
		pass(time.Minute)
		frames := b.frames(id)
		if len(frames) != 11 {
			t.Fatalf("%d messages under the id, want the first and ten answers", len(frames))
		}
		for i, f := range frames {
			if f.count != i {
				t.Errorf("answer %d has count %d", i, f.count)
			}
			if i > 0 && f.frame == frames[i-1].frame {
				t.Error("an answer is not encrypted anew")
			}
		}
		b.send(chat, "$2", "goes on")
		settle()
		b.wantPhone(p, "goes on")
	})
}

func TestARetryRequestThatComesAgainIsAnsweredOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		ids := b.send(b.chatWith(p), "$1", "hello")
		settle()
		b.g.mu.Lock()
		b.g.ask(p, ids[0], 7)
		again := b.g.queue[len(b.g.queue)-1]
		b.g.mu.Unlock()
		settle()
		for range 3 {
			b.g.mu.Lock()
			b.g.push(again.s)
			b.g.mu.Unlock()
			settle()
		}
		if n := len(b.frames(ids[0])); n != 2 {
			t.Errorf("%d messages under the id, want the first and one answer", n)
		}
	})
}

func TestAPhoneWithNewKeysGetsWhatItCouldNotReadAndTheRoomIsToldOnce(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprint("notification ", told), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				chat := b.chatWith(p)
				b.send(chat, "$1", "before")
				b.g.says(p, "A", "hi")
				settle()
				b.g.mu.Lock()
				p.reinstall()
				if told {
					b.g.push(&stanza.Notification{ID: "n1", From: p.jid, Type: "encrypt", Children: identityChild()})
				}
				b.g.mu.Unlock()
				settle()
				if told {
					b.wantTexts("hi", "identity_change:")
				}
				b.send(chat, "$2", "after")
				settle()
				b.wantPhone(p, "before", "after")
				b.wantTexts("hi", "identity_change:")
				b.wantLast("$2", interop.OutDelivered)
				b.g.says(p, "B", "new phone")
				settle()
				b.wantTexts("hi", "identity_change:", "new phone")
			})
		})
	}
}

func TestAfterAnIdentityNotificationNothingIsEncryptedToTheOldKeysNotEvenByTheNextProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		b.send(chat, "$1", "before")
		b.g.says(p, "A", "hi")
		settle()
		b.g.mu.Lock()
		p.reinstall()
		b.g.iqCode = keysWith(503)
		b.g.push(&stanza.Notification{ID: "n1", From: p.jid, Type: "encrypt", Children: identityChild()})
		b.g.mu.Unlock()
		settle()
		b.end()
		b.g.mu.Lock()
		b.g.iqCode = nil
		b.g.mu.Unlock()
		b.run()
		settle()
		b.send(chat, "$2", "after")
		settle()
		b.wantPhone(p, "before", "after")
		b.sees(func() {
			if len(p.count) != 0 {
				t.Error("the phone had to ask for it again")
			}
		})
	})
}

func TestBothSidesMaySpeakAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		var there, here []string
		for i := range 100 {
			text := fmt.Sprint("text ", i)
			b.send(chat, fmt.Sprint("$", i), text)
			b.g.says(p, fmt.Sprint("A", i), text)
			there, here = append(there, text), append(here, text)
		}
		settle()
		b.wantPhone(p, there...)
		b.wantTexts(here...)
		if len(p.retry) != 0 || len(p.count) != 0 {
			t.Error("something was not readable")
		}
	})
}

func TestLateRetryRequestsAfterTheWindowAreAckedAndLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		ids := b.send(b.chatWith(p), "$1", "hello")
		pass(9 * 24 * time.Hour)
		b.g.mu.Lock()
		b.g.ask(p, ids[0], 7)
		b.g.mu.Unlock()
		settle()
		if n := len(b.frames(ids[0])); n != 1 {
			t.Errorf("%d messages on the wire, want 1", n)
		}
		b.sees(func() {
			if len(b.g.queue) != 0 {
				t.Error("the request is not acked")
			}
		})
		pass(46 * 24 * time.Hour)
		if row := must(b.store.OutboundStanza(context.Background(), ids[0])); row != nil {
			t.Error("the row is still there after 45 days")
		}
	})
}

func TestTheAnswerToALookupIsInTheOrderOfTheQuestion(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.g.iqCode = func(r stanza.Request) int {
			if _, ok := r.(*stanza.UsersRequest); ok {
				return 429
			}
			return 0
		}
		_, err := b.a.Lookup(context.Background(), []string{"+1"})
		var refused *interop.RequestError
		if !errors.As(err, &refused) || refused.Code != 429 || !refused.Transient {
			t.Errorf("got %v", err)
		}
		if _, err = b.a.Lookup(context.Background(), nil); !errors.Is(err, stanza.ErrCount) {
			t.Errorf("none: %v", err)
		}
		b.end()
		if _, err = b.a.Lookup(context.Background(), []string{"+1"}); !errors.Is(err, interop.ErrOffline) {
			t.Errorf("offline: %v", err)
		}
	})
}
