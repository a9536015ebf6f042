package sandbox

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/stanza"
)

func (l *lab) fault(f map[string]any) string {
	l.t.Helper()
	var out struct{ ID string }
	l.post("/v1/faults", f, &out)
	if out.ID == "" {
		l.t.Fatal("a fault without id")
	}
	return out.ID
}

// three is the ids of three messages of Ada's, sent in a row.
func (l *lab) three() (ids [3]string) {
	for i := range ids {
		ids[i] = l.say(ada, matilda, fmt.Sprint(i))
	}
	return ids
}

func (p *scripted) messages(n int) (ids []string) {
	p.t.Helper()
	for range n {
		ids = append(ids, p.want("message", tagIs("message")).Attr("id"))
	}
	return ids
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestFaultsTowardsThePartner(t *testing.T) {
	t.Run("drop loses a stanza on the way and it comes again after the next login", func(t *testing.T) {
		l := newLab(t)
		p, _ := l.connected()
		l.fault(map[string]any{"kind": "drop", "identifier": matilda})
		ids := l.three()
		same(t, p.messages(2), ids[1], ids[2])
		if got := p.login(); len(got) != 3 || got[0].Attr("id") != ids[0] {
			t.Fatalf("%d stanzas", len(got))
		}
		l.noComplaints()
	})
	t.Run("drop can hold the phone's receipt back until it is taken back and the stream is cut", func(t *testing.T) {
		l := newLab(t)
		p, to := l.connected()
		p.session(to)
		id := l.fault(map[string]any{"kind": "drop", "identifier": matilda, "match": "receipt", "count": -1})
		m := p.seal(to, "x")
		p.send(m)
		l.event(ada, 0, "message", kindIs("message"))
		p.ask(stanza.KeepAlive{}) // whatever was on its way is here now
		for _, n := range p.unread {
			if n.Tag == "receipt" {
				t.Fatal("the receipt came through")
			}
		}
		if status := l.do("DELETE", "/v1/faults/"+id, nil, nil); status != 200 {
			t.Fatalf("delete: %d", status)
		}
		l.fault(map[string]any{"kind": "cut", "identifier": matilda})
		p.ended()
		got := p.login()
		if len(got) != 1 || !isReceipt(m.ID, "")(got[0]) {
			t.Fatalf("%d stanzas", len(got))
		}
		l.noComplaints()
	})
	t.Run("delay holds a receipt and deleting the fault lets it go", func(t *testing.T) {
		l := newLab(t)
		p, to := l.connected()
		p.session(to)
		id := l.fault(map[string]any{"kind": "delay", "identifier": matilda, "match": "receipt", "count": -1, "delay_ms": 20 * 3600 * 1000})
		m := p.seal(to, "x")
		p.send(m)
		l.event(ada, 0, "message", kindIs("message"))
		p.ask(stanza.KeepAlive{})
		p.ask(stanza.KeepAlive{})
		for _, n := range p.unread {
			if n.Tag == "receipt" {
				t.Fatal("the receipt came through")
			}
		}
		l.do("DELETE", "/v1/faults/"+id, nil, nil)
		p.want("the receipt", isReceipt(m.ID, ""))
		l.noComplaints()
	})
	t.Run("delay lets a stanza go by itself", func(t *testing.T) {
		l := newLab(t)
		p, _ := l.connected()
		l.fault(map[string]any{"kind": "delay", "delay_ms": 1})
		ids := l.three()
		got := map[string]bool{}
		for _, id := range p.messages(3) {
			got[id] = true
		}
		for _, id := range ids {
			if !got[id] {
				t.Fatalf("%s never came", id)
			}
		}
	})
	t.Run("duplicate", func(t *testing.T) {
		l := newLab(t)
		p, _ := l.connected()
		l.fault(map[string]any{"kind": "duplicate", "count": 2})
		ids := l.three()
		for i, want := range []string{ids[0], ids[0], ids[1], ids[1], ids[2]} {
			n := p.want("message", tagIs("message"))
			if n.Attr("id") != want {
				t.Fatalf("place %d", i)
			}
			p.ack(n, 0)
		}
		l.until("an empty queue", func() bool { return l.partner(matilda).Queued == 0 })
		l.noComplaints()
	})
	t.Run("reorder", func(t *testing.T) {
		l := newLab(t)
		p, _ := l.connected()
		l.fault(map[string]any{"kind": "reorder"})
		ids := l.three()
		same(t, p.messages(3), ids[1], ids[0], ids[2])
		l.noComplaints()
	})
	t.Run("corrupt_enc", func(t *testing.T) {
		l := newLab(t)
		p, _ := l.connected()
		l.fault(map[string]any{"kind": "corrupt_enc"})
		l.three()
		if _, err := p.tryOpen(p.want("message", tagIs("message"))); err == nil {
			t.Fatal("not corrupted")
		}
		p.open(p.want("message", tagIs("message")))
	})
	for _, kind := range []string{"cut", "close", "cut_mid_frame"} {
		t.Run(kind+" in place of a stanza", func(t *testing.T) {
			l := newLab(t)
			p, _ := l.connected()
			l.fault(map[string]any{"kind": kind, "identifier": matilda, "match": "message"})
			ids := l.three()
			for _, n := range p.ended() {
				if n.Tag == "message" {
					t.Fatal("a message came through")
				}
			}
			p.dial(false, nil)
			p.drain()
			same(t, []string{l.partner(matilda).Identifier}, matilda)
			if q := l.partner(matilda).Queued; q != 3 {
				t.Fatalf("%d queued, of %v", q, ids)
			}
			l.noComplaints()
		})
	}
	for _, kind := range []string{"cut", "close"} {
		t.Run(kind+" at once", func(t *testing.T) {
			l := newLab(t)
			p, _ := l.connected()
			l.fault(map[string]any{"kind": kind, "identifier": matilda})
			p.ended()
			if status := l.do("POST", "/v1/faults", map[string]any{"kind": kind, "identifier": matilda}, nil); status != 409 {
				t.Fatalf("without a stream: %d", status)
			}
			p.login()
		})
	}
	t.Run("stream_error at once and in place of a stanza", func(t *testing.T) {
		l := newLab(t)
		p, _ := l.connected()
		l.fault(map[string]any{"kind": "stream_error", "code": 515})
		got := p.ended()
		if last := got[len(got)-1]; last.Tag != "stream:error" || last.Attr("code") != "515" {
			t.Fatalf("%+v", last)
		}
		p.login()
		l.fault(map[string]any{"kind": "stream_error", "code": 429, "match": "*"})
		l.say(ada, matilda, "x")
		got = p.ended()
		if last := got[len(got)-1]; last.Attr("code") != "429" {
			t.Fatalf("%+v", last)
		}
		if got := p.login(); len(got) != 1 {
			t.Fatalf("%d stanzas", len(got))
		}
		l.noComplaints()
	})
	t.Run("faults of somebody else do nothing", func(t *testing.T) {
		l := newLab(t)
		p, _ := l.connected()
		l.fault(map[string]any{"kind": "drop", "identifier": "other@example.org", "count": -1})
		ids := l.three()
		same(t, p.messages(3), ids[:]...)
	})
}

func TestFaultsOfThePartnersStanzas(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)

	l.fault(map[string]any{"kind": "no_ack", "identifier": matilda})
	m := p.seal(to, "not acked")
	p.send(m)
	l.event(ada, 0, "message", func(e eventBody) bool { return e.ID == m.ID })
	p.ask(stanza.KeepAlive{})
	for _, n := range p.unread {
		if isAck("message", m.ID)(n) {
			t.Fatal("acked")
		}
	}
	p.send(m)
	if a := p.want("ack", isAck("message", m.ID)); a.Has("error") {
		t.Fatalf("%+v", a)
	}

	for _, code := range []int{403, 404, 463, 475, 479, 429, 503} {
		l.fault(map[string]any{"kind": "ack_error", "code": code})
		m := p.seal(to, "refused")
		p.send(m)
		if a := p.want("ack", isAck("message", m.ID)); a.Attr("error") != fmt.Sprint(code) {
			t.Fatalf("code %d: %q", code, a.Attr("error"))
		}
		p.send(m) // a refused id is free
		if a := p.want("ack", isAck("message", m.ID)); a.Has("error") {
			t.Fatalf("after %d: %q", code, a.Attr("error"))
		}
	}
	l.fault(map[string]any{"kind": "ack_error", "code": 503, "match": "iq"})
	if code := iqCode(p.ask(stanza.KeepAlive{})); code != 503 {
		t.Fatalf("iq: %d", code)
	}
	l.fault(map[string]any{"kind": "no_ack", "match": "receipt"})
	l.say(ada, matilda, "x")
	n := p.want("message", tagIs("message"))
	p.receipt(n, "")
	p.ask(stanza.KeepAlive{})
	for _, a := range p.unread {
		if isAck("receipt", n.Attr("id"))(a) {
			t.Fatal("the receipt was acked")
		}
	}
	l.noComplaints()
}

