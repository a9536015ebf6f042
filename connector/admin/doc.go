// Package admin is the seam between a running bridge and whoever runs it: what can be asked of a bridge (Service), an HTTP handler
// that answers on the private listener, and a client that asks it. Client is a Service itself, so a command does not care whether a
// bridge runs.
//
// Layer: below connector, which serves it; bridge has the commands. It may import nothing of this project. It implements no section
// of docs/PROTOCOL.md.
//
// What passes here is opaque: local ids, counts, times and words of a fixed list. No address, no body, no key. The exceptions are a report that is
// asked for by its id, which is made for whoever runs the bridge, the Matrix IDs and reasons of Suspensions, the Matrix IDs of Users,
// and of Tokens, and of administrators in the audit log. A new token is in one answer. No log line
// has anything of them.
package admin

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"
)

// Bounds of a request.
const (
	// MaxIDs is how many ids one request may name.
	MaxIDs = 500
	// MaxPage is how many letters one request lists.
	MaxPage = 500
	// maxBody is the largest body of a request, in bytes.
	maxBody = 64 << 10
	// maxID is the longest id, in bytes.
	maxID = 64
)

// Service is what can be asked of a bridge, whether it runs or not.
type Service interface {
	// DeadLetters lists dead letters, the oldest first: of an account or, for "", of all; after the first offset, at most
	// limit (1 to MaxPage).
	DeadLetters(ctx context.Context, account string, offset, limit int) ([]DeadLetter, error)
	// RetryDeadLetters has dead letters handed to Matrix again. There is a result for each id, in order. Where something fails on the
	// way, the results are there beside the error all the same: Failed for the id that it failed at, Untried for those behind it.
	RetryDeadLetters(ctx context.Context, ids []string) ([]Result, error)
	// DropDeadLetters erases what is kept of dead letters. Results are as with RetryDeadLetters.
	DropDeadLetters(ctx context.Context, ids []string) ([]Result, error)
	Reports
	Suspensions
	Operator
	Tokens
}

// Directions of a dead letter.
const (
	Incoming = "in"  // to Matrix
	Outgoing = "out" // to the gatekeeper
)

// DeadLetter is something that was given up.
type DeadLetter struct {
	// ID names it for RetryDeadLetters and DropDeadLetters.
	ID string `json:"id"`
	// Account and Chat are opaque local ids.
	Account string `json:"account"`
	Chat    string `json:"chat"`
	// Direction is Incoming or Outgoing.
	Direction string `json:"direction"`
	// Kind is what it is: message, undecryptable and so on; of outgoing ones text, media or reaction.
	Kind string `json:"kind"`
	// Reason says in one word why it was given up, Code is the gatekeeper's number, 0 for none.
	Reason string `json:"reason"`
	Code   int    `json:"code,omitempty"`
	// At is when it was given up last.
	At time.Time `json:"at"`
	// Tries is how often it was given up, Parts of how many parts it is.
	Tries int `json:"tries"`
	Parts int `json:"parts"`
	// Bytes is how much of it is kept, sealed.
	Bytes int64 `json:"bytes"`
	// Retryable: trying it again can help.
	Retryable bool `json:"retryable"`
}

// Outcome is what became of one id.
type Outcome string

// The outcomes.
const (
	Retried Outcome = "retried" // it is handed to Matrix again, late
	Waiting Outcome = "waiting" // it is to be handed to Matrix again already
	Dropped Outcome = "dropped"
	Unknown Outcome = "unknown" // there is no such dead letter (any more)
	Final   Outcome = "final"   // an outgoing event that failed: its sender was told, and nothing replaces failed
	Damaged Outcome = "damaged" // it cannot be read from disk
	Failed  Outcome = "failed"  // it failed, and may have been done all the same
	Untried Outcome = "untried" // it was not tried, since another one had failed
)

// Result is the outcome for one id.
type Result struct {
	ID      string  `json:"id"`
	Outcome Outcome `json:"outcome"`
}

// ErrNotReady is what a Service returns that cannot answer yet: the bridge is starting or stopping.
var ErrNotReady = errors.New("admin: the bridge is starting or stopping, try again in a moment")

// Secret is what a request to the bridge with this master key has to bring. Who can read the key file can make it, nobody else.
func Secret(key []byte) (string, error) {
	secret, err := hkdf.Key(sha256.New, key, nil, "postern admin api", 32)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(secret), nil
}

// ValidID says whether something may be an id: 1 to 64 small letters, digits and hyphens. Ids go into log lines.
func ValidID(id string) bool {
	if len(id) == 0 || len(id) > maxID {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
