package sandbox

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// maxReceiptIDs bounds what one receipt can name.
const maxReceiptIDs = 4096

// stanza handles one stanza of a partner (PROTOCOL.md 4.11).
func (c change) stanza(st *stream, n *binxml.Node) {
	s, a := st.s, st.account
	c.checkAddresses(s, a, n)
	reply := func(answer *binxml.Node) { c.send(a, answer) }
	switch n.Tag {
	case "ack", "chatstate", "ib", "xmlstreamend":
	default:
		if c.takeFault("no_ack", a.Integrator, a.Identifier, n.Tag) != nil {
			reply = func(*binxml.Node) {}
		}
	}
	switch n.Tag {
	case "message":
		c.message(s, a, n, reply)
	case "receipt":
		c.receipt(s, a, n, reply)
	case "ack":
		c.ack(st, n)
	case "iq":
		c.iq(st, n, reply)
	case "chatstate":
		c.chatState(s, a, n)
	case "notification":
		c.complain(s, a, "4.11", "a notification, which partners do not send")
		reply(ackOf(n, s.prof.ServerJID))
	case "xmlstreamend":
	case "ib":
		c.complain(s, a, "4.10", "an ib stanza, which partners do not send")
	default:
		c.complain(s, a, "4.11", "a stanza of a kind that partners do not send")
	}
}

// checkAddresses complains about addresses written as text (PROTOCOL.md 4.9).
func (c change) checkAddresses(s *Server, a *account, n *binxml.Node) {
	for _, at := range n.Attrs {
		switch at.Key {
		case "to", "from", "participant", "recipient", "jid", "lid":
			if at.JID.IsZero() {
				c.complain(s, a, "4.9", "an address that is not written as an address")
			}
		}
	}
	if n.Has("from") {
		c.complain(s, a, "4.11", "a stanza with from")
	}
}

// recipient is the WhatsApp user a stanza goes to; nil if there is none.
func (c change) recipient(n *binxml.Node) *user {
	to, err := n.AttrJID("to")
	if err != nil {
		return nil
	}
	return c.usersByJID[to]
}

// reachable says whether a may reach u, as the error code of PROTOCOL.md 5.3, 0 if it may.
func (c change) reachable(u *user, a *account) int {
	if u == nil {
		return 404
	}
	if !u.OptIn.has(a.Integrator) {
		return 403
	}
	if ct := u.contacts[a]; ct != nil && ct.Blocked {
		return 403
	}
	return 0
}

// contact is what there is between u and a, made if there is nothing yet.
func (c change) contact(u *user, a *account) *contact {
	ct := u.contacts[a]
	if ct == nil {
		ct = &contact{Phone: u.Phone, Account: a.Address}
		u.contacts[a] = ct
		c.put(ct)
	}
	return ct
}

// inTouch notes that something has passed between u and a, so that a is told of changes.
func (c change) inTouch(u *user, a *account) *contact {
	ct := c.contact(u, a)
	if !ct.InTouch {
		ct.InTouch = true
		c.put(ct)
	}
	return ct
}

// message takes a message of a partner to a WhatsApp user (PROTOCOL.md 6.1).
func (c change) message(s *Server, a *account, n *binxml.Node, reply func(*binxml.Node)) {
	to, err := n.AttrJID("to")
	id := n.Attr("id")
	if id == "" || len(id) > 128 {
		c.complain(s, a, "6.1", "a message without a usable id")
		return
	}
	t := binxml.I("t", unix(s.now()))
	refuse := func(code int) { reply(ackOf(n, to, binxml.I("error", code), t)) }
	if err != nil {
		to = s.prof.ServerJID
		refuse(479)
		return
	}
	enc := s.onlyEnc(n)
	if enc == nil {
		refuse(479)
		return
	}
	if ft := c.takeFault("ack_error", a.Integrator, a.Identifier, "message"); ft != nil {
		refuse(ft.Code)
		return
	}
	digest := sha256.Sum256(enc.Data)
	old := a.seen[id]
	if old != nil {
		c.noteEncryption(s, a, old, enc.Attr("type"), enc.Data, digest[:])
	}
	if old != nil && !enc.Has("count") {
		if old.To != to.String() || string(old.Digest) != string(digest[:]) {
			c.complain(s, a, "6.1", "a second message, or a second encryption, under an id already used")
		}
		reply(ackOf(n, to, t))
		return
	}
	u := c.usersByJID[to]
	if code := c.reachable(u, a); code != 0 {
		refuse(code)
		return
	}
	if ct := u.contacts[a]; ct != nil && ct.State == reachDeclined {
		refuse(463)
		return
	}
	c.checkMessage(s, a, n, enc)
	if old == nil {
		m := &seen{Account: a.Address, ID: id, To: to.String(), At: unix(s.now())}
		a.seen[id] = m
		old = m
		c.noteEncryption(s, a, m, enc.Attr("type"), enc.Data, digest[:])
	}
	old.Digest = digest[:]
	c.put(old)
	c.inTouch(u, a)
	reply(ackOf(n, to, t))
	if ft := c.takeFault("nack", a.Integrator, a.Identifier, "message"); ft != nil {
		c.phoneNack(s, u, a, id, ft.Code)
		return
	}
	u.phone.receive(c, s, a, n, enc)
}

