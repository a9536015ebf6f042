package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/gatekeeper"
	"postern/connector/stanza"
)

// Meter is told what an account does, for figures over all accounts. Words come from fixed lists and name nobody. Methods
// return at once, and may be called from any goroutine.
type Meter interface {
	// Connecting: an attempt to open a stream begins. LoggedIn: the gatekeeper has let it in, that long after. Lost: it has
	// ended, or was not had, for one of the causes of failureCause.
	Connecting()
	LoggedIn(took time.Duration)
	Lost(cause string)
	// Received: a message is on disk that was not there before.
	Received()
	// Incoming: an item for Matrix was delivered, became a dead_letter, or was dropped because nobody is to see it; content is text,
	// media, reaction, change or notice. An outgoing event comes to the states of OutState, with accepted in the
	// place of waiting; one that skips a state counts in it all the same.
	Incoming(content, state string)
	Outgoing(content, state string)
	// Failed and Buried give the reasons.
	Failed(reason string)
	Buried(reason string)
	// Leg: a message has gone one of its ways in that time: socket_to_disk, disk_to_ack, disk_to_matrix; queue_to_socket,
	// socket_to_ack.
	Leg(leg string, took time.Duration)
	// Again: something is tried again: to_matrix, to_gatekeeper or status.
	Again(what string)
	// AskedAgain: a message was asked for again with a retry receipt, of ours or theirs.
	AskedAgain(ours bool)
	// Nack: a message was refused, by us or by them.
	Nack(ours bool, code int)
	// PreKeys: that many one-time prekeys were uploaded and used; low counts the gatekeeper's word that few are left.
	PreKeys(uploaded, used, low int)
	// Panic: one was caught, in one of guard's places.
	Panic(where string)
}

// noMeter is a Meter for those who have none.
type noMeter struct{}

func (noMeter) Connecting()               {}
func (noMeter) LoggedIn(time.Duration)    {}
func (noMeter) Lost(string)               {}
func (noMeter) Received()                 {}
func (noMeter) Incoming(_, _ string)      {}
func (noMeter) Outgoing(_, _ string)      {}
func (noMeter) Failed(string)             {}
func (noMeter) Buried(string)             {}
func (noMeter) Leg(string, time.Duration) {}
func (noMeter) Again(string)              {}
func (noMeter) AskedAgain(bool)           {}
func (noMeter) Nack(bool, int)            {}
func (noMeter) PreKeys(_, _, _ int)       {}
func (noMeter) Panic(string)              {}

// Words for Meter.
const (
	legStored    = "socket_to_disk"
	legAcked     = "disk_to_ack"
	legDelivered = "disk_to_matrix"
	legWritten   = "queue_to_socket"
	legAnswered  = "socket_to_ack"

	contentText     = "text"
	contentMedia    = "media"
	contentReaction = "reaction"
	contentChange   = "change"
	contentNotice   = "notice"

	stateDelivered = "delivered"
	stateBuried    = "dead_letter"
	stateDropped   = "dropped"
	stateAccepted  = "accepted"

	againMatrix     = "to_matrix"
	againGatekeeper = "to_gatekeeper"
	againStatus     = "status"
)

// meterOf is the meter of a configuration.
func meterOf(c *Config) Meter {
	if c.Meter != nil {
		return c.Meter
	}
	return noMeter{}
}

// contentOf says what an item for Matrix is.
func contentOf(in *Inbound) string {
	m := in.Message
	if in.Kind != KindMessage || m == nil {
		return contentNotice
	}
	return messageContent(m)
}

func messageContent(m *waE2E.Message) string {
	switch {
	case m.ReactionMessage != nil, m.EncReactionMessage != nil:
		return contentReaction
	case m.ProtocolMessage != nil, m.EditedMessage != nil:
		return contentChange
	case m.ImageMessage != nil, m.VideoMessage != nil, m.PtvMessage != nil, m.AudioMessage != nil, m.DocumentMessage != nil,
		m.DocumentWithCaptionMessage != nil, m.StickerMessage != nil, m.ViewOnceMessage != nil, m.ViewOnceMessageV2 != nil,
		m.ViewOnceMessageV2Extension != nil:
		return contentMedia
	}
	return contentText
}

// rowContent is contentOf for a row.
func rowContent(row *InRow) string {
	if row.Kind != KindMessage {
		return contentNotice
	}
	m := &waE2E.Message{}
	if row.Damaged || proto.Unmarshal(row.Payload, m) != nil {
		return contentText // nobody knows
	}
	return messageContent(m)
}

