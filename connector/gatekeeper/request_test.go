package gatekeeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/noise"
	"postern/connector/stanza"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// muteDial connects to someone who never says a word.
func muteDial(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			buf := make([]byte, 100)
			for {
				if _, err := b.Read(buf); err != nil {
					return
				}
			}
		}()
		return a, nil
	}
}

func TestRequestGetsItsAnswerWhateverTheOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 20
		w := newWorld(t, func(s *session) {
			s.goLive()
			var asked []*stanza.IQ
			for range n {
				iq := s.next().(*stanza.IQ)
				if iq.To != jid.ServerJID {
					t.Errorf("asked %v", iq.To)
				}
				asked = append(asked, iq)
			}
			for i := range asked { // backwards
				q := asked[n-1-i]
				s.send(q.Result(binxml.Node{Tag: "echo", Data: []byte(q.XMLNS)}))
			}
			s.answer()
		})
		r := w.run()
		w.handler.waitFor(Live)
		ids := map[string]bool{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				q := &stanza.IQ{Type: stanza.IQGet, XMLNS: fmt.Sprint("ns", i)}
				answer, err := w.stream.Request(t.Context(), q)
				if err != nil {
					t.Error(err)
					return
				}
				if got := string(answer.Children[0].Data); got != q.XMLNS {
					t.Errorf("%s got the answer to %s", q.XMLNS, got)
				}
				if q.ID != "" || !q.To.IsZero() {
					t.Error("the caller's iq was changed")
				}
				mu.Lock()
				ids[answer.ID] = true
				mu.Unlock()
			})
		}
		wg.Wait()
		if len(ids) != n {
			t.Errorf("%d different ids", len(ids))
		}
		r.end()
	})
}

func TestRequestRefusedReturnsTheReason(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) {
			s.goLive()
			s.send(s.next().(*stanza.IQ).Fail(404))
			s.answer()
		})
		r := w.run()
		w.handler.waitFor(Live)
		_, err := w.stream.Request(t.Context(), &stanza.IQ{Type: stanza.IQGet, XMLNS: stanza.NSEncrypt})
		var refused *stanza.IQError
		if !errors.As(err, &refused) || refused.Code != 404 {
			t.Errorf("got %v", err)
		}
		r.end()
	})
}

func TestRequestOnAStreamThatBreaksEndsWithIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) { s.goLive(); s.next() }, live)
		r := w.run()
		w.handler.waitFor(Live)
		_, err := w.stream.Request(t.Context(), &stanza.IQ{Type: stanza.IQGet})
		if !errors.Is(err, ErrNotConnected) || !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
		r.end()
	})
}

func TestRequestNobodyAnswersEndsWithTheStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) { s.goLive(); s.toEnd() }, live)
		r := w.run()
		w.handler.waitFor(Live)
		begun := time.Now()
		_, err := w.stream.Request(t.Context(), &stanza.IQ{Type: stanza.IQGet})
		if !errors.Is(err, ErrNotConnected) || !errors.Is(err, ErrUnanswered) || time.Since(begun) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		r.end()
	})
}

func TestRequestEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		w := newWorld(t, func(s *session) {
			s.goLive()
			q := s.next().(*stanza.IQ)
			<-release
			s.send(q.Result()) // too late; must do no harm
			s.answer()
		})
		r := w.run()
		w.handler.waitFor(Live)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.stream.Request(ctx, &stanza.IQ{Type: stanza.IQGet}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		close(release)
		synctest.Wait()
		if n := len(w.stream.current.asked); n != 0 {
			t.Errorf("%d requests left over", n)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.stream.Request(ended, &stanza.IQ{Type: stanza.IQGet}); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		if err := w.stream.Send(ended, outgoing("M")); !errors.Is(err, context.Canceled) {
			t.Errorf("send with a context that has ended: %v", err)
		}
		r.end()
		if n := len(w.dialled()); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestRequestFromWithinTheHandlerIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, live)
		got := make(chan error, 1)
		w.handler.onStanza = func(ctx context.Context, s stanza.Stanza) {
			if s.Kind() == stanza.KindSuccess {
				_, err := w.stream.Request(ctx, &stanza.IQ{Type: stanza.IQGet})
				got <- err
			}
		}
		r := w.run()
		if err := <-got; err != ErrInHandler {
			t.Errorf("got %v", err)
		}
		r.end()
	})
}

