package sandbox

import (
	"slices"
	"strings"

	"postern/connector/binxml"
	"postern/connector/jid"
)

const (
	maxUsersAsked = 256 // PROTOCOL.md 5.2
	maxKeysAsked  = 256
	maxBlocked    = 10000
	maxName       = 512 // bytes of a display name
)

// iq answers an iq of a partner.
func (c change) iq(st *stream, n *binxml.Node, reply func(*binxml.Node)) {
	s, a := st.s, st.account
	typ := n.Attr("type")
	if typ == "result" || typ == "error" {
		c.pong(st, n)
		return
	}
	if n.Attr("id") == "" {
		c.complain(s, a, "4.11", "an iq without id")
		return
	}
	if to, err := n.AttrJID("to"); err != nil || to != s.prof.ServerJID {
		c.complain(s, a, "1.4", "an iq that does not go to the server")
	}
	if typ != "get" && typ != "set" {
		reply(s.iqError(n, 400))
		return
	}
	if ft := c.takeFault("ack_error", a.Integrator, a.Identifier, "iq"); ft != nil {
		reply(s.iqError(n, ft.Code))
		return
	}
	c.answerIQ(s, a, n, reply)
}

// answerIQ carries out an iq that has the form of one.
func (c change) answerIQ(s *Server, a *account, n *binxml.Node, reply func(*binxml.Node)) {
	typ, child := n.Attr("type"), ""
	if len(n.Children) > 0 {
		child = n.Children[0].Tag
	}
	switch typ + " " + n.Attr("xmlns") {
	case "get w:p", "get urn:xmpp:ping":
		reply(s.iqResult(n))
	case "set passive":
		c.complain(s, a, "4.10", "an iq passive, which partners do not send")
		reply(s.iqResult(n))
	case "get encrypt", "set encrypt":
		reply(c.encryptIQ(s, a, n, typ, child))
	case "get w:interop":
		if child != "users" {
			reply(s.iqError(n, 501))
			return
		}
		reply(c.usersQuery(s, a, n))
	case "set w:interop":
		switch child {
		case "ping":
			reply(c.ping(s, a, n))
		case "delete_account":
			c.deleteAccount(s, a, n, reply)
		default:
			reply(s.iqError(n, 501))
		}
	case "get blocklist":
		reply(c.blocklist(s, a, n))
	case "set blocklist":
		reply(c.changeBlocklist(s, a, n))
	default:
		reply(s.iqError(n, 501))
	}
}

// pong takes the answer to a ping of ours: whatever was written before the ping has been read.
func (c change) pong(st *stream, n *binxml.Node) {
	id := n.Attr("id")
	read, ok := st.pings[id]
	if !ok || n.Attr("type") != "result" {
		c.complain(st.s, st.account, "4.11", "an answer to an iq that was not asked, or a ping refused")
		return
	}
	for _, q := range st.nacks[:read] {
		c.remove(st.account, q)
	}
	st.nacks = st.nacks[read:]
	delete(st.pings, id)
	for other := range st.pings {
		st.pings[other] = max(0, st.pings[other]-read)
	}
}

// usersQuery turns phone numbers into addresses (PROTOCOL.md 5.2).
func (c change) usersQuery(s *Server, a *account, n *binxml.Node) *binxml.Node {
	asked := n.Children[0].ChildrenNamed("user")
	if len(asked) < 1 || len(asked) > maxUsersAsked || len(asked) != len(n.Children[0].Children) {
		return s.iqError(n, 400)
	}
	list := node("users", nil)
	for _, q := range asked {
		number := q.Attr("external_id")
		entry := node("user", attrs{binxml.S("external_id", number)})
		digits, ok := e164(number)
		if !ok || !strings.HasPrefix(number, "+") {
			c.complain(s, a, "5.2", "a phone number that is not E.164")
		}
		u := c.users[digits]
		if code := c.reachable(u, a); code != 0 {
			entry.Children = []binxml.Node{*errorNode(code)}
		} else {
			entry.Attrs = append(entry.Attrs, binxml.S("normalized_external_id", digits), binxml.J("jid", u.jid))
		}
		list.Children = append(list.Children, *entry)
	}
	return s.iqResult(n, list)
}

// e164 takes the plus off a phone number: 4 to 15 digits, not beginning with 0.
func e164(number string) (string, bool) {
	digits := strings.TrimPrefix(number, "+")
	if len(digits) < 4 || len(digits) > 15 || digits[0] == '0' || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	return digits, true
}

