package sandbox

import (
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waWa6"
	"google.golang.org/protobuf/proto"

	"postern/connector/binxml"
	"postern/connector/e2ee"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// TestComplaintsNameWhatIsLetPass does one odd thing at a time; each has its own partner, so that the complaint
// can only come from it. What is not odd is asserted by every other story, which ends without complaints.
func TestComplaintsNameWhatIsLetPass(t *testing.T) {
	l := newLab(t)
	var to jid.JID
	type step func(p *scripted)
	message := func(edit func(n *binxml.Node)) step {
		return func(p *scripted) {
			n := p.seal(to, "x").Node()
			edit(n)
			p.sendNode(n)
		}
	}
	receipt := func(edit func(n *binxml.Node)) step {
		return func(p *scripted) {
			l.say(ada, p.identifier, "x")
			m := p.want("message", tagIs("message"))
			n := (&stanza.Receipt{ID: m.Attr("id"), To: to, STS: m.Attr("sts")}).Node()
			edit(n)
			p.sendNode(n)
		}
	}
	retry := func(edit func(n *binxml.Node)) step {
		return func(p *scripted) {
			l.say(ada, p.identifier, "x")
			m := p.want("message", tagIs("message"))
			n := (&stanza.Receipt{ID: m.Attr("id"), To: to, STS: m.Attr("sts"), Type: "retry", Retry: &stanza.Retry{
				Count: 1, ID: m.Attr("id"), T: 1, Version: 1, RegistrationID: p.device.RegistrationID, Keys: &stanza.Bundle{
					RegistrationID: p.device.RegistrationID, Type: 5, Identity: p.device.IdentityPublic,
					Signed: stanza.SignedPreKey{ID: p.signed.ID, Key: p.signed.Public, Signature: p.signed.Signature},
				},
			}}).Node()
			edit(n)
			p.sendNode(n)
		}
	}
	raw := func(n *binxml.Node) step { return func(p *scripted) { p.sendNode(n) } }
	login := func(edit func(cp *waWa6.ClientPayload)) step {
		return func(p *scripted) {
			p.dial(false, edit)
			p.drain()
		}
	}
	token := func(edit tokenEdit) step {
		return func(p *scripted) {
			login(func(cp *waWa6.ClientPayload) { cp.InteropData.Token = []byte(p.token(edit)) })(p)
		}
	}
	enc := func(n *binxml.Node) *binxml.Node { return &n.Children[0] }
	server := binxml.J("to", jid.ServerJID)

	for _, c := range []struct {
		want string
		do   step
	}{
		{"not 3EB0 and 18", message(func(n *binxml.Node) { setAttr(n, binxml.S("id", "3eb0"+n.Attr("id")[4:])) })},
		{"not of type text, media or reaction", message(func(n *binxml.Node) { setAttr(n, binxml.S("type", "poll")) })},
		{"without display_name", message(func(n *binxml.Node) { delAttr(n, "display_name") })},
		{"a message with edit", message(func(n *binxml.Node) { setAttr(n, binxml.S("edit", "1")) })},
		{"decrypt-fail", message(func(n *binxml.Node) { setAttr(enc(n), binxml.S("decrypt-fail", "hide")) })},
		{"more in it than one enc", message(func(n *binxml.Node) { n.Children = append(n.Children, binxml.Node{Tag: "meta"}) })},
		{"without a mediatype partners use", message(func(n *binxml.Node) { setAttr(n, binxml.S("type", "media")) })},
		{"type is not that of its content", message(func(n *binxml.Node) { setAttr(n, binxml.S("type", "reaction")) })},
		{"mediatype on a message that is not", message(func(n *binxml.Node) { setAttr(enc(n), binxml.S("mediatype", "image")) })},
		{"version byte other than 0x33", message(func(n *binxml.Node) { enc(n).Data[0] = 0x34 })},
		{"encrypted anew without device_fanout", message(func(n *binxml.Node) { setAttr(enc(n), binxml.S("count", "1")) })},
		{"encrypted anew that was never sent", message(func(n *binxml.Node) { setAttr(enc(n), binxml.S("count", "1")) })},
		{"an unusable count", message(func(n *binxml.Node) { setAttr(enc(n), binxml.S("count", "0")) })},
		{"without a usable id", message(func(n *binxml.Node) { delAttr(n, "id") })},
		{"not written as an address", message(func(n *binxml.Node) { setAttr(n, binxml.S("to", to.String())) })},
		{"a stanza with from", message(func(n *binxml.Node) { setAttr(n, binxml.J("from", to)) })},
		{"padding of 16", func(p *scripted) {
			body := []byte{10, 1, 'x'}
			for range 16 {
				body = append(body, 16)
			}
			p.send(p.sealBytes(to, body, "text", ""))
		}},
		{"second encryption", func(p *scripted) {
			m := p.seal(to, "x")
			p.send(m)
			again := p.seal(to, "x")
			again.ID = m.ID
			p.send(again)
		}},
		{"one message key for two messages", func(p *scripted) {
			before := p.store.Snapshot()
			p.send(p.seal(to, "x"))
			p.store.Restore(before)
			p.send(p.seal(to, "y"))
		}},
		{"content a phone does not take", message(func(n *binxml.Node) {})}, // replaced below
		{"a receipt without id or to", receipt(func(n *binxml.Node) { delAttr(n, "to") })},
		{"a receipt to somebody", receipt(func(n *binxml.Node) { setAttr(n, binxml.J("to", jid.JID{User: "5", Server: jid.LID})) })},
		{"a receipt for a message that was never", receipt(func(n *binxml.Node) { setAttr(n, binxml.S("id", "AC00")) })},
		{"a receipt of a type", receipt(func(n *binxml.Node) { setAttr(n, binxml.S("type", "inactive")) })},
		{"repeat the message's sts", receipt(func(n *binxml.Node) { delAttr(n, "sts") })},
		{"without retry, or with another id", retry(func(n *binxml.Node) { setAttr(n.Child("retry"), binxml.S("id", "X")) })},
		{"without a usable count", retry(func(n *binxml.Node) { setAttr(n.Child("retry"), binxml.S("count", "0")) })},
		{"more than five retry", retry(func(n *binxml.Node) { setAttr(n.Child("retry"), binxml.S("count", "6")) })},
		{"without registration", retry(func(n *binxml.Node) { drop(n, "registration") })},
		{"without keys", retry(func(n *binxml.Node) { drop(n, "keys") })},
		{"with unusable keys", retry(func(n *binxml.Node) { drop(n.Child("keys"), "skey") })},
		{"another identity than the enlisted one", func(p *scripted) {
			p.newIdentity()
			retry(func(*binxml.Node) {})(p)
		}},
		{"an ack of a class", raw(node("ack", attrs{binxml.S("class", "iq"), binxml.S("id", "1"), server}))},
		{"was not sent, or was answered before", raw(node("ack", attrs{binxml.S("class", "receipt"), binxml.S("id", "1"), server}))},
		{"does not go to the sender", func(p *scripted) {
			m := p.seal(to, "x")
			p.send(m)
			p.want("delivery", isReceipt(m.ID, ""))
			p.sendNode(node("ack", attrs{binxml.S("class", "receipt"), binxml.S("id", m.ID), server}))
		}},
		{"an ack of a message that was never", func(p *scripted) {
			p.sendNode(node("ack", attrs{binxml.S("class", "message"), binxml.S("id", "AC1"), binxml.J("to", to)}))
		}},
		{"an iq without id", raw(node("iq", attrs{binxml.S("type", "get"), binxml.S("xmlns", "w:p"), server}))},
		{"an iq that does not go to the server", raw(node("iq", attrs{binxml.S("type", "get"), binxml.S("xmlns", "w:p"), binxml.S("id", "1")}))},
		{"an answer to an iq that was not asked", raw(node("iq", attrs{binxml.S("type", "result"), binxml.S("id", "zz"), server}))},
		{"an iq passive", raw(node("iq", attrs{binxml.S("type", "set"), binxml.S("xmlns", "passive"), binxml.S("id", "1"), server}, node("active", nil)))},
		{"not E.164", raw(node("iq", attrs{binxml.S("type", "get"), binxml.S("xmlns", "w:interop"), binxml.S("id", "1"), server},
			node("users", nil, node("user", attrs{binxml.S("external_id", "015155")}))))},
		{"under an id already used", func(p *scripted) {
			p.upload(1)
			p.nextKey--
			p.upload(1)
		}},
		{"a chatstate to somebody", raw(node("chatstate", attrs{binxml.J("to", jid.JID{User: "5", Server: jid.LID})}, node("paused", nil)))},
		{"neither composing nor paused", func(p *scripted) { p.sendNode(node("chatstate", attrs{binxml.J("to", to)}, node("idle", nil))) }},
		{"a notification, which", raw(node("notification", attrs{binxml.S("id", "1"), server}))},
		{"an ib stanza", raw(node("ib", nil, node("offline_batch", nil)))},
		{"a kind that partners do not send", raw(node("presence", attrs{binxml.S("type", "available")}))},
		{"passive is not false", login(func(cp *waWa6.ClientPayload) { cp.Passive = nil })},
		{"pull is not true", login(func(cp *waWa6.ClientPayload) { cp.Pull = proto.Bool(false) })},
		{"without device", login(func(cp *waWa6.ClientPayload) { cp.Device = nil })},
		{"another connect type", login(func(cp *waWa6.ClientPayload) { cp.ConnectType = waWa6.ClientPayload_CELLULAR_UNKNOWN.Enum() })},
		{"a connect reason that", login(func(cp *waWa6.ClientPayload) { cp.ConnectReason = waWa6.ClientPayload_UNKNOWN.Enum() })},
		{"whether read receipts are on", login(func(cp *waWa6.ClientPayload) { cp.InteropData.EnableReadReceipts = nil })},
		{"more fields than partners send", login(func(cp *waWa6.ClientPayload) { cp.PushName = proto.String("x") })},
		{"a token without nbf", token(claim("nbf", nil))},
		{"a token without jti", token(claim("jti", nil))},
		{"more than 4096 bytes", token(claim("pad", strings.Repeat("x", 3500)))},
		{"for more than one enlistment or login", func(p *scripted) {
			token(claim("jti", "same"+p.identifier))(p)
			token(claim("jti", "same"+p.identifier))(p)
		}},
		{"that is not normalised", token(func(_, b map[string]any) { b["sub"] = " " + b["sub"].(string) })},
	} {
		t.Run(c.want, func(t *testing.T) {
			l.t = t
			name := "user" + newID("", 4) + "@example.org"
			p := l.newPartner(normalise("email", name)).enlist()
			p.login()
			to = p.find(ada)
			p.session(to)
			if c.want == "content a phone does not take" {
				p.send(p.sealBytes(to, []byte{0xff, 0xff, 1}, "text", ""))
			} else {
				c.do(p)
			}
			l.until("the complaint", func() bool {
				for _, cm := range l.complaints() {
					if cm.Identifier == p.identifier && strings.Contains(cm.Text, c.want) {
						return true
					}
				}
				return false
			})
			for _, cm := range l.complaints() {
				if cm.Identifier == p.identifier && (cm.Section == "" || cm.T == 0 || cm.Count < 1 || cm.Integrator != 1) {
					t.Errorf("%+v", cm)
				}
			}
			p.hangUp()
		})
	}
}

func TestTheSameComplaintIsCounted(t *testing.T) {
	l := newLab(t)
	p, _ := l.connected()
	for range 3 {
		p.sendNode(node("presence", nil))
	}
	p.ask(stanza.KeepAlive{})
	got := l.complaints()
	if len(got) != 1 || got[0].Count != 3 {
		t.Fatalf("%+v", got)
	}
}

func TestAMessageUnderAnIdentityThatIsNotEnlistedIsComplainedAbout(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	other, err := e2ee.NewDevice(nil)
	must(t, err)
	p.device = other
	p.signal = e2ee.New(other, p.store)
	p.session(to)
	p.send(p.seal(to, "x"))
	l.event(ada, 0, "message", kindIs("message"))
	l.complained("under another identity")
}
