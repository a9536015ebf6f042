package gatekeeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/noise"
	"postern/connector/stanza"
)

// reaction is what a stream is expected to do about something: stop, or connect again
// after a wait. The backoff in these tests is its bound, 1 s for the first failure.
type reaction struct {
	stop stanza.Action // 0: not at all
	wait time.Duration
	// published says that the wait is a state of its own; a reconnection at once is not.
	published bool
	tell      string // "user", "operator", "both"
}

var (
	backsOff = reaction{wait: time.Second, published: true}
	atOnce   = reaction{}
)

func stops(a stanza.Action, tell string) reaction { return reaction{stop: a, tell: tell} }

// checkReaction runs a stream whose first connection ends by play and whose second is
// good.
func checkReaction(t *testing.T, play script, code int, want reaction) {
	t.Helper()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, play, live)
		r := w.run()
		if want.stop != 0 {
			err := <-r.done
			r.cancel()
			var stop *StopError
			if !errors.As(err, &stop) || stop.Action != want.stop || stop.Code != code {
				t.Fatalf("Run returned %v", err)
			}
			st := w.handler.last()
			if st.Phase != Stopped || st.Code != code || !errors.Is(st.Cause, ErrFailure) {
				t.Errorf("last state %+v", st)
			}
			checkTold(t, st.Remedy, want.tell)
			if n := len(w.dialled()); n != 1 {
				t.Errorf("%d connections", n)
			}
			return
		}
		w.handler.waitForLiveAt(2)
		r.end()
		dials := w.dialled()
		if len(dials) != 2 {
			t.Fatalf("%d connections", len(dials))
		}
		if got := dials[1].Sub(dials[0]); got != want.wait {
			t.Errorf("connected again after %v, want %v", got, want.wait)
		}
		states, _ := w.handler.all()
		waited := false
		for _, st := range states {
			if st.Phase == Waiting {
				waited = true
				if st.Wait != want.wait || st.Code != code || st.Cause == nil {
					t.Errorf("waiting as %+v", st)
				}
				checkTold(t, st.Remedy, want.tell)
			}
		}
		if waited != want.published {
			t.Errorf("waited as a state: %v, want %v", waited, want.published)
		}
	})
}

func checkTold(t *testing.T, r stanza.Remedy, want string) {
	t.Helper()
	if r.TellUser != (want == "user" || want == "both") || r.TellOperator != (want == "operator" || want == "both") {
		t.Errorf("told: user %v, operator %v; want %q", r.TellUser, r.TellOperator, want)
	}
}

func TestEachFailureCodeHasItsReaction(t *testing.T) {
	refused := stops(stanza.ActionRefused, "operator")
	blocked := stops(stanza.ActionRefused, "both")
	for _, test := range []struct {
		code   int
		expire int64
		want   reaction
	}{
		{400, 0, refused},
		{401, 0, stops(stanza.ActionReenlist, "")},
		{402, 3600, reaction{wait: time.Hour + time.Second, published: true, tell: "user"}},
		{402, 0, reaction{wait: time.Hour + time.Second, published: true, tell: "user"}},
		{403, 0, blocked},
		{404, 0, refused},
		{405, 0, refused},
		{406, 0, blocked},
		{409, 0, refused},
		{413, 0, atOnce},
		{414, 0, atOnce},
		{415, 0, refused},
		{418, 0, refused},
		{429, 0, refused},
		{499, 0, refused},
		{500, 0, backsOff},
		{501, 0, backsOff},
		{503, 0, backsOff},
		{599, 0, backsOff},
		{777, 0, backsOff},
	} {
		t.Run(fmt.Sprint("code ", test.code, " expire ", test.expire), func(t *testing.T) {
			checkReaction(t, func(s *session) {
				s.send(&stanza.Failure{Reason: test.code, Message: "text", Expire: test.expire})
			}, test.code, test.want)
		})
	}
}

