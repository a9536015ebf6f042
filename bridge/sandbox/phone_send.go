package sandbox

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"postern/connector/binxml"
	"postern/connector/e2ee"
)

const (
	maxAnswers = 10                 // encryptions anew of one message; PROTOCOL.md 6.8
	keepPlain  = 7 * 24 * time.Hour // how long a phone can answer a retry receipt
)

// draft is a message a phone is about to send.
type draft struct {
	typ     string // type of the stanza
	media   string // mediatype of enc
	edit    string
	hide    bool // decrypt-fail=hide
	content []byte
}

// pad adds n bytes of value n, 1 to 16 (PROTOCOL.md 6.3).
func pad(plain []byte) []byte {
	var b [1]byte
	rand.Read(b[:]) // never fails
	n := int(b[0]%16) + 1
	out := make([]byte, 0, len(plain)+n)
	out = append(out, plain...)
	return append(out, bytes.Repeat([]byte{byte(n)}, n)...)
}

// unpad takes the padding off; n is how much there was. ok is false if it cannot be padding.
func unpad(padded []byte) (plain []byte, n int, ok bool) {
	if len(padded) == 0 {
		return nil, 0, false
	}
	n = int(padded[len(padded)-1])
	if n < 1 || n > 16 || n > len(padded) {
		return nil, 0, false
	}
	return padded[:len(padded)-n], n, true
}

// send encrypts a message for a and leaves it to the server. The first message of a person counts as an answer
// to a ping (PROTOCOL.md 5.3). A person whom the partner user has blocked notices nothing (6.2).
func (p *phone) send(c change, s *Server, a *account, d draft) (string, error) {
	if err := p.ensureSession(c, s, a, false); err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	now := s.now()
	m := &sentMessage{
		Phone: p.user.Phone, ID: newID("AC", 15), Account: a.Address, Type: d.typ, Media: d.media, Edit: d.edit,
		Hide: d.hide, STS: itoa(uint64(now.UnixMicro())), Plain: d.content, At: unix(now),
	}
	stanza, err := p.stanza(c, s, a, m, m.At, 0)
	if err != nil {
		return "", err
	}
	p.sent[m.ID] = m
	c.put(m)
	ct := c.inTouch(p.user, a)
	if ct.State != reachAccepted {
		asked := ct.State != reachNone
		ct.State = reachAccepted
		c.put(ct)
		if asked {
			c.tell(s, p.user, a, ct, reachAccepted)
		}
	}
	if !a.blocked[p.user] {
		c.enqueue(s, a, stanza)
	}
	return m.ID, nil
}

// stanza encrypts m and builds the message as the partner gets it. count above 0 is the answer to a retry
// receipt.
func (p *phone) stanza(c change, s *Server, a *account, m *sentMessage, t int64, count int) (*binxml.Node, error) {
	sealed, err := p.signal.Encrypt(s.ctx, a.jid, pad(m.Plain), nil)
	if err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	p.knowSession(c, a)
	enc := leaf("enc", attrs{binxml.I("v", s.prof.Message.EncVersion), binxml.S("type", sealed.Type)}, sealed.Body)
	if m.Media != "" {
		enc.Attrs = append(enc.Attrs, binxml.S("mediatype", m.Media))
	}
	if m.Hide {
		enc.Attrs = append(enc.Attrs, binxml.S("decrypt-fail", "hide"))
	}
	n := node("message", attrs{
		binxml.S("id", m.ID), binxml.J("from", p.user.jid), binxml.I("t", t), binxml.S("type", m.Type),
		binxml.S("sts", m.STS),
	})
	if p.user.Name != "" {
		n.Attrs = append(n.Attrs, binxml.S("notify", p.user.Name))
	}
	if m.Edit != "" {
		n.Attrs = append(n.Attrs, binxml.S("edit", m.Edit))
	}
	if count > 0 {
		n.Attrs = append(n.Attrs, binxml.S("device_fanout", "false"))
		enc.Attrs = append(enc.Attrs, binxml.I("count", count))
	}
	n.Children = []binxml.Node{*enc}
	return n, nil
}

