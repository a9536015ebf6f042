package interop_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/jid"
	"postern/connector/stanza"
)

func (b *bench) preKeysAtGate() (left int, uploads []int) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	return len(b.g.preKeys), slices.Clone(b.g.uploads)
}

func (b *bench) takePreKeys(keep int) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	b.g.preKeys = b.g.preKeys[:keep]
}

func TestOneTimePreKeysAreUploadedAtFirstAndWhenFewAreLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		if left, _ := b.preKeysAtGate(); left != 200 {
			t.Fatalf("%d prekeys after the first login, want 200 at once", left)
		}
		ids := map[uint32]bool{}
		b.g.mu.Lock()
		for _, k := range b.g.preKeys {
			ids[k.ID] = true
		}
		b.g.mu.Unlock()
		b.takePreKeys(100)
		b.g.breaks(errors.New("cut"))
		pass(time.Minute)
		if left, uploads := b.preKeysAtGate(); left != 100 || len(uploads) != 1 {
			t.Fatalf("%d left, uploads %v: a hundred are enough", left, uploads)
		}
		b.takePreKeys(99)
		b.g.breaks(errors.New("cut"))
		pass(time.Minute)
		if left, uploads := b.preKeysAtGate(); left != 200 || len(uploads) != 2 {
			t.Fatalf("%d left, uploads %v, want 200 again", left, uploads)
		}
		b.takePreKeys(9)
		b.g.mu.Lock()
		b.g.push(&stanza.Notification{ID: "n", From: jid.ServerJID, Type: "encrypt", Children: countChild(9)})
		b.g.mu.Unlock()
		pass(time.Minute)
		if left, _ := b.preKeysAtGate(); left != 200 {
			t.Fatalf("%d left after the notification, want 200", left)
		}
		b.g.mu.Lock()
		for _, k := range b.g.preKeys[9:] {
			if ids[k.ID] {
				t.Error("a prekey was offered twice")
			}
		}
		b.g.mu.Unlock()
	})
}

func TestPreKeysThatMessagesUseUpAreCounted(t *testing.T) {
	inBubbleWith(t, func(b *bench) { b.limits.PreKeyJitter = time.Second }, func(t *testing.T, b *bench) {
		for i := range 101 {
			p := b.g.phone(fmt.Sprint(i + 1))
			b.g.says(p, "A", "hello")
			if i == 99 {
				settle()
				if left, _ := b.preKeysAtGate(); left != 100 {
					t.Fatalf("%d left, want 100", left)
				}
			}
		}
		pass(5 * time.Second)
		if left, uploads := b.preKeysAtGate(); left != 200 || len(uploads) != 2 {
			t.Errorf("%d left, uploads %v, want 200 again without a question", left, uploads)
		}
		b.sees(func() {
			if len(b.m.in) != 101 {
				t.Errorf("%d messages, want 101", len(b.m.in))
			}
		})
	})
}

func TestARefusedUploadIsNotRepeatedForEver(t *testing.T) {
	inBubbleWith(t, func(b *bench) {
		b.g.iqCode = func(r stanza.Request) int {
			if _, ok := r.(*stanza.Upload); ok {
				b.g.uploads = append(b.g.uploads, 0)
				return 406
			}
			return 0
		}
	}, func(t *testing.T, b *bench) {
		pass(time.Hour)
		if _, uploads := b.preKeysAtGate(); len(uploads) != 1 {
			t.Errorf("%d tries after 406, want 1", len(uploads))
		}
		fresh := must(b.store.PreKeysToUpload(context.Background(), 1000))
		if len(fresh) != 200 {
			t.Errorf("%d prekeys kept for the next try, want 200", len(fresh))
		}
	})
}