// onlyEnc is the one enc of a message, nil if there is another number of them or it cannot be read.
func (s *Server) onlyEnc(n *binxml.Node) *binxml.Node {
	encs := n.ChildrenNamed("enc")
	if len(encs) != 1 || encs[0].Data == nil || !slices.Contains([]string{"pkmsg", "msg"}, encs[0].Attr("type")) ||
		encs[0].Attr("v") != strconv.Itoa(s.prof.Message.EncVersion) {
		return nil
	}
	return encs[0]
}

// phoneNack passes on that a phone will never show a message (PROTOCOL.md 6.1).
func (c change) phoneNack(s *Server, u *user, a *account, id string, code int) {
	c.enqueue(s, a, node("ack", attrs{
		binxml.S("class", "message"), binxml.S("id", id), binxml.J("from", u.jid),
		binxml.I("t", unix(s.now())), binxml.I("error", code),
	}))
}

// checkMessage complains about forms of a message that differ from PROTOCOL.md 6.1 and do no harm.
func (c change) checkMessage(s *Server, a *account, n, enc *binxml.Node) {
	say := func(wrong bool, section, text string) {
		if wrong {
			c.complain(s, a, section, text)
		}
	}
	say(!partnerID(n.Attr("id")), "6.1", "a message id that is not 3EB0 and 18 upper-case hex digits")
	say(!slices.Contains([]string{"text", "media", "reaction"}, n.Attr("type")), "6.1", "a message that is not of type text, media or reaction")
	say(!n.Has("display_name"), "6.1", "a message without display_name")
	say(n.Has("edit"), "6.1", "a message with edit")
	say(enc.Has("decrypt-fail"), "6.1", "an enc with decrypt-fail")
	say(len(n.Children) != 1, "6.1", "a message with more in it than one enc")
	media := enc.Attr("mediatype")
	known := slices.Contains([]string{"image", "video", "gif", "ptt", "audio", "document"}, media)
	say(n.Attr("type") == "media" && !known, "6.1", "a media message without a mediatype partners use")
	say(n.Attr("type") != "media" && media != "", "6.1", "a mediatype on a message that is not of type media")
	say(len(enc.Data) == 0 || enc.Data[0] != 0x33, "6.0", "a Signal version byte other than 0x33")
	if enc.Has("count") {
		count, err := enc.AttrInt("count")
		say(err != nil || count < 1, "6.8", "an enc with an unusable count")
		say(n.Attr("device_fanout") != "false", "6.8", "a message encrypted anew without device_fanout=false")
		say(a.seen[n.Attr("id")] == nil, "6.8", "a message encrypted anew that was never sent before")
	}
}

func partnerID(id string) bool {
	rest, ok := strings.CutPrefix(id, "3EB0")
	if !ok || len(rest) != 18 {
		return false
	}
	return strings.Trim(rest, "0123456789ABCDEF") == ""
}

// receipt takes a receipt of a partner user (PROTOCOL.md 6.6, 6.8).
func (c change) receipt(s *Server, a *account, n *binxml.Node, reply func(*binxml.Node)) {
	to, err := n.AttrJID("to")
	if err != nil || n.Attr("id") == "" {
		c.complain(s, a, "6.6", "a receipt without id or to")
		return
	}
	if ft := c.takeFault("ack_error", a.Integrator, a.Identifier, "receipt"); ft != nil {
		reply(ackOf(n, to, binxml.I("error", ft.Code)))
		return
	}
	reply(ackOf(n, to))
	u := c.usersByJID[to]
	if u == nil {
		c.complain(s, a, "6.6", "a receipt to somebody who is not there")
		return
	}
	ids := receiptIDs(n)
	c.checkReceipt(s, a, u, n, ids)
	typ := n.Attr("type")
	if typ == "retry" {
		u.phone.retryAsked(c, s, a, n)
		return
	}
	for _, id := range ids {
		c.receipted(a, id, u.jid)
	}
	if typ == "read" && !a.ReadReceipts || c.reachable(u, a) != 0 {
		return
	}
	if typ == "" {
		typ = "delivery"
	}
	u.add(c, s, eventBody{Kind: "receipt", From: a.Identifier, Integrator: a.Integrator, IDs: ids, Type: typ})
}

