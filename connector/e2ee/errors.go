package e2ee

import (
	"errors"
	"fmt"
)

// Error is a failure with a reason a peer can be told. The sentinels of this package are Errors; what the methods return
// wraps one of them. No text contains anything of a message, a key or an address.
type Error struct {
	what   string
	reason int
}

// Error implements error.
func (e *Error) Error() string { return e.what }

// RetryReason is the number for `retry error=` (PROTOCOL.md 6.8).
func (e *Error) RetryReason() int { return e.reason }

// The reasons of a failure. The number behind each is its RetryReason.
var (
	// ErrDuplicate: the counter has been used in its chain and its key is gone (9). It is reported without a MAC check,
	// since there is no key to check with: whether it is a repetition is for the caller to know (PROTOCOL.md 6.2).
	ErrDuplicate = &Error{"message counter used before", 9}
	// ErrNoSession: there is no session with this address (1).
	ErrNoSession = &Error{"no session", 1}
	// ErrInvalidKey: a public key of the wrong type or length, or of low order (2).
	ErrInvalidKey = &Error{"invalid public key", 2}
	// ErrNoPreKey: the one-time or signed prekey the message names is not there, or no longer (3).
	ErrNoPreKey = &Error{"prekey not found", 3}
	// ErrMalformed: framing, version, lengths or padding of the message are wrong (4).
	ErrMalformed = &Error{"malformed message", 4}
	// ErrSignature: the signature of a bundle's signed prekey is wrong (5).
	ErrSignature = &Error{"invalid signed prekey signature", 5}
	// ErrTooFarAhead: more than MaxForwardJump messages are missing before this one (6).
	ErrTooFarAhead = &Error{"message too far ahead", 6}
	// ErrBadMAC: the message verifies in no state of the session (7).
	ErrBadMAC = &Error{"message does not verify", 7}
	// ErrCorruptSession: the stored session cannot be read (8).
	ErrCorruptSession = &Error{"stored session unreadable", 8}
	// ErrUntrusted: the current session's identity key is not the stored one (0). Start a new session.
	ErrUntrusted = &Error{"session identity is not the stored one", 0}
	// ErrTooLarge: longer than MaxMessageBytes or MaxPlaintextBytes (4).
	ErrTooLarge = &Error{"message too large", 4}
	// ErrExhausted: the sending chain is at its end (0). Start a new session.
	ErrExhausted = &Error{"sending chain exhausted", 0}
	// ErrPreKeyGone is what Store.Commit returns, and Decrypt passes on, if the used prekey was not there any more at the
	// time of the commit: another message took it first (3).
	ErrPreKeyGone = &Error{"prekey already used", 3}
	// ErrKeyStored: a stored long-term or prekey cannot be read (0).
	ErrKeyStored = &Error{"stored key unreadable", 0}
	// ErrLibrary: libsignal failed in a way that has no other name here (0).
	ErrLibrary = &Error{"signal library failed", 0}
)

// PanicError is a panic of libsignal, caught (reason 0). The panic's value is not kept, because it may show parts of the
// input; Where is the place.
type PanicError struct {
	Where string // function and line
}

// Error implements error.
func (e *PanicError) Error() string { return "signal library panicked in " + e.Where }

// Unwrap makes errors.Is(err, ErrLibrary) true.
func (e *PanicError) Unwrap() error { return ErrLibrary }

// RetryReason is the number for `retry error=` that goes with err: that of the Error it wraps, or 0 if there is none.
func RetryReason(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.reason
	}
	return 0
}

// failed puts the name of the operation before err.
func failed(operation string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", operation, err)
}
