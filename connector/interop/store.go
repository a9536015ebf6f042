package interop

import (
	"context"
	"errors"
	"time"

	"postern/connector/e2ee"
	"postern/connector/jid"
)

// ErrNoChat says that a chat id is not one of this account's.
var ErrNoChat = errors.New("chat: unknown")

// Store is everything an account keeps on disk. All methods are safe for
// concurrent use. A method that writes joins the transaction its context
// carries (that of Do or of e2ee.Store.Commit) and is a durable transaction of
// its own without one. A method that reads inside a transaction sees what the
// transaction wrote. Every error is worth a later try unless said otherwise.
//
// interoptest.Conformance is the contract in executable form.
type Store interface {
	e2ee.Store
	Queue
	Directory
	PreKeys
	Blocks
	Verifications
}

// Queue is the in-queue and the out-queue of one account.
type Queue interface {
	// Do runs fn in one transaction that is on disk when Do returns nil. If fn
	// or the commit fails, nothing of it stays.
	Do(ctx context.Context, fn func(ctx context.Context) error) error

	// LastSeq returns the highest sequence number of all rows that are not
	// finished, of both queues, 0 for none.
	LastSeq(ctx context.Context) (int64, error)

	InQueue
	Undecided
	OutQueue
	Letters
}

// InQueue holds what came in: first with its plaintext, afterwards as the
// memory for dedupe.
type InQueue interface {
	// Inbound returns the row of an item, without payload; nil, nil if there
	// is none.
	Inbound(ctx context.Context, chat string, class Class, id string) (*InRow, error)
	// InsertInbound adds a row. A second row of the same Chat, Class and ID is
	// an error that wraps ErrExists.
	InsertInbound(ctx context.Context, row *InRow) error
	// UpdateInbound replaces everything but Chat, Class and ID of a row.
	UpdateInbound(ctx context.Context, row *InRow) error
	// FinishInbound sets State and Receipt of a row and erases payload and notify,
	// if the row still has the sequence number of the one given; else it does
	// nothing. Read stays. It makes no dead letter (Letters.BuryInbound).
	FinishInbound(ctx context.Context, row *InRow, state InState, receipt ReceiptState) error
	// PendingInbound returns up to limit rows of a chat in state InPending with
	// a sequence number above after, in order, with their payload, or Damaged.
	PendingInbound(ctx context.Context, chat string, after int64, limit int) ([]*InRow, error)
	// HoldInbound makes a row InHeld, which keeps its payload, if it is InPending and
	// still has the sequence number of the one given; else it does nothing.
	HoldInbound(ctx context.Context, row *InRow) error
	// HeldInbound returns up to limit rows of a chat in state InHeld with a sequence
	// number above after, in order, with their payload, or Damaged.
	HeldInbound(ctx context.Context, chat string, after int64, limit int) ([]*InRow, error)
	// AllHeld returns all rows in state InHeld in order, without payload.
	AllHeld(ctx context.Context) ([]*InRow, error)
	// InboundBacklog counts the rows in state InPending for each chat that has
	// any.
	InboundBacklog(ctx context.Context) (map[string]int, error)
	// WaitingInbound returns all rows in state InWaiting, without payload.
	WaitingInbound(ctx context.Context) ([]*InRow, error)
	// DueReceipts returns up to limit rows with Receipt ReceiptDue and a
	// sequence number above after, in order, without payload.
	DueReceipts(ctx context.Context, after int64, limit int) ([]*InRow, error)
	// ReceiptsDone sets Receipt to ReceiptDone for the messages with these ids.
	ReceiptsDone(ctx context.Context, chat string, ids []string) error
	// MarkReadInbound sets Read to state for messages of a chat up to the one with this
	// id, in order, at most limit of them, and says how many: those of KindMessage that
	// are InDone, or that have this id and are InPending, and whose Read is ReceiptNone.
	MarkReadInbound(ctx context.Context, chat, id string, state ReceiptState, limit int) (int, error)
	// DueReads returns up to limit rows that are InDone, with Read ReceiptDue, Receipt not
	// ReceiptHeld and a sequence number above after, in order, without payload; of all chats if chat is "".
	DueReads(ctx context.Context, chat string, after int64, limit int) ([]*InRow, error)
	// SetReads sets Read to state for the messages with these ids whose Read is
	// ReceiptDue.
	SetReads(ctx context.Context, chat string, ids []string, state ReceiptState) error
	// PruneInbound deletes rows that are InDone, or InDead and no dead letters,
	// and were received before the time, in Unix milliseconds, at most limit of
	// them, and says how many. None with a receipt that is due.
	PruneInbound(ctx context.Context, before int64, limit int) (int, error)
}

