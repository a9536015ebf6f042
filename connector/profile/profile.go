// Package profile holds what distinguishes one gatekeeper from another, as data.
//
// Layer: beneath gatekeeper, interop, convert and the sandbox, which read their
// constants here. It must not import any of them, nor Matrix, and it does no work
// of its own. Of this module it imports the address and codec packages whose
// settings it holds: jid, binxml, noise.
//
// It carries the values of docs/PROTOCOL.md that may differ between gatekeepers or
// that partner papers may change: sections 1.2–1.4, 2.2, 3.1, 4.1–4.6, 5.1, 6.1–6.8,
// 6.14, 7.2 and 8.2. Each value is marked, where it is set, as paper (official text),
// observed (seen in shipping software) or assumed (ours).
//
// Nobody compares the name of a gatekeeper: a difference is a field here.
package profile

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/noise"
)

// Profile describes one gatekeeper. The functions that return one return a fresh
// copy, which the caller may change before it hands it on; after that it is read
// only.
type Profile struct {
	// Name selects the profile in configuration and on the sandbox's command line:
	// lower case, no spaces.
	Name string
	// Prefix begins the ids of this gatekeeper's users and chats on the Matrix side.
	// It is stored for ever and never changes.
	Prefix string
	// DisplayName is what users read.
	DisplayName string

	// Endpoints are the addresses of the gatekeeper's services.
	Endpoints Endpoints
	// Paths are the parts of those addresses that a sandbox must serve too.
	Paths Paths
	// Noise is the link under the stream (PROTOCOL.md 4.2).
	Noise Noise
	// Login fills the payload of the handshake (PROTOCOL.md 4.3).
	Login Login
	// Token is what is signed for a user at enlistment and login (PROTOCOL.md 2).
	Token Token
	// Push is what the gatekeeper signs when it wakes us (PROTOCOL.md 8.2).
	Push Push

	// ServerJID is the address that our iqs go to (PROTOCOL.md 1.4).
	ServerJID jid.JID
	// PartnerServer is the server part of partner users' addresses (PROTOCOL.md 1.1).
	PartnerServer jid.Server
	// UserServers are the server parts that the gatekeeper's own users may have; the
	// first is what a sandbox gives out (PROTOCOL.md 1.3).
	UserServers []jid.Server
	// ReadDialect and WriteDialect are how a partner address is coded towards us and
	// by us (PROTOCOL.md 1.2). A sandbox swaps them.
	ReadDialect, WriteDialect binxml.Dialect

	// Message holds what 6.1 and 6.3 leave to the gatekeeper.
	Message Message
	// Safety is how safety numbers are made (PROTOCOL.md 6.14).
	Safety Safety
	// PreKeys are the counts of PROTOCOL.md 5.1.
	PreKeys PreKeys
	// Timing are the clocks of the stream and of what is sent on it.
	Timing Timing
	// Features says what the gatekeeper lets through at all; whether this program
	// does it yet is another matter.
	Features Features
	// Media are the kinds and sizes of attachments (PROTOCOL.md 6.4, 7).
	Media Media
	// MediaPathProduct is the product's name in the path by which phones ask for our
	// media: /interop/{product}/download/… (PROTOCOL.md 7.2).
	MediaPathProduct string
}

// Endpoints are complete URLs without a trailing slash. An empty one is not known
// publicly and must come from configuration.
type Endpoints struct {
	// ChatTCP is tcp://host:port; ChatWS is ws:// or wss:// with a path. One of the
	// two is needed (PROTOCOL.md 4.1).
	ChatTCP, ChatWS string
	// Enlist takes the enlistment POST (PROTOCOL.md 3.1).
	Enlist string
	// Media is what an incoming directPath is appended to (PROTOCOL.md 7.4).
	Media string
	// JWKS has the keys of the gatekeeper's push tokens (PROTOCOL.md 8.2).
	JWKS string
}

// Paths begin with a slash.
type Paths struct {
	// ChatWS is the path of the websocket carrier.
	ChatWS string
	// Enlist is the path of the enlistment call.
	Enlist string
	// JWKS is the path of the gatekeeper's key set.
	JWKS string
}

// Noise are the handshake's parameters.
type Noise struct {
	// RootKey ends the server's certificate chain: 32 bytes.
	RootKey [noise.KeySize]byte
	// Mode is the transcript's dialect.
	Mode noise.Mode
	// Intro is sent first and is the prologue.
	Intro [4]byte
}

