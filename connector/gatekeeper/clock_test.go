package gatekeeper

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/jid"
	"postern/connector/noise"
	"postern/connector/stanza"
)

func TestBackoffDoublesToItsBoundAndStartsOverAfterAGoodStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.run()
		var got []time.Duration
		for n := range 11 {
			got = append(got, w.handler.waitForNth(Waiting, n+1).Wait/time.Second)
		}
		r.end()
		want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300}
		if !equal(got, want) {
			t.Errorf("waits of %v seconds, want %v", got, want)
		}
		dials := w.dialled()
		for i := 1; i < len(dials); i++ {
			if d := dials[i].Sub(dials[i-1]); d != want[i-1]*time.Second {
				t.Errorf("attempt %d after %v", i+1, d)
			}
		}
	})
	for _, test := range []struct {
		good time.Duration
		want time.Duration
	}{{59 * time.Second, 8 * time.Second}, {60 * time.Second, time.Second}} {
		t.Run(fmt.Sprint("a stream good for ", test.good), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				shut := func(s *session) {}
				w := newWorld(t, shut, shut, shut, func(s *session) {
					s.goLive()
					go s.answer()
					time.Sleep(test.good)
				}, live)
				r := w.run()
				if got := w.handler.waitForNth(Waiting, 4).Wait; got != test.want {
					t.Errorf("waits %v, want %v", got, test.want)
				}
				r.end()
			})
		})
	}
}

func TestJitterIsSpreadOverTheWholeWait(t *testing.T) {
	const bound, draws = time.Second, 10000
	var sum time.Duration
	quarters := [4]int{}
	for range draws {
		d := uniformJitter(bound)
		if d < 0 || d >= bound {
			t.Fatalf("picked %v below %v", d, bound)
		}
		sum += d
		quarters[d/(bound/4)]++
	}
	if mean := sum / draws; mean < 480*time.Millisecond || mean > 520*time.Millisecond {
		t.Errorf("mean %v", mean)
	}
	for i, n := range quarters {
		if n < draws/5 {
			t.Errorf("quarter %d has %d of %d", i, n, draws)
		}
	}
	if uniformJitter(0) != 0 || uniformJitter(-1) != 0 {
		t.Error("no wait is no wait")
	}
	if New(Config{}).cfg.Jitter(time.Second) >= time.Second {
		t.Error("the default is another")
	}
}

func TestBackoffNeverOverflows(t *testing.T) {
	b := backoff{min: time.Second, max: 5 * time.Minute, jitter: func(max time.Duration) time.Duration { return max }}
	for i := range 200 {
		if d := b.next(); d <= 0 || d > 5*time.Minute {
			t.Fatalf("failure %d: %v", i, d)
		}
	}
}

func TestRestartIsAtOnceOnlyTheFirstTime(t *testing.T) {
	restart := func(good time.Duration) script {
		return func(s *session) {
			s.goLive()
			go s.answer()
			time.Sleep(good)
			s.send(&stanza.StreamError{Code: 515})
			s.toEnd()
		}
	}
	bubble(t, func(t *testing.T) {
		// At once; again at once after a good stream; then, straight after it, not.
		w := newWorld(t, restart(0), restart(time.Minute), restart(0), live)
		r := w.run()
		w.handler.waitForLiveAt(4)
		r.end()
		dials := w.dialled()
		var gaps []time.Duration
		for i := 1; i < len(dials); i++ {
			gaps = append(gaps, dials[i].Sub(dials[i-1]))
		}
		if want := []time.Duration{0, time.Minute, time.Second}; !equal(gaps, want) {
			t.Errorf("attempts %v apart, want %v", gaps, want)
		}
	})
}

func TestWakeEndsABackoffButNotAWaitTheGatekeeperAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Jitter = func(time.Duration) time.Duration { return time.Hour }
		begun := time.Now()
		r := w.run()
		w.handler.waitFor(Waiting)
		synctest.Wait()
		w.stream.Wake()
		w.stream.Wake() // once is enough, twice does no harm
		w.handler.waitForNth(Waiting, 2)
		if time.Since(begun) != 0 {
			t.Errorf("it waited %v", time.Since(begun))
		}
		r.end()
	})
	for name, failure := range map[string]stanza.Stanza{
		"rate limit": &stanza.StreamError{Code: 429}, "ban": &stanza.Failure{Reason: 402, Expire: 300},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, func(s *session) { s.send(failure) }, live)
				r := w.run()
				w.handler.waitFor(Waiting)
				synctest.Wait()
				w.stream.Wake()
				w.handler.waitForLiveAt(2)
				r.end()
				if d := w.dialled(); d[1].Sub(d[0]) != 5*time.Minute+time.Second {
					t.Errorf("came back after %v", d[1].Sub(d[0]))
				}
			})
		})
	}
}

func TestWakeOnALiveStreamIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		drop := make(chan struct{})
		w := newWorld(t, func(s *session) { s.goLive(); <-drop }, live)
		r := w.run()
		w.handler.waitFor(Live)
		w.stream.Wake()
		close(drop)
		w.handler.waitForLiveAt(2)
		r.end()
		if d := w.dialled(); d[1].Sub(d[0]) != time.Second {
			t.Errorf("came back after %v", d[1].Sub(d[0]))
		}
	})
}

func TestKeepAliveEvery25Seconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var at []time.Duration
		ids := map[string]bool{}
		begun := time.Now()
		done := make(chan struct{})
		w := newWorld(t, func(s *session) {
			s.goLive()
			for st := range s.incoming {
				iq, ok := st.(*stanza.IQ)
				if !ok || iq.XMLNS != stanza.NSKeepAlive || iq.Type != stanza.IQGet || iq.To != jid.ServerJID {
					t.Errorf("the bridge sent %+v", st)
					continue
				}
				at = append(at, time.Since(begun)/time.Second)
				ids[iq.ID] = true
				s.send(iq.Result())
				if len(at) == 4 {
					close(done)
				}
			}
		})
		r := w.run()
		<-done
		r.end()
		if want := []time.Duration{25, 50, 75, 100}; !equal(at, want) {
			t.Errorf("keep-alives at %v, want %v", at, want)
		}
		if len(ids) != 4 {
			t.Error("an id was used twice")
		}
		if n := len(w.dialled()); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestUnansweredStanzaGivesTheStreamUp(t *testing.T) {
	for name, test := range map[string]struct {
		send  func(s *Stream) error // at once after going live
		reply func(s *session)
		after time.Duration // of the end; 0: never
	}{
		"keep-alive": {nil, func(s *session) { s.toEnd() }, 35 * time.Second},
		"message":    {sending(outgoing("M")), func(s *session) { s.toEnd() }, 10 * time.Second},
		"message, with keep-alives answered": {sending(outgoing("M")), func(s *session) {
			for st := range s.incoming {
				if iq, ok := st.(*stanza.IQ); ok {
					s.send(iq.Result())
				}
			}
		}, 10 * time.Second},
		"message, acknowledged under another id": {sending(outgoing("M")), func(s *session) {
			s.send(&stanza.Ack{Class: "message", ID: "N", From: aliceJID})
			s.toEnd()
		}, 10 * time.Second},
		"message, acknowledged as a receipt": {sending(outgoing("M")), func(s *session) {
			s.send(&stanza.Ack{Class: "receipt", ID: "M", From: aliceJID})
			s.toEnd()
		}, 10 * time.Second},
		"message, refused":      {sending(outgoing("M")), answering(&stanza.Ack{Class: "message", ID: "M", From: aliceJID, Error: 479}), 0},
		"message, acknowledged": {sending(outgoing("M")), answering(&stanza.Ack{Class: "message", ID: "M", From: aliceJID}), 0},
		"read receipt, the delivery receipt of the same id answered": {
			sending(&stanza.Receipt{ID: "M", To: aliceJID, IDs: []string{"M"}},
				&stanza.Receipt{ID: "M", To: aliceJID, Type: stanza.ReceiptRead, IDs: []string{"M"}}),
			answering(&stanza.Ack{Class: "receipt", ID: "M", From: aliceJID}), 10 * time.Second},
		"both receipts answered": {
			sending(&stanza.Receipt{ID: "M", To: aliceJID, IDs: []string{"M"}},
				&stanza.Receipt{ID: "M", To: aliceJID, Type: stanza.ReceiptRead, IDs: []string{"M"}}),
			answering(&stanza.Ack{Class: "receipt", ID: "M", From: aliceJID, Type: stanza.ReceiptRead},
				&stanza.Ack{Class: "receipt", ID: "M", From: aliceJID}), 0},
		"what nobody answers": {sending(&stanza.Ack{Class: "message", ID: "M", To: aliceJID},
			&stanza.ChatState{To: aliceJID, State: stanza.Composing}), answering(), 0},
		"finished bytes": {func(s *Stream) error {
			frame, err := (&session{}).codec.Append(nil, outgoing("M").Node())
			if err != nil {
				return err
			}
			return s.SendFrame(context.Background(), frame)
		}, func(s *session) { s.toEnd() }, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				begun := time.Now()
				w := newWorld(t, func(s *session) { s.goLive(); test.reply(s) }, live)
				r := w.run()
				w.handler.waitFor(Live)
				if test.send != nil {
					if err := test.send(w.stream); err != nil {
						t.Fatal(err)
					}
				}
				if test.after == 0 {
					time.Sleep(20 * time.Minute)
					if n := len(w.dialled()); n != 1 {
						t.Errorf("%d connections", n)
					}
					r.end()
					return
				}
				st := w.handler.waitFor(Waiting)
				if !errors.Is(st.Cause, ErrUnanswered) || time.Since(begun) != test.after {
					t.Errorf("%v after %v", st.Cause, time.Since(begun))
				}
				r.end()
			})
		})
	}
}

