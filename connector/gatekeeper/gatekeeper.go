// Package gatekeeper is the stream of one enlisted account to its gatekeeper: it
// dials, shakes hands, logs in, keeps alive, matches answers to questions, and comes
// back after a failure.
//
// Layer: above noise, binxml, stanza and profile, beneath interop, which gives it a
// Handler. It must not import interop, e2ee, database or Matrix, and it stores
// nothing: what has to outlive a connection is the Handler's.
//
// It implements docs/PROTOCOL.md 4 (the stream), of 4.11 the parts without durable
// meaning: it answers the server's iqs, and never acknowledges a message, receipt or
// notification, which the Handler does after its commit. (One exception: a stanza
// that cannot be parsed has nothing to commit, and is refused here.)
//
// What happens in which state is one table, in table.go; docs/STREAM.md shows it.
package gatekeeper

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// Handler receives what a Stream brings. Its methods are called from the goroutine
// that runs Run, one at a time and in order, so they must not wait for Matrix, nor
// for an answer on the same stream. A panic in one of them is caught: the stream is
// given up and made anew.
type Handler interface {
	// Stanza takes one stanza: *stanza.Success first, then whatever the server sends
	// but for iqs, which are answered or matched by the Stream. A *stanza.StreamError
	// is handed over as well, before its effect, because it may name a stanza whose
	// acknowledgement is owed. The context lives as long as Run's. While Stanza runs,
	// nothing is read; the clocks of unanswered stanzas stand still meanwhile.
	Stanza(ctx context.Context, s stanza.Stanza)
	// State tells each change of state, after it has happened. From Draining on, Send
	// and Request's first half work; what is sent within the call of Draining goes
	// ahead of everything else on that stream.
	State(s State)
}

// Keys is a Noise key pair.
type Keys = noise.KeyPair

// Config is what a Stream needs. Profile, Static, AccountID, Token and Handler must
// be set.
type Config struct {
	// Profile is read only from now on.
	Profile *profile.Profile
	// Static is the Noise key pair that was enlisted.
	Static Keys
	// AccountID is the account number of our JID (PROTOCOL.md 4.3).
	AccountID uint64
	// Token makes a fresh token for a login (PROTOCOL.md 2.4). An error counts as a
	// failure to connect, with backoff.
	Token func(ctx context.Context) (string, error)
	// ReadReceipts is enableReadReceipts of the login.
	ReadReceipts bool
	// Handler receives stanzas and changes of state.
	Handler Handler
	// Log gets no user data, at no level; nil for no log.
	Log *zerolog.Logger

	// ClientAddress is the user's IP address, told to the gatekeeper by PROXY v2 or
	// X-Forwarded-For; the zero value tells nothing (PROTOCOL.md 4.7).
	ClientAddress netip.Addr
	// FindAddress, if not nil, is asked before each attempt and stands in place of
	// ClientAddress. An error counts as a failure to connect, with backoff.
	FindAddress func(ctx context.Context) (netip.Addr, error)
	// Pace, if not nil, holds each attempt back until it is its turn: nothing is done
	// before it returns. Its only error is that of its context.
	Pace func(ctx context.Context) error
	// PreferWebsocket chooses the websocket carrier where the profile has both.
	PreferWebsocket bool
	// Dial opens connections, for both carriers; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is for wss; nil means the system's roots.
	TLS *tls.Config
	// Rand is for the ephemeral key of the handshake; nil means crypto/rand.
	Rand io.Reader
	// Jitter picks a duration from [0, max) for backoff; nil means uniformly at random.
	Jitter func(max time.Duration) time.Duration
}

// Phase is the name of a stream's state.
type Phase uint8

