package gatekeeper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/stanza"
)

func TestGoodStreamGoesThroughItsStatesInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := 0, 1
		w := newWorld(t, func(s *session) {
			s.logIn()
			s.send(&stanza.IB{Preview: &stanza.OfflinePreview{Count: 2, Message: 2}},
				message("A", &one), message("B", &two), &stanza.IB{Offline: &two}, message("C", nil))
			s.answer()
		})
		r := w.run()
		w.handler.waitFor(Live)
		synctest.Wait()
		r.end()
		if got, want := w.handler.phases(), []Phase{Connecting, LoggingIn, Draining, Live, Stopped}; !equal(got, want) {
			t.Errorf("states %v, want %v", got, want)
		}
		_, stanzas := w.handler.all()
		var kinds []stanza.Kind
		for _, s := range stanzas {
			kinds = append(kinds, s.Kind())
		}
		want := []stanza.Kind{stanza.KindSuccess, stanza.KindIB, stanza.KindMessage, stanza.KindMessage, stanza.KindIB, stanza.KindMessage}
		if !equal(kinds, want) {
			t.Errorf("handed over %v, want %v", kinds, want)
		}
		if got := stanzas[0].(*stanza.Success).LID; got != ownJID {
			t.Errorf("success with %v", got)
		}
		if st := w.handler.last(); st.Cause != nil || st.Code != 0 {
			t.Errorf("stopped with %+v", st)
		}
	})
}

func message(id string, offline *int) *stanza.Message {
	return &stanza.Message{ID: id, From: aliceJID, Type: stanza.TypeText, T: 1760000000, Offline: offline,
		Enc: stanza.Enc{V: 2, Type: stanza.EncSession, Data: []byte{1, 2, 3}}}
}

func outgoing(id string) *stanza.Message {
	return &stanza.Message{ID: id, To: aliceJID, Type: stanza.TypeText,
		Enc: stanza.Enc{V: 2, Type: stanza.EncSession, Data: []byte{1, 2, 3}}}
}

func TestLoginPayloadIsWhatTheProtocolSays(t *testing.T) {
	for _, p := range profile.All() {
		for _, receipts := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				logins := make(chan *session, 1)
				w := newWorld(t, func(s *session) { logins <- s; live(s) })
				q := p.WithEndpoints(profile.Endpoints{ChatTCP: "tcp://chat.example:443"})
				q.Noise.RootKey = w.profile.Noise.RootKey
				w.cfg.Profile, w.cfg.ReadReceipts = q, receipts
				r := w.run()
				s := <-logins
				w.handler.waitFor(Live)
				r.end()
				if s.peer.Static != w.client.Public {
					t.Error("another static key")
				}
				l := &s.login
				for what, pair := range map[string][2]any{
					"product":  {l.GetProduct(), p.Login.Product},
					"account":  {l.GetInteropData().GetAccountID(), uint64(10853634039893)},
					"token":    {string(l.GetInteropData().GetToken()), "token-1"},
					"receipts": {l.GetInteropData().GetEnableReadReceipts(), receipts},
					"device":   {l.GetDevice(), uint32(0)},
					"passive":  {l.GetPassive(), false},
					"pull":     {l.GetPull(), true},
					"type":     {l.GetConnectType(), waWa6.ClientPayload_WIFI_UNKNOWN},
					"reason":   {l.GetConnectReason(), waWa6.ClientPayload_USER_ACTIVATED},
					"version":  {l.GetUserAgent().GetAppVersion().GetTertiary(), uint32(3)},
				} {
					if pair[0] != pair[1] {
						t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
					}
				}
				if l.Username != nil || l.UserAgent.Platform != nil || l.UserAgent.Device != nil || l.PushName != nil {
					t.Error("the payload tells more than the protocol asks for")
				}
				for _, f := range []bool{l.Device != nil, l.Passive != nil, l.ConnectType != nil, l.InteropData.EnableReadReceipts != nil} {
					if !f {
						t.Error("a field is left to its default")
					}
				}
			})
		}
	}
}

func TestConnectReasonTellsFailureAndPush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reasons := make(chan waWa6.ClientPayload_ConnectReason, 10)
		w := newWorld(t,
			func(s *session) { reasons <- s.login.GetConnectReason(); s.goLive() },
			func(s *session) { reasons <- s.login.GetConnectReason(); s.goLive() },
			func(s *session) { reasons <- s.login.GetConnectReason(); live(s) },
		)
		woken := false
		w.handler.onState = func(s State) {
			if s.Phase == Waiting && len(w.dialled()) == 2 {
				woken = true
				w.stream.Wake()
			}
		}
		r := w.run()
		for _, want := range []waWa6.ClientPayload_ConnectReason{waWa6.ClientPayload_USER_ACTIVATED,
			waWa6.ClientPayload_ERROR_RECONNECT, waWa6.ClientPayload_PUSH} {
			if got := <-reasons; got != want {
				t.Errorf("reason %v, want %v", got, want)
			}
		}
		r.end()
		if !woken {
			t.Error("nobody woke")
		}
	})
}

