package interop

import (
	"context"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"postern/connector/jid"
)

// Upcalls is what an Account tells the layer above. Calls for one chat come one
// at a time and in order; calls for different chats come concurrently. A panic
// inside is caught and counts as an error.
type Upcalls interface {
	// Deliver hands over one inbound item. Nil means that Matrix has it. A
	// *Rejected in the error's chain means it never will: the item becomes a
	// dead letter and the chat goes on. Any other error is tried again with
	// backoff, for as long as it takes, and holds up this chat alone.
	// After a crash an item may be handed over again: transaction ids made from
	// Chat, Kind and MessageID make that harmless.
	// An error that wraps ErrNoTarget sets a KindMessage aside (see there); ErrWithheld,
	// ErrQuiet and ErrDropped are for chats that the person has not accepted.
	Deliver(ctx context.Context, in *Inbound) error
	// Prepare makes the message of an event that Send took as a recipe, for
	// example by moving its attachment into the media store. It is called when
	// the event is the first of its chat and the stream is live; other chats go
	// on meanwhile. Its context ends when Preparing.Progress was not called for
	// Limits.Waiting. After a crash, and after an error, it is called again.
	// A *Unsendable in the error's chain fails the event for good; any other
	// error is tried again with backoff, until there was no progress for
	// Limits.Waiting or too many tries failed.
	Prepare(ctx context.Context, p *Preparing) (*Prepared, error)
	// Attached says whether the attachment of a message that Prepare has made can
	// still be fetched; it is asked before the message is encrypted for the first
	// time. Its errors are as those of Prepare.
	Attached(ctx context.Context, plaintext []byte) error
	// Typing tells that the other person types, or does not any more. It is told
	// again while they go on, is not repeated after a failure, and does not
	// survive a restart.
	Typing(ctx context.Context, t Typing)
	// Status tells a transition of an outgoing event. It is repeated until it
	// returns nil, and after that told again only if the process dies before
	// the answer is on disk. States only move forward (OutState), skipped ones
	// are not told.
	Status(ctx context.Context, s OutStatus) error
	// Connection tells the state of the account's stream. Only the newest
	// state is told if several passed while a call was running.
	Connection(ctx context.Context, s ConnState)
	// Drained tells that many one-time prekeys were handed out to somebody who
	// has not written, once a day at most. It returns at once.
	Drained()
}

// Kind says what an Inbound is.
type Kind string

const (
	// KindMessage is a message that was decrypted and parsed.
	KindMessage Kind = "message"
	// KindUndecryptable is a message that could not be read and was not sent
	// again in time, or whose content was no message (Inbound.Reason).
	KindUndecryptable Kind = "undecryptable"
	// KindIdentityChange tells that the other person's identity key changed
	// (PROTOCOL.md 6.9); Inbound.Reason is ReasonKeyHeld, ReasonKeyBack or empty.
	KindIdentityChange Kind = "identity_change"
	// KindReachability is the outcome of a ping, or a later change of it
	// (PROTOCOL.md 5.3); Inbound.Reason is accepted, declined or off.
	KindReachability Kind = "reachability"
	// KindBlock tells that the gatekeeper's block list has the other person now, or
	// not any more, though the person of this account has not said so here
	// (PROTOCOL.md 6.10); Inbound.Reason is ReasonIsBlocked or ReasonNotBlocked.
	KindBlock Kind = "block"
)