func TestEachStreamErrorHasItsReactionWhenDrainingAndWhenLive(t *testing.T) {
	replaced := stops(stanza.ActionReplaced, "user")
	for _, test := range []struct {
		name string
		err  stanza.StreamError
		want reaction
	}{
		{"503", stanza.StreamError{Code: 503}, backsOff},
		{"500", stanza.StreamError{Code: 500}, backsOff},
		{"516", stanza.StreamError{Code: 516}, backsOff},
		{"an unknown code", stanza.StreamError{Code: 321}, backsOff},
		{"no code", stanza.StreamError{}, backsOff},
		{"an unknown child", stanza.StreamError{Other: "something"}, backsOff},
		{"515", stanza.StreamError{Code: 515}, atOnce},
		{"429", stanza.StreamError{Code: 429}, reaction{wait: 5*time.Minute + time.Second, published: true}},
		{"conflict", stanza.StreamError{Conflict: stanza.ConflictReplaced}, replaced},
		{"conflict with a code", stanza.StreamError{Code: 401, Conflict: stanza.ConflictReplaced}, replaced},
		{"409", stanza.StreamError{Code: 409}, replaced},
		{"device removed", stanza.StreamError{Code: 401, Conflict: stanza.ConflictDeviceRemoved}, stops(stanza.ActionReenlist, "")},
		{"401", stanza.StreamError{Code: 401}, stops(stanza.ActionReenlist, "")},
		{"an ack owed", stanza.StreamError{Ack: &stanza.OwedAck{Class: "message", ID: "M"}}, backsOff},
		{"not well-formed", stanza.StreamError{NotWellFormed: true}, reaction{wait: time.Second, published: true, tell: "operator"}},
	} {
		for _, when := range []string{"draining", "live"} {
			t.Run(test.name+", "+when, func(t *testing.T) {
				checkReaction(t, func(s *session) {
					if when == "live" {
						s.goLive()
					} else {
						s.logIn()
					}
					s.send(&test.err)
				}, test.err.Code, test.want)
			})
		}
		if test.want.stop != 0 || test.want == atOnce {
			continue
		}
		t.Run(test.name+", before login", func(t *testing.T) {
			checkReaction(t, func(s *session) { s.send(&test.err) }, test.err.Code, test.want)
		})
	}
}

func TestFailuresWithoutACodeBackOff(t *testing.T) {
	for name, play := range map[string]script{
		"closed before login":    func(s *session) {},
		"closed while draining":  func(s *session) { s.logIn() },
		"closed while live":      func(s *session) { s.goLive() },
		"announced end":          func(s *session) { s.goLive(); s.send(&stanza.StreamEnd{}); s.toEnd() },
		"announced end at login": func(s *session) { s.send(&stanza.StreamEnd{}); s.toEnd() },
		"a message before login": func(s *session) { s.send(message("M", nil)); s.toEnd() },
		"an iq before login":     func(s *session) { s.send(&stanza.IQ{Type: stanza.IQGet, ID: "1"}); s.toEnd() },
		"malformed failure":      func(s *session) { s.sendNode(&binxml.Node{Tag: "failure"}); s.toEnd() },
		"malformed message before login": func(s *session) {
			s.sendNode(&binxml.Node{Tag: "message"})
			s.toEnd()
		},
		"malformed stream error": func(s *session) {
			s.goLive()
			s.sendNode(&binxml.Node{Tag: "stream:error", Attrs: []binxml.Attr{binxml.S("code", "x")}})
			s.toEnd()
		},
		"forged frame": func(s *session) {
			s.goLive()
			_, _ = s.raw.Write(append([]byte{0, 0, 20}, make([]byte, 20)...))
			s.toEnd()
		},
		"half a frame":    func(s *session) { s.goLive(); _, _ = s.raw.Write([]byte{0, 0, 20, 1, 2}) },
		"frame too large": func(s *session) { s.goLive(); _, _ = s.raw.Write([]byte{0xff, 0xff, 0xff}); s.toEnd() },
		"413 after login": func(s *session) { s.goLive(); s.send(&stanza.Failure{Reason: 413}); s.toEnd() },
	} {
		t.Run(name, func(t *testing.T) {
			code := 0
			if name == "413 after login" {
				code = 413
			}
			checkReaction(t, play, code, backsOff)
		})
	}
}

func TestHintsBeforeLoginAreTolerated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) {
			s.send(&stanza.IB{Other: []binxml.Node{{Tag: "edge_routing"}}}, &stanza.Unknown{Element: &binxml.Node{Tag: "new"}})
			live(s)
		})
		r := w.run()
		w.handler.waitFor(Live)
		r.end()
		if n := len(w.dialled()); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestUnreadableFrameIsAnsweredByNotWellFormed(t *testing.T) {
	for name, frame := range map[string][]byte{
		"rubbish": {0, 0xff, 0xff, 0xff}, "empty": {}, "no element": {0}, "no zlib": {2, 1, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				said := make(chan []stanza.Stanza, 1)
				w := newWorld(t, func(s *session) {
					s.goLive()
					_ = s.conn.WriteFrame(frame)
					said <- s.toEnd()
				}, live)
				r := w.run()
				got := <-said
				w.handler.waitForLiveAt(2)
				r.end()
				if len(got) != 1 {
					t.Fatalf("%d stanzas", len(got))
				}
				if e, ok := got[0].(*stanza.StreamError); !ok || !e.NotWellFormed {
					t.Errorf("said %+v", got[0])
				}
				states, _ := w.handler.all()
				for _, st := range states {
					if st.Phase == Waiting && !errors.Is(st.Cause, ErrMalformed) {
						t.Errorf("cause %v", st.Cause)
					}
				}
			})
		})
	}
}