func TestPushBeforeTheStartMakesTheFirstLoginSaySo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reasons := make(chan waWa6.ClientPayload_ConnectReason, 10)
		w := newWorld(t, func(s *session) { reasons <- s.login.GetConnectReason(); live(s) })
		w.stream = New(w.cfg)
		w.stream.Wake()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.stream.Run(ctx) }()
		if got := <-reasons; got != waWa6.ClientPayload_PUSH {
			t.Errorf("reason %v", got)
		}
		cancel()
		<-done
	})
}

func TestCleanEndClosesTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan []stanza.Stanza, 1)
		w := newWorld(t, func(s *session) { s.goLive(); ended <- s.toEnd() })
		r := w.run()
		w.handler.waitFor(Live)
		r.end()
		if got := <-ended; len(got) != 0 {
			t.Errorf("the bridge wrote %d stanzas nobody asked for", len(got))
		}
		if err := w.stream.Send(context.Background(), outgoing("X")); !errors.Is(err, ErrNotConnected) {
			t.Errorf("send after the end: %v", err)
		}
	})
}

func TestEndWorksInEveryState(t *testing.T) {
	hold := func(s *session) { s.toEnd() }
	for name, test := range map[string]struct {
		play  script
		phase Phase
		token bool
	}{
		"while a token is made": {hold, Connecting, true},
		"while logging in":      {hold, LoggingIn, false},
		"while draining":        {func(s *session) { s.logIn(); s.toEnd() }, Draining, false},
		"while live":            {live, Live, false},
		"while waiting":         {nil, Waiting, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, test.play)
				if test.token {
					w.cfg.Token = func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
				}
				begun := time.Now()
				r := w.run()
				w.handler.waitFor(test.phase)
				synctest.Wait()
				r.end()
				if time.Since(begun) != 0 {
					t.Errorf("it took %v", time.Since(begun))
				}
				if w.handler.last().Phase != Stopped {
					t.Errorf("ended in %v", w.handler.last().Phase)
				}
			})
		})
	}
}

func TestContextThatHasEndedStartsNothing(t *testing.T) {
	w := newWorld(t, live)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := New(w.cfg).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	if len(w.dialled()) != 0 {
		t.Error("it dialled")
	}
}

func TestImpossibleConfigurationIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no profile":     func(c *Config) { c.Profile = nil },
		"no endpoint":    func(c *Config) { c.Profile = profile.Messenger(); c.Profile.Endpoints.ChatWS = "" },
		"no token":       func(c *Config) { c.Token = nil },
		"no handler":     func(c *Config) { c.Handler = nil },
		"no account":     func(c *Config) { c.AccountID = 0 },
		"no key":         func(c *Config) { c.Static = noise.KeyPair{} },
		"half a key":     func(c *Config) { c.Static.Public[0]++ },
		"another's half": func(c *Config) { kp, _ := noise.GenerateKeyPair(nil); c.Static.Private = kp.Private },
	} {
		w := newWorld(t, live)
		change(&w.cfg)
		if err := New(w.cfg).Run(t.Context()); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecondRunAtTheSameTimeIsRefusedAndALaterOneWorks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, live)
		r := w.run()
		w.handler.waitFor(Live)
		if err := w.stream.Run(t.Context()); err != ErrRunning {
			t.Errorf("second run: %v", err)
		}
		r.end()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.stream.Run(ctx) }()
		w.handler.waitFor(Live)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestServersQuestionsAreAnsweredAndNotHandedOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ping, err := stanza.ServerPing{}.IQ()
		if err != nil {
			t.Fatal(err)
		}
		ping.ID = "p1"
		answers := make(chan stanza.Stanza, 10)
		w := newWorld(t, func(s *session) {
			s.goLive()
			s.send(ping)
			answers <- s.next()
			for _, typ := range []string{stanza.IQGet, stanza.IQSet} {
				s.send(&stanza.IQ{Type: typ, ID: "q-" + typ, XMLNS: "something", From: jid.ServerJID})
				answers <- s.next()
			}
			s.send(&stanza.IQ{Type: stanza.IQSet, ID: "p2", XMLNS: stanza.NSPing, From: jid.ServerJID})
			answers <- s.next()
			s.send(&stanza.IQ{Type: stanza.IQResult, ID: "nobody-asked", From: jid.ServerJID})
			s.answer()
		})
		r := w.run()
		got := (<-answers).(*stanza.IQ)
		if got.Type != stanza.IQResult || got.ID != "p1" || got.To != jid.ServerJID {
			t.Errorf("ping answered by %+v", got)
		}
		for _, id := range []string{"q-get", "q-set", "p2"} {
			got = (<-answers).(*stanza.IQ)
			if got.Err == nil || got.Err.Code != 501 || got.Err.Text != "feature-not-implemented" || got.ID != id {
				t.Errorf("%s answered by %+v", id, got)
			}
		}
		r.end()
		_, stanzas := w.handler.all()
		for _, s := range stanzas {
			if s.Kind() == stanza.KindIQ {
				t.Error("an iq was handed to the handler")
			}
		}
	})
}

