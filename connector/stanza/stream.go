package stanza

import (
	"time"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// Success ends a good login (PROTOCOL.md 4.4).
type Success struct {
	// T is the server's time in Unix seconds.
	T int64
	// LID is our own address as the server knows it.
	LID jid.JID
}

// Kind is KindSuccess.
func (s *Success) Kind() Kind { return KindSuccess }

// Node builds the element.
func (s *Success) Node() *binxml.Node { return build("success", 2).num("t", s.T).jid("lid", s.LID).n }

func parseSuccess(r *reader) *Success { return &Success{T: r.t(), LID: r.optionalJID("lid")} }

// Failure ends a refused login (PROTOCOL.md 4.4).
type Failure struct {
	// Reason is the code that decides what to do, see Action.
	Reason int
	// Message is the server's text, for the operator; cleaned as a display name is. Not for logs.
	Message string
	// Expire is how long a ban (402) lasts, in seconds.
	Expire int64
}

// Kind is KindFailure.
func (f *Failure) Kind() Kind { return KindFailure }

// Node builds the element.
func (f *Failure) Node() *binxml.Node {
	return build("failure", 3).num("reason", int64(f.Reason)).str("message", f.Message).num("expire", f.Expire).n
}

func parseFailure(r *reader) *Failure {
	f := &Failure{Reason: r.int("reason"), Message: r.name("message")}
	f.Expire, _ = r.number("expire", maxTime)
	if f.Reason == 0 {
		r.fail("reason", absent)
	}
	return f
}

// StreamError ends a stream (PROTOCOL.md 4.5).
type StreamError struct {
	// Code is 0 if a child stands in its place.
	Code int
	// Conflict is the type of a conflict child: "replaced" or "device_removed".
	Conflict string
	// NotWellFormed says that the other side could not read what we sent.
	NotWellFormed bool
	// Ack is the stanza we owe an acknowledgement; the stream ends until it is given.
	Ack *OwedAck
	// Other is the tag of a child with no meaning here, only ever received.
	Other string
}

// OwedAck names a stanza that was not acknowledged in time (PROTOCOL.md 4.5).
type OwedAck struct {
	Class, ID, Type string
}

// The types of a conflict.
const (
	ConflictReplaced      = "replaced"
	ConflictDeviceRemoved = "device_removed"
)

// Kind is KindStreamError.
func (e *StreamError) Kind() Kind { return KindStreamError }

// Node builds the element.
func (e *StreamError) Node() *binxml.Node {
	b := build("stream:error", 1).num("code", int64(e.Code))
	if e.Conflict != "" {
		b = b.add(*build("conflict", 1).str("type", e.Conflict).n)
	}
	if e.NotWellFormed {
		b = b.add(binxml.Node{Tag: "xml-not-well-formed"})
	}
	if e.Ack != nil {
		b = b.add(*build("ack", 3).str("class", e.Ack.Class).str("id", e.Ack.ID).str("type", e.Ack.Type).n)
	}
	if e.Other != "" {
		b = b.add(binxml.Node{Tag: e.Other})
	}
	return b.n
}

func parseStreamError(r *reader) *StreamError {
	e := &StreamError{Code: r.int("code")}
	for i := range r.n.Children {
		child := &r.n.Children[i]
		switch child.Tag {
		case "conflict":
			r.sub(child, func(r *reader) { e.Conflict = r.word("type") })
		case "xml-not-well-formed":
			e.NotWellFormed = true
		case "ack":
			e.Ack = &OwedAck{}
			r.sub(child, func(r *reader) {
				e.Ack.Class, e.Ack.ID, e.Ack.Type = r.word("class"), r.id("id"), r.word("type")
			})
		default:
			if e.Other == "" && isWord(child.Tag) {
				e.Other = child.Tag
			}
		}
	}
	return e
}

// Action is what to do about the failure, from failureTable.
func (f *Failure) Action() Action { return f.Remedy().Action }

// Remedy is Action with what belongs to it: how long to wait (for a ban its length, at most a year, or an hour if it
// does not say) and whom to tell.
func (f *Failure) Remedy() Remedy {
	m := failureTable.find(f.Reason)
	if m.Action == ActionWait && f.Expire > 0 {
		m.Wait = time.Duration(min(f.Expire, int64(maxBan/time.Second))) * time.Second
	}
	return m
}

// Action is what to do about the end of the stream, from streamErrorTable and conflictTable.
func (e *StreamError) Action() Action { return e.Remedy().Action }

// Remedy is Action with what belongs to it. A child decides before the code.
func (e *StreamError) Remedy() Remedy {
	if m, ok := conflictTable[e.Conflict]; ok {
		return m
	}
	switch {
	case e.Ack != nil:
		return owedAckRemedy
	case e.NotWellFormed:
		return notWellFormedRemedy
	}
	return streamErrorTable.find(e.Code)
}