// content says what an outgoing part is; without a type it is an attachment, which is not prepared yet.
func (r *OutRow) content() string {
	switch r.Type {
	case stanza.TypeReaction:
		return contentReaction
	case stanza.TypeText:
		return contentText
	}
	return contentMedia
}

// counted counts a message that is new on disk.
func (in *incoming) counted(err error) {
	if err != nil || in.row != nil {
		return
	}
	in.a.meter.Received()
	if in.quiet {
		in.a.meter.Incoming(contentText, stateDropped)
	}
}

// came counts an item that Matrix has.
func (a *Account) came(row *InRow, content string) {
	a.meter.Incoming(content, stateDelivered)
	if row.Kind == KindMessage {
		a.meter.Leg(legDelivered, time.Since(time.UnixMilli(row.Received)))
	}
}

// storedIn and ackedIn time a message from the socket to the disk, and from there to its ack.
func (a *Account) storedIn(j job) (at time.Time) {
	at = time.Now()
	if _, ok := j.s.(*stanza.Message); ok {
		a.meter.Leg(legStored, at.Sub(j.read))
	}
	return at
}

func (a *Account) ackedIn(j job, stored time.Time, code int) {
	if _, ok := j.s.(*stanza.Message); !ok {
		return
	}
	a.meter.Leg(legAcked, time.Since(stored))
	if code != 0 {
		a.meter.Nack(true, code)
	}
}

// wrote times a part from the queue to the socket, the first time.
func (o *outbox) wrote(row *OutRow) {
	if row.State < PartSent {
		o.a.meter.Leg(legWritten, time.Since(time.UnixMilli(row.Created)))
	}
}

// answered times a part from the socket to the gatekeeper's answer, and counts a refusal.
func (o *outbox) answered(row *OutRow, code int) {
	if !row.written.IsZero() {
		o.a.meter.Leg(legAnswered, time.Since(row.written))
	}
	if code != 0 {
		o.a.meter.Nack(false, code)
	}
}

// went counts the states that an event has come to since the one that was told.
func (a *Account) went(content string, told OutState, s OutStatus) {
	if s.State == OutFailed {
		a.meter.Outgoing(content, s.State.String())
		a.meter.Failed(string(s.Reason))
		return
	}
	for state := OutSent; state <= min(s.State, OutRead); state++ {
		if state > told {
			a.meter.Outgoing(content, state.String())
		}
	}
}

// streamMeter follows one stream.
type streamMeter struct {
	meter Meter
	began time.Time
}

// state takes a stream's states, on the goroutine that reads it.
func (m *streamMeter) state(s gatekeeper.State) {
	switch s.Phase {
	case gatekeeper.Connecting:
		m.began = time.Now()
		m.meter.Connecting()
	case gatekeeper.Draining:
		m.meter.LoggedIn(time.Since(m.began))
	case gatekeeper.Waiting:
		m.meter.Lost(failureCause(s))
	case gatekeeper.Stopped:
		if s.Code != 0 || s.Remedy.Action == stanza.ActionReplaced {
			m.meter.Lost(failureCause(s))
		}
	}
}

// failureCause says in a word why a stream has ended: code_ with the gatekeeper's code, or what it was.
func failureCause(s gatekeeper.State) string {
	if s.Remedy.Action == stanza.ActionReplaced {
		return "replaced"
	}
	if s.Code != 0 {
		return fmt.Sprintf("code_%d", s.Code)
	}
	for _, c := range []struct {
		name   string
		causes []error
	}{
		{"unanswered", []error{gatekeeper.ErrUnanswered}}, {"login_timeout", []error{gatekeeper.ErrLoginTimeout}},
		{"closed", []error{gatekeeper.ErrClosed}}, {"malformed", []error{gatekeeper.ErrMalformed}}, {"no_address", []error{gatekeeper.ErrNoAddress}},
		{"panic", []error{gatekeeper.ErrPanic}}, {"token", []error{gatekeeper.ErrTokenTooLong}}, {"unexpected", []error{gatekeeper.ErrUnexpected}},
		{"timeout", []error{context.DeadlineExceeded, os.ErrDeadlineExceeded}},
	} {
		if slices.ContainsFunc(c.causes, func(cause error) bool { return errors.Is(s.Cause, cause) }) {
			return c.name
		}
	}
	var network net.Error
	switch {
	case errors.As(s.Cause, &network):
		return "network"
	case s.Cause != nil && strings.HasPrefix(s.Cause.Error(), "noise: "):
		return "handshake"
	case s.Cause != nil && strings.HasPrefix(s.Cause.Error(), "gatekeeper: make token"):
		return "token"
	}
	return "other"
}