func TestTheSignedPreKeyIsRotatedWeeklyAndTheOldOneKeptForThirtyDays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.mu.Lock()
		first := b.g.skey
		b.g.mu.Unlock()
		pass(6 * 24 * time.Hour)
		b.g.mu.Lock()
		rotates := b.g.rotates
		b.g.mu.Unlock()
		if rotates != 0 {
			t.Fatalf("rotated %d times in six days", rotates)
		}
		pass(36 * time.Hour)
		b.g.mu.Lock()
		now := b.g.skey
		rotates = b.g.rotates
		b.g.skey, b.g.preKeys = first, nil // someone still has the old bundle
		b.g.mu.Unlock()
		if rotates != 1 || now.ID == first.ID {
			t.Fatalf("rotated %d times in seven and a half days", rotates)
		}
		b.g.says(p, "A", "with the old key")
		settle()
		b.wantTexts("with the old key")
		pass(60 * 24 * time.Hour)
		keys := must(b.store.SignedPreKeys(context.Background()))
		oldest := keys[len(keys)-1]
		if age := time.Since(time.UnixMilli(oldest.Created)); age > 46*24*time.Hour || len(keys) < 4 {
			t.Errorf("%d signed prekeys, the oldest made %v ago", len(keys), age)
		}
	})
}

func (b *bench) wantConn(kind interop.ConnKind, code int) {
	b.t.Helper()
	b.sees(func() {
		last := b.m.conn[len(b.m.conn)-1]
		if last.Kind != kind || last.Code != code {
			b.t.Errorf("connection %v, want %s (%d)", last, kind, code)
		}
	})
}

// stopped breaks the stream with a final error and returns what Run returned.
func (b *bench) stopped(action stanza.Action, code int) *interop.StopError {
	b.t.Helper()
	b.g.breaks(&gatekeeper.StopError{Action: action, Code: code})
	pass(time.Minute)
	select {
	case err := <-b.done:
		b.done = nil
		var stop *interop.StopError
		if !errors.As(err, &stop) {
			b.t.Fatalf("run returned %v", err)
		}
		return stop
	default:
		return nil
	}
}

func TestWhatOnlyAPersonCanMendEndsRun(t *testing.T) {
	for _, c := range []struct {
		action stanza.Action
		code   int
		want   interop.ConnKind
	}{
		{stanza.ActionReplaced, 0, interop.ConnReplaced}, {stanza.ActionRefused, 403, interop.ConnRefused},
		{stanza.ActionRefused, 414, interop.ConnRefused}, {stanza.ActionReenlist, 401, interop.ConnNotEnlisted},
	} {
		t.Run(fmt.Sprint(c.want, c.code), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				stop := b.stopped(c.action, c.code)
				if stop == nil || stop.Kind != c.want || stop.Code != c.code {
					t.Errorf("stopped with %v", stop)
				}
				b.wantConn(c.want, c.code)
			})
		})
	}
}

// TestAForgottenAccountEnlistsAgainThoughTheClockWasSetBack: the last time lies ahead, which says nothing of how long ago it was.
func TestAForgottenAccountEnlistsAgainThoughTheClockWasSetBack(t *testing.T) {
	other, enlisted := must(jid.NewInterop(1, "99")), 0
	inBubbleWith(t, func(b *bench) {
		b.edit = func(c *interop.Config) {
			c.Reenlisted = time.Now().Add(20 * time.Hour)
			c.Reenlist = func(context.Context) (jid.JID, error) { enlisted++; return other, nil }
		}
	}, func(t *testing.T, b *bench) {
		if stop := b.stopped(stanza.ActionReenlist, 401); stop != nil || enlisted != 1 {
			t.Fatalf("stopped: %v, enlisted %d times", stop, enlisted)
		}
		if stop := b.stopped(stanza.ActionReenlist, 401); stop == nil || enlisted != 1 {
			t.Errorf("a second time within a day: stopped %v, enlisted %d times", stop, enlisted)
		}
	})
}

func TestAForgottenAccountEnlistsAgainOnceADay(t *testing.T) {
	other := must(jid.NewInterop(1, "99"))
	enlisted := 0
	inBubbleWith(t, func(b *bench) {
		b.edit = func(c *interop.Config) {
			c.Reenlist = func(context.Context) (jid.JID, error) {
				enlisted++
				if enlisted == 1 {
					return jid.JID{}, &interop.EnlistError{Reason: interop.EnlistUnavailable}
				}
				return other, nil
			}
		}
	}, func(t *testing.T, b *bench) {
		if stop := b.stopped(stanza.ActionReenlist, 401); stop != nil {
			t.Fatalf("stopped: %v", stop)
		}
		if enlisted != 2 || b.a.JID() != other {
			t.Fatalf("enlisted %d times, login %v", enlisted, b.a.JID())
		}
		b.wantConn(interop.ConnLive, 0)
		pass(23 * time.Hour)
		if stop := b.stopped(stanza.ActionReenlist, 401); stop == nil || stop.Kind != interop.ConnNotEnlisted {
			t.Fatalf("a second 401 within a day: %v", stop)
		}
	})
}

