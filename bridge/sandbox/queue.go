package sandbox

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"

	"postern/connector/binxml"
	"postern/connector/jid"
)

const (
	keepFor   = 30 * 24 * time.Hour // the queue, an account that stays away, message ids; PROTOCOL.md 3.4, 9
	keptQueue = 100_000             // stanzas for one partner user
)

// storedForm is the coding of stanzas in the state, whatever the wire's is.
var storedForm = binxml.Codec{}

// node is the stanza as it is sent, a fresh copy at each call; nil if it cannot be read any more.
func (q *queued) node() *binxml.Node {
	n, err := storedForm.Decode(q.Stanza)
	if err != nil {
		return nil
	}
	return n
}

func (q *queued) key() answerKey {
	k := answerKey{class: q.Tag, id: q.ID, typ: q.Type}
	if q.Tag == "message" {
		k.typ = ""
	}
	return k
}

// enqueue keeps a stanza for a partner user until it is answered, sends it if there is a stream, and wakes
// the partner if there is none (PROTOCOL.md 4.10, 8.2).
func (c change) enqueue(s *Server, a *account, n *binxml.Node) {
	if a.Deleted || len(a.queue) >= keptQueue {
		s.log.Warn().Msg("a stanza was not queued: account deleted or queue full")
		return
	}
	frame, err := storedForm.Append(nil, n)
	if err != nil {
		s.log.Error().Str("tag", n.Tag).Msg("a stanza could not be encoded")
		return
	}
	q := &queued{
		Account: a.Address, Seq: c.order(), Tag: n.Tag, ID: n.Attr("id"), Type: n.Attr("type"),
		From: n.Attr("from"), Stanza: frame, At: unix(s.now()),
	}
	a.queue = append(a.queue, q)
	c.put(q)
	if a.stream != nil {
		a.stream.push(outgoing{ticket: c.seq, node: n, item: q})
		return
	}
	c.wake(s, a)
}

// remove takes a stanza off the queue.
func (c change) remove(a *account, q *queued) {
	if q.gone {
		return
	}
	q.gone = true
	c.drop(q)
	if len(a.queue) > 0 && a.queue[0] == q {
		a.queue[0], a.queue = nil, a.queue[1:] // a long queue is not moved for each answer
	} else if i := slices.Index(a.queue, q); i >= 0 {
		a.queue = slices.Delete(a.queue, i, i+1)
	}
}

// answered takes the stanza off the queue that an ack answers: the oldest written on this stream that matches,
// else the oldest of the queue that was written on an earlier one. It is nil if nothing matches. Answers come in the order of what they answer,
// so the ack of a message that could not be read does not take its second, readable form off the queue.
func (c change) answered(st *stream, key answerKey) *queued {
	if list := st.waiting[key]; len(list) > 0 {
		if len(list) == 1 {
			delete(st.waiting, key)
		} else {
			st.waiting[key] = list[1:]
		}
		c.remove(st.account, list[0])
		return list[0]
	}
	for _, q := range st.account.queue {
		if q.sent && q.key() == key {
			c.remove(st.account, q)
			return q
		}
	}
	return nil
}

// receipted takes every message with that id from that sender off the queue.
func (c change) receipted(a *account, id string, from jid.JID) {
	for _, q := range slices.Clone(a.queue) {
		if q.Tag == "message" && q.ID == id && q.From == from.String() {
			c.remove(a, q)
		}
	}
}

// sweep drops what is older than 30 days and un-enlists who has stayed away that long (PROTOCOL.md 3.4).
func (c change) sweep(s *Server) {
	limit := unix(s.now().Add(-keepFor))
	for _, a := range c.accounts {
		c.sweepAccount(s, a)
	}
	c.sweepFiles(s, limit)
	for _, u := range c.users {
		u.phone.forget(c, limit)
		u.phone.forgetPlain(c, unix(s.now().Add(-keepPlain)))
	}
}

func (c change) sweepAccount(s *Server, a *account) {
	limit := unix(s.now().Add(-keepFor))
	for len(a.queue) > 0 && a.queue[0].At < limit {
		c.remove(a, a.queue[0])
	}
	for _, m := range a.seen {
		if m.At < limit {
			c.forgetSeen(a, m)
		}
	}
	if a.Enlisted && a.stream == nil && a.LastSeen < limit {
		a.Enlisted = false
		c.put(a)
	}
}

// newID makes an id with a prefix and n random bytes in upper-case hex.
func newID(prefix string, n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, len(prefix)+hex.EncodedLen(n))
	out = append(out, prefix...)
	for _, x := range b {
		out = append(out, digits[x>>4], digits[x&15])
	}
	return string(out)
}