func TestFaultsAtEnlistment(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda)
	for _, reason := range []string{"bad_integrator", "bad_param", "missing_param", "bad_token", "blocked", "old_version", "not_allowed", "temporarily_unavailable", "something_new"} {
		l.fault(map[string]any{"kind": "enlist_fail", "identifier": " MATILDA@example.org", "reason": reason})
		if a, status := l.postForm(p.form()); status != 200 || a.Status != "fail" || a.Reason != reason {
			t.Errorf("%s: %d %+v", reason, status, a)
		}
	}
	p.enlist()
	l.noComplaints()
}

func TestFaultsAreListedCountedAndTakenBack(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	a := l.fault(map[string]any{"kind": "failure", "code": 503, "count": 2})
	b := l.fault(map[string]any{"kind": "push_off", "count": -1})
	list := func() (ids []string) {
		var out struct{ Faults []fault }
		l.do("GET", "/v1/faults", nil, &out)
		for _, f := range out.Faults {
			ids = append(ids, f.ID)
		}
		return ids
	}
	same(t, list(), a, b)
	for range 2 {
		p.loginAnswer(t, nil)
	}
	same(t, list(), b)
	if n := p.loginAnswer(t, nil); n.Tag != "success" {
		t.Fatalf("%s", n.Tag)
	}
	if status := l.do("DELETE", "/v1/faults/"+a, nil, nil); status != 404 {
		t.Errorf("deleting a used-up fault: %d", status)
	}
	if status := l.do("DELETE", "/v1/faults", nil, nil); status != 200 {
		t.Errorf("deleting all: %d", status)
	}
	same(t, list())
}

