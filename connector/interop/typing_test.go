package interop_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// wantTold checks what Matrix was told of typing since the last time: v for a voice message, t for text, - for neither.
func (b *bench) wantTold(want string) {
	b.t.Helper()
	b.sees(func() {
		got := ""
		for _, ty := range b.m.typing {
			switch {
			case ty.Composing && ty.Voice:
				got += "v"
			case ty.Composing:
				got += "t"
			default:
				got += "-"
			}
		}
		b.m.typing = nil
		if got != want {
			b.t.Errorf("Matrix was told %q, want %q", got, want)
		}
	})
}

// types makes a phone say what it does.
func (b *bench) types(p *fakePhone, state, media string) {
	b.push(&stanza.ChatState{From: p.jid, State: state, Media: media})
	settle()
}

func TestTheirTypingIsToldWhileItLasts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		b.types(p, stanza.Composing, "")
		b.sees(func() {
			if want := (interop.Typing{Chat: chat, Contact: must(b.store.PeerByChat(t.Context(), chat)).Contact, Composing: true}); len(b.m.typing) != 1 || b.m.typing[0] != want {
				t.Errorf("Matrix was told %+v, want %+v", b.m.typing, want)
			}
		})
		b.wantTold("t")
		b.types(p, stanza.Composing, "audio")
		b.wantTold("v")
		b.types(p, stanza.Paused, "")
		b.wantTold("-")
		b.types(p, stanza.Paused, "")
		b.wantTold("")
		b.types(p, stanza.Composing, "")
		pass(20 * time.Second)
		b.types(p, stanza.Composing, "")
		pass(24 * time.Second)
		b.wantTold("tt")
		pass(2 * time.Second) // 25 since the last time
		b.wantTold("-")
		pass(time.Hour)
		b.wantTold("")
	})
}

func TestAMessageEndsTheTypingOfWhoWroteIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, q := b.g.phone("1"), b.g.phone("2")
		b.chatWith(p)
		b.chatWith(q)
		b.types(p, stanza.Composing, "")
		b.types(q, stanza.Composing, "")
		b.wantTold("tt")
		b.g.says(p, "A", "hello")
		settle()
		b.wantTold("-")
		b.g.says(p, "B", "again")
		settle()
		b.wantTold("")
		pass(time.Minute)
		b.wantTold("-")
	})
}

func TestNobodyIsMadeKnownByTyping(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.types(p, stanza.Composing, "")
		b.push(&stanza.ChatState{From: jid.JID{User: "77", Server: "newsletter"}, State: stanza.Composing})
		for i := range 3000 { // more than are remembered
			b.push(&stanza.ChatState{From: jid.JID{User: fmt.Sprint(5000 + i), Server: jid.LID}, State: stanza.Composing})
		}
		pass(time.Minute)
		b.wantTold("")
		if _, err := b.store.FindPeer(t.Context(), p.jid); !errors.Is(err, interop.ErrNoChat) {
			t.Errorf("somebody who only typed is known: %v", err)
		}
		b.chatWith(p)
		b.types(p, stanza.Composing, "")
		b.wantTold("t")
	})
}

// wantTyped checks what the phone was told of our typing since the last time, and how long after the given time.
func (b *bench) wantTyped(p *fakePhone, since time.Time, want ...string) {
	b.t.Helper()
	b.sees(func() {
		var got []string
		for _, ty := range p.typing {
			got = append(got, ty.state+" "+ty.at.Sub(since).Truncate(time.Second).String())
		}
		p.typing = nil
		if !slices.Equal(got, want) {
			b.t.Errorf("the phone was told %q, want %q", got, want)
		}
	})
}

func TestOurTypingIsRepeatedUntilItEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(b *bench, chat string)
		want []string
	}{
		{"by itself after a minute", func(*bench, string) {}, []string{"composing 20s", "composing 30s", "composing 40s", "composing 50s", "paused 1m0s"}},
		{"when we say so", func(b *bench, chat string) { b.a.Typing(chat, false, false) }, []string{"paused 15s"}},
		{"without a word when we write", func(b *bench, chat string) { b.send(chat, "$1", "hello") }, nil},
		{"later if we say that it goes on", func(b *bench, chat string) { b.a.Typing(chat, true, false) },
			[]string{"composing 20s", "composing 30s", "composing 40s", "composing 50s", "composing 1m0s", "composing 1m10s", "paused 1m15s"}},
		{"and says at once that it is a voice message now", func(b *bench, chat string) {
			b.a.Typing(chat, true, true)
			pass(5 * time.Second)
			b.a.Typing(chat, false, true)
		},
			[]string{"composingaudio 15s", "paused 20s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				chat := b.chatWith(p)
				start := time.Now()
				b.a.Typing(chat, true, false)
				pass(15 * time.Second)
				b.wantTyped(p, start, "composing 0s", "composing 10s")
				c.end(b, chat)
				pass(time.Hour)
				b.wantTyped(p, start, c.want...)
				b.a.Typing(chat, false, false)
				settle()
				b.wantTyped(p, start)
			})
		})
	}
}

func TestAReactionDoesNotEndOurTyping(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		start := time.Now()
		b.a.Typing(chat, true, false)
		settle()
		if _, err := b.a.Send(t.Context(), interop.Outgoing{EventID: "$1", Chat: chat, Type: "reaction", Parts: [][]byte{textOf(t, "x")}}, nil); err != nil {
			t.Fatal(err)
		}
		pass(15 * time.Second)
		b.wantTyped(p, start, "composing 0s", "composing 10s")
	})
}

func TestWithoutAStreamTypingIsNotKept(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		start := time.Now()
		b.g.mu.Lock()
		b.g.slow = 35 * time.Second
		b.g.mu.Unlock()
		b.g.breaks(errors.New("cut"))
		settle()
		b.a.Typing(chat, true, false)
		pass(2 * time.Minute)
		b.wantTyped(p, start)
		start = time.Now()
		b.a.Typing(chat, true, false)
		settle()
		b.g.breaks(errors.New("cut")) // for 36 seconds
		pass(45 * time.Second)
		b.wantTyped(p, start, "composing 0s", "composing 40s")
		b.end()
		b.a.Typing(chat, true, false)
		b.a.Typing("nowhere", true, false)
		b.run()
		pass(time.Minute)
		b.wantTyped(p, start)
		b.a.Typing("nowhere", true, false)
		settle()
	})
}

func TestAGatekeeperWithoutTypingIsToldOfNone(t *testing.T) {
	inBubbleWith(t, func(b *bench) { b.g.prof.Features.Typing = false }, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.a.Typing(b.chatWith(p), true, false)
		settle()
		b.wantTyped(p, time.Now())
	})
}
