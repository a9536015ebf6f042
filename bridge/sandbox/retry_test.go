package sandbox

import (
	"context"
	"errors"
	"testing"

	"postern/connector/binxml"
	"postern/connector/e2ee"
	"postern/connector/stanza"
)

// retry asks for a message again as a partner does: with fresh keys, then the ack (PROTOCOL.md 6.8).
func (p *scripted) retry(n *binxml.Node, count, reason int, keys bool) {
	p.t.Helper()
	s, err := stanza.Parse(n)
	must(p.t, err)
	m := s.(*stanza.Message)
	r := &stanza.Retry{Count: count, ID: m.ID, T: m.T, Version: 1, Error: reason, RegistrationID: p.device.RegistrationID}
	if keys {
		k, err := p.device.GeneratePreKeys(p.nextKey, 1)
		must(p.t, err)
		p.nextKey++
		must(p.t, p.store.StorePreKeys(context.Background(), k))
		r.Keys = &stanza.Bundle{
			RegistrationID: p.device.RegistrationID, Type: 5, Identity: p.device.IdentityPublic,
			PreKey: &stanza.PreKey{ID: k[0].ID, Key: k[0].Public},
			Signed: stanza.SignedPreKey{ID: p.signed.ID, Key: p.signed.Public, Signature: p.signed.Signature},
		}
	}
	p.send(&stanza.Receipt{ID: m.ID, To: m.From, Type: "retry", STS: m.STS, Retry: r})
	p.ack(n, 0)
}

func TestAPhoneAnswersARetryReceiptAndTheAckTakesOnlyTheFirstForm(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	l.post("/v1/faults", map[string]any{"kind": "corrupt_enc", "identifier": matilda}, nil)
	id := l.say(ada, matilda, "garbled on the way")
	n := p.want("message", tagIs("message"))
	if _, err := p.tryOpen(n); err == nil {
		t.Fatal("not corrupted")
	}
	p.retry(n, 1, 7, true)
	again := p.want("the answer", tagIs("message"))
	s, err := stanza.Parse(again)
	must(t, err)
	m := s.(*stanza.Message)
	if m.ID != id || m.Enc.Count != 1 || m.Enc.Type != "pkmsg" || m.DeviceFanout != "false" || m.T == 0 {
		t.Fatalf("%+v", m)
	}
	if got := p.open(again).GetConversation(); got != "garbled on the way" {
		t.Fatal(got)
	}
	p.want("ack of the retry receipt", func(n *binxml.Node) bool { return isAck("receipt", id)(n) && n.Attr("type") == "retry" })
	l.until("the first form is off the queue", func() bool { return l.partner(matilda).Queued == 1 })
	p.receipt(again, "")
	l.until("an empty queue", func() bool { return l.partner(matilda).Queued == 0 })
	e := l.event(ada, 0, "receipt", kindIs("receipt"))
	if e.Type != "delivery" {
		t.Fatalf("%+v", e)
	}
	l.noComplaints()
}

func TestTheSecondFormOfAMessageSurvivesAReconnect(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	l.post("/v1/faults", map[string]any{"kind": "corrupt_enc"}, nil)
	id := l.say(ada, matilda, "again please")
	n := p.want("message", tagIs("message"))
	p.retry(n, 1, 7, true)
	p.want("the answer", tagIs("message"))
	again := p.messageAfterLogin(id)
	if again.Child("enc").Attr("count") != "1" {
		t.Fatal("not the second form")
	}
	if got := p.open(again).GetConversation(); got != "again please" {
		t.Fatal(got)
	}
	l.noComplaints()
}

func TestARetryReceiptWithoutKeysIsAnsweredFromTheServersBundle(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	l.say(ada, matilda, "first")
	n := p.want("message", tagIs("message"))
	p.open(n)
	p.receipt(n, "")
	// A device restored without its sessions has another registration id.
	p.device.RegistrationID++
	p.signal = e2ee.New(p.device, p.store)
	l.say(ada, matilda, "second")
	n = p.want("message", tagIs("message"))
	p.retry(n, 1, 1, false)
	again := p.want("the answer", tagIs("message"))
	if again.Child("enc").Attr("type") != "pkmsg" {
		t.Fatal("not a new session")
	}
	if got := p.open(again).GetConversation(); got != "second" {
		t.Fatal(got)
	}
	l.complained("without keys")
}

func TestAPhoneAnswersNoMoreThanTenTimes(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	l.say(ada, matilda, "again and again")
	n := p.want("message", tagIs("message"))
	for i := range 12 {
		p.retry(n, 1+i%5, 0, true)
	}
	answers := 0
	p.send(&stanza.ChatState{To: p.find(ada), State: stanza.Paused})
	l.event(ada, 0, "typing, sent last", kindIs("typing"))
	l.say(ada, matilda, "the end")
	for {
		n := p.want("message", tagIs("message"))
		if n.Child("enc").Attr("count") == "" {
			break
		}
		answers++
	}
	if answers != 10 {
		t.Fatalf("%d answers", answers)
	}
	l.noComplaints()
}

