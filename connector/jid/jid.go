// Package jid parses, prints and compares the addresses of WhatsApp and of interop partners.
//
// Layer: the lowest of the connector; it imports the standard library only. In particular it must not import
// whatsmeow's types, whose text form leaves the integrator out.
//
// It implements docs/PROTOCOL.md 1.1 to 1.4. There is exactly one text form for each address and one address for each
// text form: whatever Parse accepts, String prints back byte for byte.
package jid

import (
	"errors"
	"strconv"
	"strings"
)

// Server is the part of an address behind the at sign, for example "lid".
type Server string

// The servers with rules of their own. Others are plain strings, see Validate.
const (
	// User is the server of WhatsApp users addressed by phone number, and of the gatekeeper itself (PROTOCOL.md 1.4).
	User Server = "s.whatsapp.net"
	// LID is the server of WhatsApp users addressed by an opaque number (PROTOCOL.md 1.3).
	LID Server = "lid"
	// Interop is the server of partner users (PROTOCOL.md 1.1).
	Interop Server = "interop"
	// InteropGroup is the server of interop groups; only the 244 dialect can write it (PROTOCOL.md 1.2).
	InteropGroup Server = "interop.g.us"
	// Messenger is the server of Messenger users.
	Messenger Server = "msgr"
	// Legacy is the old spelling of User in some texts.
	Legacy Server = "c.us"
	// Group is the server of ordinary WhatsApp groups.
	Group Server = "g.us"
	// Hosted and HostedLID are the servers of devices hosted by the gatekeeper, coded only as an AD-JID.
	Hosted    Server = "hosted"
	HostedLID Server = "hosted.lid"
)

// Limits of the parts, in bytes unless said.
const (
	// MaxIntegrator is the highest integrator number (PROTOCOL.md 1.1).
	MaxIntegrator = 999
	// MaxAccountDigits is the greatest length of a partner's account number (PROTOCOL.md 1.1).
	MaxAccountDigits = 15
	// MaxUserDigits is the greatest length of the number of a WhatsApp user; it fits an unsigned 64-bit number.
	MaxUserDigits = 20
	// MaxUser is the greatest length of the user part on servers without rules of their own.
	MaxUser = 64
	// MaxServer is the greatest length of a server.
	MaxServer = 32
	// MaxText is an upper bound for the text form of any valid address.
	MaxText = MaxUser + MaxServer + 8
)

// ErrInvalid is what every error of this package wraps. The errors never contain the address.
var ErrInvalid = errors.New("invalid address")

// Error says which part of an address is wrong. It never contains any of the address.
type Error struct {
	// Part names the part: "text", "server", "user", "integrator", "account" or "device".
	Part string
}

// Error implements error.
func (e *Error) Error() string { return "parse address: invalid " + e.Part }

// Unwrap makes errors.Is(err, ErrInvalid) true.
func (e *Error) Unwrap() error { return ErrInvalid }

var (
	errText       = &Error{Part: "text"}
	errServer     = &Error{Part: "server"}
	errUser       = &Error{Part: "user"}
	errIntegrator = &Error{Part: "integrator"}
	errAccount    = &Error{Part: "account"}
	errDevice     = &Error{Part: "device"}
)

// JID is an address. It is comparable and usable as a map key; two are the same address exactly if they are equal.
// The zero value is no address.
type JID struct {
	// User is the number or name; for a partner user the account number alone, without the integrator.
	User string
	// Integrator is 1 to 999 on Interop and InteropGroup, 0 elsewhere.
	Integrator uint16
	// Device is 0 for the primary device.
	Device uint16
	// Server is never empty in a valid address.
	Server Server
}

// ServerJID is the gatekeeper's own address, the server alone with no user (PROTOCOL.md 1.4).
var ServerJID = JID{Server: User}

// NewInterop makes the address of a partner user from its integrator, 1 to 999, and its account number, 1 to 15
// digits without a leading zero (PROTOCOL.md 1.1).
func NewInterop(integrator uint16, account string) (JID, error) {
	j := JID{User: account, Integrator: integrator, Server: Interop}
	if err := j.Validate(); err != nil {
		return JID{}, err
	}
	return j, nil
}

// IsZero says whether j is the zero value, which stands for "no address".
func (j JID) IsZero() bool { return j == JID{} }

// IsInterop says whether j is the address of a partner user.
func (j JID) IsInterop() bool { return j.Server == Interop }

// IsServer says whether j is a server alone, such as ServerJID.
func (j JID) IsServer() bool { return j.User == "" && j.Server != "" }

// Bare is j with device 0: the user whatever the device.
func (j JID) Bare() JID {
	j.Device = 0
	return j
}

// Account is the account number of a partner user as a number, as the login payload carries it (PROTOCOL.md 4.3).
// It is false for any other address.
func (j JID) Account() (uint64, bool) {
	if j.Server != Interop || !isAccount(j.User) {
		return 0, false
	}
	n, err := strconv.ParseUint(j.User, 10, 64)
	return n, err == nil
}

