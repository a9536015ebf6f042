package interop_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// reply sends an event of parts that have fall-backs, "" for none.
func (b *bench) reply(chat, event string, pairs ...[2]string) []string {
	b.t.Helper()
	out := interop.Outgoing{EventID: event, RoomID: "!" + chat, Chat: chat, Type: "text"}
	for _, pair := range pairs {
		out.Parts = append(out.Parts, textOf(b.t, pair[0]))
		out.Fallbacks = append(out.Fallbacks, nil)
		if pair[1] != "" {
			out.Fallbacks[len(out.Fallbacks)-1] = textOf(b.t, pair[1])
		}
	}
	ids, err := b.a.Send(context.Background(), out, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return ids
}

// nacks makes a phone answer messages with a code instead of reading them.
func (b *bench) nacks(p *fakePhone, code int, ids ...string) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	for _, id := range ids {
		p.deaf[id] = code
	}
}

// push sends a stanza to the partner.
func (b *bench) push(s stanza.Stanza) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	b.g.push(s)
}

func idOf(event string, part int) string { return interop.StanzaID([32]byte{9}, event, part) }

func TestWhatAPhoneCannotReadIsSentInItsOtherFormBehindTheRest(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		if b.a.ReplyForm() != profile.ReplyContext {
			t.Fatal("replies do not begin in the form of the profile")
		}
		b.nacks(p, 491, idOf("$1", 0))
		ids := b.reply(chat, "$1", [2]string{"answer", "> question answer"})
		b.send(chat, "$2", "behind")
		settle()
		b.wantPhone(p, "behind", "> question answer")
		b.wantLast("$1", interop.OutDelivered)
		instead := idOf("$1", interop.MaxParts)
		b.sees(func() {
			if p.ids[1] != instead {
				t.Errorf("the fall-back has id %s, want %s", p.ids[1], instead)
			}
			for _, s := range b.m.status {
				if s.EventID == "$1" && s.State == interop.OutDelivered && !slices.Equal(s.StanzaIDs, []string{instead}) {
					t.Errorf("delivered with ids %v, want that of the fall-back", s.StanzaIDs)
				}
			}
		})
		if b.a.ReplyForm() != profile.ReplyQuote {
			t.Error("nothing was learnt of the phone's answer")
		}
		for id, want := range map[string]string{ids[0]: "$1", instead: "$1", idOf("$2", 0): "$2", "3EB0": "", idOf("$2", interop.MaxParts): ""} {
			if event, found, err := b.a.EventOf(context.Background(), chat, id); event != want || found != (want != "") || err != nil {
				t.Errorf("%s is of %q %v %v, want %q", id, event, found, err, want)
			}
		}
		if _, found, err := b.a.EventOf(context.Background(), b.chatWith(b.g.phone("2")), ids[0]); found || err != nil {
			t.Errorf("found in another chat: %v %v", found, err)
		}
		if again := b.reply(chat, "$1", [2]string{"answer", "> question answer"}); !slices.Equal(again, ids) {
			t.Errorf("the same event again has ids %v, want %v", again, ids)
		}
		b.end()
		b.run()
		pass(5 * time.Second)
		if b.a.ReplyForm() != profile.ReplyQuote {
			t.Error("what was learnt is forgotten after a restart")
		}
		b.wantPhone(p, "behind", "> question answer")
	})
}

func TestAfterTheFallBackLateNewsOfTheFirstFormDoesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		p.silent = true
		b.nacks(p, 491, idOf("$1", 0))
		ids := b.reply(b.chatWith(p), "$1", [2]string{"answer", "instead"})
		settle()
		b.wantPhone(p, "instead")
		b.wantLast("$1", interop.OutSent)
		for _, s := range []stanza.Stanza{
			&stanza.Receipt{ID: ids[0], From: p.jid, Type: "read"},
			&stanza.Ack{Class: "message", ID: ids[0], From: p.jid, Error: 491},
			&stanza.Ack{Class: "message", ID: ids[0], From: p.jid, Error: 403},
			&stanza.Ack{Class: "message", ID: ids[0], From: p.jid},
			&stanza.Receipt{ID: ids[0], From: p.jid, Type: "retry", Retry: &stanza.Retry{Count: 1, ID: ids[0], Version: 1, RegistrationID: 5}},
		} {
			b.push(s)
			settle()
		}
		b.g.breaks(errors.New("cut"))
		pass(5 * time.Second)
		b.wantLast("$1", interop.OutSent)
		b.wantPhone(p, "instead")
		if n := len(b.frames(ids[0])); n != 1 {
			t.Errorf("the first form went out %d times", n)
		}
		b.push(&stanza.Receipt{ID: idOf("$1", interop.MaxParts), From: p.jid, Type: "read"})
		settle()
		b.wantLast("$1", interop.OutRead)
	})
}

