package stanza

import (
	"postern/connector/binxml"
	"postern/connector/jid"
)

// Ack acknowledges a message, receipt or notification, or says with Error that a message failed (PROTOCOL.md 4.11,
// 6.1, 6.2).
type Ack struct {
	// Class is the tag of what is acknowledged, ID its id.
	Class, ID string
	// To is set on what a partner sends, From on what the gatekeeper sends.
	To, From jid.JID
	// Type repeats the type of a receipt or notification.
	Type string
	// T is the server's time in Unix seconds, 0 if absent.
	T int64
	// Error is 0 for success, else a code; Outcome gives its meaning.
	Error int
}

// Kind is KindAck.
func (a *Ack) Kind() Kind { return KindAck }

// Node builds the element.
func (a *Ack) Node() *binxml.Node {
	return build("ack", 7).str("class", a.Class).str("id", a.ID).jid("to", a.To).jid("from", a.From).
		str("type", a.Type).num("t", a.T).num("error", int64(a.Error)).n
}

func parseAck(r *reader) *Ack {
	a := &Ack{Class: r.word("class"), ID: r.id("id"), To: r.optionalJID("to"), From: r.optionalJID("from"),
		Type: r.word("type"), T: r.t(), Error: r.int("error")}
	if a.Class == "" {
		r.fail("class", absent)
	}
	return a
}

// AckFor is the acknowledgement of a stanza that has arrived, and false if stanzas of its kind are not acknowledged
// (PROTOCOL.md 4.11). errCode makes it a nack and counts for messages only; 0 is success. The receiver's role follows
// from the stanza: one with a sender is answered to that sender, one without comes from a partner, and the
// gatekeeper's answer is from its addressee.
func AckFor(s Stanza, errCode int) (*Ack, bool) {
	switch s := s.(type) {
	case *Message:
		return answer{class: "message", id: s.ID, from: s.From, to: s.To}.ack(errCode)
	case *Receipt:
		return answer{class: "receipt", id: s.ID, typ: s.Type, from: s.From, to: s.To}.ack(0)
	case *Notification:
		return answer{class: "notification", id: s.ID, typ: s.Type, from: s.From, to: s.To}.ack(0)
	}
	return nil, false
}

// Key names an answer that is owed: what kind of stanza it is owed for, by its tag, with its id and type. A delivery
// and a read receipt of one message have the same id and differ in type only.
type Key struct {
	Class, ID, Type string
}

// Expects says which answer a stanza we send calls for, and false if for none (PROTOCOL.md 4.11).
func Expects(s Stanza) (Key, bool) {
	switch s := s.(type) {
	case *Message:
		return Key{Class: "message", ID: s.ID}, true
	case *Receipt:
		return Key{Class: "receipt", ID: s.ID, Type: s.Type}, true
	case *Notification:
		return Key{Class: "notification", ID: s.ID, Type: s.Type}, true
	case *IQ:
		return Key{Class: "iq", ID: s.ID}, s.Type == IQGet || s.Type == IQSet
	}
	return Key{}, false
}

// Answers says which owed answers a stanza that has arrived is, none for most. A receipt of any type but retry answers
// the messages it names; that counts for the gatekeeper only, since a partner's message is answered by an ack.
func Answers(s Stanza) []Key {
	switch s := s.(type) {
	case *Ack:
		if s.Class == "message" {
			return []Key{{Class: "message", ID: s.ID}}
		}
		return []Key{{Class: s.Class, ID: s.ID, Type: s.Type}}
	case *IQ:
		if s.Type == IQResult || s.Type == IQFailed {
			return []Key{{Class: "iq", ID: s.ID}}
		}
	case *Receipt:
		if s.Type == ReceiptRetry {
			return nil
		}
		keys := make([]Key, len(s.IDs))
		for i, id := range s.IDs {
			keys[i] = Key{Class: "message", ID: id}
		}
		return keys
	}
	return nil
}

// AnsweredBy says whether an answer with the key got settles the owed one k. The acknowledgement of a notification of
// type encrypt may lack the type (PROTOCOL.md 4.11).
func (k Key) AnsweredBy(got Key) bool {
	return k == got || k.Class == "notification" && got == Key{Class: k.Class, ID: k.ID} && k.Type == TypeEncrypt
}
