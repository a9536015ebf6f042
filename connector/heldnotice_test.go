package connector

import (
	"context"
	"strings"
	"testing"

	"postern/connector/interop"
	"postern/database"
)

// TestWhatWaitsForANewKeyIsSaidToWaitAtOnce: a notice that is stored in a transaction is sent when that is over, not when another comes.
func TestWhatWaitsForANewKeyIsSaidToWaitAtOnce(t *testing.T) {
	w := newWorld(t)
	store := NewAccountStore(w.connector.db, w.account, "whatsapp")
	if err := store.PutVerified(t.Context(), interop.Verified{Chat: w.peer.Chat, Confirmed: true, Key: [32]byte{1}}); err != nil {
		t.Fatal(err)
	}
	change := database.SignalChange{Addr: testPeer.SignalAddress(), Identity: append([]byte{5}, make([]byte, 31)...)}
	if err := w.connector.db.Signal(w.account).Apply(t.Context(), change, nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.connector.stack.Notices.Run(ctx) }()
	defer func() { stop(); <-ended }()
	w.fromPerson("$waits", "m.room.message", text("hello"))
	w.matrix.await(t, func(events []*fakeEvent) bool {
		for _, e := range events {
			if strings.Contains(body(e), "This waits") {
				return true
			}
		}
		return false
	})
}

// TestAKeyThatIsHeldAgainIsSaidAgain: it was confirmed away in between, and what waits now waits for a reason of its own.
func TestAKeyThatIsHeldAgainIsSaidAgain(t *testing.T) {
	w := newWorld(t)
	store := NewAccountStore(w.connector.db, w.account, "whatsapp")
	if err := store.PutVerified(t.Context(), interop.Verified{Chat: w.peer.Chat, Confirmed: true, Key: [32]byte{1}}); err != nil {
		t.Fatal(err)
	}
	waits := func() (n int) {
		t.Helper()
		all, err := w.connector.db.Notices().Waiting(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, notice := range all {
			if strings.Contains(string(notice.Content), "This waits") {
				n++
			}
		}
		return n
	}
	key := func(first byte) {
		t.Helper()
		change := database.SignalChange{Addr: testPeer.SignalAddress(), Identity: append([]byte{first}, make([]byte, 31)...)}
		if err := w.connector.db.Signal(w.account).Apply(t.Context(), change, nil); err != nil {
			t.Fatal(err)
		}
	}
	confirm := func() {
		t.Helper()
		safety, err := w.client.account.Safety(t.Context(), w.peer.Chat)
		if err == nil {
			err = w.client.account.SafetyShown(t.Context(), w.peer.Chat, safety.Identity)
		}
		if err == nil {
			_, err = w.client.account.ConfirmSafety(t.Context(), w.peer.Chat, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	key(5)
	w.fromPerson("$1", "m.room.message", text("one"))
	w.fromPerson("$2", "m.room.message", text("two"))
	if n := waits(); n != 1 {
		t.Fatalf("%d notices of one hold", n)
	}
	confirm()
	key(6)
	confirm()
	key(5)
	w.fromPerson("$3", "m.room.message", text("three"))
	w.fromPerson("$4", "m.room.message", text("four"))
	if n := waits(); n != 2 {
		t.Errorf("%d notices of two holds", n)
	}
}
