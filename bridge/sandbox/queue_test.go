package sandbox

import (
	"fmt"
	"strings"
	"testing"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/stanza"
)

func TestQueueIsDrainedInOrderAndNewStanzasComeAfterIt(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	p.hangUp()
	l.until("the stream's end", func() bool { return !l.partner(matilda).Connected })
	var ids []string
	for i := range 30 {
		ids = append(ids, l.say(ada, matilda, fmt.Sprint("offline ", i)))
	}
	p.dial(false, nil)
	p.want("success", tagIs("success"))
	preview := p.next("offline_preview").Child("offline_preview")
	if preview == nil || preview.Attr("count") != "30" || preview.Attr("message") != "30" || preview.Attr("receipt") != "0" || preview.Attr("notification") != "0" {
		t.Fatalf("preview %+v", preview)
	}
	live := l.say(ada, matilda, "live")
	for i, id := range ids {
		n := p.next("a queued message")
		if n.Attr("id") != id || n.Attr("offline") != fmt.Sprint(i) {
			t.Fatalf("place %d: %s %s offline=%s", i, n.Tag, n.Attr("id"), n.Attr("offline"))
		}
		if got := p.open(n).GetConversation(); got != fmt.Sprint("offline ", i) {
			t.Fatalf("text %q", got)
		}
		p.ack(n, 0)
	}
	end := p.next("offline").Child("offline")
	if end == nil || end.Attr("count") != "30" {
		t.Fatalf("end of the queue: %+v", end)
	}
	n := p.next("the live message")
	if n.Attr("id") != live || n.Has("offline") {
		t.Fatalf("live: %+v", n)
	}
	p.receipt(n, "")
	l.until("an empty queue", func() bool { return l.partner(matilda).Queued == 0 })
	l.noComplaints()
}

func TestAnswersGoAheadOfTheQueue(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	for i := range 200 {
		l.say(ada, matilda, fmt.Sprint(i))
	}
	p.dial(false, nil)
	if a := p.ask(stanza.KeepAlive{}); a.Type != "result" {
		t.Fatalf("%+v", a)
	}
}

func TestWhatIsNotAnsweredComesAgain(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	first := l.say(ada, matilda, "first")
	second := l.say(ada, matilda, "second")
	n := p.want("first", tagIs("message"))
	p.want("second", tagIs("message"))
	p.ack(n, 0)
	m := p.seal(to, "x")
	p.send(m)
	p.want("a delivery receipt", isReceipt(m.ID, ""))
	l.until("the ack's effect", func() bool { return l.partner(matilda).Queued == 2 })

	for range 2 {
		got := p.login()
		if len(got) != 2 || got[0].Attr("id") != second || got[1].Tag != "receipt" || got[1].Attr("id") != m.ID {
			t.Fatalf("came again: %d stanzas", len(got))
		}
	}
	got := p.login()
	for _, n := range got {
		p.ack(n, 0)
	}
	l.until("an empty queue", func() bool { return l.partner(matilda).Queued == 0 })
	if got := p.login(); len(got) != 0 {
		t.Fatalf("%d stanzas after everything was answered", len(got))
	}
	_ = first
	l.noComplaints()
}

func TestEveryReceiptButRetryTakesAMessageFromTheQueueAndAListTakesMany(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	var got []*binxml.Node
	for i := range 4 {
		l.say(ada, matilda, fmt.Sprint(i))
		got = append(got, p.want("message", tagIs("message")))
	}
	ids := make([]string, len(got))
	for i, n := range got {
		ids[i] = n.Attr("id")
	}
	p.send(&stanza.Receipt{ID: ids[0], IDs: ids[:3], To: to, Type: "read"})
	p.want("ack", func(n *binxml.Node) bool { return isAck("receipt", ids[0])(n) && n.Attr("type") == "read" })
	if q := l.partner(matilda).Queued; q != 1 {
		t.Fatalf("%d queued", q)
	}
	e := l.event(ada, 0, "read receipt", kindIs("receipt"))
	if e.Type != "read" || len(e.IDs) != 3 {
		t.Fatalf("%+v", e)
	}
	p.receipt(got[3], "played")
	p.want("ack", isAck("receipt", ids[3]))
	l.event(ada, e.Seq, "played", func(e eventBody) bool { return e.Type == "played" && e.IDs[0] == ids[3] })
	l.noComplaints()
}

func TestANackOfThePartnerReachesThePhoneAndTakesTheMessageFromTheQueue(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	id := l.say(ada, matilda, "unwelcome")
	p.ack(p.want("message", tagIs("message")), stanza.NackUnreadable)
	e := l.event(ada, 0, "nack", kindIs("nack"))
	if e.ID != id || e.Code != stanza.NackUnreadable {
		t.Fatalf("%+v", e)
	}
	if q := l.partner(matilda).Queued; q != 0 {
		t.Fatalf("%d queued", q)
	}
	l.noComplaints()
}