// readRetry reads the count and the registration id of a retry receipt. ok is false if it asks for nothing.
func (c change) readRetry(s *Server, a *account, n *binxml.Node) (count int, registration uint32, ok bool) {
	retry := n.Child("retry")
	if retry == nil || retry.Attr("id") != n.Attr("id") {
		c.complain(s, a, "6.8", "a retry receipt without retry, or with another id in it")
		return 0, 0, false
	}
	count, err := retry.AttrInt("count")
	if err != nil || count < 1 {
		c.complain(s, a, "6.8", "a retry receipt without a usable count")
		return 0, 0, false
	}
	if retry.Attr("error") == "500" {
		return 0, 0, false // the partner has given up
	}
	if count > 5 {
		c.complain(s, a, "6.8", "more than five retry receipts for one message")
	}
	id := n.Child("registration")
	if id == nil || len(id.Data) != 4 {
		c.complain(s, a, "6.8", "a retry receipt without registration")
		return 0, 0, false
	}
	return count, bigEndian(id.Data), true
}

// retryAsked answers a retry receipt: the same message, encrypted anew (PROTOCOL.md 6.8).
func (p *phone) retryAsked(c change, s *Server, a *account, n *binxml.Node) {
	count, registration, ok := c.readRetry(s, a, n)
	if !ok {
		return
	}
	m := p.sent[n.Attr("id")]
	switch {
	case m == nil || m.Account != a.Address:
		return // complained about with the receipt
	case m.Plain == nil || m.At < unix(s.now().Add(-keepPlain)) || m.Answers >= maxAnswers:
		return // this phone cannot help any more
	case a.blocked[p.user] || c.reachable(p.user, a) != 0:
		return
	}
	if err := p.renewSession(c, s, a, n, registration); err != nil {
		s.log.Warn().Err(err).Msg("a retry receipt could not be answered")
		return
	}
	t := m.At
	if asked, err := n.Child("retry").AttrUint64("t"); err == nil && asked < 1<<40 {
		t = int64(asked)
	}
	stanza, err := p.stanza(c, s, a, m, t, count)
	if err != nil {
		s.log.Warn().Err(err).Msg("a retry receipt could not be answered")
		return
	}
	m.Answers++
	c.put(m)
	c.enqueue(s, a, stanza)
}

// renewSession makes the session in which the answer to a retry receipt goes out: from the keys in it, or from
// the server's if there is no session or the partner is not who the session is with.
func (p *phone) renewSession(c change, s *Server, a *account, n *binxml.Node, registration uint32) error {
	keys := n.Child("keys")
	if keys == nil {
		c.complain(s, a, "6.8", "a retry receipt without keys")
		id, has, err := p.signal.SessionRegistrationID(s.ctx, a.jid)
		return p.ensureSession(c, s, a, err != nil || !has || id != registration)
	}
	b, ok := readBundle(n.Child("registration"), keys)
	if !ok {
		c.complain(s, a, "6.8", "a retry receipt with unusable keys")
		return p.ensureSession(c, s, a, true)
	}
	if string(b.Identity[:]) != string(a.Identity) {
		c.complain(s, a, "6.8", "a retry receipt with another identity than the enlisted one")
		return e2ee.ErrUntrusted
	}
	return p.startSession(c, s, a, b)
}

// forgetPlain drops the plaintexts a phone keeps for retries once they are too old.
func (p *phone) forgetPlain(c change, limit int64) {
	for _, m := range p.sent {
		if m.Plain != nil && m.At < limit {
			m.Plain = nil
			c.put(m)
		}
	}
}

// sendReceipt sends a receipt of the phone, delivery if typ is empty (PROTOCOL.md 6.6).
func (p *phone) sendReceipt(c change, s *Server, a *account, typ string, ids []string) {
	if typ == "read" && !a.ReadReceipts {
		return
	}
	n := node("receipt", attrs{
		binxml.S("id", ids[0]), binxml.J("from", p.user.jid), binxml.I("t", unix(s.now())),
	})
	if typ != "" {
		n.Attrs = append(n.Attrs, binxml.S("type", typ))
	}
	if len(ids) > 1 {
		list := node("list", nil)
		for _, id := range ids[1:] {
			list.Children = append(list.Children, *node("item", attrs{binxml.S("id", id)}))
		}
		n.Children = []binxml.Node{*list}
	}
	c.enqueue(s, a, n)
}

func marshal(m *waE2E.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("marshal message: %w", err)
	}
	return b, nil
}
