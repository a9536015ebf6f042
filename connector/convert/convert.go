// Package convert turns Matrix message content into the payload a WhatsApp
// user's phone reads, and back. All of it is pure functions over values: no
// clock, no network, no database, no logging, no state between calls.
//
// Layer: beside the core and below package connector, which is its only
// product caller. It is the one package under connector that knows Matrix
// (its event types, nothing of the bridge framework), and it must not import
// interop, gatekeeper, database, connector or anything under bridge.
//
// It implements PROTOCOL.md 6.4 (what we send) and 6.5 (what we accept), for
// text; every other kind is refused in words on the way out and named in words
// on the way in.
//
// # Policy for literal marks
//
// WhatsApp has no way to escape its marks. A star that a Matrix user typed is
// sent as a star, as if a WhatsApp user had typed it, so "*x*" typed in Matrix
// shows bold there. Invisible characters are never slipped in to prevent that:
// they would be copied, searched and counted with the text. The other way
// round, marks that would not be read as marks because of what stands beside
// them (inside a word, beside the same character, in an address) are not
// written at all: the words arrive without that format rather than with
// stray punctuation.
package convert

import (
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/event"
)

// Bounds of this package. Input beyond them is still delivered as plain text.
const (
	// DefaultMaxTextUnits is the most UTF-16 code units one text may have
	// (PROTOCOL.md 6.4).
	DefaultMaxTextUnits = 65536
	// MinTextUnits is the smallest limit ToInterop works with; smaller ones are
	// raised to it, so that a mark, a prefix and a character always fit.
	MinTextUnits = 256
	// DefaultMaxEventBytes is the most bytes of JSON one Matrix content may
	// have. Half of Matrix's limit for an event: encryption adds a third, and
	// the homeserver adds fields of its own.
	DefaultMaxEventBytes = 32 << 10
	// MinEventBytes is the smallest budget ToMatrix works with; smaller ones
	// are raised to it.
	MinEventBytes = 1 << 10
	// MaxHTMLBytes is the most HTML that is looked at for formats; above it the
	// plain body is sent. No Matrix event can hold more.
	MaxHTMLBytes = 64 << 10
	// MaxHTMLDepth is how deeply elements count; deeper ones are ignored and
	// their text is kept.
	MaxHTMLDepth = 100
	// MaxMarkedBytes is the most text that is looked at for marks; above it
	// text is delivered plain.
	MaxMarkedBytes = 256 << 10
	// MaxWrappers is how many wrappers around a payload are taken off
	// (PROTOCOL.md 6.5).
	MaxWrappers = 8
)

// Limits bounds what ToInterop produces. The zero value means the defaults.
type Limits struct {
	// MaxTextUnits is the most UTF-16 code units in one text; 0 means
	// DefaultMaxTextUnits.
	MaxTextUnits int
}

// Options bounds what ToMatrix produces. The zero value means the defaults.
type Options struct {
	// MaxEventBytes is the most bytes one content may have as JSON, counted
	// with '<', '>' and '&' escaped; 0 means DefaultMaxEventBytes.
	MaxEventBytes int
}

// ToInterop converts a Matrix message into payloads for a WhatsApp user, one
// or several in the order in which they are to be sent: text longer than the
// limit is split at words (PROTOCOL.md 6.4). HTML becomes WhatsApp's marks,
// the fallback of a reply is removed, and content itself is not changed.
//
// The error is ErrEmptyText when there is nothing to send and *Unsupported for
// every kind of content other than text; Explain puts either into words for
// the person who wrote the message.
func ToInterop(content *event.MessageEventContent, limits Limits) ([]*waE2E.Message, error) {
	if content == nil {
		return nil, ErrEmptyText
	}
	if kind := unsupportedContent(content); kind != "" {
		return nil, &Unsupported{Kind: kind}
	}
	maxUnits := limits.MaxTextUnits
	if maxUnits == 0 {
		maxUnits = DefaultMaxTextUnits
	}
	parts := interopText(content, max(maxUnits, MinTextUnits))
	messages := make([]*waE2E.Message, 0, len(parts))
	for _, part := range parts {
		// A part of nothing but spaces would be an empty bubble.
		if strings.TrimSpace(part) == "" {
			continue
		}
		messages = append(messages, &waE2E.Message{Conversation: proto.String(part)})
	}
	if len(messages) == 0 {
		return nil, ErrEmptyText
	}
	return messages, nil
}

// ToMatrix converts a payload from a WhatsApp user into Matrix content, one or
// several in the order in which they are to be sent. Text keeps its words
// unchanged in the body; marks become a formatted_body, which is left out when
// there is nothing to format. Whatever else a person sent becomes an m.notice
// that names it (PROTOCOL.md 6.5), followed by its caption, if it has one, as
// text. Text above the budget is split at words.
//
// The content is empty exactly when the reason is not Shown: the payload has
// nothing in it for a person, and the caller may drop it knowingly.
func ToMatrix(msg *waE2E.Message, options Options) ([]*event.MessageEventContent, Reason) {
	budget := options.MaxEventBytes
	if budget == 0 {
		budget = DefaultMaxEventBytes
	}
	return matrixContent(msg, max(budget, MinEventBytes))
}