// Inbound is one item for Matrix, in the order of its chat.
type Inbound struct {
	// Chat and Contact are opaque local ids (Peer).
	Chat, Contact string
	// Sender is the other person's address.
	Sender jid.JID
	// MessageID is the gatekeeper's id of the message, or of the notification.
	// With Chat and Kind it names the item for good.
	MessageID string
	// Timestamp is the gatekeeper's time of the message.
	Timestamp time.Time
	Kind      Kind
	// Reason refines Kind; empty for messages.
	Reason string
	// Late is true for a message that comes behind its place. Either a notice held
	// that: it could not be read at first, KindUndecryptable was delivered under the
	// same MessageID, and now the sender's repetition came. Or it was a dead letter,
	// and the operator has it tried again.
	Late bool
	// Message is the parsed content of a KindMessage, else nil.
	Message *waE2E.Message
	// Raw is what Message was parsed from, without padding.
	Raw []byte
	// Notify is the display name the sender's side gave, often empty.
	Notify string
	// Final says that an item that was set aside is handed over for the last time:
	// what it is about has not come (ErrNoTarget).
	Final bool
}

// Rejected is what Deliver returns for an item that Matrix refuses for good.
type Rejected struct {
	// Reason is short and holds no user data, for example "too_large".
	Reason string
	Err    error
}

// Error says the reason.
func (r *Rejected) Error() string { return "deliver: rejected: " + r.Reason }

// Unwrap gives the cause.
func (r *Rejected) Unwrap() error { return r.Err }

// Outgoing is one Matrix event on its way to a chat.
type Outgoing struct {
	// EventID is the Matrix event's id. Stanza ids are made from it, so a
	// second Send of the same event is recognised.
	EventID string
	// RoomID is kept for OutStatus.
	RoomID string
	// Chat is the local chat id.
	Chat string
	// Parts are marshalled waE2E.Message values without padding, in order,
	// 1 to MaxParts of them.
	Parts [][]byte
	// Fallbacks are nil, or one marshalled waE2E.Message or nil for each part: what
	// is sent in its place, under an id of its own, if the phone answers the part
	// with 491 (PROTOCOL.md 6.4).
	Fallbacks [][]byte
	// Recipe, if not nil, stands instead of Parts for what the event's only part is
	// to be made of (Upcalls.Prepare), 1 to MaxRecipe bytes. Parts, Fallbacks, Type
	// and MediaType are empty then.
	Recipe []byte
	// Type is the stanza's type: text, media or reaction (PROTOCOL.md 6.1).
	Type string
	// MediaType is the mediatype of enc for Type media, else empty.
	MediaType string
}

// MaxParts bounds the parts of one event.
const MaxParts = 64

// MaxRecipe bounds Outgoing.Recipe, in bytes.
const MaxRecipe = 64 << 10

// OutState is how far an outgoing event has come.
type OutState uint8

// The states of an outgoing event, in order. OutFailed may replace OutWaiting,
// OutSent and OutDelivered; nothing replaces OutFailed, and nothing else goes
// back.
const (
	OutWaiting   OutState = 0 // stored here; never told through Status
	OutSent      OutState = 2 // the gatekeeper has acked every part
	OutDelivered OutState = 3 // the phone has every part
	OutRead      OutState = 4 // every part was read or played
	OutFailed    OutState = 9 // OutStatus.Reason says why
)

// String names the state as PROTOCOL.md and the room do.
func (s OutState) String() string {
	switch s {
	case OutWaiting:
		return "waiting"
	case OutSent:
		return "sent"
	case OutDelivered:
		return "delivered"
	case OutRead:
		return "read"
	case OutFailed:
		return "failed"
	}
	return "unknown"
}

// OutStatus is one transition of an outgoing event.
type OutStatus struct {
	EventID, RoomID, Chat string
	State                 OutState
	// Reason is set for OutFailed.
	Reason Reason
	// Code is the gatekeeper's error code, or 0.
	Code int
	// StanzaIDs are the ids of the event's parts, in order; for a part whose
	// fall-back was sent, that of the fall-back.
	StanzaIDs []string
	// MediaType is the mediatype of the event, empty for none.
	MediaType string
	// At is when the transition was stored.
	At time.Time
	// Told is the state that was told last, OutWaiting for none.
	Told OutState
}

// Reason says why an outgoing event failed.
type Reason string