func TestAPermanentRefusalOfEnlistingStops(t *testing.T) {
	inBubbleWith(t, func(b *bench) {
		b.edit = func(c *interop.Config) {
			c.Reenlist = func(context.Context) (jid.JID, error) {
				return jid.JID{}, &interop.EnlistError{Reason: interop.EnlistBlocked, Permanent: true}
			}
		}
	}, func(t *testing.T, b *bench) {
		if stop := b.stopped(stanza.ActionReenlist, 401); stop == nil {
			t.Error("goes on")
		}
	})
}

func TestDeletingEndsTheAccount(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		chat := b.chatWith(b.g.phone("1"))
		if err := b.a.Delete(context.Background()); err != nil {
			t.Fatal(err)
		}
		settle()
		var stop *interop.StopError
		if err := <-b.done; !errors.As(err, &stop) || stop.Kind != interop.ConnDeleted || !b.g.deleted {
			t.Errorf("run returned %v", err)
		}
		b.done = nil
		b.wantConn(interop.ConnDeleted, 0)
		_, err := b.a.Send(context.Background(), interop.Outgoing{EventID: "$1", Chat: chat, Type: "text", Parts: [][]byte{{1}}}, nil)
		if !errors.Is(err, interop.ErrStopped) {
			t.Errorf("send: %v", err)
		}
		if err = b.a.Run(context.Background()); !errors.Is(err, interop.ErrStopped) {
			t.Errorf("run: %v", err)
		}
	})
}

func TestADeletionThatIsRefusedLeavesTheAccountAsItIs(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.mu.Lock()
		b.g.iqCode = func(stanza.Request) int { return 503 }
		b.g.mu.Unlock()
		var refused *interop.RequestError
		if err := b.a.Delete(context.Background()); !errors.As(err, &refused) || refused.Code != 503 {
			t.Errorf("got %v", err)
		}
		if err := b.a.Ping(context.Background(), b.chatWith(p), "Matilda"); !errors.As(err, &refused) || refused.Op != "ping" {
			t.Errorf("got %v", err)
		}
		b.g.says(p, "A", "still there")
		settle()
		b.wantTexts("still there")
	})
}

func TestOnlyOneRunAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		if err := b.a.Run(context.Background()); !errors.Is(err, interop.ErrBusy) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheOutcomeOfAPingReachesTheRoomOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		n := &stanza.Notification{ID: "n1", From: jid.ServerJID, Type: "w:interop", T: 5, Children: reachChild(p.jid, "accepted")}
		b.g.mu.Lock()
		b.g.push(n)
		b.g.push(n)
		b.g.mu.Unlock()
		settle()
		b.wantTexts("reachability:accepted")
		b.sees(func() {
			if in := b.m.in[0]; in.Chat == "" || in.Sender != p.jid || in.MessageID == "" {
				t.Errorf("got %+v", in)
			}
			if len(b.g.queue) != 0 {
				t.Error("not acked")
			}
		})
	})
}

func TestNotificationsNobodyKnowsAreAcked(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.g.mu.Lock()
		b.g.push(&stanza.Notification{ID: "n1", From: jid.ServerJID, Type: "weather"})
		b.g.push(&stanza.Receipt{ID: "r1", From: b.g.phoneLocked("1").jid, Type: "sender"})
		b.g.mu.Unlock()
		settle()
		b.sees(func() {
			if len(b.g.queue) != 0 {
				t.Errorf("%d not acked", len(b.g.queue))
			}
		})
	})
}

func TestAnAckThatTheGatekeeperMissesIsGivenFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "A", "one")
		settle()
		b.g.mu.Lock()
		n := len(b.g.acks)
		b.g.push(&stanza.StreamError{Ack: &stanza.OwedAck{Class: "message", ID: "A"}})
		b.g.mu.Unlock()
		settle()
		b.g.breaks(errors.New("cut"))
		pass(5 * time.Second)
		b.sees(func() {
			if len(b.g.acks) <= n || b.g.acks[n].ID != "A" || b.g.acks[n].Class != "message" {
				t.Errorf("acks after the reconnect: %v", b.g.acks[n:])
			}
		})
	})
}
