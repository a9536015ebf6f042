package sandbox

import (
	"testing"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/stanza"
)

const bob = "+4915100000002"

func iqCode(q *stanza.IQ) int {
	if q.Err == nil {
		return 0
	}
	return q.Err.Code
}

func isReach(j jid.JID, state string) func(*binxml.Node) bool {
	return func(n *binxml.Node) bool {
		s, err := stanza.Parse(n)
		if err != nil {
			return false
		}
		o, ok := s.(*stanza.Notification)
		if !ok {
			return false
		}
		r, ok := o.Reachability()
		return ok && r.JID == j && r.State == state
	}
}

func TestPhoneNumbersAreLookedUpInOrder(t *testing.T) {
	l := newLab(t)
	l.post("/v1/users", map[string]any{"phone": bob, "name": "Bob", "opted_in": false}, nil)
	l.post("/v1/users", map[string]any{"phone": "4915100000003", "opted_in": []int{1}}, nil)
	l.post("/v1/users", map[string]any{"phone": "4915100000004", "opted_in": []int{2}}, nil)
	p, to := l.connected()
	r, err := stanza.ParseUsers(p.ask(&stanza.UsersRequest{ExternalIDs: []string{bob, ada, "+4915100000003", "+4915100000004", "+4915199999999"}}))
	must(t, err)
	want := []int{403, 0, 0, 403, 404}
	for i, u := range r {
		code := 0
		if u.Err != nil {
			code = u.Err.Code
		}
		if code != want[i] {
			t.Errorf("place %d: %d, want %d", i, code, want[i])
		}
	}
	if r[1].JID != to || r[1].Normalized != ada[1:] || r[1].ExternalID != ada {
		t.Errorf("%+v", r[1])
	}
	for _, n := range []int{0, 257} {
		users := binxml.Node{Tag: "users"}
		for range n {
			users.Children = append(users.Children, *node("user", attrs{binxml.S("external_id", ada)}))
		}
		if code := iqCode(p.askIQ(&stanza.IQ{Type: "get", XMLNS: "w:interop", Children: []binxml.Node{users}})); code != 400 {
			t.Errorf("%d users: %d", n, code)
		}
	}
	l.noComplaints()
}

func TestAPingAndItsAnswers(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	if q := p.ask(&stanza.ReachRequest{JID: to, DisplayName: testTitle}); q.Err != nil {
		t.Fatalf("ping: %v", q.Err)
	}
	e := l.event(ada, 0, "ping", kindIs("ping"))
	if e.DisplayName != testTitle || e.From != matilda || e.Integrator != 1 {
		t.Fatalf("%+v", e)
	}
	answer := func(what string) {
		l.post("/v1/users/"+ada+"/answer", map[string]any{"to": matilda, "answer": what}, nil)
		p.ack(p.want(what, isReach(to, what)), 0)
	}
	code := func() string {
		m := p.seal(to, "may I")
		p.send(m)
		return p.want("ack", isAck("message", m.ID)).Attr("error")
	}
	if c := code(); c != "" {
		t.Fatalf("before the answer: %s", c)
	}
	answer("declined")
	if c := code(); c != "463" {
		t.Fatalf("declined: %q", c)
	}
	answer("accepted")
	if c := code(); c != "" {
		t.Fatalf("accepted: %q", c)
	}
	answer("declined")
	l.say(ada, matilda, "I changed my mind")
	p.ack(p.want("accepted by writing", isReach(to, "accepted")), 0)
	if c := code(); c != "" {
		t.Fatalf("after writing: %q", c)
	}
	l.noComplaints()
}

func TestSwitchingOffAndBlockingCloseEveryDoorAndAreTold(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	doors := func() (codes [4]int) {
		m := p.seal(to, "x")
		p.send(m)
		codes[0], _ = p.want("ack", isAck("message", m.ID)).AttrInt("error")
		codes[1] = iqCode(p.ask(&stanza.ReachRequest{JID: to, DisplayName: testTitle}))
		r, err := stanza.ParseKeys(p.ask(&stanza.KeyRequest{Users: []jid.JID{to}}))
		must(t, err)
		if e, ok := r[0].Err.(*stanza.IQError); ok && e != nil {
			codes[2] = e.Code
		}
		u, err := stanza.ParseUsers(p.ask(&stanza.UsersRequest{ExternalIDs: []string{ada}}))
		must(t, err)
		if u[0].Err != nil {
			codes[3] = u[0].Err.Code
		}
		return codes
	}
	open, shut := [4]int{}, [4]int{403, 403, 403, 403}
	if got := doors(); got != open {
		t.Fatalf("at first: %v", got)
	}
	for _, step := range []struct {
		path string
		body map[string]any
		want [4]int
		told string
	}{
		{"opt", map[string]any{"integrator": 1, "opted_in": false}, shut, "off"},
		{"opt", map[string]any{"opted_in": true}, open, "accepted"},
		{"block", map[string]any{"to": matilda, "block": true}, shut, "off"},
		{"block", map[string]any{"to": matilda, "block": false}, open, "accepted"},
	} {
		l.post("/v1/users/"+ada+"/"+step.path, step.body, nil)
		p.ack(p.want(step.told, isReach(to, step.told)), 0)
		if got := doors(); got != step.want {
			t.Errorf("%s %v: %v", step.path, step.body, got)
		}
	}
	l.post("/v1/users", map[string]any{"phone": ada, "opted_in": false}, nil)
	p.want("off", isReach(to, "off"))
	for _, call := range []string{"messages", "typing", "answer"} {
		body := map[string]any{"to": matilda}
		switch call {
		case "messages":
			body["text"] = "x"
		case "typing":
			body["state"] = "paused"
		case "answer":
			body["answer"] = "accepted"
		}
		if status := l.do("POST", "/v1/users/"+ada+"/"+call, body, nil); status != 409 {
			t.Errorf("%s by somebody who has not opted in: %d", call, status)
		}
	}
	l.noComplaints()
}