func TestARepeatedMessageIsAckedAgainAndShownOnce(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	m := p.seal(to, "once")
	for range 3 {
		p.send(m)
		if a := p.want("ack", isAck("message", m.ID)); a.Has("error") {
			t.Fatalf("%+v", a)
		}
	}
	last := p.seal(to, "last")
	p.send(last)
	seen := 0
	l.event(ada, 0, "the last message", func(e eventBody) bool {
		if e.Kind == "message" && e.ID == m.ID {
			seen++
		}
		return e.ID == last.ID
	})
	if seen != 1 {
		t.Fatalf("shown %d times", seen)
	}
	l.noComplaints()

	again := p.seal(to, "once")
	again.ID = m.ID
	p.send(again)
	p.want("ack", isAck("message", m.ID))
	l.complained("second encryption")
}

func TestMessagesThatCannotBeDeliveredAreRefusedByCode(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	good := func() *binxml.Node { return p.seal(to, "x").Node() }
	nobody, err := jid.Parse("424242@lid")
	must(t, err)
	for name, c := range map[string]struct {
		code string
		edit func(n *binxml.Node)
	}{
		"nobody of that address":  {"404", func(n *binxml.Node) { setAttr(n, binxml.J("to", nobody)) }},
		"a partner's own address": {"404", func(n *binxml.Node) { setAttr(n, binxml.J("to", p.jid)) }},
		"no address":              {"479", func(n *binxml.Node) { delAttr(n, "to") }},
		"no enc":                  {"479", func(n *binxml.Node) { n.Children = nil }},
		"two encs":                {"479", func(n *binxml.Node) { n.Children = append(n.Children, n.Children[0]) }},
		"another payload version": {"479", func(n *binxml.Node) { setAttr(&n.Children[0], binxml.S("v", "3")) }},
		"no payload version":      {"479", func(n *binxml.Node) { delAttr(&n.Children[0], "v") }},
		"a sender key message":    {"479", func(n *binxml.Node) { setAttr(&n.Children[0], binxml.S("type", "skmsg")) }},
		"an enc without bytes":    {"479", func(n *binxml.Node) { n.Children[0].Data = nil }},
	} {
		n := good()
		c.edit(n)
		p.sendNode(n)
		a := p.want(name, isAck("message", n.Attr("id")))
		if a.Attr("error") != c.code {
			t.Errorf("%s: error %q, want %s", name, a.Attr("error"), c.code)
		}
	}
	// A refused id is free: the message can be sent when the obstacle is gone.
	l.post("/v1/users/"+ada+"/block", map[string]any{"to": matilda, "block": true}, nil)
	m := p.seal(to, "later")
	p.send(m)
	if a := p.want("refusal", isAck("message", m.ID)); a.Attr("error") != "403" {
		t.Fatalf("blocked: %q", a.Attr("error"))
	}
	l.post("/v1/users/"+ada+"/block", map[string]any{"to": matilda, "block": false}, nil)
	p.send(m)
	if a := p.want("ack", isAck("message", m.ID)); a.Has("error") {
		t.Fatalf("after unblocking: %q", a.Attr("error"))
	}
	l.event(ada, 0, "message", func(e eventBody) bool { return e.ID == m.ID && e.Text == "later" })
	l.noComplaints()
}

func setAttr(n *binxml.Node, a binxml.Attr) {
	delAttr(n, a.Key)
	n.Attrs = append(n.Attrs, a)
}

func delAttr(n *binxml.Node, key string) {
	var rest []binxml.Attr
	for _, a := range n.Attrs {
		if a.Key != key {
			rest = append(rest, a)
		}
	}
	n.Attrs = rest
}

func TestReadReceiptsPassInNeitherDirectionWhenTheyAreOff(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	p.readOff = true
	p.login()
	p.upload(10)
	to := p.find(ada)
	p.session(to)
	l.say(ada, matilda, "hi")
	n := p.want("message", tagIs("message"))
	p.receipt(n, "")
	p.receipt(n, "read")
	p.receipt(n, "played")
	l.event(ada, 0, "played without read", func(e eventBody) bool {
		if e.Type == "read" {
			t.Error("a read receipt passed")
		}
		return e.Type == "played"
	})
	m := p.seal(to, "hi")
	p.send(m)
	p.ack(p.want("delivery", isReceipt(m.ID, "")), 0)
	l.post("/v1/users/"+ada+"/read", map[string]any{"to": matilda, "ids": []string{m.ID}}, nil)
	l.post("/v1/users/"+ada+"/read", map[string]any{"to": matilda, "ids": []string{m.ID}, "type": "played"}, nil)
	if r := p.want("a receipt", tagIs("receipt")); r.Attr("type") != "played" {
		t.Fatalf("type %q", r.Attr("type"))
	}
	l.noComplaints()
}