func TestPushesWakeAPartnerAndAreSigned(t *testing.T) {
	clock := newClock()
	l := newLab(t, func(c *Config) { c.Now = clock.now })
	l.newPartner(matilda).enlist()
	var out struct{ Pushes []pushed }
	pushes := func(n int) []pushed {
		l.t.Helper()
		l.until(fmt.Sprint(n, " pushes"), func() bool {
			l.do("GET", "/v1/pushes", nil, &out)
			return len(out.Pushes) >= n
		})
		if len(out.Pushes) != n {
			t.Fatalf("%d pushes, want %d", len(out.Pushes), n)
		}
		return out.Pushes
	}
	l.three() // within a second: one push
	got := pushes(1)
	if got[0].Identifier != matilda || got[0].Status != 200 {
		t.Fatalf("%+v", got)
	}
	r, body := <-l.public.pushes, <-l.public.bodies
	var to struct{ To string }
	must(t, json.Unmarshal([]byte(body), &to))
	if to.To != matilda {
		t.Fatalf("body %s", body)
	}
	checkPushToken(t, l, r.Header.Get("Authorization"))

	clock.add(2 * time.Second)
	l.public.mu.Lock()
	l.public.status = 401
	l.public.mu.Unlock()
	l.say(ada, matilda, "x")
	if got = pushes(2); got[1].Status != 401 {
		t.Fatalf("%+v", got[1])
	}
	clock.add(2 * time.Second)
	l.fault(map[string]any{"kind": "push_off"})
	l.say(ada, matilda, "no push for this")
	clock.add(2 * time.Second)
	l.public.server.Close()
	l.say(ada, matilda, "nobody answers")
	if got = pushes(3); got[2].Status != 0 {
		t.Fatalf("%+v", got[2])
	}
}

func TestNoPushWhileAStreamIsOpen(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	l.three()
	same(t, []string{fmt.Sprint(len(p.messages(3)))}, "3")
	var out struct{ Pushes []pushed }
	if l.do("GET", "/v1/pushes", nil, &out); len(out.Pushes) != 0 {
		t.Fatalf("%d pushes", len(out.Pushes))
	}
}

func TestACutStreamIsSeenAsEndedAndTheOtherEndFindsOut(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	p.dial(true, func(*waWa6.ClientPayload) {})
	p.drain()
	l.fault(map[string]any{"kind": "cut"})
	p.ended()
	if l.partner(matilda).Connected {
		t.Fatal("still connected")
	}
}