// ErrExists says that a row with this key is already there.
var ErrExists = errors.New("queue: row exists")

// Class divides the ids of the in-queue: a message's id is chosen by its
// sender and must not be able to collide with a notification's.
type Class uint8

const (
	// ClassMessage is for messages.
	ClassMessage Class = 0
	// ClassNotice is for everything else.
	ClassNotice Class = 1
)

// InState is the state of a row of the in-queue.
type InState uint8

const (
	// InPending waits for Upcalls.Deliver.
	InPending InState = 0
	// InDone was delivered; it stays for dedupe.
	InDone InState = 1
	// InDead was refused by Matrix for good, or cannot be read from disk (Letter).
	InDead InState = 2
	// InWaiting could not be decrypted and waits for the sender's repetition.
	InWaiting InState = 3
	// InHeld is set aside until what it is about has come (ErrNoTarget).
	InHeld InState = 4
	// InWithheld is kept until the person decides about its chat (ErrWithheld).
	InWithheld InState = 5
)

// ReceiptState is the state of a row's delivery receipt, or of its read receipt.
type ReceiptState uint8

const (
	// ReceiptNone is not due (yet).
	ReceiptNone ReceiptState = 0
	// ReceiptDue is to be sent until the gatekeeper acks it.
	ReceiptDue ReceiptState = 1
	// ReceiptDone was acked.
	ReceiptDone ReceiptState = 2
	// ReceiptUnwanted is never sent: read receipts were off when it would have become
	// due.
	ReceiptUnwanted ReceiptState = 3
	// ReceiptHeld becomes due when the person accepts the chat (ErrQuiet).
	ReceiptHeld ReceiptState = 4
)

// InRow is one item of the in-queue. Rows handed out belong to the caller.
type InRow struct {
	// Seq orders the items of a chat; the Account assigns it, unique for the
	// account.
	Seq   int64
	Chat  string
	Class Class
	ID    string
	// Hash is the SHA-256 of the ciphertext that was handled last, nil for none.
	Hash  []byte
	Kind  Kind
	State InState
	// Timestamp is the gatekeeper's, in Unix seconds; Received ours, in Unix
	// milliseconds.
	Timestamp, Received int64
	// Payload is the plaintext without padding (KindMessage) or the reason
	// (other kinds); sealed on disk, erased by FinishInbound. So is Notify.
	Payload []byte
	Notify  string
	// STS is the attribute that receipts repeat (PROTOCOL.md 6.2).
	STS string
	// Receipt is the delivery receipt, Read the read receipt.
	Receipt, Read ReceiptState
	// Nack is the error of our ack, 0 for none.
	Nack int
	// Retries counts the retry receipts sent for it; Since is the time of the
	// first, in Unix milliseconds.
	Retries int
	Since   int64
	// Late is Inbound.Late.
	Late bool
	// Damaged: what the disk has of Payload and Notify cannot be read. Only set in rows
	// that are read.
	Damaged bool
}