func TestThePartnersOwnBlocklistKeepsMessagesAway(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	if a := p.ask(stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: to, Block: true}}); a.Err != nil {
		t.Fatal(a.Err)
	}
	list, err := stanza.ParseBlocklist(p.ask(stanza.BlocklistRequest{}))
	must(t, err)
	if len(list) != 1 || list[0] != to {
		t.Fatalf("%v", list)
	}
	l.say(ada, matilda, "do you hear me")
	l.post("/v1/users/"+ada+"/typing", map[string]any{"to": matilda, "state": "composing"}, nil)
	list, err = stanza.ParseBlocklist(p.ask(stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: to}}))
	must(t, err)
	if len(list) != 0 {
		t.Fatalf("%v", list)
	}
	id := l.say(ada, matilda, "and now")
	if n := p.want("a message", func(n *binxml.Node) bool { return n.Tag == "message" || n.Tag == "chatstate" }); n.Attr("id") != id {
		t.Fatal("something of a blocked person came through")
	}
	nobody, err := jid.Parse("1@lid")
	must(t, err)
	if a := p.ask(stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: nobody, Block: true}}); iqCode(a) != 404 {
		t.Fatalf("blocking nobody: %v", a.Err)
	}
	l.noComplaints()
}

func TestTypingPassesBothWaysAndIsNotQueued(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.send(&stanza.ChatState{To: to, State: stanza.Composing, Media: "audio"})
	e := l.event(ada, 0, "typing", kindIs("typing"))
	if e.State != "composing" || e.Media == nil || e.Media.Typing != "audio" {
		t.Fatalf("%+v", e)
	}
	p.send(&stanza.ChatState{To: to, State: stanza.Paused})
	l.event(ada, e.Seq, "paused", func(e eventBody) bool { return e.State == "paused" && e.Media == nil })
	l.post("/v1/users/"+ada+"/typing", map[string]any{"to": matilda, "state": "composing", "media": "audio"}, nil)
	n := p.want("chatstate", tagIs("chatstate"))
	if n.Child("composing") == nil || n.Child("composing").Attr("media") != "audio" {
		t.Fatalf("%+v", n)
	}
	p.hangUp()
	l.until("the stream's end", func() bool { return !l.partner(matilda).Connected })
	l.post("/v1/users/"+ada+"/typing", map[string]any{"to": matilda, "state": "paused"}, nil)
	if got := p.login(); len(got) != 0 {
		t.Fatal("typing was queued")
	}
	l.noComplaints()
}

func TestADeletedAccountIsGoneAndItsNumberIsNotGivenOutAgain(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	p.send(p.seal(to, "bye"))
	l.event(ada, 0, "message", kindIs("message"))
	if a := p.ask(stanza.DeleteRequest{}); a.Type != "result" {
		t.Fatalf("%+v", a)
	}
	p.ended()
	l.event(ada, 0, "deleted", kindIs("deleted"))
	if shown := l.partner(matilda); shown.Identifier != "" {
		t.Fatalf("still there: %+v", shown)
	}
	if n := p.loginAnswer(t, nil); n.Attr("reason") != "401" {
		t.Fatalf("login: %s %s", n.Tag, n.Attr("reason"))
	}
	if status := l.do("POST", "/v1/users/"+ada+"/messages", map[string]any{"to": matilda, "text": "x"}, nil); status != 404 {
		t.Fatalf("writing to nobody: %d", status)
	}
	was := p.jid
	p.newIdentity()
	p.enlist()
	if p.jid == was {
		t.Fatal("the same number again")
	}
	p.login()
	l.noComplaints()
}

func TestIQsNobodyKnowsAreRefusedAndPingsAnswered(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	for _, c := range []struct {
		typ, ns, child string
		code           int
	}{
		{"get", "urn:xmpp:ping", "", 0}, {"get", "w:p", "", 0}, {"set", "passive", "active", 0},
		{"get", "usync", "usync", 501}, {"set", "w:interop", "other", 501}, {"get", "w:interop", "other", 501},
		{"get", "encrypt", "digest", 400}, {"set", "encrypt", "", 400}, {"set", "blocklist", "", 400},
	} {
		q := &stanza.IQ{Type: c.typ, XMLNS: c.ns}
		if c.child != "" {
			q.Children = []binxml.Node{{Tag: c.child}}
		}
		if code := iqCode(p.askIQ(q)); code != c.code {
			t.Errorf("%s %s %s: %d, want %d", c.typ, c.ns, c.child, code, c.code)
		}
	}
	l.complained("iq passive")
}
