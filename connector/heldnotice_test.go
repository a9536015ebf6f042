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