func TestMalformedStanzaIsRefusedAndTheStreamGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		answers := make(chan stanza.Stanza, 10)
		w := newWorld(t, func(s *session) {
			s.goLive()
			s.sendNode(&binxml.Node{Tag: "message", Attrs: []binxml.Attr{binxml.S("id", "BAD"), binxml.J("from", aliceJID)}})
			answers <- s.next()
			s.sendNode(&binxml.Node{Tag: "iq", Attrs: []binxml.Attr{binxml.S("id", "Q"), binxml.S("type", "nonsense"), binxml.J("from", jid.ServerJID)}})
			answers <- s.next()
			s.sendNode(&binxml.Node{Tag: "ack", Attrs: []binxml.Attr{binxml.S("class", "message")}}) // no id: nothing to say
			s.send(message("GOOD", nil))
			s.answer()
		})
		r := w.run()
		if ack, ok := (<-answers).(*stanza.Ack); !ok || ack.ID != "BAD" || ack.Error != stanza.NackParse || ack.To != aliceJID {
			t.Errorf("message answered by %+v", ack)
		}
		if iq, ok := (<-answers).(*stanza.IQ); !ok || iq.ID != "Q" || iq.Err == nil || iq.Err.Code != 400 {
			t.Errorf("iq answered by %+v", iq)
		}
		synctest.Wait()
		_, stanzas := w.handler.all()
		last, ok := stanzas[len(stanzas)-1].(*stanza.Message)
		if !ok || last.ID != "GOOD" {
			t.Errorf("last handed over: %+v", last)
		}
		r.end()
		if n := len(w.dialled()); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestStreamErrorIsHandedOverSoThatAnOwedAckCanBeGivenFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first := make(chan stanza.Stanza, 1)
		w := newWorld(t, func(s *session) {
			s.goLive()
			s.send(&stanza.StreamError{Ack: &stanza.OwedAck{Class: "receipt", ID: "R1", Type: "read"}})
		}, func(s *session) {
			s.goLive()
			first <- s.next()
			s.answer()
		})
		var owed *stanza.OwedAck
		w.handler.onStanza = func(_ context.Context, st stanza.Stanza) {
			if e, ok := st.(*stanza.StreamError); ok {
				owed = e.Ack
			}
		}
		w.handler.onState = func(st State) {
			if st.Phase == Draining && owed != nil {
				ack := &stanza.Ack{Class: owed.Class, ID: owed.ID, Type: owed.Type, To: aliceJID}
				if err := w.stream.Send(t.Context(), ack); err != nil {
					t.Error(err)
				}
			}
		}
		r := w.run()
		if ack, ok := (<-first).(*stanza.Ack); !ok || ack.ID != "R1" || ack.Type != "read" {
			t.Errorf("first came %+v", ack)
		}
		r.end()
	})
}

func TestSecondRefusedTokenStopsTheStream(t *testing.T) {
	refuse := func(code int) script {
		return func(s *session) { s.send(&stanza.Failure{Reason: code}) }
	}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, refuse(413), refuse(414))
		r := w.run()
		var stop *StopError
		if err := <-r.done; !errors.As(err, &stop) || stop.Action != stanza.ActionRefused || stop.Code != 414 {
			t.Errorf("Run returned %v", err)
		}
		r.cancel()
		checkTold(t, w.handler.last().Remedy, "operator")
		if n := len(w.dialled()); n != 2 || w.tokens != 2 {
			t.Errorf("%d connections with %d tokens", n, w.tokens)
		}
	})
	bubble(t, func(t *testing.T) {
		// A good login in between clears the slate.
		w := newWorld(t, refuse(413), func(s *session) { s.goLive() }, refuse(414), live)
		r := w.run()
		w.handler.waitForNth(Live, 2)
		if n := len(w.dialled()); n != 4 {
			t.Errorf("%d connections", n)
		}
		r.end()
	})
}

func TestEachLoginGetsAFreshToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tokens := make(chan string, 10)
		w := newWorld(t, func(s *session) { tokens <- string(s.login.GetInteropData().GetToken()); s.goLive() })
		r := w.run()
		for _, want := range []string{"token-1", "token-2", "token-3"} {
			if got := <-tokens; got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		r.end()
	})
}

func TestTokenThatCannotBeMadeOrIsTooLongBacksOff(t *testing.T) {
	noToken := errors.New("no token")
	for name, test := range map[string]struct {
		token string
		err   error
		want  error
	}{
		"none":     {"", noToken, noToken},
		"too long": {string(bytes.Repeat([]byte("x"), 4097)), nil, ErrTokenTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, live)
				w.cfg.Token = func(context.Context) (string, error) { return test.token, test.err }
				r := w.run()
				if st := w.handler.waitFor(Waiting); !errors.Is(st.Cause, test.want) || st.Wait != time.Second {
					t.Errorf("waiting as %+v", st)
				}
				r.end()
				if len(w.dialled()) != 0 {
					t.Error("it dialled")
				}
			})
		})
	}
}

func TestServerThatCannotProveItselfGetsNoTokenAndBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reached := false
		w := newWorld(t, func(s *session) { reached = true })
		other, err := noise.NewAuthority(nil)
		if err != nil {
			t.Fatal(err)
		}
		w.profile.Noise.RootKey = other.Root.Public
		r := w.run()
		st := w.handler.waitFor(Waiting)
		if !errors.Is(st.Cause, noise.ErrCertSignature) {
			t.Errorf("cause %v", st.Cause)
		}
		r.end()
		if reached {
			t.Error("the login payload was sent")
		}
	})
}

func TestPanicsOfTheHandlerAreContained(t *testing.T) {
	secret := "secret text of a message"
	boom := func() { panic(secret) }
	for name, arm := range map[string]func(w *world){
		"on a stanza": func(w *world) {
			w.handler.onStanza = panicAt(stanza.KindMessage, boom)
		},
		"on success":    func(w *world) { w.handler.onStanza = panicAt(stanza.KindSuccess, boom) },
		"on connecting": func(w *world) { w.handler.onState = panicOn(Connecting, boom) },
		"on logging in": func(w *world) { w.handler.onState = panicOn(LoggingIn, boom) },
		"on draining":   func(w *world) { w.handler.onState = panicOn(Draining, boom) },
		"on live":       func(w *world) { w.handler.onState = panicOn(Live, boom) },
		"in the token": func(w *world) {
			token, first := w.cfg.Token, true
			w.cfg.Token = func(ctx context.Context) (string, error) {
				if first {
					first = false
					boom()
				}
				return token(ctx)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, func(s *session) { s.goLive(); s.send(message("M", nil)); s.answer() }, live)
				arm(w)
				r := w.run()
				st := w.handler.waitFor(Waiting)
				if st.Cause != ErrPanic || st.Wait != time.Second {
					t.Errorf("waiting as %+v", st)
				}
				w.handler.waitForLiveAt(2)
				r.end()
				if log := w.log.String(); !bytes.Contains([]byte(log), []byte("panic")) || bytes.Contains([]byte(log), []byte("secret")) {
					t.Errorf("log: %s", log)
				}
			})
		})
	}
}

// panicAt panics at the first stanza of a kind.
func panicAt(k stanza.Kind, boom func()) func(context.Context, stanza.Stanza) {
	done := false
	return func(_ context.Context, s stanza.Stanza) {
		if s.Kind() == k && !done {
			done = true
			boom()
		}
	}
}

func panicOn(p Phase, boom func()) func(State) {
	done := false
	return func(s State) {
		if s.Phase == p && !done {
			done = true
			boom()
		}
	}
}

func TestPanicOnBeingToldOfTheWaitOrTheStopIsContainedToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) { s.goLive() }, live)
		w.handler.onState = panicOn(Waiting, func() { panic("x") })
		r := w.run()
		w.handler.waitForNth(Live, 2)
		r.end()
	})
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(s *session) { s.send(&stanza.Failure{Reason: 403}) })
		w.handler.onState = panicOn(Stopped, func() { panic("x") })
		r := w.run()
		var stop *StopError
		if err := <-r.done; !errors.As(err, &stop) {
			t.Errorf("Run returned %v", err)
		}
		r.cancel()
	})
}
