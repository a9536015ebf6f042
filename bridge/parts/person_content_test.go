package parts_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"postern/bridge/parts"
)

func TestTwoPeopleReactReadTypeAndSendFiles(t *testing.T) {
	for kind, start := range homeservers {
		t.Run(kind, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			hs, err := start(ctx, t.TempDir())
			orSkip(t, err)
			defer hs.Kill()
			var people [2]*parts.Person
			for i, name := range []string{"alice", "bob"} {
				if people[i], err = parts.NewPerson(ctx, hs, name, "secret-of-"+name); err != nil {
					t.Fatal(err)
				}
				defer people[i].Close()
			}
			alice, bob := people[0], people[1]
			room, err := alice.CreateDM(ctx, bob.UserID)
			must(t, err)
			must(t, bob.Join(ctx, room))
			text, err := alice.SendText(ctx, room, "hello")
			must(t, err)

			reaction, err := bob.React(ctx, room, text, "👍")
			must(t, err)
			got, err := alice.Expect(ctx, "a reaction", func(e *parts.Event) bool { return e.ID == reaction })
			must(t, err)
			if r := got.Relation(); r.Type != "m.annotation" || r.Event != text || r.Key != "👍" || got.Sender != bob.UserID {
				t.Errorf("the reaction is %+v of %s", r, got.Sender)
			}
			must(t, bob.Redact(ctx, room, reaction))
			_, err = alice.Expect(ctx, "its end", func(e *parts.Event) bool { return e.Removes() == reaction })
			must(t, err)

			must(t, bob.Read(ctx, room, text))
			_, err = alice.Expect(ctx, "a read receipt", func(e *parts.Event) bool {
				return e.RoomID == room && slices.Contains(e.ReadBy(text), bob.UserID)
			})
			must(t, err)
			for _, typing := range []bool{true, false} {
				must(t, bob.Typing(ctx, room, typing))
				begun := !typing // what comes before the beginning is not the end
				_, err = alice.Expect(ctx, "a change in who writes", func(e *parts.Event) bool {
					users, ok := e.IsTyping()
					if !ok || e.RoomID != room {
						return false
					}
					writes := slices.Contains(users, bob.UserID)
					if begun && writes {
						begun = false
						return false
					}
					return writes == typing && !begun
				})
				must(t, err)
			}

			data := bytes.Repeat([]byte("a file "), 1000)
			uri, err := alice.Upload(ctx, data, "text/plain", "a file.txt")
			must(t, err)
			read, err := bob.Download(ctx, uri)
			must(t, err)
			if !bytes.Equal(read, data) {
				t.Errorf("%d bytes were read, not the %d that were sent", len(read), len(data))
			}
			if _, err := bob.Download(ctx, uri+"x"); !parts.IsMatrixError(err, "M_NOT_FOUND") {
				t.Errorf("a file that is not there: %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
