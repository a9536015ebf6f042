package interop_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/connector/interop/interoptest"
	"postern/connector/stanza"
)

// TestAnOldCopyOfTheStoreUsesNoMessageKeyTwiceAndReplacesItsPrekeys: the gate notes the key of each ciphertext, also of those that the phone is
// not given.
func TestAnOldCopyOfTheStoreUsesNoMessageKeyTwiceAndReplacesItsPrekeys(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		talk := func(mark string) {
			b.send(chat, "$"+mark, "from Matrix "+mark)
			settle()
			b.g.says(p, "A"+mark, "from the phone "+mark)
			settle()
		}
		talk("before")
		copied := b.store.(*interoptest.MemStore).Clone()
		talk("since")
		talk("later")
		if err := b.end(); err != nil {
			t.Fatal(err)
		}
		old := b.g.skey.ID
		copied.Copied("the occasion")
		b.store = copied
		b.g.iqCode = func(r stanza.Request) int {
			if _, upload := r.(*stanza.Upload); upload {
				return 500
			}
			return 0
		}
		b.run()
		settle()
		if occasion, err := copied.Renewal(t.Context()); occasion == "" || err != nil {
			t.Errorf("done, though the gatekeeper took nothing: %v", err)
		}
		b.g.says(p, "Agone", "in a chain that the copy does not know")
		b.send(chat, "$since", "from Matrix since") // Matrix brings what the copy does not know
		b.send(chat, "$new", "from Matrix new")
		settle()
		b.sees(func() { b.g.iqCode = nil })
		b.g.breaks(errors.New("cut"))
		pass(time.Hour)
		talk("after")
		pass(time.Hour)
		want := []string{"from Matrix before", "from Matrix since", "from Matrix later", "from Matrix new", "from Matrix after"}
		occasion, err := copied.Renewal(t.Context())
		b.sees(func() {
			if !slices.Equal(p.texts, want) {
				t.Errorf("the phone has %q, want %q", p.texts, want)
			}
			for _, text := range []string{"in a chain that the copy does not know", "from the phone after"} {
				if !slices.Contains(b.m.texts(), text) {
					t.Errorf("Matrix does not have %q", text)
				}
			}
			if occasion != "" || err != nil || b.g.skey.ID <= old+1000 {
				t.Errorf("signed prekey %d, was %d; still to do: %q, %v", b.g.skey.ID, old, occasion, err)
			}
			ids := map[uint32]bool{}
			for _, k := range b.g.preKeys {
				if ids[k.ID] {
					t.Errorf("prekey %d is given out twice", k.ID)
				}
				ids[k.ID] = true
			}
			if n := len(b.g.uploads); n != 2 || b.g.uploads[1] != b.g.prof.PreKeys.Initial {
				t.Errorf("uploads of %v", b.g.uploads)
			}
		})
	})
}

func TestWhatTheGatekeeperDoesNotTakeAfterAnOldCopyIsNotMadeAnewAtEachAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		store := b.store.(*interoptest.MemStore)
		before := len(must(store.SignedPreKeys(t.Context())))
		b.sees(func() {
			b.g.iqCode = func(r stanza.Request) int {
				if _, upload := r.(*stanza.Upload); upload {
					return 503
				}
				return 0
			}
		})
		store.Copied("the occasion")
		for range 20 {
			b.g.breaks(errors.New("cut"))
			pass(time.Minute)
		}
		if made := len(must(store.SignedPreKeys(t.Context()))) - before; made != 1 {
			t.Errorf("%d signed prekeys were made, want 1", made)
		}
		b.sees(func() { b.g.iqCode = nil })
		b.g.breaks(errors.New("cut"))
		pass(time.Hour)
		newest := must(store.SignedPreKeys(t.Context()))[0].ID
		b.sees(func() {
			if b.g.skey.ID != newest {
				t.Errorf("the gatekeeper has signed prekey %d, want %d", b.g.skey.ID, newest)
			}
		})
		if occasion, err := store.Renewal(t.Context()); occasion != "" || err != nil {
			t.Errorf("not done in the end: %q (%v)", occasion, err)
		}
	})
}

// TestReplacingThePrekeysAfterAnOldCopyKeepsThePaceOfRefilling: that the gatekeeper has them is never noted.
func TestReplacingThePrekeysAfterAnOldCopyKeepsThePaceOfRefilling(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		_, uploads := b.preKeysAtGate()
		before := len(uploads)
		for i := range 120 {
			b.store.(*interoptest.MemStore).Copied(fmt.Sprint("occasion ", i))
			b.g.breaks(errors.New("cut"))
			pass(time.Minute)
		}
		_, uploads = b.preKeysAtGate()
		if n := len(uploads) - before; n > 5+2*6+1 || n < 6 {
			t.Errorf("%d uploads in two hours, want no more than refills are", n)
		}
	})
}