func TestNewsOfTheFirstFormDoesNotStopTheFallBackThatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.nacks(p, 491, idOf("$1", 0))
		b.ackWith(func(m *stanza.Message) int {
			if m.ID == idOf("$1", interop.MaxParts) {
				return 503
			}
			return 0
		})
		ids := b.reply(b.chatWith(p), "$1", [2]string{"answer", "instead"})
		settle()
		b.push(&stanza.Ack{Class: "message", ID: ids[0], From: p.jid, Error: 403})
		settle()
		b.ackWith(nil)
		pass(30 * time.Second)
		b.wantPhone(p, "instead")
		b.wantLast("$1", interop.OutDelivered)
	})
}

func TestAFallBackThatCannotBeReadEitherFailsTheEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.nacks(p, 491, idOf("$1", 0), idOf("$1", interop.MaxParts))
		b.reply(b.chatWith(p), "$1", [2]string{"answer", "instead"})
		settle()
		b.wantFailed("$1", interop.ReasonUnreadable, 491)
		b.wantPhone(p)
		if n := len(b.frames(idOf("$1", interop.MaxParts))); n != 1 {
			t.Errorf("the fall-back went out %d times", n)
		}
	})
}

func TestOnlyThePartThatCouldNotBeReadIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.nacks(p, 491, idOf("$1", 1))
		ids := b.reply(b.chatWith(p), "$1", [2]string{"one", "uno"}, [2]string{"two", "due"}, [2]string{"three", ""})
		settle()
		b.wantPhone(p, "one", "three", "due")
		b.wantLast("$1", interop.OutDelivered)
		want := []string{ids[0], idOf("$1", 1+interop.MaxParts), ids[2]}
		b.sees(func() {
			if last := b.m.status[len(b.m.status)-1]; !slices.Equal(last.StanzaIDs, want) {
				t.Errorf("ids %v, want %v", last.StanzaIDs, want)
			}
		})
		for i, id := range want { // read only when all that counts is
			b.push(&stanza.Receipt{ID: id, From: p.jid, Type: "read"})
			settle()
			if i < 2 {
				b.wantLast("$1", interop.OutDelivered)
			}
		}
		b.wantLast("$1", interop.OutRead)
	})
}

func TestWithoutAFallBackOrForAnotherReasonThereIsNoSecondForm(t *testing.T) {
	for _, c := range []struct {
		name   string
		pair   [2]string
		code   int
		reason interop.Reason
	}{
		{"nothing to fall back to", [2]string{"answer", ""}, 491, interop.ReasonUnreadable},
		{"blocked", [2]string{"answer", "instead"}, 403, interop.ReasonBlocked},
		{"bad stanza", [2]string{"answer", "instead"}, 479, interop.ReasonBadStanza},
		{"unreadable for another reason", [2]string{"answer", "instead"}, 487, interop.ReasonUnreadable},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				b.nacks(p, c.code, idOf("$1", 0))
				b.reply(b.chatWith(p), "$1", c.pair)
				settle()
				b.wantFailed("$1", c.reason, c.code)
				b.wantPhone(p)
				if b.a.ReplyForm() != profile.ReplyContext {
					t.Error("something was learnt of replies")
				}
			})
		})
	}
}

func TestAnEventThatHasFailedOrWasReadDoesNotFallBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		b.reply(chat, "$1", [2]string{"one", "uno"}, [2]string{"two", "due"})
		b.reply(chat, "$2", [2]string{"three", "tre"})
		settle()
		b.push(&stanza.Receipt{ID: idOf("$2", 0), From: p.jid, Type: "read"})
		b.push(&stanza.Ack{Class: "message", ID: idOf("$1", 0), From: p.jid, Error: 403})
		settle()
		for _, id := range []string{idOf("$1", 0), idOf("$1", 1), idOf("$2", 0)} {
			b.push(&stanza.Ack{Class: "message", ID: id, From: p.jid, Error: 491})
		}
		settle()
		b.wantFailed("$1", interop.ReasonBlocked, 403)
		b.wantLast("$2", interop.OutRead)
		b.sees(func() {
			for _, text := range p.texts {
				if text == "uno" || text == "due" || text == "tre" {
					t.Errorf("the phone has %q", p.texts)
				}
			}
		})
	})
}

func TestAPreparedMessageHasItsFallBackToo(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.prepares(func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) {
			made := madeOf(t, in)
			made.Fallback = textOf(t, "instead")
			return made, nil
		})
		b.nacks(p, 491, idOf("$1", 0))
		b.recipe(b.chatWith(p), "$1", "it")
		settle()
		b.wantPhone(p, "instead")
		b.wantLast("$1", interop.OutDelivered)
		b.sees(func() {
			for _, s := range b.m.status {
				if s.MediaType != "image" {
					t.Errorf("told with mediatype %q", s.MediaType)
				}
			}
		})
	})
}