// The reasons. Codes are those of PROTOCOL.md 6.1 and 5.1.
const (
	ReasonBlocked     Reason = "blocked"         // 403: blocked, or opted out
	ReasonGone        Reason = "gone"            // 404: no such user any more
	ReasonMayNotStart Reason = "may_not_start"   // 463: this chat may not be started
	ReasonChatCap     Reason = "new_chat_cap"    // 475: too many new chats
	ReasonBadStanza   Reason = "bad_stanza"      // 479 and other codes that blame us
	ReasonUnreadable  Reason = "unreadable"      // 491 and the phone's other nacks
	ReasonRateLimited Reason = "rate_limited"    // 429 until the wait was over
	ReasonServer      Reason = "server_error"    // 5xx until the wait was over
	ReasonNoAnswer    Reason = "no_answer"       // no ack until the wait was over
	ReasonNoKeys      Reason = "no_keys"         // no usable prekey bundle
	ReasonInternal    Reason = "internal"        // our own fault
	ReasonAccount     Reason = "account_stopped" // the account was deleted
	ReasonMedia       Reason = "media"           // the attachment could not be fetched or stored
	ReasonMediaGone   Reason = "media_gone"      // the homeserver does not have the attachment
	ReasonMediaOther  Reason = "media_other"     // the attachment is not what its event describes
	ReasonTooLarge    Reason = "too_large"       // the attachment is over a limit
	ReasonQuota       Reason = "quota"           // the person's share of the media store is used up
	ReasonHeld        Reason = "not_confirmed"   // the other side's new key was not confirmed in time
	ReasonDamaged     Reason = "damaged"         // our disk does not give back what was stored of it
)

// ConnKind is the state of an account's stream.
type ConnKind string

// The states of an account's stream.
const (
	ConnConnecting   ConnKind = "connecting"
	ConnLive         ConnKind = "live"           // logged in, the offline queue is through
	ConnWaiting      ConnKind = "waiting"        // a try failed, the next is at ConnState.Until
	ConnBanned       ConnKind = "banned"         // 402: until ConnState.Until
	ConnReplaced     ConnKind = "replaced"       // another stream took over; stopped
	ConnNotEnlisted  ConnKind = "not_enlisted"   // 401 and not to be mended by us; stopped
	ConnRefused      ConnKind = "refused"        // 400, 403, 405, 406, 409, 413–415, 418; stopped
	ConnDeleted      ConnKind = "deleted"        // Delete succeeded; stopped
	ConnStorage      ConnKind = "storage"        // the database refuses commits; tried again
	ConnFault        ConnKind = "internal_error" // a goroutine of this account panicked; it goes on
	ConnBackPressure ConnKind = "back_pressure"  // Matrix takes nothing; the gatekeeper keeps the rest
	ConnEnded        ConnKind = "ended"          // Run was cancelled
	ConnIdle         ConnKind = "idle"           // not connected, because nobody needs it now (Attendance)
	ConnClock        ConnKind = "clock"          // 413, 414 because our clock and the gatekeeper's differ; looked at again
	ConnNoAddress    ConnKind = "no_address"     // the address of the person's client has to be told, and is not known; tried again
)

// ConnState is the state of an account's stream, for the person.
type ConnState struct {
	Kind ConnKind
	// Code is the gatekeeper's reason, or 0.
	Code int
	// Until is when the next try is due, or zero.
	Until time.Time
}

// LookupResult is one line of the answer to Lookup, in the order of the query.
type LookupResult struct {
	// Phone is the number as asked, Normalized the digits the gatekeeper uses.
	Phone, Normalized string
	// Peer is the person, if Err is nil.
	Peer Peer
	// Err is a *RequestError (404: not there; 403: has not opted in; 429), or nil.
	Err error
}

// Peer is the other side of a one-to-one chat.
type Peer struct {
	// Chat is the chat's local id, Contact the person's. Both are opaque.
	Chat, Contact string
	// JID is the person's address at the gatekeeper.
	JID jid.JID
}