func TestNothingIsAcknowledgedByTheStreamItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan []stanza.Stanza, 1)
		w := newWorld(t, func(s *session) {
			s.goLive()
			s.send(message("M", nil),
				&stanza.Receipt{ID: "R", From: aliceJID, IDs: []string{"R"}},
				&stanza.Notification{ID: "N", From: aliceJID, Type: "encrypt", Children: []binxml.Node{{Tag: "identity"}}},
				&stanza.Unknown{Element: &binxml.Node{Tag: "call", Attrs: []binxml.Attr{binxml.S("id", "U")}}})
			ended <- s.toEnd()
		})
		r := w.run()
		w.handler.waitFor(Live)
		synctest.Wait()
		r.end()
		if got := <-ended; len(got) != 0 {
			t.Errorf("the stream answered by %v", got[0].Kind())
		}
		if _, stanzas := w.handler.all(); len(stanzas) != 6 {
			t.Errorf("%d stanzas handed over", len(stanzas))
		}
	})
}

func TestWhatIsSentOnDrainingGoesFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first := make(chan stanza.Stanza, 1)
		w := newWorld(t, func(s *session) {
			s.goLive()
			first <- s.next()
			s.answer()
		})
		w.handler.onState = func(s State) {
			if s.Phase == Draining {
				if err := w.stream.Send(t.Context(), &stanza.Ack{Class: "message", ID: "owed", To: aliceJID}); err != nil {
					t.Error(err)
				}
			}
		}
		r := w.run()
		if ack, ok := (<-first).(*stanza.Ack); !ok || ack.ID != "owed" {
			t.Errorf("first came %+v", ack)
		}
		r.end()
	})
}

func TestStateTableIsTheOneInTheDocumentation(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "STREAM.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- state table -->\n\n")
	got, _, ok2 := strings.Cut(rest, "\n<!-- end of state table -->")
	if !ok || !ok2 {
		t.Fatal("docs/STREAM.md has no table between its marks")
	}
	if got != StateTable() && os.Getenv("POSTERN_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(strings.Replace(string(text), got, StateTable(), 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		got = StateTable()
	}
	if got != StateTable() {
		t.Error("docs/STREAM.md is not in step; run this test with POSTERN_UPDATE=1")
	}
}

func TestStateTableHasNoHoles(t *testing.T) {
	leadsTo := map[Phase]bool{Idle: true}
	happens := map[event]bool{}
	for from := range phases {
		for ev := range events {
			if tr := transitions[from][ev]; tr.do != actNone {
				leadsTo[tr.next], happens[event(ev)] = true, true
				if (tr.do == actStop) != (tr.next == Stopped) {
					t.Errorf("%v, %v: stops without stopping", Phase(from), event(ev))
				}
			}
		}
		if p := Phase(from); p != Stopped && transitions[p][evCancelled].next != Stopped {
			t.Errorf("%v cannot be ended", p)
		}
	}
	for p := range phases {
		if !leadsTo[Phase(p)] {
			t.Errorf("nothing leads to %v", Phase(p))
		}
	}
	for ev := range events {
		if !happens[event(ev)] {
			t.Errorf("%v leads nowhere", event(ev))
		}
		if eventTexts[ev].name == "" || eventTexts[ev].meaning == "" {
			t.Errorf("event %d has no words", ev)
		}
	}
	for a := stanza.ActionReconnect; a <= stanza.ActionReplaced; a++ {
		ev, ok := remedyEvents[a]
		if !ok {
			t.Errorf("%v is no event", a)
		}
		for _, p := range []Phase{LoggingIn, Draining, Live} {
			// A token is refused at login only: see classify.
			if transitions[p][ev].do == actNone && ev != evTokenRefused {
				t.Errorf("%v leads nowhere in %v", a, p)
			}
		}
	}
	if !reflect.DeepEqual(transitions, buildTransitions()) {
		t.Error("the table has been changed")
	}
}
