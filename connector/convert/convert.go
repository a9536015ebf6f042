// Package convert turns Matrix message content into the payload a WhatsApp
// user's phone reads, and back. All of it is pure functions over values: no
// clock, no network, no database, no logging, no state between calls.
//
// Layer: beside the core and below package connector, which is its only
// product caller. It is the one package under connector that knows Matrix
// (its event types, nothing of the bridge framework). Of this module it imports
// media, whose descriptors it writes and reads, and it must not import interop,
// gatekeeper, database, connector or anything under bridge.
//
// It implements PROTOCOL.md 6.4 (what we send) and 6.5 (what we accept): text
// with its formats, the description of attachments (never their bytes, which
// package connector moves and package media encrypts), answers, reactions,
// edits and deletions. What has no form on the other side becomes readable
// text, is refused in words on the way out, or is named in words on the way in.
//
// What comes in was written by strangers. Numbers are bounded or dropped,
// names and ids are checked before anybody uses them, a file's address must be
// a path on its host, and nobody can change or delete what another wrote.
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
	"go.mau.fi/whatsmeow/proto/waE2E"
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
	// MinEventBytes is the smallest budget Read works with; smaller ones are
	// raised to it, so that a file's metadata and a place always fit.
	MinEventBytes = 8 << 10
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

// Options says how Read shows what it reads. The zero value means the defaults.
type Options struct {
	// MaxEventBytes is the most bytes one content may have as JSON, counted
	// with '<', '>' and '&' escaped; 0 means DefaultMaxEventBytes.
	MaxEventBytes int
	// ShowViewOnce lets what is to be seen only once through like everything
	// else; without it there is a notice in its place.
	ShowViewOnce bool
	// Name gives the name for people that belongs to an address, "" if there is
	// none. It is asked for those whom a text mentions, who otherwise stand
	// there with a number. nil means no names.
	Name func(address string) string
	// Words gives what stands for one of the English Phrases in the language of whoever reads, placeholders in braces included. It is asked
	// for nothing that a person wrote. nil means English.
	Words func(english string) string
}

// say says one of the Phrases.
func (o Options) say(english string) string {
	if o.Words == nil {
		return english
	}
	return o.Words(english)
}

// budget settles the most bytes of a content.
func (o Options) budget() int {
	if o.MaxEventBytes == 0 {
		return DefaultMaxEventBytes
	}
	return max(o.MaxEventBytes, MinEventBytes)
}

// units settles the limit of a text.
func (l Limits) units() int {
	if l.MaxTextUnits == 0 {
		return DefaultMaxTextUnits
	}
	return max(l.MaxTextUnits, MinTextUnits)
}

// ToInterop converts a Matrix message into payloads for a WhatsApp user, one
// or several in the order in which they are to be sent: text longer than the
// limit is split at words (PROTOCOL.md 6.4). HTML becomes WhatsApp's marks,
// the fallback of a reply is removed, a location becomes text, and content
// itself is not changed. What has a file in it is for ReadAttachment, an edit
// for EditText.
//
// The error is ErrEmptyText when there is nothing to send and *Unsupported for
// every kind of content other than text and location; Explain puts either into
// words for the person who wrote the message.
func ToInterop(content *event.MessageEventContent, limits Limits) ([]*waE2E.Message, error) {
	if content == nil {
		return nil, ErrEmptyText
	}
	if kind := unsupportedContent(content); kind != "" {
		return nil, &Unsupported{Kind: kind}
	}
	if content.MsgType == event.MsgLocation {
		text := locationText(content)
		if text == "" {
			return nil, &Unsupported{Kind: KindLocation}
		}
		return textMessages(splitText(text, limits.units()))
	}
	return textMessages(interopText(content, limits.units()))
}
