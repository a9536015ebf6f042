// Package e2ee is Signal for one account: long-term keys, prekeys, sessions, encrypting and decrypting (X3DH and the
// double ratchet, message version 3).
//
// Layer: above jid, below interop. It may import jid and go.mau.fi/libsignal, nothing else of ours: no stanzas, no
// database, no Matrix. Storage comes in through Store. The padding of PROTOCOL.md 6.3 is not here.
//
// It implements docs/PROTOCOL.md 6.0 and the Signal part of 6.8, 6.9 and 6.14; what they refer to is Signal's X3DH
// specification (revision 1) and Double Ratchet specification (revision 1).
//
// # What is ours and what is libsignal's
//
// Primitives, key schedule, session states and the building of sessions are libsignal's. The receive step is ours
// (receive.go), and so is the form of the stored session row (record.go). The rules this package keeps:
//
//   - One lock for each address, held over load, use and store, for both directions.
//   - Each attempt to read a message works on a state decoded anew from the stored bytes. Only the state that verified
//     is encoded again; all other states stay the bytes they were.
//   - The MAC is checked over the bytes as received. Nothing in the message is believed before it verified, and no
//     key is stored before it.
//   - Lengths, key types, low-order public keys, and padding are checked here, before or instead of libsignal; a panic in
//     libsignal becomes a *PanicError.
//   - Session, identity, the used prekey and the rows of the caller go into one transaction, Store.Commit. If anything
//     fails, the stored rows are what they were, byte for byte.
//   - libsignal's log goes nowhere, because it is given key material.
//
// # Bounds
//
//   - A message may be at most MaxForwardJump ahead in its chain; beyond that it is ErrTooFarAhead. A chain keeps at
//     most 2,000 keys of skipped messages, the oldest go first; a state keeps the last five receiving chains. These are
//     libsignal's. The official library jumps 25,000 ahead and keeps the same 2,000 keys and five chains.
//   - A session row keeps MaxArchivedStates older states besides the current one (libsignal and the official library:
//     40 too), and fewer, the oldest going first, when the row would exceed MaxSessionBytes.
//   - A message is at most MaxMessageBytes long.
//   - A message that verifies nowhere costs at most one X25519 and MaxForwardJump hashes a state.
//
// # Which state is used to send
//
// The current one. A message read in an archived state makes it the current one only if it began a new ratchet step, that
// is if the peer has used this state since it last heard from us there. A late message, one in a chain we already know, is
// read in its place and leaves the newer session alone. A state under an identity key that has been replaced is never
// made current again, nor is any after EndSession, until a session is begun. When both sides start a session at once, both sessions can be read on both sides, and the first
// answer decides which goes on.
package e2ee

import "postern/connector/jid"

// Limits of this package.
const (
	// MaxMessageBytes bounds a ciphertext in either direction, in bytes.
	MaxMessageBytes = 1 << 20
	// MaxPlaintextBytes bounds what Encrypt takes, in bytes, so that its ciphertext stays below MaxMessageBytes.
	MaxPlaintextBytes = MaxMessageBytes - 1024
	// MaxForwardJump is how many messages of one chain may be missing before a message.
	MaxForwardJump = 2000
	// MaxArchivedStates is how many older session states are kept besides the current one.
	MaxArchivedStates = 40
	// MaxSessionBytes bounds a stored session row, in bytes; archived states beyond it are dropped, the oldest first.
	MaxSessionBytes = 2 << 20
	// MaxKeyID is the highest id of a prekey: ids are three bytes on the wire (PROTOCOL.md 6.0).
	MaxKeyID = 1<<24 - 1
)

// The two kinds of ciphertext, as the attribute `type` of `enc` names them.
const (
	TypePreKey  = "pkmsg" // carries what the receiver needs to build the session
	TypeMessage = "msg"   // within a session both sides know
)

// Sealed is an encrypted message.
type Sealed struct {
	Type string // TypePreKey or TypeMessage
	Body []byte // the ciphertext as it goes on the wire
	// Identity is the identity key of whoever can read it, 32 bytes without the type byte.
	Identity [32]byte
}

// Opened says how a message was read.
type Opened struct {
	// Identity is the sender's identity key under which the MAC verified, 32 bytes without the type byte.
	Identity [32]byte
	// FirstIdentity is true if no identity key of this sender was stored before.
	FirstIdentity bool
	// IdentityChanged is true if this message replaced a stored identity key, PreviousIdentity.
	IdentityChanged  bool
	PreviousIdentity [32]byte
	// Superseded is true if the message was sent under an identity key that has since been replaced: late, or from
	// someone who still has the old key. The stored identity is left as it is.
	Superseded bool
	// NewSession is true if the message began a session.
	NewSession bool
	// UsedPreKey is the id of the one-time prekey the message used up, nil if none.
	UsedPreKey *uint32
}

// Started says what StartSession did.
type Started struct {
	Identity         [32]byte // the identity key now stored
	FirstIdentity    bool     // none was stored before
	IdentityChanged  bool     // PreviousIdentity was replaced
	PreviousIdentity [32]byte
}

// SessionInfo describes the current session with an address.
type SessionInfo struct {
	Exists         bool     // false: Encrypt gives ErrNoSession; all else is zero
	RegistrationID uint32   // of the peer, as its bundle or prekey message said
	BaseKey        [32]byte // the key that began this session; the same as long as the session is the same
	Identity       [32]byte // of the peer
	Unacknowledged bool     // the peer has not answered in this session yet: Encrypt makes pkmsgs
	Archived       int      // how many older states are kept
}

// address is the key under which the rows of a peer are stored.
func address(who jid.JID) string { return who.SignalAddress() }