func TestNothingIsSentWithoutALogin(t *testing.T) {
	frame, err := (&session{}).codec.Append(nil, outgoing("M").Node())
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, s *Stream) {
		t.Helper()
		if err := s.Send(context.Background(), outgoing("M")); err != ErrNotConnected {
			t.Errorf("send: %v", err)
		}
		if err := s.SendFrame(context.Background(), frame); err != ErrNotConnected {
			t.Errorf("send frame: %v", err)
		}
		if _, err := s.Request(context.Background(), &stanza.IQ{Type: stanza.IQGet}); err != ErrNotConnected {
			t.Errorf("request: %v", err)
		}
	}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) { s.toEnd() })
		check(t, New(w.cfg))
		r := w.run()
		w.handler.waitFor(LoggingIn)
		check(t, w.stream)
		w.handler.waitFor(Waiting)
		check(t, w.stream)
		r.end()
		check(t, w.stream)
	})
}

func TestFinishedBytesGoOutAsTheyAre(t *testing.T) {
	bubble(t, func(t *testing.T) {
		got := make(chan stanza.Stanza, 1)
		w := newWorld(t, func(s *session) { s.goLive(); got <- s.next(); s.answer() })
		r := w.run()
		w.handler.waitFor(Live)
		frame, err := (&session{}).codec.AppendCompressed(nil, outgoing("M").Node())
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{"nothing": nil, "rubbish": {0, 0xff}, "a malformed stanza": mustFrame(t, &binxml.Node{Tag: "message"})} {
			if err := w.stream.SendFrame(t.Context(), bad); err == nil {
				t.Errorf("%s was sent", name)
			}
		}
		if err := w.stream.SendFrame(t.Context(), frame); err != nil {
			t.Fatal(err)
		}
		if m, ok := (<-got).(*stanza.Message); !ok || m.ID != "M" || !bytes.Equal(m.Enc.Data, []byte{1, 2, 3}) {
			t.Errorf("arrived as %+v", m)
		}
		r.end()
	})
}

func mustFrame(t *testing.T, n *binxml.Node) []byte {
	t.Helper()
	frame, err := (&session{}).codec.Append(nil, n)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestStanzaThatCannotBeWrittenLeavesTheStreamAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, live)
		r := w.run()
		w.handler.waitFor(Live)
		bad := outgoing("M")
		bad.To = jid.JID{User: "not a number", Server: jid.LID}
		if err := w.stream.Send(t.Context(), bad); !errors.Is(err, binxml.ErrNode) {
			t.Errorf("bad address: %v", err)
		}
		huge := outgoing("N")
		huge.Enc.Data = make([]byte, noise.MaxFrame)
		if err := w.stream.Send(t.Context(), huge); err == nil || errors.Is(err, ErrNotConnected) {
			t.Errorf("too large: %v", err)
		}
		time.Sleep(time.Hour)
		r.end()
		if n := len(w.dialled()); n != 1 {
			t.Errorf("%d connections: %v", n, w.handler.last())
		}
	})
}

func TestManyGoroutinesSendAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const senders, each = 8, 25
		counts := make(chan int, 1)
		w := newWorld(t, func(s *session) {
			s.goLive()
			n := 0
			for st := range s.incoming {
				switch st := st.(type) {
				case *stanza.Message:
					n++
					s.send(&stanza.Ack{Class: "message", ID: st.ID, From: st.To})
				case *stanza.IQ:
					s.send(st.Result())
				}
			}
			counts <- n
		})
		r := w.run()
		w.handler.waitFor(Live)
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				for j := range each {
					if err := w.stream.Send(t.Context(), outgoing(fmt.Sprintf("M%d-%d", i, j))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if _, owed := w.stream.current.owed.waiting(w.stream.current.clock()); owed {
			t.Error("something counts as unanswered")
		}
		r.end()
		if n := <-counts; n != senders*each {
			t.Errorf("%d messages arrived", n)
		}
	})
}

func TestLogHoldsNothingOfAUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) {
			s.goLive()
			s.sendNode(&binxml.Node{Tag: "message", Attrs: []binxml.Attr{binxml.S("id", "SECRETID"), binxml.J("from", aliceJID)}})
			s.next()
			s.send(&stanza.Failure{Reason: 503, Message: "SECRETTEXT"})
		}, live)
		r := w.run()
		w.handler.waitForLiveAt(2)
		r.end()
		log := w.log.String()
		if !contains(log, "malformed") || !contains(log, `"code":503`) {
			t.Errorf("log: %s", log)
		}
		for _, secret := range []string{"SECRET", "token-", aliceJID.User, ownJID.User, "chat.example"} {
			if contains(log, secret) {
				t.Errorf("the log holds %q: %s", secret, log)
			}
		}
	})
}