// OutQueue holds what goes out: first with its plaintext, then with the
// finished stanza too, then as the memory for receipts and retries. State
// changes are single guarded steps, so that no order of events moves a part
// back.
type OutQueue interface {
	// InsertOutbound adds the rows of an event. A stanza id that is already
	// there is an error that wraps ErrExists.
	InsertOutbound(ctx context.Context, rows []*OutRow) error
	// OutboundParts returns the rows with these stanza ids, in that order and
	// without those that do not exist, and without Recipe, Plaintext, Fallback and
	// Stanza.
	OutboundParts(ctx context.Context, stanzaIDs []string) ([]*OutRow, error)
	// OutboundStanza returns the row with this stanza id, complete; nil, nil if
	// there is none.
	OutboundStanza(ctx context.Context, stanzaID string) (*OutRow, error)
	// SetPrepared stores what was made of the recipe of a part in state PartQueued, and
	// erases the recipe. False if the part is in another state or has no recipe.
	SetPrepared(ctx context.Context, stanzaID string, p *Prepared, now int64) (bool, error)
	// SetStanza stores the finished stanza of a part in state PartQueued, which
	// becomes PartEncrypted. False if the part is in another state.
	SetStanza(ctx context.Context, stanzaID string, stanza []byte, now int64) (bool, error)
	// AdvanceOutbound moves a part forward to PartSent, PartDelivered or
	// PartRead and erases its stanza. A part that is that far, or PartFailed,
	// keeps its state, but loses its stanza all the same. It says whether the
	// state changed.
	AdvanceOutbound(ctx context.Context, stanzaID string, state PartState, now int64) (bool, error)
	// FailOutbound makes a part PartFailed, and its event a dead letter (Letters), and
	// erases recipe, fall-back, stanza and retry request. A part that is PartRead,
	// PartReplaced or PartFailed stays as it is. It says whether the state changed.
	FailOutbound(ctx context.Context, stanzaID string, reason Reason, code int, now int64) (bool, error)
	// ReplaceOutbound makes a part PartReplaced and erases all but what names it. A
	// part that is PartQueued, PartRead, PartReplaced or PartFailed stays as it is. It
	// says whether the state changed.
	ReplaceOutbound(ctx context.Context, stanzaID string, now int64) (bool, error)
	// AnyReplaced says whether there is a part in state PartReplaced.
	AnyReplaced(ctx context.Context) (bool, error)
	// SetRetry stores a retry request and its fingerprint, in place of an
	// earlier one. A part that is PartReplaced or PartFailed stays as it is.
	SetRetry(ctx context.Context, stanzaID string, req *RetryRequest, fingerprint string) error
	// SetAnswer stores the finished stanza of the answer to the retry request,
	// removes the request and counts the answer. A nil stanza only removes the
	// request. False if the part is PartReplaced or PartFailed.
	SetAnswer(ctx context.Context, stanzaID string, stanza []byte) (bool, error)
	// PendingOutbound returns up to limit rows of a chat in state PartQueued or
	// PartEncrypted with a sequence number above after; complete, in order.
	PendingOutbound(ctx context.Context, chat string, after int64, limit int) ([]*OutRow, error)
	// ResendsOutbound returns up to limit rows of a chat that were sent before
	// and have a retry request or the unacked stanza of an answer; complete, in
	// order.
	ResendsOutbound(ctx context.Context, chat string, limit int) ([]*OutRow, error)
	// OutboundChats returns the chats for which PendingOutbound or
	// ResendsOutbound has something.
	OutboundChats(ctx context.Context) ([]string, error)
	// DueStatuses returns up to limit parts, above the sequence number after and
	// in order, whose state has changed since SetReported, without Recipe, Plaintext,
	// Fallback and Stanza.
	DueStatuses(ctx context.Context, after int64, limit int) ([]*OutRow, error)
	// SetReported stores the state of their event that Upcalls.Status took in
	// these parts, as they were read: a part whose state has changed since stays
	// in DueStatuses.
	SetReported(ctx context.Context, parts []*OutRow, state OutState) error
	// PruneOutbound erases plaintext and fall-back of parts that want no work and were
	// created before window or are not among the newest keep, and deletes parts
	// that want no work and were created before cut; both in Unix milliseconds.
	// It does so to at most limit parts of each kind and says to how many.
	PruneOutbound(ctx context.Context, window int64, keep int, cut int64, limit int) (int, error)
}

// PartState is the state of one part of an outgoing event.
type PartState uint8

// The states of a part. The numbers from PartSent on are those of OutState.
const (
	PartQueued    PartState = 0
	PartEncrypted PartState = 1 // the stanza is stored and unacked
	PartSent      PartState = 2
	PartDelivered PartState = 3
	PartRead      PartState = 4
	PartReplaced  PartState = 8 // the row of its fall-back counts instead
	PartFailed    PartState = 9
)