func TestReadReceiptsOfAPhoneNameAllMessages(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	var ids []string
	for i := range 3 {
		m := p.seal(to, fmt.Sprint(i))
		p.send(m)
		ids = append(ids, m.ID)
		p.ack(p.want("delivery", isReceipt(m.ID, "")), 0)
	}
	l.post("/v1/users/"+ada+"/read", map[string]any{"to": matilda, "ids": ids}, nil)
	n := p.want("read receipt", isReceipt(ids[0], "read"))
	s, err := stanza.Parse(n)
	must(t, err)
	if r := s.(*stanza.Receipt); len(r.IDs) != 3 || r.IDs[2] != ids[2] {
		t.Fatalf("%+v", r)
	}
	p.ack(n, 0)
	l.until("an empty queue", func() bool { return l.partner(matilda).Queued == 0 })
	l.noComplaints()
}

func TestAPassedOnNackIsKeptUntilItWasRead(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	l.post("/v1/faults", map[string]any{"kind": "nack", "identifier": matilda, "code": 491}, nil)
	m := p.seal(to, "too modern")
	p.send(m)
	if a := p.want("the server's ack", isAck("message", m.ID)); a.Has("error") {
		t.Fatalf("%+v", a)
	}
	isNack := func(n *binxml.Node) bool { return isAck("message", m.ID)(n) && n.Attr("error") == "491" }
	p.want("the phone's nack", isNack)
	p.want("a ping", tagIs("iq"))
	found := false // the ping was not answered, so the nack comes again
	for _, n := range p.login() {
		found = found || isNack(n)
		p.unread = append(p.unread, n)
	}
	if !found {
		t.Fatal("the nack is gone")
	}
	ping := p.want("a ping", tagIs("iq"))
	s, err := stanza.Parse(ping)
	must(t, err)
	p.send(s.(*stanza.IQ).Result())
	l.until("an empty queue", func() bool { return l.partner(matilda).Queued == 0 })
	l.noComplaints()
}

func TestWhatComesDuringTheDrainWaitsForItsEndAndAnswersDoNot(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	old := []string{l.say(ada, matilda, "1"), l.say(ada, matilda, "2")}
	s := l.s
	var order []string
	s.state.update(func(c change) {
		a := c.accounts[p.jid]
		st := newStream(s, &carrier{}, nil, a)
		c.begin(st, node("success", nil))
		take := func(n int) {
			for range n {
				o, ok := st.next(c)
				if !ok {
					t.Fatalf("nothing more after %v", order)
				}
				what := o.node.Tag
				if id := o.node.Attr("id"); id != "" {
					what += " " + id
				} else if len(o.node.Children) > 0 {
					what += " " + o.node.Children[0].Tag
				}
				order = append(order, what)
			}
		}
		take(3)
		c.enqueue(s, a, node("message", attrs{binxml.S("id", "live")}))
		c.send(a, node("iq", attrs{binxml.S("id", "answer")}))
		take(5)
		a.stream = nil
	})
	order[2], _, _ = strings.Cut(order[2], " ") // that one-time prekeys are low is in the queue too
	same(t, order, "success", "ib offline_preview", "notification", "iq answer", "message "+old[0], "message "+old[1], "ib offline", "message live")
}

func TestManyTextsAreSentAtOnceInOrderAllOrNone(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	logins := l.partner(matilda).Logins
	var texts []string
	for i := range 100 {
		texts = append(texts, fmt.Sprint("text ", i))
	}
	var out struct {
		IDs []string `json:"ids"`
	}
	l.post("/v1/users/"+ada+"/messages", map[string]any{"to": matilda, "texts": texts}, &out)
	if len(out.IDs) != len(texts) {
		t.Fatalf("%d ids", len(out.IDs))
	}
	for i, id := range out.IDs {
		n := p.next("a message")
		if n.Attr("id") != id || p.open(n).GetConversation() != texts[i] {
			t.Fatalf("place %d: %s", i, n.Attr("id"))
		}
		p.ack(n, 0)
	}
	for _, wrong := range []map[string]any{
		{"texts": []string{}}, {"texts": []string{"a"}, "text": "b"}, {"texts": []string{"a"}, "kind": "poll"}, {"texts": make([]string, maxTexts+1)},
		{"texts": []string{"a", ""}},
	} {
		wrong["to"] = matilda
		if status := l.do("POST", "/v1/users/"+ada+"/messages", wrong, nil); status != 400 {
			t.Errorf("%v: %d", wrong, status)
		}
	}
	l.until("an empty queue", func() bool { return l.partner(matilda).Queued == 0 })
	p.hangUp()
	p.dial(false, nil)
	p.want("success", tagIs("success"))
	if got := l.partner(matilda).Logins; got != logins+1 {
		t.Errorf("%d logins after %d and another", got, logins)
	}
	l.noComplaints()
}
