package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/connector/stanza"
)

func TestAStateThatWasRewrittenWhileInUseIsWhole(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Config{Dir: dir})
	must(t, err)
	s.state.journal.compact, s.state.journal.floor = 8<<10, 8<<10
	must(t, s.Start(context.Background()))
	t.Cleanup(func() { s.Close() })
	l := &lab{t: t, s: s, info: s.Info(), url: s.ControlURL(), prof: s.Profile(), public: newPublicFace(t)}
	l.post("/v1/integrators", map[string]any{"id": 1, "identifier_type": "email", "public_base": l.public.server.URL}, nil)
	l.post("/v1/users", map[string]any{"phone": ada, "name": "Ada", "opted_in": true}, nil)
	p, to := l.connected()
	p.session(to)
	for i := range 100 {
		m := p.seal(to, fmt.Sprint(i))
		p.send(m)
		p.ack(p.want("delivery", isReceipt(m.ID, "")), 0)
	}
	p.hangUp()
	l.until("the stream's end", func() bool { return !l.partner(matilda).Connected })
	must(t, s.Close())
	if info, err := os.Stat(filepath.Join(dir, journalName)); err != nil || info.Size() < s.state.journal.size {
		t.Fatalf("file %v, %v", info, err)
	}
	if s.state.journal.compact == 8<<10 {
		t.Fatal("never rewritten")
	}
	again, err := New(Config{Dir: dir})
	must(t, err)
	defer again.Close()
	if len(again.state.alive) != len(s.state.alive) {
		t.Fatalf("%d values, had %d", len(again.state.alive), len(s.state.alive))
	}
	for key := range s.state.alive {
		if string(again.state.record(key).value) != string(s.state.record(key).value) {
			t.Fatalf("%.8s differs", key)
		}
	}
}

func TestAfterThirtyDaysEverythingOldIsForgottenAndPlaintextsAfterSeven(t *testing.T) {
	clock := newClock()
	l := newLab(t, func(c *Config) { c.Now = clock.now })
	p, to := l.connected()
	p.session(to)
	p.send(p.seal(to, "x"))
	l.event(ada, 0, "message", kindIs("message"))
	id := l.say(ada, matilda, "y")
	sizes := func() (seen, heard, sent, plain, queue int) {
		l.s.state.update(func(c change) {
			c.sweep(l.s)
			a, u := c.accounts[p.jid], c.users[ada[1:]]
			seen, heard, sent, queue = len(a.seen), len(u.phone.heard), len(u.phone.sent), len(a.queue)
			if m := u.phone.sent[id]; m != nil {
				plain = len(m.Plain)
			}
		})
		return
	}
	if seen, heard, sent, plain, queue := sizes(); seen != 1 || heard != 1 || sent != 1 || plain == 0 || queue != 2 {
		t.Fatal("at first:", seen, heard, sent, plain, queue)
	}
	clock.add(8 * 24 * time.Hour)
	if seen, heard, sent, plain, queue := sizes(); seen != 1 || heard != 1 || sent != 1 || plain != 0 || queue != 2 {
		t.Fatal("after 8 days:", seen, heard, sent, plain, queue)
	}
	clock.add(23 * 24 * time.Hour)
	if seen, heard, sent, _, queue := sizes(); seen != 0 || heard != 0 || sent != 0 || queue != 0 {
		t.Fatal("after 31 days:", seen, heard, sent, queue)
	}
	if a := p.ask(stanza.KeepAlive{}); a.Type != "result" || !l.partner(matilda).Enlisted {
		t.Fatal("who is connected is not un-enlisted")
	}
}

func TestAPartnerThatDoesNotReadIsCutOff(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	cut := make(chan struct{})
	l.s.state.update(func(c change) {
		st := newStream(l.s, &carrier{abort: func() { close(cut) }}, nil, c.accounts[p.jid])
		for range maxOut + 1 {
			st.push(outgoing{})
		}
		if !st.ended || len(st.out) != maxOut {
			t.Errorf("ended %t with %d waiting", st.ended, len(st.out))
		}
	})
	select {
	case <-cut:
	case <-time.After(patience):
		t.Fatal("not cut")
	}
}

func TestAPanicInOneStreamIsContained(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	other := l.newPartner("other@example.org").enlist()
	other.login()
	l.s.state.update(func(c change) { c.accounts[p.jid].seen = nil }) // writing to it panics
	p.send(p.seal(to, "x"))
	p.ended()
	if a := other.ask(stanza.KeepAlive{}); a.Type != "result" {
		t.Fatal("another partner noticed")
	}
	l.s.state.update(func(c change) { c.accounts[p.jid].seen = map[string]*seen{} })
	p.login()
}

// BenchmarkMessages measures one message each way through the sandbox, with what the scripted partner does for
// it (its own Signal and Noise) in the time.
func BenchmarkMessages(b *testing.B) {
	for _, bench := range []struct {
		name string
		disk bool
	}{{"memory", false}, {"disk", true}} {
		b.Run(bench.name, func(b *testing.B) {
			cfg := Config{}
			if bench.disk {
				cfg.Dir = b.TempDir()
			}
			s, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Start(context.Background()); err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			l := &lab{t: b, s: s, info: s.Info(), url: s.ControlURL(), prof: s.Profile(), public: newPublicFace(b)}
			l.post("/v1/integrators", map[string]any{"id": 1, "identifier_type": "email", "public_base": l.public.server.URL}, nil)
			l.post("/v1/users", map[string]any{"phone": ada, "name": "Ada", "opted_in": true}, nil)
			p, to := l.connected()
			p.session(to)
			for b.Loop() {
				m := p.seal(to, "hello")
				p.send(m)
				p.ack(p.want("delivery", isReceipt(m.ID, "")), 0)
				l.say(ada, matilda, "hello yourself")
				n := p.want("message", tagIs("message"))
				p.open(n)
				p.receipt(n, "")
				p.unread = nil
			}
		})
	}
}