func TestAPhoneAsksForWhatItCannotReadUpToFiveTimes(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	m := p.seal(to, "you cannot read this")
	good := m.Enc.Data
	garble := func(count int) {
		m.Enc.Data = append([]byte(nil), good...)
		m.Enc.Data[len(m.Enc.Data)-12-count] ^= 1
		m.Enc.Count = count
		if count > 0 {
			m.DeviceFanout = "false"
		}
		p.send(m)
		p.want("ack", isAck("message", m.ID))
	}
	garble(0)
	for count := 1; count <= 5; count++ {
		n := p.want("retry receipt", isReceipt(m.ID, "retry"))
		s, err := stanza.Parse(n)
		must(t, err)
		r := s.(*stanza.Receipt).Retry
		if r.Count != count || r.ID != m.ID || r.RegistrationID == 0 || r.Error != 7 || (r.Keys != nil) != (count > 1) {
			t.Fatalf("retry receipt %d: %+v", count, r)
		}
		p.ack(n, 0)
		if r.Keys != nil {
			_, err := p.signal.StartSession(context.Background(), to, bundleOf(r.Keys), nil)
			must(t, err)
		}
		garble(count)
	}
	e := l.event(ada, 0, "undecryptable", kindIs("undecryptable"))
	if e.ID != m.ID || e.Reason != "bad MAC" {
		t.Fatalf("%+v", e)
	}
	// No sixth one: the answer to what follows is the next thing to come.
	fresh := p.seal(to, "but this")
	p.send(fresh)
	if n := p.want("a receipt", tagIs("receipt")); n.Attr("id") != fresh.ID || n.Attr("type") != "" {
		t.Fatalf("a sixth retry receipt: %s %s", n.Attr("id"), n.Attr("type"))
	}
	// The right ciphertext, late, is shown as retried.
	m.Enc.Data, m.Enc.Count = good, 5
	p.send(m)
	e = l.event(ada, 0, "the message at last", func(e eventBody) bool { return e.Kind == "message" && e.ID == m.ID })
	if !e.Retried || e.Text != "you cannot read this" {
		t.Fatalf("%+v", e)
	}
	// And once more it is only receipted.
	p.want("delivery", isReceipt(m.ID, ""))
	m.Enc.Count = 6
	p.send(m)
	p.want("delivery again", isReceipt(m.ID, ""))
	l.complained("one message key for two messages") // the server cannot tell that these were damaged on the way
}

func TestAReinstalledPhoneHasAnotherIdentityAndTheSameAddress(t *testing.T) {
	for name, silent := range map[string]bool{"told": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			p, to := l.connected()
			p.session(to)
			m := p.seal(to, "before")
			p.send(m)
			l.event(ada, 0, "message", kindIs("message"))
			before, _, err := p.signal.Identity(context.Background(), to)
			must(t, err)
			l.post("/v1/users/"+ada+"/reinstall", map[string]any{"silent": silent}, nil)
			if !silent {
				n := p.want("identity notification", tagIs("notification"))
				s, err := stanza.Parse(n)
				must(t, err)
				o := s.(*stanza.Notification)
				if !o.IdentityChanged() || o.From != to {
					t.Fatalf("%+v", o)
				}
				p.send(&stanza.Ack{Class: "notification", ID: o.ID, To: o.From}) // without type, as may be
			}
			// The old session is no use: the phone asks again, and is answered in a new one.
			m = p.seal(to, "after")
			p.send(m)
			n := p.want("retry receipt", isReceipt(m.ID, "retry"))
			p.ack(n, 0)
			p.session(to)
			after, _, err := p.signal.Identity(context.Background(), to)
			must(t, err)
			if before == after {
				t.Fatal("the same identity")
			}
			resent := p.seal(to, "after")
			resent.ID, resent.Enc.Count, resent.DeviceFanout = m.ID, 1, "false"
			p.send(resent)
			l.event(ada, 0, "message", func(e eventBody) bool { return e.ID == m.ID && e.Retried && e.Text == "after" })
			id := l.say(ada, matilda, "still me")
			n = p.want("message", func(n *binxml.Node) bool { return n.Tag == "message" && n.Attr("id") == id })
			if got := p.open(n).GetConversation(); got != "still me" {
				t.Fatal(got)
			}
			l.noComplaints()
		})
	}
}

func TestALateMessageOfAnOldSessionIsReadByThePhone(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	late := p.seal(to, "late")
	p.session(to)
	now := p.seal(to, "now")
	p.send(now)
	p.send(late)
	l.event(ada, 0, "late", func(e eventBody) bool { return e.Text == "late" })
	id := l.say(ada, matilda, "both")
	n := p.want("message", func(n *binxml.Node) bool { return n.Attr("id") == id })
	if got := p.open(n).GetConversation(); got != "both" {
		t.Fatal(got)
	}
	if _, err := p.tryOpen(n); !errors.Is(err, e2ee.ErrDuplicate) {
		t.Fatalf("the same twice: %v", err)
	}
	l.noComplaints()
}

func TestAPhoneCanBeFarAheadAndCanLoseItsSession(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	p.send(p.seal(to, "one"))
	l.event(ada, 0, "one", func(e eventBody) bool { return e.Text == "one" })
	l.post("/v1/users/"+ada+"/skip", map[string]any{"to": matilda, "count": 1999}, nil)
	id := l.say(ada, matilda, "as far as may be")
	n := p.want("message", func(n *binxml.Node) bool { return n.Attr("id") == id })
	if got := p.open(n).GetConversation(); got != "as far as may be" {
		t.Fatal(got)
	}
	l.post("/v1/users/"+ada+"/skip", map[string]any{"to": matilda, "count": 2001}, nil)
	id = l.say(ada, matilda, "too far")
	n = p.want("message", func(n *binxml.Node) bool { return n.Attr("id") == id })
	if _, err := p.tryOpen(n); !errors.Is(err, e2ee.ErrTooFarAhead) {
		t.Fatalf("too far: %v", err)
	}
	l.post("/v1/users/"+ada+"/lose", map[string]any{"to": matilda}, nil)
	m := p.seal(to, "to whom")
	p.send(m)
	l.event(ada, 0, "unreadable", func(e eventBody) bool { return e.ID == m.ID && e.Reason == "no session" })
	l.noComplaints()
}
