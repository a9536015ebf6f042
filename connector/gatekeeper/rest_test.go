package gatekeeper

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/stanza"
)

// TestWhatIsSentBeforeOurFarewellArrivesIsStillRead: the gatekeeper writes after we have ended our half, over a real connection.
func TestWhatIsSentBeforeOurFarewellArrivesIsStillRead(t *testing.T) {
	late := &stanza.Message{ID: "late", From: aliceJID, Type: "text", T: 1, Enc: stanza.Enc{V: 2, Type: "msg", Data: []byte{1}}}
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		w.serve(raw, func(s *session) {
			s.goLive()
			s.toEnd()
			s.send(late)
		})
	}()
	w.cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, listener.Addr().String())
	}
	ctx, end := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	s := New(w.cfg)
	go func() { ended <- s.Run(ctx) }()
	w.handler.waitFor(Live)
	end(ErrRest)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	if err := s.Send(t.Context(), &stanza.Receipt{ID: "r", To: aliceJID}); err == nil {
		t.Error("something could be sent after the end")
	}
	states, stanzas := w.handler.all()
	if last := states[len(states)-1]; last.Phase != Stopped || last.Cause != nil {
		t.Errorf("the last state is %+v", last)
	}
	for _, st := range states {
		if st.Phase == Waiting {
			t.Error("a farewell was told as a failure")
		}
	}
	if m, ok := stanzas[len(stanzas)-1].(*stanza.Message); !ok || m.ID != "late" {
		t.Errorf("what came last was not handed over: %v", stanzas[len(stanzas)-1].Kind())
	}
}

func TestWhatIsThereNowEndsTheWaitAndIsNoPush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reasons := make(chan waWa6.ClientPayload_ConnectReason, 2)
		w := newWorld(t, func(*session) {}, func(s *session) { reasons <- s.login.GetConnectReason(); live(s) })
		r := w.run()
		wait := w.handler.waitFor(Waiting).Wait
		begun := time.Now()
		synctest.Wait()
		w.stream.Again()
		w.handler.waitFor(Live)
		if took := time.Since(begun); took >= wait {
			t.Errorf("connected after %v of %v", took, wait)
		}
		if reason := <-reasons; reason != waWa6.ClientPayload_ERROR_RECONNECT {
			t.Errorf("the reason was %v", reason)
		}
		w.stream.Again() // nothing waits
		r.end()
	})
}

func TestEachAttemptWaitsForItsTurnAndItsAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(*session) {}, live)
		turns, addresses := 0, 0
		w.cfg.Pace = func(context.Context) error { turns++; return nil }
		w.cfg.FindAddress = func(context.Context) (netip.Addr, error) {
			if addresses++; addresses < 3 {
				return netip.Addr{}, ErrNoAddress
			}
			return netip.Addr{}, nil
		}
		r := w.run()
		if st := w.handler.waitFor(Waiting); !errors.Is(st.Cause, ErrNoAddress) {
			t.Errorf("the cause is %v", st.Cause)
		}
		w.handler.waitFor(Live)
		r.end()
		if turns != 4 || addresses != 4 || len(w.dialled()) != 2 {
			t.Errorf("%d turns, %d addresses, %d dials", turns, addresses, len(w.dialled()))
		}
	})
}
