package interop_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"postern/connector/interop"
	"postern/connector/stanza"
)

// confirm looks at a chat's safety number and confirms it.
func (b *bench) confirm(chat string) {
	b.t.Helper()
	b.look(chat)
	if changed, err := b.a.ConfirmSafety(context.Background(), chat, nil); err != nil || !changed {
		b.t.Fatalf("ConfirmSafety = %t, %v", changed, err)
	}
}

// look shows a chat's safety number to the person.
func (b *bench) look(chat string) interop.Safety {
	b.t.Helper()
	safety := must(b.a.Safety(context.Background(), chat))
	if err := b.a.SafetyShown(context.Background(), chat, safety.Identity); err != nil {
		b.t.Fatal(err)
	}
	return safety
}

// newPhone gives a phone new keys; told: the gatekeeper says so.
func (b *bench) newPhone(p *fakePhone, told bool) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	p.reinstall()
	if told {
		b.g.push(&stanza.Notification{ID: fmt.Sprint("n", p.device.RegistrationID), From: p.jid, Type: "encrypt", Children: identityChild()})
	}
}

// talked is a chat in which something was said each way.
func (b *bench) talked() (*fakePhone, string) {
	b.t.Helper()
	p := b.g.phone("1")
	chat := b.chatWith(p)
	b.send(chat, "$1", "before")
	b.g.says(p, "A", "hi")
	settle()
	return p, chat
}

func TestWhatIsWrittenToAConfirmedContactWithANewKeyWaitsUntilThatIsConfirmed(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprint("notification ", told), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p, chat := b.talked()
				b.confirm(chat)
				b.send(chat, "$2", "after")
				settle()
				b.wantPhone(p, "before", "after")
				b.newPhone(p, told)
				settle()
				if !told { // what comes from the new phone tells
					b.g.says(p, "B", "it is me")
					settle()
					b.wantTexts("hi", "identity_change:held", "it is me")
				} else {
					b.wantTexts("hi", "identity_change:held")
				}
				b.send(chat, "$3", "one")
				b.send(chat, "$4", "two")
				pass(10 * time.Minute)
				b.wantPhone(p, "before", "after")
				b.wantStates("$3")
				b.end() // nothing of it is in memory only
				b.run()
				pass(10 * time.Minute)
				b.send(chat, "$5", "three")
				pass(time.Minute)
				b.wantPhone(p, "before", "after")
				b.g.says(p, "C", "still here")
				settle()
				if _, _, held, err := b.a.Held(context.Background(), chat); err != nil || !held {
					t.Errorf("held is %t, %v", held, err)
				}
				b.confirm(chat)
				pass(time.Second)
				b.wantPhone(p, "before", "after", "one", "two", "three")
				b.wantLast("$5", interop.OutDelivered)
				b.sees(func() {
					if len(p.count) != 0 {
						t.Error("the new phone had to ask for something again")
					}
				})
			})
		})
	}
}

func TestWhatTheNewPhoneOfAConfirmedContactAsksForAgainWaitsToo(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, chat := b.talked()
		b.confirm(chat)
		b.newPhone(p, false)
		ids := b.send(chat, "$2", "under way")
		pass(time.Minute)
		b.sees(func() { // it asks with its keys, which are new
			b.g.ask(p, ids[0], 7)
		})
		pass(10 * time.Minute)
		b.wantPhone(p, "before")
		b.end()
		b.run()
		pass(10 * time.Minute)
		b.wantPhone(p, "before")
		b.wantTexts("hi", "identity_change:held")
		b.confirm(chat)
		pass(time.Minute)
		b.wantPhone(p, "before", "under way")
	})
}

func TestWhatIsHeldGoesOutWhenTheConfirmationIsTakenBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, chat := b.talked()
		b.confirm(chat)
		b.newPhone(p, true)
		settle()
		b.send(chat, "$2", "waits")
		pass(time.Minute)
		b.wantPhone(p, "before")
		if changed, err := b.a.ForgetSafety(context.Background(), chat, nil); err != nil || !changed {
			t.Fatalf("ForgetSafety = %t, %v", changed, err)
		}
		pass(time.Second)
		b.wantPhone(p, "before", "waits")
		b.newPhone(p, true) // and the next key is a notice, as for everybody
		settle()
		b.send(chat, "$3", "goes")
		settle()
		b.wantTexts("hi", "identity_change:held", "identity_change:")
		b.wantPhone(p, "before", "waits", "goes")
	})
}