// Parse reads the text form of an address: "{integrator}-{account}@interop", "{user}@{server}",
// "{user}:{device}@{server}" with a device above 0, or one of the servers that may stand alone ("s.whatsapp.net",
// "g.us"). It accepts nothing that String would not print. The result shares memory with text.
func Parse(text string) (JID, error) {
	if len(text) == 0 || len(text) > MaxText {
		return JID{}, errText
	}
	at := strings.IndexByte(text, '@')
	if at < 0 {
		j := JID{Server: Server(text)}
		if !standsAlone(j.Server) {
			return JID{}, errText
		}
		return j, nil
	}
	user, j := text[:at], JID{Server: Server(text[at+1:])}
	if user == "" {
		return JID{}, errUser
	}
	if j.Server == Interop || j.Server == InteropGroup {
		dash := strings.IndexByte(user, '-')
		if dash < 0 {
			return JID{}, errIntegrator
		}
		n, ok := parseNumber(user[:dash], MaxIntegrator)
		if !ok {
			return JID{}, errIntegrator
		}
		j.Integrator, user = n, user[dash+1:]
	}
	if colon := strings.IndexByte(user, ':'); colon >= 0 {
		n, ok := parseNumber(user[colon+1:], 65535)
		if !ok {
			return JID{}, errDevice
		}
		j.Device, user = n, user[:colon]
		if user == "" {
			return JID{}, errUser
		}
	}
	j.User = user
	if err := j.Validate(); err != nil {
		return JID{}, err
	}
	return j, nil
}

// Validate says whether j is an address: whether it can be printed, parsed and coded. The rules by server:
//
//	interop, interop.g.us            integrator 1–999, account 1–15 digits without leading zero, device 0
//	s.whatsapp.net, lid, hosted…     1–20 digits, device 0–255
//	msgr                             1–20 digits, device 0–65535
//	others                           1–64 of A–Z a–z 0–9 . _ + -, device 0; server 1–32 of a–z 0–9 . -
//
// s.whatsapp.net and g.us may have an empty user.
func (j JID) Validate() error {
	switch j.Server {
	case Interop, InteropGroup:
		return j.validatePartner()
	case User, LID, Hosted, HostedLID, Messenger:
		return j.validatePerson()
	}
	switch {
	case !isServer(string(j.Server)):
		return errServer
	case j.Integrator != 0:
		return errIntegrator
	case j.Device != 0:
		return errDevice
	case j.User == "" && standsAlone(j.Server):
		return nil
	case !isName(j.User):
		return errUser
	}
	return nil
}

func (j JID) validatePartner() error {
	switch {
	case j.Integrator == 0 || j.Integrator > MaxIntegrator:
		return errIntegrator
	case !isAccount(j.User):
		return errAccount
	case j.Device != 0:
		return errDevice
	}
	return nil
}

func (j JID) validatePerson() error {
	switch {
	case j.Integrator != 0:
		return errIntegrator
	case j.User == "" && j.Server == User && j.Device == 0:
		return nil
	case len(j.User) > MaxUserDigits || !isDigits(j.User):
		return errUser
	case j.Device > 255 && j.Server != Messenger:
		return errDevice
	}
	return nil
}

// String is the one text form of j. Parse(j.String()) == j for every valid j; the zero value prints as "".
func (j JID) String() string {
	if j.Device == 0 && j.Integrator == 0 {
		if j.User == "" {
			return string(j.Server)
		}
		return j.User + "@" + string(j.Server)
	}
	return string(j.appendText(make([]byte, 0, len(j.User)+len(j.Server)+11), true))
}

// MarshalText implements encoding.TextMarshaler with the text form; an invalid address is an error.
func (j JID) MarshalText() ([]byte, error) {
	if err := j.Validate(); err != nil {
		return nil, err
	}
	return []byte(j.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler with Parse.
func (j *JID) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*j = parsed
	return nil
}

// SignalName is the name part of the Signal protocol address of j: the text form without the device, so that
// integrator and server are always in it (PROTOCOL.md 1.1). The device is the other part.
func (j JID) SignalName() string { return j.Bare().String() }

// SignalAddress is the Signal protocol address of j as one string: SignalName, a dot, and the device in decimal, for
// example "1-10853634039893@interop.0". Different valid addresses have different strings, because the last dot
// always parts off the device.
func (j JID) SignalAddress() string {
	b := j.appendText(make([]byte, 0, len(j.User)+len(j.Server)+12), false)
	b = append(b, '.')
	return string(strconv.AppendUint(b, uint64(j.Device), 10))
}

func (j JID) appendText(b []byte, device bool) []byte {
	if j.Integrator != 0 {
		b = strconv.AppendUint(b, uint64(j.Integrator), 10)
		b = append(b, '-')
	}
	b = append(b, j.User...)
	if device && j.Device != 0 {
		b = append(b, ':')
		b = strconv.AppendUint(b, uint64(j.Device), 10)
	}
	if len(b) > 0 {
		b = append(b, '@')
	}
	return append(b, j.Server...)
}

// parseNumber reads 1 to max in decimal without a leading zero.
func parseNumber(s string, max uint32) (uint16, bool) {
	if len(s) == 0 || len(s) > 5 || s[0] == '0' || !isDigits(s) {
		return 0, false
	}
	var n uint32
	for i := 0; i < len(s); i++ {
		n = n*10 + uint32(s[i]-'0')
	}
	return uint16(n), n <= max
}

func standsAlone(s Server) bool { return s == User || s == Group }

func isAccount(s string) bool {
	return len(s) <= MaxAccountDigits && isDigits(s) && s[0] != '0'
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i]-'0' > 9 {
			return false
		}
	}
	return len(s) > 0
}

func isName(s string) bool {
	if len(s) == 0 || len(s) > MaxUser {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c-'0' > 9 && c|0x20-'a' > 25 && c != '.' && c != '_' && c != '+' && c != '-' {
			return false
		}
	}
	return true
}

func isServer(s string) bool {
	if len(s) == 0 || len(s) > MaxServer || s[0]-'a' > 25 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c-'0' > 9 && c-'a' > 25 && c != '.' && c != '-' {
			return false
		}
	}
	return true
}