func receiptIDs(n *binxml.Node) []string {
	ids := []string{n.Attr("id")}
	if list := n.Child("list"); list != nil {
		for _, item := range list.ChildrenNamed("item") {
			if id := item.Attr("id"); id != "" && len(ids) < maxReceiptIDs && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func (c change) checkReceipt(s *Server, a *account, u *user, n *binxml.Node, ids []string) {
	switch n.Attr("type") {
	case "", "read", "played", "retry":
	default:
		c.complain(s, a, "6.6", "a receipt of a type partners do not use")
	}
	for _, id := range ids {
		m := u.phone.sent[id]
		switch {
		case m == nil || m.Account != a.Address:
			c.complain(s, a, "6.6", "a receipt for a message that was never sent to this user")
		case len(ids) == 1 && n.Attr("sts") != m.STS:
			c.complain(s, a, "6.2", "a receipt that does not repeat the message's sts")
		}
	}
}

// ack takes an acknowledgement of a partner user.
func (c change) ack(st *stream, n *binxml.Node) {
	s, a := st.s, st.account
	class, id, typ := n.Attr("class"), n.Attr("id"), n.Attr("type")
	key := answerKey{class: class, id: id, typ: typ}
	switch class {
	case "message":
		key.typ = ""
		c.messageAck(st, n, key)
		return
	case "receipt", "notification":
	default:
		c.complain(s, a, "4.11", "an ack of a class that is not acknowledged")
		return
	}
	q := c.answered(st, key)
	if q == nil && typ == "" {
		// The ack of an identity notification may lack the type (PROTOCOL.md 4.11).
		key.typ = "encrypt"
		q = c.answered(st, key)
	}
	if q == nil {
		c.complain(s, a, "4.11", "an ack of something that was not sent, or was answered before")
		return
	}
	if to, err := n.AttrJID("to"); err != nil || to.String() != q.From {
		c.complain(s, a, "4.11", "an ack that does not go to the sender of what it acknowledges")
	}
}

func (c change) messageAck(st *stream, n *binxml.Node, key answerKey) {
	s, a := st.s, st.account
	to, err := n.AttrJID("to")
	u := c.usersByJID[to]
	if err != nil || u == nil {
		c.complain(s, a, "6.2", "an ack of a message that does not go to its sender")
		return
	}
	m := u.phone.sent[key.id]
	if m == nil || m.Account != a.Address {
		c.complain(s, a, "6.2", "an ack of a message that was never sent to this user")
		return
	}
	c.answered(st, key)
	if code, err := n.AttrInt("error"); err == nil && code != 0 {
		u.add(c, s, eventBody{Kind: "nack", From: a.Identifier, Integrator: a.Integrator, ID: key.id, Code: code})
	}
}

// chatState shows a partner user's typing to a phone (PROTOCOL.md 6.7).
func (c change) chatState(s *Server, a *account, n *binxml.Node) {
	u := c.recipient(n)
	if u == nil {
		c.complain(s, a, "6.7", "a chatstate to somebody who is not there")
		return
	}
	state, media := "", ""
	switch composing := n.Child("composing"); {
	case composing != nil:
		state, media = "composing", composing.Attr("media")
	case n.Child("paused") != nil:
		state = "paused"
	}
	if state == "" || (media != "" && media != "audio") {
		c.complain(s, a, "6.7", "a chatstate that says neither composing nor paused")
		return
	}
	if c.reachable(u, a) == 0 {
		u.add(c, s, eventBody{Kind: "typing", From: a.Identifier, Integrator: a.Integrator, State: state, Media: voice(media)})
	}
}

// accountByNumber finds an account as a login names it.
func (c change) accountByNumber(in uint16, number uint64) *account {
	j, err := jid.NewInterop(in, itoa(number))
	if err != nil {
		return nil
	}
	return c.accounts[j]
}

// voice is the media of a typing event, absent for text.
func voice(media string) *eventMedia {
	if media == "" {
		return nil
	}
	return &eventMedia{Typing: media}
}