// Login are the fields of the login payload that are the same for every user.
type Login struct {
	// Product tells the gatekeeper what kind of client connects.
	Product waWa6.ClientPayload_Product
	// InteropVersion is the interop protocol version: primary, secondary, tertiary.
	InteropVersion [3]uint32
}

// Token are the parameters of the JWT we sign.
type Token struct {
	// Audience is the `aud` claim.
	Audience string
	// IdentifierClaim is the claim that carries the user-visible identifier.
	IdentifierClaim string
	// Lifetime is `exp` − `iat`.
	Lifetime time.Duration
	// MaxBytes is the most the compact form may have.
	MaxBytes int
}

// Push are the parameters of the JWT the gatekeeper signs.
type Push struct {
	// Issuer is its `iss` claim.
	Issuer string
}

// ReplyForm is how a reply is written (PROTOCOL.md 6.4, `reply_form`).
type ReplyForm uint8

const (
	// ReplyContext puts a contextInfo into the message.
	ReplyContext ReplyForm = iota
	// ReplyQuote puts the quoted text into the text.
	ReplyQuote
)

// Payload is what is encrypted in a message.
type Payload uint8

const (
	// PayloadE2E is a waE2E.Message (PROTOCOL.md 6.3).
	PayloadE2E Payload = iota + 1
	// PayloadTransport is a waMsgTransport.MessageTransport with two more messages in it
	// (PROTOCOL.md 6.12).
	PayloadTransport
)

// Message are the settings of messages.
type Message struct {
	// Payload is the form of the plaintext.
	Payload Payload
	// EncVersion is the `v` of `enc`.
	EncVersion int
	// Padded says that n bytes of value n follow the plaintext (PROTOCOL.md 6.3).
	Padded bool
	// MaxTextUnits is the longest text in one message, in UTF-16 code units.
	MaxTextUnits int
	// Reply is the form a reply takes first.
	Reply ReplyForm
	// MaxRetries is how often a message that cannot be read is asked for again, and
	// MaxResends how often one of ours is encrypted anew (PROTOCOL.md 6.8).
	MaxRetries, MaxResends int
	// Unanswered says that messages to somebody who was asked whether they may be written to, and has not answered, are delivered (PROTOCOL.md 5.3).
	Unanswered bool
}

// Safety are the parameters of a safety number.
type Safety struct {
	// Version is that of what is scanned, Iterations how often each key is hashed.
	Version    uint32
	Iterations int
}

// PreKeys are counts of one-time prekeys.
type PreKeys struct {
	// Initial are uploaded after enlistment; below RefillBelow the stock is brought up
	// to RefillTo.
	Initial, RefillBelow, RefillTo int
}

// Timing are durations.
type Timing struct {
	// Handshake bounds dialling and the Noise handshake, Login the wait for success
	// or failure after it.
	Handshake, Login time.Duration
	// KeepAlive is the time between two keep-alives, Answer how long any answer may
	// take before the stream counts as dead (PROTOCOL.md 4.6).
	KeepAlive, Answer time.Duration
	// BackoffMin doubles up to BackoffMax; a stream that was good for GoodStream
	// starts it over. After one that was live and is lost without a word of the
	// gatekeeper's the wait is at most BackoffLost (PROTOCOL.md 4.5).
	BackoffMin, BackoffMax, GoodStream, BackoffLost time.Duration
	// RateLimited is the least wait after code 429.
	RateLimited time.Duration
	// Reenlist is how long after one un-enlistment a second one stops the account
	// (PROTOCOL.md 4.4, 401).
	Reenlist time.Duration
	// TypingRepeat is how often our `composing` is repeated, TypingExpire how long
	// theirs is believed (PROTOCOL.md 6.7).
	TypingRepeat, TypingExpire time.Duration
	// SignedPreKeyRotate and SignedPreKeyKeep are how long a signed prekey is offered
	// and how long after that it still works (PROTOCOL.md 5.1).
	SignedPreKeyRotate, SignedPreKeyKeep time.Duration
}

// Features are kinds of traffic.
type Features struct {
	Media, Reactions, Replies, Typing, ReadReceipts bool
	Edits, Deletions, Groups, Calls                 bool
}

