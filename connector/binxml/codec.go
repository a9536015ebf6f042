package binxml

import "errors"

// Dialect is the form of a partner user's address on the wire (PROTOCOL.md 1.2). It is set for each direction,
// because a reader cannot tell the two 245 forms apart.
type Dialect uint8

// The dialects, in words: user, then
const (
	// Dialect245WithServer is token 245, device, integrator and the server string; the default.
	Dialect245WithServer Dialect = iota
	// Dialect245Bare is the same without the server string.
	Dialect245Bare
	// Dialect244DomainByte is token 244, device, integrator and a domain byte: 0 user, 2 group.
	Dialect244DomainByte
)

// String is the dialect's name as PROTOCOL.md 1.2 and the sandbox's /v1/info spell it.
func (d Dialect) String() string {
	switch d {
	case Dialect245Bare:
		return "245-bare"
	case Dialect244DomainByte:
		return "244-domain-byte"
	}
	return "245-with-server"
}

// ParseDialect is the reverse of Dialect.String; it is false for an unknown name.
func ParseDialect(name string) (Dialect, bool) {
	for _, d := range []Dialect{Dialect245WithServer, Dialect245Bare, Dialect244DomainByte} {
		if d.String() == name {
			return d, true
		}
	}
	return 0, false
}

// Limits bound one frame, read or written. A field of 0 means the value of DefaultLimits.
type Limits struct {
	// MaxBytes is the greatest length of the node's coding in bytes, after inflation and without the flag byte.
	MaxBytes int
	// MaxRatio is how many times the compressed length the inflated one may be, beyond 64 KiB which are always allowed.
	MaxRatio int
	// MaxDepth is how many elements may be inside one another, the outermost counted. 1 is an element alone.
	MaxDepth int
	// MaxChildren is the greatest number of children of one element.
	MaxChildren int
	// MaxAttrs is the greatest number of attributes of one element.
	MaxAttrs int
}

// DefaultLimits are those of PROTOCOL.md 4.8, and ours where it gives none.
var DefaultLimits = Limits{MaxBytes: 1 << 20, MaxRatio: 100, MaxDepth: 32, MaxChildren: 4096, MaxAttrs: 64}

func (l Limits) orDefault() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultLimits.MaxBytes
	}
	if l.MaxRatio <= 0 {
		l.MaxRatio = DefaultLimits.MaxRatio
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultLimits.MaxDepth
	}
	if l.MaxChildren <= 0 {
		l.MaxChildren = DefaultLimits.MaxChildren
	}
	if l.MaxAttrs <= 0 {
		l.MaxAttrs = DefaultLimits.MaxAttrs
	}
	return l
}

// Codec reads and writes frames. The zero value is ready for use; a Codec may be used by several goroutines.
type Codec struct {
	// Read is the dialect of the addresses that arrive, Write of those we write.
	Read, Write Dialect
	Limits      Limits
}

// What the errors of this package wrap. None of them ever contains any of the content.
var (
	// ErrSyntax: the bytes are not one well-formed element (PROTOCOL.md 4.9: ends the stream).
	ErrSyntax = errors.New("malformed frame")
	// ErrLimit: a limit is exceeded (PROTOCOL.md 4.8: ends the stream).
	ErrLimit = errors.New("frame exceeds a limit")
	// ErrNode: a node handed in for writing is not a valid element, a fault of the caller.
	ErrNode = errors.New("invalid node")
)

// SyntaxError says what is wrong with a frame and where. It wraps ErrSyntax.
type SyntaxError struct {
	// Offset is the position in bytes in the (inflated) coding, behind the flag byte.
	Offset int
	// Reason is a fixed text, never content.
	Reason string
}

// Error implements error.
func (e *SyntaxError) Error() string { return "decode frame: " + e.Reason }

// Unwrap makes errors.Is(err, ErrSyntax) true.
func (e *SyntaxError) Unwrap() error { return ErrSyntax }

// LimitError says which limit a frame or node exceeds. It wraps ErrLimit.
type LimitError struct {
	// What names the limit: "bytes", "ratio", "depth", "children", "attributes" or "memory".
	What string
}

// Error implements error.
func (e *LimitError) Error() string { return "code frame: too much: " + e.What }

// Unwrap makes errors.Is(err, ErrLimit) true.
func (e *LimitError) Unwrap() error { return ErrLimit }

// NodeError says why a node cannot be written. It wraps ErrNode.
type NodeError struct {
	// Reason is a fixed text, never content.
	Reason string
}

// Error implements error.
func (e *NodeError) Error() string { return "encode frame: " + e.Reason }

// Unwrap makes errors.Is(err, ErrNode) true.
func (e *NodeError) Unwrap() error { return ErrNode }

const (
	flagCompressed = 0x02

	tagListEmpty   = 0
	tagDictionary0 = 236
	tagDictionary3 = 239
	tagInteropByte = 244
	tagInterop     = 245
	tagMessenger   = 246
	tagADJID       = 247
	tagList8       = 248
	tagList16      = 249
	tagPair        = 250
	tagHex         = 251
	tagBinary8     = 252
	tagBinary20    = 253
	tagBinary32    = 254
	tagNibble      = 255

	packedMax = 127

	agentUser      = 0
	agentLID       = 1
	agentHosted    = 128
	agentHostedLID = 129

	domainUser  = 0
	domainGroup = 2
)