func sending(all ...stanza.Stanza) func(s *Stream) error {
	return func(s *Stream) error {
		for _, st := range all {
			if err := s.Send(context.Background(), st); err != nil {
				return err
			}
		}
		return nil
	}
}

// answering waits for as many stanzas as it is given, answers by those, and otherwise
// answers keep-alives alone.
func answering(all ...stanza.Stanza) func(s *session) {
	return func(s *session) {
		seen := 0
		for st := range s.incoming {
			if iq, ok := st.(*stanza.IQ); ok {
				s.send(iq.Result())
				continue
			}
			if seen++; seen == len(all) {
				s.send(all...)
			}
		}
	}
}

func TestServerThatWorksThroughALongBurstIsAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const burst = 20
		w := newWorld(t, func(s *session) {
			s.goLive()
			for st := range s.incoming {
				if m, ok := st.(*stanza.Message); ok {
					time.Sleep(2 * time.Second)
					s.send(&stanza.Ack{Class: "message", ID: m.ID, From: m.To})
				} else if iq, ok := st.(*stanza.IQ); ok {
					s.send(iq.Result())
				}
			}
		})
		r := w.run()
		w.handler.waitFor(Live)
		for i := range burst {
			if err := w.stream.Send(t.Context(), outgoing(fmt.Sprint("M", i))); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute)
		r.end()
		if n := len(w.dialled()); n != 1 {
			t.Errorf("%d connections: %v", n, w.handler.phases())
		}
	})
}

func TestOneLostAcknowledgementAmongManyIsNoticed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		begun := time.Now()
		w := newWorld(t, func(s *session) {
			s.goLive()
			for st := range s.incoming {
				if m, ok := st.(*stanza.Message); ok && m.ID != "M3" {
					s.send(&stanza.Ack{Class: "message", ID: m.ID, From: m.To})
				}
			}
		}, live)
		r := w.run()
		w.handler.waitFor(Live)
		for i := range 30 {
			if err := w.stream.Send(t.Context(), outgoing(fmt.Sprint("M", i))); err != nil {
				break // it has been noticed
			}
			time.Sleep(time.Second)
		}
		st := w.handler.waitFor(Waiting)
		if d := time.Since(begun); !errors.Is(st.Cause, ErrUnanswered) || d < 13*time.Second || d > 15*time.Second {
			t.Errorf("%v after %v", st.Cause, d)
		}
		r.end()
	})
}

func TestTimeInTheHandlerIsNotTheServersSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// The handler is slow over each of three messages; the answer to what was sent lies
		// behind them meanwhile, for longer than any answer may take.
		w := newWorld(t, func(s *session) {
			s.goLive()
			sent := make(chan struct{})
			go func() {
				s.send(message("A", nil), message("B", nil), message("C", nil))
				close(sent)
			}()
			s.next()
			<-sent
			s.send(&stanza.Ack{Class: "message", ID: "M", From: aliceJID})
			s.answer()
		})
		w.handler.onStanza = func(_ context.Context, st stanza.Stanza) {
			if st.Kind() == stanza.KindMessage {
				time.Sleep(8 * time.Second)
			}
		}
		r := w.run()
		w.handler.waitFor(Live)
		synctest.Wait()
		if err := w.stream.Send(t.Context(), outgoing("M")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		r.end()
		if n := len(w.dialled()); n != 1 {
			t.Errorf("%d connections: %v", n, w.handler.last().Cause)
		}
	})
}

