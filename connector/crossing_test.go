package connector

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
	"postern/database"
	"postern/database/databasetest"
)

// TestBothEndsSpeakAtOnceOverRealStoresAndEverythingIsReadInOrder: both begin a session at once, and each writes as fast as it can while it reads
// what comes, with up to 32 messages under way each way. With POSTERN_ALL=1 it is ten thousand messages each way.
func TestBothEndsSpeakAtOnceOverRealStoresAndEverythingIsReadInOrder(t *testing.T) {
	count := 200
	if os.Getenv("POSTERN_ALL") == "1" {
		count = 10_000
	}
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ends := [2]*e2eetest.Party{}
		for i := range ends {
			a := &database.Account{ID: database.NewLocalID(), Gatekeeper: "whatsapp"}
			a.Identifier = a.ID
			if err := db.Accounts().Put(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			ends[i] = e2eetest.NewParty(t, newSignalStore(db, a.ID), i+1)
		}
		for i, e := range ends {
			if _, err := e.Signal.StartSession(t.Context(), ends[1-i].Address, ends[1-i].Bundle(t, true), nil); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		lines := [2]chan e2ee.Sealed{make(chan e2ee.Sealed, 32), make(chan e2ee.Sealed, 32)}
		var all sync.WaitGroup
		for i, e := range ends {
			other, out, in := ends[1-i], lines[i], lines[1-i]
			all.Go(func() {
				for n := range count {
					sealed, err := e.Signal.Encrypt(ctx, other.Address, fmt.Append(nil, "text ", n), nil)
					if err != nil {
						t.Errorf("message %d of end %d: %v", n, i, err)
						stop()
						return
					}
					select {
					case out <- sealed:
					case <-ctx.Done():
						return
					}
				}
			})
			all.Go(func() {
				for n := range count {
					var sealed e2ee.Sealed
					select {
					case sealed = <-in:
					case <-ctx.Done():
						return
					}
					var got string
					err := e.Signal.Decrypt(ctx, other.Address, sealed.Type, sealed.Body, func(_ context.Context, text []byte, _ e2ee.Opened) error {
						got = string(text)
						return nil
					})
					if want := fmt.Sprint("text ", n); err != nil || got != want {
						t.Errorf("end %d has read %q, want %q: %v", i, got, want, err)
						stop()
						return
					}
				}
			})
		}
		all.Wait()
	})
}
