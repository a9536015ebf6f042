// Package stanza turns element trees into typed stanzas and back, for both ends of a stream: the bridge and the
// sandbox use the same types, with To set on what a partner sends and From on what the gatekeeper sends.
//
// Layer: above binxml and jid, the only packages of ours it imports; below gatekeeper, interop and the sandbox. It
// keeps no state, does no I/O and must not import anything that does.
//
// It implements docs/PROTOCOL.md 4.4 to 4.11, the stanzas of 5 and 6, and the name in 8.1. What a failure means is
// data in action.go, one table for each place a code can come from.
package stanza

import (
	"errors"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// Kind says which type a Stanza has.
type Kind uint8

// The kinds, one for each type of this package.
const (
	KindUnknown Kind = iota
	KindMessage
	KindReceipt
	KindAck
	KindIQ
	KindNotification
	KindChatState
	KindIB
	KindSuccess
	KindFailure
	KindStreamError
	KindStreamEnd
)

var kindTags = [...]string{"unknown", "message", "receipt", "ack", "iq", "notification", "chatstate", "ib", "success",
	"failure", "stream:error", "xmlstreamend"}

// String is the stanza's tag, "unknown" for KindUnknown.
func (k Kind) String() string {
	if int(k) < len(kindTags) {
		return kindTags[k]
	}
	return kindTags[KindUnknown]
}

// Stanza is one typed stanza. The implementations are the pointers to the types of this package, so a switch over the
// type tells them apart.
type Stanza interface {
	// Node builds the element. It may share Data and Children with the stanza.
	Node() *binxml.Node
	// Kind says which type it is.
	Kind() Kind
}

// Parse reads a stanza. An element with a tag this package does not know is an *Unknown; a known one that is malformed
// gives a *ParseError, and no other error exists. The result shares memory with n.
func Parse(n *binxml.Node) (Stanza, error) {
	if n == nil {
		return nil, &ParseError{Reason: "no element"}
	}
	r := &reader{n: n}
	var s Stanza
	switch n.Tag {
	case "message":
		r.kind, s = KindMessage, parseMessage(r)
	case "receipt":
		r.kind, s = KindReceipt, parseReceipt(r)
	case "ack":
		r.kind, s = KindAck, parseAck(r)
	case "iq":
		r.kind, s = KindIQ, parseIQ(r)
	case "notification":
		r.kind, s = KindNotification, parseNotification(r)
	case "chatstate":
		r.kind, s = KindChatState, parseChatState(r)
	case "ib":
		r.kind, s = KindIB, parseIB(r)
	case "success":
		r.kind, s = KindSuccess, parseSuccess(r)
	case "failure":
		r.kind, s = KindFailure, parseFailure(r)
	case "stream:error":
		r.kind, s = KindStreamError, parseStreamError(r)
	case "xmlstreamend":
		return &StreamEnd{}, nil
	default:
		return &Unknown{Element: n}, nil
	}
	if r.err != nil {
		r.err.Kind = r.kind
		r.err.stanza = n
		return nil, r.err
	}
	return s, nil
}

// Unknown is a stanza with a tag this package does not know.
type Unknown struct {
	Element *binxml.Node
}

// Node is the element as it came.
func (u *Unknown) Node() *binxml.Node { return u.Element }

// Kind is KindUnknown.
func (u *Unknown) Kind() Kind { return KindUnknown }

// StreamEnd is xmlstreamend, the server's announcement that it closes; it is tolerated (PROTOCOL.md 4.5).
type StreamEnd struct{}

// Node builds the element.
func (*StreamEnd) Node() *binxml.Node { return &binxml.Node{Tag: "xmlstreamend"} }

// Kind is KindStreamEnd.
func (*StreamEnd) Kind() Kind { return KindStreamEnd }

// ErrMalformed is wrapped by every *ParseError.
var ErrMalformed = errors.New("malformed stanza")

// ParseError says what is wrong with a stanza of a known kind. Its text never contains any of the content.
type ParseError struct {
	// Kind is the kind the tag says.
	Kind Kind
	// Field is the attribute or the path of the child concerned, a name of the protocol; "" for the whole.
	Field string
	// Reason is a fixed text.
	Reason string

	stanza *binxml.Node
}

// Error implements error.
func (e *ParseError) Error() string {
	if e.Field == "" {
		return "parse " + e.Kind.String() + ": " + e.Reason
	}
	return "parse " + e.Kind.String() + ": " + e.Field + ": " + e.Reason
}

// Unwrap makes errors.Is(err, ErrMalformed) true.
func (e *ParseError) Unwrap() error { return ErrMalformed }

// Ack is the acknowledgement that takes the malformed stanza from the sender's queue, so that it cannot come back for
// ever: a nack with errCode (such as NackParse) for a message, a plain ack for a receipt or notification. It is false if
// the stanza is of a kind nobody acknowledges, or lacks a usable id or sender.
func (e *ParseError) Ack(errCode int) (*Ack, bool) {
	if e.stanza == nil {
		return nil, false
	}
	r := &reader{n: e.stanza}
	a := answer{class: e.stanza.Tag, id: r.id("id"), typ: e.stanza.Attr("type"),
		from: r.optionalJID("from"), to: r.optionalJID("to")}
	if r.err != nil {
		return nil, false
	}
	if !isWord(a.typ) {
		a.typ = ""
	}
	switch e.Kind {
	case KindMessage, KindReceipt, KindNotification:
		return a.ack(errCode)
	}
	return nil, false
}

// Answer is an iq of type error with the code, for a malformed iq get or set; false if there is no id to answer to.
func (e *ParseError) Answer(code int) (*IQ, bool) {
	if e.stanza == nil || e.Kind != KindIQ {
		return nil, false
	}
	r := &reader{n: e.stanza}
	typ := e.stanza.Attr("type")
	iq := &IQ{ID: r.id("id"), From: r.optionalJID("from"), To: r.optionalJID("to")}
	if r.err != nil || typ == "result" || typ == "error" {
		return nil, false
	}
	return iq.Fail(code), true
}

// answer is what an acknowledgement copies from the stanza it answers.
type answer struct {
	class, id, typ string
	from, to       jid.JID
}

// ack addresses the acknowledgement: whoever receives a stanza with a from answers to it, the gatekeeper, which
// receives one with a to, answers from it.
func (a answer) ack(errCode int) (*Ack, bool) {
	if a.from.IsZero() && a.to.IsZero() {
		return nil, false
	}
	out := &Ack{Class: a.class, ID: a.id, Type: a.typ}
	if a.class == "message" {
		out.Type, out.Error = "", errCode
	}
	if a.from.IsZero() {
		out.From = a.to
	} else {
		out.To = a.from
	}
	return out, true
}