// ErrUnknown says that no profile has the name that was asked for.
var ErrUnknown = errors.New("profile: unknown gatekeeper")

// All returns every profile, in a fixed order.
func All() []*Profile { return []*Profile{WhatsApp(), Messenger()} }

// ByName returns the profile with that Name, or ErrUnknown.
func ByName(name string) (*Profile, error) {
	for _, p := range All() {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, ErrUnknown
}

// Clone returns a copy that shares nothing with p.
func (p *Profile) Clone() *Profile {
	c := *p
	c.UserServers = slices.Clone(p.UserServers)
	c.Media.ImageTypes = slices.Clone(p.Media.ImageTypes)
	c.Media.VideoTypes = slices.Clone(p.Media.VideoTypes)
	c.Media.AudioTypes = slices.Clone(p.Media.AudioTypes)
	return &c
}

// WithEndpoints returns a copy in which the endpoints that are set in e replace
// those of p. A chat address of either kind replaces both: who names one means it.
func (p *Profile) WithEndpoints(e Endpoints) *Profile {
	c := p.Clone()
	if e.ChatTCP != "" || e.ChatWS != "" {
		c.Endpoints.ChatTCP, c.Endpoints.ChatWS = e.ChatTCP, e.ChatWS
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&c.Endpoints.Enlist, e.Enlist},
		{&c.Endpoints.Media, e.Media},
		{&c.Endpoints.JWKS, e.JWKS},
	} {
		if f.from != "" {
			*f.to = f.from
		}
	}
	return c
}

// endpoint is one URL with the rules it must keep.
type endpoint struct {
	name    string
	url     string
	schemes []string
}

// Validate checks that every endpoint is there and well formed, and that a root key
// is set. The error names the field, never its value.
func (p *Profile) Validate() error {
	e := p.Endpoints
	if e.ChatTCP == "" && e.ChatWS == "" {
		return errors.New("profile: no chat endpoint")
	}
	if p.Noise.RootKey == ([noise.KeySize]byte{}) {
		return errors.New("profile: no noise root key")
	}
	web := []string{"https", "http"}
	for _, f := range []endpoint{
		{"chat tcp", e.ChatTCP, []string{"tcp"}},
		{"chat websocket", e.ChatWS, []string{"wss", "ws"}},
		{"enlist", e.Enlist, web},
		{"media", e.Media, web},
		{"jwks", e.JWKS, web},
	} {
		if f.url == "" && strings.HasPrefix(f.name, "chat") {
			continue
		}
		if err := f.check(); err != nil {
			return err
		}
	}
	return nil
}

func (f endpoint) check() error {
	if f.url == "" {
		return fmt.Errorf("profile: no %s endpoint", f.name)
	}
	u, err := url.Parse(f.url)
	switch {
	case err != nil, u.Host == "", u.User != nil, u.Fragment != "":
		return fmt.Errorf("profile: %s endpoint: not a complete url", f.name)
	case !slices.Contains(f.schemes, u.Scheme):
		return fmt.Errorf("profile: %s endpoint: scheme is not %s", f.name, strings.Join(f.schemes, " or "))
	case strings.HasSuffix(f.url, "/"):
		return fmt.Errorf("profile: %s endpoint: ends in a slash", f.name)
	case u.Scheme == "tcp" && (u.Port() == "" || u.Path != "" || u.RawQuery != ""):
		return fmt.Errorf("profile: %s endpoint: not tcp://host:port", f.name)
	}
	return nil
}

// Media says what attachments a phone takes from partners and how large they may be.
// Types are MIME types as they stand in a message, in lower case.
type Media struct {
	// ImageTypes, VideoTypes and AudioTypes go as what they are; everything else goes
	// as a document.
	ImageTypes, VideoTypes, AudioTypes []string
	// VoiceType is the one type of a voice message.
	VoiceType string
	// MaxImage, MaxVideo, MaxAudio (voice too) and MaxDocument are the most bytes of
	// plaintext in one attachment, either way.
	MaxImage, MaxVideo, MaxAudio, MaxDocument int64
	// MaxThumbnail is the most bytes of a JPEG thumbnail inside a message, and
	// WaveformSamples how many values from 0 to 100 a waveform has.
	MaxThumbnail, WaveformSamples int
	// Keep is how long an attachment of ours can be fetched (PROTOCOL.md 7.3).
	Keep time.Duration
}