func TestSilentServerIsGivenUpInEachState(t *testing.T) {
	for name, test := range map[string]struct {
		play  script
		mute  bool
		after time.Duration
		cause error
	}{
		"no handshake": {nil, true, 20 * time.Second, context.DeadlineExceeded},
		"no login":     {func(s *session) { s.toEnd() }, false, 20 * time.Second, ErrLoginTimeout},
		"no queue":     {func(s *session) { s.logIn(); s.toEnd() }, false, 35 * time.Second, ErrUnanswered},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, test.play)
				if test.mute {
					w.cfg.Dial = muteDial(t)
				}
				begun := time.Now()
				r := w.run()
				st := w.handler.waitFor(Waiting)
				if !errors.Is(st.Cause, test.cause) || time.Since(begun) != test.after {
					t.Errorf("%v after %v", st.Cause, time.Since(begun))
				}
				r.end()
			})
		})
	}
}

func TestWriteThatNobodyTakesEndsTheStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		paused := make(chan struct{})
		w := newWorld(t, func(s *session) {
			s.mu.Lock()
			s.paused = paused
			s.mu.Unlock()
			s.goLive()
			<-paused
			s.toEnd()
		}, live)
		r := w.run()
		w.handler.waitFor(Live)
		begun := time.Now()
		// The pipe takes nothing that is not read, and the session reads one frame before
		// it looks at its pause.
		var err error
		for range 2 {
			if err = w.stream.Send(t.Context(), &stanza.ChatState{To: aliceJID, State: stanza.Composing}); err != nil {
				break
			}
		}
		if !errors.Is(err, ErrNotConnected) || time.Since(begun) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		w.handler.waitForLiveAt(2)
		close(paused)
		r.end()
	})
}

func TestClockThatDiffersIsLogged(t *testing.T) {
	for _, test := range []struct {
		apart time.Duration
		want  bool
	}{{time.Minute, false}, {noise.CertificateSkew + time.Minute, true}, {-time.Hour, true}} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, func(s *session) {
				s.send(&stanza.Success{T: time.Now().Add(test.apart).Unix(), LID: ownJID})
				s.answer()
			})
			r := w.run()
			w.handler.waitFor(Draining)
			r.end()
			if got := contains(w.log.String(), "clock differs"); got != test.want {
				t.Errorf("%v apart: logged %v", test.apart, got)
			}
		})
	}
}

// TestShortStreamsThatBreakOffCostSecondsAndThoseThatTheGatekeeperEndsMore: a network that lets no connection live for a minute does not
// keep the account away for most of the time; a gatekeeper that ends its streams is spared.
func TestShortStreamsThatBreakOffCostSecondsAndThoseThatTheGatekeeperEndsMore(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(s *session)
		want []time.Duration
	}{
		{"broken off", func(s *session) { s.goLive() }, []time.Duration{1, 2, 4, 8, 8, 8, 8}},
		{"broken off before its queue was through", func(s *session) { s.logIn() }, []time.Duration{1, 2, 4, 8, 16, 32, 64}},
		{"ended with 503", func(s *session) {
			s.goLive()
			s.send(&stanza.StreamError{Code: 503})
			s.toEnd()
		}, []time.Duration{1, 2, 4, 8, 16, 32, 64}},
		{"not answering", func(s *session) {
			s.goLive()
			s.toEnd()
		}, []time.Duration{1, 2, 4, 8, 16, 32, 64}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var plays []script
				for range test.want {
					plays = append(plays, test.end)
				}
				w := newWorld(t, plays...)
				r := w.run()
				var got []time.Duration
				for n := range test.want {
					got = append(got, w.handler.waitForNth(Waiting, n+1).Wait/time.Second)
				}
				r.end()
				if !equal(got, test.want) {
					t.Errorf("waits of %v seconds, want %v", got, test.want)
				}
			})
		})
	}
}