func TestWhenTheConfirmedKeyIsThereAgainWhatWasHeldGoesOutToIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, chat := b.talked()
		b.confirm(chat)
		old := *p
		b.newPhone(p, true)
		settle()
		b.send(chat, "$2", "for the old one")
		pass(time.Minute)
		b.g.mu.Lock()
		p.device, p.store, p.signal, p.signed = old.device, old.store, old.signal, old.signed
		b.g.push(&stanza.Notification{ID: "back", From: p.jid, Type: "encrypt", Children: identityChild()})
		b.g.mu.Unlock()
		pass(time.Minute)
		b.wantPhone(p, "before", "for the old one")
		b.wantTexts("hi", "identity_change:held", "identity_change:back")
	})
}

func TestOnlyTheNumberThatWasShownIsConfirmed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		chat := ""
		want := func(want error) {
			t.Helper()
			if _, err := b.a.ConfirmSafety(context.Background(), chat, nil); !errors.Is(err, want) {
				t.Errorf("confirming: %v, want %v", err, want)
			}
		}
		chat = b.chatWith(b.g.phone("2"))
		want(interop.ErrNoKey)
		p, talked := b.talked()
		chat = talked
		want(interop.ErrNotShown)
		first := b.look(chat)
		b.newPhone(p, true)
		settle()
		want(interop.ErrNotShown) // it is another one than they have seen
		b.end()
		b.run()
		settle()
		want(interop.ErrNotShown)
		second := b.look(chat)
		if first.Number.Digits() == second.Number.Digits() || first.Confirmed || second.Confirmed || second.Held {
			t.Error("a new key has the same number, or what was only looked at counts as confirmed")
		}
		b.end()
		b.run()
		settle()
		want(nil) // looking outlives a restart
		if safety := b.look(chat); !safety.Confirmed || safety.Held {
			t.Error("the number is not confirmed")
		}
	})
}

func TestWhatIsHeldFailsAfterSevenDaysInWordsAndNotBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p, chat := b.talked()
		b.confirm(chat)
		b.newPhone(p, true)
		settle()
		b.send(chat, "$2", "first")
		pass(24 * time.Hour)
		b.send(chat, "$3", "a day later")
		pass(6*24*time.Hour - time.Minute)
		b.wantStates("$2")
		pass(2 * time.Minute)
		b.wantFailed("$2", interop.ReasonHeld, 0)
		b.wantStates("$3")
		b.confirm(chat)
		pass(time.Second)
		b.wantPhone(p, "before", "a day later")
		b.wantFailed("$2", interop.ReasonHeld, 0)
	})
}

func TestAHeldChatKeepsNoStreamOpenAndOneThatGoesOnHasOne(t *testing.T) {
	inBubbleWith(t, func(b *bench) {
		b.edit = func(c *interop.Config) { c.Attendance = interop.Attendance{Idle: time.Minute} }
	}, func(t *testing.T, b *bench) {
		p, chat := b.talked()
		b.confirm(chat)
		b.newPhone(p, true)
		settle()
		b.send(chat, "$2", "waits")
		pass(5 * time.Minute)
		b.sees(func() {
			if b.g.stream != nil {
				t.Error("the stream stays open for what waits for the person")
			}
		})
		b.confirm(chat)
		pass(30 * time.Second)
		b.wantPhone(p, "before", "waits")
	})
}

// unluckyStore has something happen while an identity key is read, and then fails to read the next one.
type unluckyStore struct {
	interop.Store
	during func()
	fails  bool
}

func (s *unluckyStore) LoadIdentity(ctx context.Context, addr string) ([]byte, error) {
	if s.fails {
		s.fails = false
		return nil, errDisk
	}
	raw, err := s.Store.LoadIdentity(ctx, addr)
	if during := s.during; during != nil {
		s.during = nil
		during()
		s.fails = true
	}
	return raw, err
}

// TestAConfirmationIsNotMissedWhenTheLookAfterARefusalFails: it came between the refusal and the note of it, and whether it did could not be
// read.
func TestAConfirmationIsNotMissedWhenTheLookAfterARefusalFails(t *testing.T) {
	store := &unluckyStore{}
	inBubbleWith(t, func(b *bench) {
		store.Store = b.store
		b.store = store
	}, func(t *testing.T, b *bench) {
		p, chat := b.talked()
		b.confirm(chat)
		b.newPhone(p, true)
		settle()
		store.during = func() { b.confirm(chat) }
		b.send(chat, "$2", "after")
		pass(time.Minute)
		if store.during != nil {
			t.Fatal("nothing was refused")
		}
		b.wantPhone(p, "before", "after")
	})
}
