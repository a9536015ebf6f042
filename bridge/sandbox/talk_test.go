package sandbox

import (
	"testing"

	"postern/connector/binxml"
)

func TestTextGoesBothWaysOverTCPAndWebsocket(t *testing.T) {
	for name, ws := range map[string]bool{"tcp": false, "websocket": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			p := l.newPartner(matilda).enlist()
			p.dial(ws, nil)
			if got := p.drain(); len(got) != 0 {
				t.Fatalf("a new account has %d stanzas queued", len(got))
			}
			p.upload(20)
			to := p.find(ada)
			p.session(to)

			m := p.seal(to, "hello Ada")
			p.send(m)
			if a := p.want("ack", isAck("message", m.ID)); a.Has("error") || !a.Has("t") {
				t.Fatalf("ack: %+v", a)
			}
			p.ack(p.want("delivery receipt", isReceipt(m.ID, "")), 0)
			e := l.event(ada, 0, "message", kindIs("message"))
			if e.Text != "hello Ada" || e.ID != m.ID || e.From != matilda || e.DisplayName != testTitle || e.Type != "text" {
				t.Fatalf("event: %+v", e)
			}

			id := l.say(ada, matilda, "hello Matilda")
			n := p.want("message", tagIs("message"))
			if n.Attr("id") != id || n.Attr("notify") != "Ada" {
				t.Fatalf("message: %+v", n)
			}
			if got := p.open(n).GetConversation(); got != "hello Matilda" {
				t.Fatalf("text %q", got)
			}
			p.receipt(n, "")
			p.want("ack of the receipt", isAck("receipt", id))
			e = l.event(ada, 0, "receipt", kindIs("receipt"))
			if e.Type != "delivery" || len(e.IDs) != 1 || e.IDs[0] != id {
				t.Fatalf("event: %+v", e)
			}
			l.until("an empty queue", func() bool { return l.partner(matilda).Queued == 0 })
			if shown := l.partner(matilda); !shown.Connected || (ws && (shown.Carrier != "ws" || shown.ClientAddress != "192.0.2.7")) || (!ws && shown.Carrier != "tcp") {
				t.Fatalf("partner: %+v", shown)
			}
			l.noComplaints()
		})
	}
}

func TestWhoWritesFirstIsReadWithoutOneTimePreKeys(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	id := l.say(ada, matilda, "before you came")
	got := p.login()
	if len(got) != 2 || got[0].Attr("offline") != "0" || got[1].Attr("offline") != "1" {
		t.Fatalf("drained %d stanzas", len(got))
	}
	var message, low *binxml.Node
	for _, n := range got {
		switch n.Tag {
		case "message":
			message = n
		case "notification":
			low = n
		}
	}
	if message == nil || low == nil || low.Child("count") == nil || low.Child("count").Attr("value") != "0" {
		t.Fatal("not a message and a low notification")
	}
	if text := p.open(message).GetConversation(); text != "before you came" || message.Attr("id") != id {
		t.Fatalf("text %q", text)
	}
	p.ack(message, 0)
	p.ack(low, 0)
	l.until("an empty queue", func() bool { return l.partner(matilda).Queued == 0 })
	l.noComplaints()
}
