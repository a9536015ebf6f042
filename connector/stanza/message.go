package stanza

import (
	"strconv"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// The types of a message and of its ciphertext (PROTOCOL.md 6.1).
const (
	TypeText     = "text"
	TypeMedia    = "media"
	TypeReaction = "reaction"

	EncPreKey  = "pkmsg" // starts a Signal session
	EncSession = "msg"   // in an established one
)

// Message is one message, in either direction (PROTOCOL.md 6.1, 6.2, 6.8). Ours have To and DisplayName; theirs have
// From, T, and possibly Notify, Offline and STS.
type Message struct {
	ID       string
	To, From jid.JID
	// Type is TypeText, TypeMedia or TypeReaction, or what the sender wrote.
	Type string
	// DisplayName is the sender's name on messages of a partner, Notify on those of a WhatsApp user. What arrives is
	// valid UTF-8 without control characters, at most MaxName bytes.
	DisplayName, Notify string
	// STS is the server's time in microseconds, digits as they came; receipts for the message repeat it.
	STS string
	// T is the time in Unix seconds, 0 if absent.
	T int64
	// Offline is the place in the queue on delivery after a login, nil on a live message (PROTOCOL.md 4.10).
	Offline *int
	// Edit is tolerated on reading and not written by us.
	Edit string
	// DeviceFanout is "false" on the answer to a retry receipt, else empty (PROTOCOL.md 6.8).
	DeviceFanout string
	// Enc is the one flat ciphertext.
	Enc Enc
}

// Enc is the ciphertext of a message.
type Enc struct {
	// V is 2 on WhatsApp and 3 on Messenger (PROTOCOL.md 6.1, 6.3).
	V int
	// Type is EncPreKey or EncSession.
	Type string
	// MediaType is image, video, gif, ptt, audio or document, empty for text and reactions.
	MediaType string
	// Count is the number of the retry this answers, 0 on an original (PROTOCOL.md 6.8).
	Count int
	// Data is the serialised Signal message; it may share memory with the frame it was read from.
	Data []byte
	// DecryptFail is tolerated on reading and not written by us.
	DecryptFail string
}

// Kind is KindMessage.
func (m *Message) Kind() Kind { return KindMessage }

// Node builds the element. Empty and zero fields are left out, of Enc all but its type and version.
func (m *Message) Node() *binxml.Node {
	b := build("message", 12).jid("to", m.To).jid("from", m.From).str("id", m.ID).str("type", m.Type).num("t", m.T).
		str("display_name", m.DisplayName).str("notify", m.Notify).str("sts", m.STS).ptr("offline", m.Offline).
		str("edit", m.Edit).str("device_fanout", m.DeviceFanout)
	return b.add(m.Enc.node()).n
}

func (e *Enc) node() binxml.Node {
	n := build("enc", 5).str("v", strconv.Itoa(e.V)).str("type", e.Type).str("mediatype", e.MediaType).
		num("count", int64(e.Count)).str("decrypt-fail", e.DecryptFail).n
	n.Data = e.Data
	return *n
}

func parseMessage(r *reader) *Message {
	m := &Message{ID: r.id("id"), Type: r.word("type"), DisplayName: r.name("display_name"),
		Notify: r.name("notify"), STS: r.word("sts"), T: r.t(), Offline: r.optionalInt("offline"),
		Edit: r.word("edit"), DeviceFanout: r.word("device_fanout")}
	m.From, m.To = r.parties()
	for i := range r.n.Children {
		if r.n.Children[i].Tag != "enc" {
			continue
		}
		if m.Enc.Type != "" {
			r.fail("enc", "more than one")
			return m
		}
		r.sub(&r.n.Children[i], m.Enc.parse)
	}
	if m.Enc.Type == "" {
		r.fail("enc", absent)
	}
	return m
}

func (e *Enc) parse(r *reader) {
	e.V, e.Type, e.MediaType = r.int("v"), r.word("type"), r.word("mediatype")
	e.Count, e.DecryptFail, e.Data = r.int("count"), r.word("decrypt-fail"), r.n.Data
	if e.Type != EncPreKey && e.Type != EncSession {
		r.fail("type", "unknown")
	}
	if len(e.Data) == 0 {
		r.fail("", "no data")
	}
	if e.V == 0 {
		r.fail("v", absent)
	}
}