// OutRow is one part of an outgoing event. Rows handed out belong to the caller.
type OutRow struct {
	// Seq orders the parts of a chat; the Account assigns it, unique for the
	// account.
	Seq                   int64
	Chat, EventID, RoomID string
	// Part counts from 0; the row of a part's fall-back has MaxParts more.
	Part, Parts     int
	StanzaID        string
	Type, MediaType string
	// Recipe is what Plaintext is to be made of, nil once it is, or after a failure;
	// sealed on disk.
	Recipe []byte
	// Plaintext is the marshalled message without padding; sealed on disk,
	// kept for the retry window, nil afterwards and while there is a recipe.
	Plaintext []byte
	// Fallback is the plaintext that is sent in place of this one if the phone cannot
	// read it, nil for none; sealed on disk, kept as long as Plaintext.
	Fallback []byte
	// Stanza is the finished stanza (the plaintext of a Noise frame) while it
	// is unacked, else nil; sealed on disk.
	Stanza []byte
	State  PartState
	// Created and Changed are Unix milliseconds.
	Created, Changed int64
	Reason           Reason
	Code             int
	// Reported is the state of the event that Matrix was told.
	Reported OutState
	// Retry is a request to send the part again that was not answered yet, nil
	// for none; RetryLast is the fingerprint of the last request taken, and
	// Answers counts the answers.
	Retry     *RetryRequest
	RetryLast string
	Answers   int
	// Damaged: what the disk has of the recipe or plaintext of a part in state PartQueued,
	// or of the stanza of one in state PartEncrypted, cannot be read. Only set in complete
	// rows that are read; anything else that cannot be read is nil.
	Damaged bool

	// queued is the reading of the live clock when the row was placed, for the
	// Account that placed it.
	queued time.Duration
	// written is when the part went to the socket last.
	written time.Time
}

// RetryRequest is a retry receipt of the other side (PROTOCOL.md 6.8).
type RetryRequest struct {
	Count          int
	Timestamp      int64
	RegistrationID uint32
	// Bundle is what came in keys, nil for none.
	Bundle *e2ee.Bundle
}

// Directory maps addresses of the gatekeeper to opaque local ids.
type Directory interface {
	// PeerByJID returns the person and the chat with that person, made now if
	// they are new.
	PeerByJID(ctx context.Context, j jid.JID) (Peer, error)
	// FindPeer is PeerByJID without the making; ErrNoChat if there is none.
	FindPeer(ctx context.Context, j jid.JID) (Peer, error)
	// PeerByChat returns the other side of a chat; ErrNoChat if there is none.
	PeerByChat(ctx context.Context, chat string) (Peer, error)
}

// PreKeys keeps the account's own prekeys. Ids are 1 to 2^24-1.
type PreKeys interface {
	// ReservePreKeyIDs gives out n (at most 1,000) consecutive ids for one-time
	// prekeys, never again, and returns the first.
	ReservePreKeyIDs(ctx context.Context, n int) (first uint32, err error)
	// ReserveSignedPreKeyID gives out an id for a signed prekey.
	ReserveSignedPreKeyID(ctx context.Context) (uint32, error)
	// PutPreKeys stores one-time prekeys as not uploaded, in place of any with
	// the same ids.
	PutPreKeys(ctx context.Context, keys []KeyRecord) error
	// PreKeysToUpload returns up to limit one-time prekeys that are not marked as
	// uploaded, in the order of their ids; damaged ones without a record.
	PreKeysToUpload(ctx context.Context, limit int) ([]KeyRecord, error)
	// DeletePreKeys removes one-time prekeys that are not marked as uploaded; others
	// are passed over.
	DeletePreKeys(ctx context.Context, ids []uint32) error
	// MarkPreKeysUploaded marks one-time prekeys; ids that are gone are passed
	// over.
	MarkPreKeysUploaded(ctx context.Context, ids []uint32) error
	// PutSignedPreKey stores a signed prekey.
	PutSignedPreKey(ctx context.Context, key KeyRecord) error
	// SignedPreKeys returns all signed prekeys, the newest first, damaged ones without
	// a record.
	SignedPreKeys(ctx context.Context) ([]KeyRecord, error)
	// DeleteSignedPreKeys removes those created before the time, in Unix
	// milliseconds, but never the newest.
	DeleteSignedPreKeys(ctx context.Context, before int64) error
	// Renewal names the occasion on which all prekeys have to be replaced, because the
	// store may be an old copy; "" for none. Ids that may have been given out since the
	// copy are not given out again, and none of the copy's keys is in PreKeysToUpload.
	Renewal(ctx context.Context) (occasion string, err error)
	// Renewed notes that they were, on that occasion.
	Renewed(ctx context.Context, occasion string) error
}

// KeyRecord is one of our prekeys.
type KeyRecord struct {
	ID uint32
	// Record is the key pair as package e2ee serialises it; nil if what is stored
	// cannot be read.
	Record []byte
	// Created is in Unix milliseconds; kept for signed prekeys only.
	Created int64
}