// The phases. PROTOCOL.md 4; table.go has what leads from one to another.
const (
	// Idle: Run has not begun.
	Idle Phase = iota
	// Connecting: a token is made, the carrier dialled, the handshake runs.
	Connecting
	// LoggingIn: the login payload is sent; success or failure is due.
	LoggingIn
	// Draining: logged in; what the server has queued is arriving.
	Draining
	// Live: the queue has arrived (`ib` / `offline`).
	Live
	// Waiting: not connected; the next attempt comes by itself.
	Waiting
	// Stopped: not connected, and Run has returned or is about to.
	Stopped

	phases = int(Stopped) + 1
)

var phaseNames = [phases]string{"idle", "connecting", "logging in", "draining", "live", "waiting", "stopped"}

// String returns the phase in words.
func (p Phase) String() string {
	if int(p) < phases {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// State is one state of a stream, with what is known of why.
type State struct {
	Phase Phase
	// Wait is how long Waiting will last unless Wake cuts it short.
	Wait time.Duration
	// Code is the code of the failure or stream:error that led here, 0 without one.
	Code int
	// Remedy is what that failure or stream:error asks for, and who is to be told.
	Remedy stanza.Remedy
	// Cause is why the last connection ended or could not be made: in Waiting always
	// set, in Stopped set unless Run's context ended. It holds no user data.
	Cause error
}

// StopError is what Run returns when it stops for good: the gatekeeper said
// something that another attempt cannot mend.
type StopError struct {
	// Action says what is to be done: ActionReenlist, ActionReplaced or ActionRefused.
	Action stanza.Action
	// Code is the code of `failure` or `stream:error`; 0 if a child stood in its place.
	Code int
}

// Error returns action and code.
func (e *StopError) Error() string {
	return fmt.Sprintf("gatekeeper: stream stopped: %v (code %d)", e.Action, e.Code)
}

// ClockSkew is how far the two clocks may be apart for tokens and certificates (PROTOCOL.md 2.4, 4.2).
const ClockSkew = noise.CertificateSkew

// Errors of a stream.
var (
	// ErrConfig: the configuration cannot work; the wrapping error says where.
	ErrConfig = errors.New("gatekeeper: bad configuration")
	// ErrRunning: Run was called while it runs.
	ErrRunning = errors.New("gatekeeper: stream is running already")
	// ErrNotConnected: not logged in now, or no longer; nothing, or not all, was sent.
	ErrNotConnected = errors.New("gatekeeper: not connected")
	// ErrInHandler: Request was called from within a Handler method, where its answer
	// could never be read.
	ErrInHandler = errors.New("gatekeeper: request from within the handler")
	// ErrUnanswered: a stanza that the server has to answer was not answered in time,
	// so the stream only looked alive (PROTOCOL.md 4.6).
	ErrUnanswered = errors.New("gatekeeper: no answer in time")
	// ErrLoginTimeout: neither success nor failure came.
	ErrLoginTimeout = errors.New("gatekeeper: login not answered in time")
	// ErrUnexpected: the server sent something else before success or failure.
	ErrUnexpected = errors.New("gatekeeper: stanza before login")
	// ErrFailure: the server sent `failure` or `stream:error`; State has the code.
	ErrFailure = errors.New("gatekeeper: failure sent by the server")
	// ErrPanic: the handler, or the reading of a frame, panicked.
	ErrPanic = errors.New("gatekeeper: panic while serving the stream")
	// ErrClosed: the server ended the stream.
	ErrClosed = errors.New("gatekeeper: closed by the server")
	// ErrMalformed: a frame could not be decoded.
	ErrMalformed = errors.New("gatekeeper: malformed frame")
	// ErrNoAddress is for Config.FindAddress: the address has to be told, and is not known.
	ErrNoAddress = errors.New("gatekeeper: address of the client is not known")
	// ErrRest ends a stream in good order when it is the cause of the end of Run's context
	// (context.WithCancelCause): nothing more is sent, and what the server has sent before
	// it noticed is still read and handed over.
	ErrRest = errors.New("gatekeeper: not needed for now")
	// ErrTokenTooLong: the token exceeds the profile's limit.
	ErrTokenTooLong = errors.New("gatekeeper: token too long")
)