// ping shows a WhatsApp user that a partner user would like to write (PROTOCOL.md 5.3).
func (c change) ping(s *Server, a *account, n *binxml.Node) *binxml.Node {
	q := n.Children[0].Child("user")
	if q == nil || len(n.Children[0].Children) != 1 {
		return s.iqError(n, 400)
	}
	to, err := q.AttrJID("jid")
	name := q.Attr("display_name")
	if err != nil || name == "" || len(name) > maxName {
		return s.iqError(n, 400)
	}
	u := c.usersByJID[to]
	if code := c.reachable(u, a); code != 0 {
		return s.iqError(n, code)
	}
	ct := c.inTouch(u, a)
	if ct.State == reachNone {
		ct.State = reachAsked
	}
	ct.Told = reachNone // whatever the answer will be, it is told
	c.put(ct)
	u.add(c, s, eventBody{Kind: "ping", From: a.Identifier, Integrator: a.Integrator, DisplayName: name})
	return s.iqResult(n)
}

// tell lets a know how it stands with u, if that has changed since a was told (PROTOCOL.md 5.3).
func (c change) tell(s *Server, u *user, a *account, ct *contact, state reach) {
	if ct.Told == state {
		return
	}
	ct.Told = state
	c.put(ct)
	if !a.Enlisted {
		return
	}
	c.enqueue(s, a, node("notification", attrs{
		binxml.S("id", newID("", 8)), binxml.J("from", s.prof.ServerJID), binxml.S("type", "w:interop"), binxml.I("t", unix(s.now())),
	}, node("reachability", attrs{binxml.J("jid", u.jid), binxml.S("state", string(state))})))
}

// retell tells everybody in touch with u what a change of opt-in or block has made of it.
func (c change) retell(s *Server, u *user) {
	for _, a := range c.accountsInOrder() {
		ct := u.contacts[a]
		if ct == nil || !ct.InTouch {
			continue
		}
		switch off := c.reachable(u, a) != 0; {
		case off:
			c.tell(s, u, a, ct, reachOff)
		case ct.Told == reachOff && ct.State == reachDeclined:
			c.tell(s, u, a, ct, reachDeclined)
		case ct.Told == reachOff:
			c.tell(s, u, a, ct, reachAccepted)
		}
	}
}

// deleteAccount ends an account for good (PROTOCOL.md 8.1).
func (c change) deleteAccount(s *Server, a *account, n *binxml.Node, reply func(*binxml.Node)) {
	reply(s.iqResult(n))
	for len(a.queue) > 0 {
		c.remove(a, a.queue[0])
	}
	for _, k := range a.prekeys {
		c.drop(k)
	}
	for _, m := range a.seen {
		c.drop(m)
	}
	a.prekeys, a.fresh, a.seen, a.places = map[uint32]*accountPreKey{}, nil, map[string]*seen{}, map[string]blob{}
	a.Deleted, a.Enlisted = true, false
	delete(c.identified, identity{a.Integrator, a.Identifier})
	a.AuthKey, a.Identity, a.SignedKey, a.SignedSig, a.UsedJTI = nil, nil, nil, nil, nil
	c.put(a)
	for _, u := range c.usersInOrder() {
		if ct := u.contacts[a]; ct != nil && ct.InTouch {
			u.add(c, s, eventBody{Kind: "deleted", From: a.Identifier, Integrator: a.Integrator})
		}
		u.phone.forgetPartner(c, a)
	}
	c.endStream(a, node("xmlstreamend", nil))
}

// blocklist is whom a partner user has blocked (PROTOCOL.md 6.10).
func (c change) blocklist(s *Server, a *account, n *binxml.Node) *binxml.Node {
	list := node("list", nil)
	for _, u := range c.usersInOrder() {
		if a.blocked[u] {
			list.Children = append(list.Children, *node("item", attrs{binxml.J("jid", u.jid)}))
		}
	}
	return s.iqResult(n, list)
}

func (c change) changeBlocklist(s *Server, a *account, n *binxml.Node) *binxml.Node {
	if len(n.Children) == 0 || len(n.Children) > maxBlocked {
		return s.iqError(n, 400)
	}
	targets := make([]*user, len(n.Children))
	for i := range n.Children {
		item := &n.Children[i]
		to, err := item.AttrJID("jid")
		if err != nil || item.Tag != "item" || !slices.Contains([]string{"block", "unblock"}, item.Attr("action")) {
			return s.iqError(n, 400)
		}
		if targets[i] = c.usersByJID[to]; targets[i] == nil {
			return s.iqError(n, 404)
		}
	}
	for i, u := range targets {
		ct := c.contact(u, a)
		ct.BlockedBack = n.Children[i].Attr("action") == "block"
		if ct.BlockedBack {
			a.blocked[u] = true
		} else {
			delete(a.blocked, u)
		}
		c.put(ct)
	}
	return c.blocklist(s, a, n)
}

func jidsOf(n *binxml.Node) ([]jid.JID, bool) {
	users := n.ChildrenNamed("user")
	if len(users) < 1 || len(users) > maxKeysAsked || len(users) != len(n.Children) {
		return nil, false
	}
	out := make([]jid.JID, len(users))
	for i, u := range users {
		j, err := u.AttrJID("jid")
		if err != nil {
			return nil, false
		}
		out[i] = j
	}
	return out, true
}
