package matrixdurable

import (
	"context"
	"encoding/json"
	"time"
)

// Kind says through which part of a transaction an event came.
type Kind string

// The kinds of journalled events.
const (
	KindRoom      Kind = "room"      // room events, with an event id
	KindEphemeral Kind = "ephemeral" // read receipts; typing and presence are never journalled
)

// Entry is one journalled event.
type Entry struct {
	// Seq is the entry's place in the journal; entries of one room are handled in this order. Given by the journal.
	Seq int64
	// Kind is the part of the transaction the event came in.
	Kind Kind
	// EventID is the room event's id, "" for the other kind. An id is accepted once.
	EventID string
	// Room is the room id.
	Room string
	// Body is the event's JSON as the homeserver sent it; nil if it has to be loaded.
	Body []byte
	// Handed says that the event is a command that was given to its handler: it is not given to it again.
	Handed bool
}

// Journal keeps what the homeserver has handed over until it is dealt with. Its
// changes are on disk when they return. All methods may be called from any
// goroutine.
type Journal interface {
	// Accept stores a transaction's key and those of its entries that are not known yet, in one commit, and
	// returns the stored ones with Seq set, in order. known says that the transaction was there
	// already; nothing is stored then.
	Accept(ctx context.Context, txn string, entries []Entry) (stored []Entry, known bool, err error)
	// Merge stores what a look into the room has brought, in the order of the homeserver: unknown
	// entries, and the token named name, unless it is "", in one commit. Entries that are known, unfinished and
	// in waiting get a new place, so that the order of all is that of entries. It returns those
	// stored or moved, with Seq set.
	Merge(ctx context.Context, name, token string, entries []Entry, waiting func(eventID string) bool) ([]Entry, error)
	// Hand marks a command as given to its handler.
	Hand(ctx context.Context, seq int64) error
	// Finish marks entries as dealt with and erases their bodies.
	Finish(ctx context.Context, seqs []int64) error
	// Load returns an entry's body.
	Load(ctx context.Context, seq int64) ([]byte, error)
	// Unfinished returns all unfinished entries in order, without bodies.
	Unfinished(ctx context.Context) ([]Entry, error)
	// Purge forgets transactions and finished entries older than before.
	Purge(ctx context.Context, before time.Time) error
	// Token returns the token stored under name, "" if there is none.
	Token(ctx context.Context, name string) (string, error)
	// SetToken stores a token under name.
	SetToken(ctx context.Context, name, token string) error
}

// KeepFinished is how long ids of transactions and finished events are
// remembered, so that a repeat is known as one.
const KeepFinished = 14 * 24 * time.Hour

// transaction is the body of PUT /transactions, events unparsed.
type transaction struct {
	Events    []json.RawMessage `json:"events"`
	Ephemeral []json.RawMessage `json:"ephemeral"`
	// The unstable name, which Synapse sends to registrations that ask for it by the old key.
	UnstableEphemeral []json.RawMessage `json:"de.sorunome.msc2409.ephemeral"`
}

// head is the part of an event that decides what is done with it.
type head struct {
	ID       string  `json:"event_id"`
	Room     string  `json:"room_id"`
	Type     string  `json:"type"`
	Sender   string  `json:"sender"`
	StateKey *string `json:"state_key"`
}

// entries sorts a transaction's events: durable ones to journal and passing ones (typing) to hand on without.
// own tells our own users, whose room events other than state are left out. An event that cannot be
// read is left out and counted in broken: it must not keep the others back, which the homeserver would
// otherwise repeat with it for ever.
func (t *transaction) entries(own func(user string) bool) (durable, passing []Entry, broken int) {
	ephemeral := t.Ephemeral
	if ephemeral == nil {
		ephemeral = t.UnstableEphemeral
	}
	for _, raw := range ephemeral {
		var h head
		switch err := json.Unmarshal(raw, &h); {
		case err != nil:
			broken++
		case h.Room == "": // presence
		case h.Type == "m.receipt":
			durable = append(durable, Entry{Kind: KindEphemeral, Room: h.Room, Body: raw})
		case h.Type == "m.typing":
			passing = append(passing, Entry{Kind: KindEphemeral, Room: h.Room, Body: raw})
		}
	}
	for _, raw := range t.Events {
		switch e, wanted, ok := roomEntry(raw, "", own); {
		case !ok:
			broken++
		case wanted:
			durable = append(durable, e)
		}
	}
	return durable, passing, broken
}

// roomEntry makes the entry of a room event; room is used if the event does not name one. wanted is
// false for an event that needs no handling, ok for one that cannot be read.
func roomEntry(raw json.RawMessage, room string, own func(user string) bool) (e Entry, wanted, ok bool) {
	var h head
	if err := json.Unmarshal(raw, &h); err != nil {
		return Entry{}, false, false
	}
	if h.Room == "" {
		h.Room = room
	}
	if h.ID == "" || h.Room == "" {
		return Entry{}, false, false
	}
	if h.StateKey == nil && own(h.Sender) {
		return Entry{}, false, true
	}
	return Entry{Kind: KindRoom, EventID: h.ID, Room: h.Room, Body: raw}, true, true
}
