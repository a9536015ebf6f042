package sandbox

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"postern/connector/binxml"
	"postern/connector/e2ee"
)

const (
	maxRetries     = 5   // retry receipts for one message; PROTOCOL.md 6.8
	nackUnreadable = 491 // content a phone does not take; PROTOCOL.md 6.1
)

// retryWords names the reasons of a retry receipt for the event list.
var retryWords = map[int]string{
	0: "unknown", 1: "no session", 2: "invalid key", 3: "unknown prekey", 4: "invalid message", 5: "invalid signature",
	6: "too far ahead", 7: "bad MAC", 8: "invalid session", 9: "old counter",
}

// receive takes a message of a partner user: shows it and sends a delivery receipt, or asks for it again, or
// refuses its content (PROTOCOL.md 9).
func (p *phone) receive(c change, s *Server, a *account, n, enc *binxml.Node) {
	id := n.Attr("id")
	key := heardKey{a.Address, id}
	h := p.heard[key]
	if h == nil {
		h = &heardMessage{Phone: p.user.Phone, ID: id, Account: a.Address, At: unix(s.now())}
		p.heard[key] = h
		c.put(h)
	}
	var padded []byte
	var info e2ee.Opened
	err := p.signal.Decrypt(s.ctx, a.jid, enc.Attr("type"), enc.Data, func(_ context.Context, plain []byte, opened e2ee.Opened) error {
		padded, info = plain, opened
		return nil
	})
	if h.Done {
		// A second form of what is there already: say so again, show nothing (PROTOCOL.md 6.8).
		p.sendReceipt(c, s, a, "", []string{id})
		return
	}
	if err != nil {
		p.unreadable(c, s, a, h, n, err)
		return
	}
	p.knowSession(c, a)
	if info.IdentityChanged {
		p.identityEvent(c, s, a)
	}
	if string(info.Identity[:]) != string(a.Identity) {
		c.complain(s, a, "6.9", "a message under another identity than the enlisted one")
	}
	plain := padded
	if s.prof.Message.Padded {
		var n int
		var ok bool
		if plain, n, ok = unpad(padded); !ok {
			p.refuse(c, s, a, h, "unusable padding")
			return
		}
		if n == 16 {
			c.complain(s, a, "6.3", "padding of 16 bytes")
		}
	}
	p.read(c, s, a, h, n, enc, plain)
}

// read shows the content of a message, if it is content a phone takes.
func (p *phone) read(c change, s *Server, a *account, h *heardMessage, n, enc *binxml.Node, plain []byte) {
	msg := &waE2E.Message{}
	if s.prof.Message.EncVersion != 2 || proto.Unmarshal(plain, msg) != nil {
		p.refuse(c, s, a, h, "content that cannot be read")
		return
	}
	seen, refused := p.look(s, msg, a)
	if refused != "" {
		p.refuse(c, s, a, h, refused)
		return
	}
	for _, odd := range seen.oddities {
		c.complain(s, a, odd.section, odd.text)
	}
	if seen.typ != n.Attr("type") {
		c.complain(s, a, "6.1", "a message whose type is not that of its content")
	}
	if seen.mediaType != enc.Attr("mediatype") && seen.typ == "media" {
		c.complain(s, a, "6.1", "a mediatype that is not that of the content")
	}
	if ft := c.contentFault(a, &seen); ft != nil {
		h.Done = true
		c.put(h)
		c.phoneNack(s, p.user, a, h.ID, ft.Code)
		return
	}
	h.Done, h.Plain = true, plain
	c.put(h)
	e := seen.event
	e.Kind, e.From, e.Integrator = "message", a.Identifier, a.Integrator
	e.ID, e.Type, e.DisplayName, e.Retried = h.ID, n.Attr("type"), n.Attr("display_name"), h.Retries > 0
	p.show(c, s, a, e, seen.attached)
	p.sendReceipt(c, s, a, "", []string{h.ID})
}

// refuse is nack 491: this content will never be shown.
func (p *phone) refuse(c change, s *Server, a *account, h *heardMessage, why string) {
	c.complain(s, a, "6.4", "a message with content a phone does not take: "+why)
	p.show(c, s, a, eventBody{Kind: "undecryptable", From: a.Identifier, Integrator: a.Integrator, ID: h.ID, Reason: why}, false)
	h.Done = true
	c.put(h)
	c.phoneNack(s, p.user, a, h.ID, nackUnreadable)
}

// unreadable asks for a message again, as often as a phone does. Like ordinary clients the phone sends its keys
// along from the second time on.
func (p *phone) unreadable(c change, s *Server, a *account, h *heardMessage, n *binxml.Node, cause error) {
	reason := e2ee.RetryReason(cause)
	if errors.Is(cause, e2ee.ErrLibrary) || reason == 0 {
		s.log.Warn().Err(cause).Msg("a phone could not read a message")
	}
	word := retryWords[reason]
	if word == "" {
		word = retryWords[0]
	}
	p.show(c, s, a, eventBody{Kind: "undecryptable", From: a.Identifier, Integrator: a.Integrator, ID: h.ID, Reason: word}, false)
	if h.Retries >= maxRetries {
		return
	}
	h.Retries++
	c.put(h)
	retry := node("retry", attrs{
		binxml.I("count", h.Retries), binxml.S("id", h.ID), binxml.I("t", unix(s.now())), binxml.S("v", "1"), binxml.I("error", reason),
	})
	receipt := node("receipt", attrs{
		binxml.S("id", h.ID), binxml.J("from", p.user.jid), binxml.S("type", "retry"), binxml.I("t", unix(s.now())),
	}, retry, leaf("registration", nil, be(p.device.RegistrationID, 4)))
	if h.Retries > 1 {
		b, err := p.bundle(c, true)
		if err != nil {
			s.log.Error().Err(err).Msg("a phone has no bundle")
			return
		}
		keys := node("keys", nil)
		for _, child := range bundleNodes(b) {
			if child.Tag != "registration" {
				keys.Children = append(keys.Children, child)
			}
		}
		receipt.Children = append(receipt.Children, *keys)
	}
	c.enqueue(s, a, receipt)
}
