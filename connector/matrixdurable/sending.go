package matrixdurable

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"sync"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// MarkerKey is the content key under which every event the bridge sends carries
// its own identity. In an encrypted event it stands outside the ciphertext, where the
// homeserver sees it: its value is a hash and says nothing about the message.
const MarkerKey = "eu.postern.id"

// Sending goes with a context and tells Transport what the events sent under it are, so that
// the same thing sent again is known as the same.
type Sending struct {
	// Parts are the identities of the events that will be sent, in order.
	Parts []string
	// Uncertain says that an earlier attempt may have reached the homeserver: the room is
	// searched before anything is sent.
	Uncertain bool
	// Settled says whether an event id is known to be of something sent earlier and complete; the search in the room
	// ends there. Nil: the search ends after a number of events.
	Settled func(ctx context.Context, event id.EventID) bool

	mu       sync.Mutex
	assigned map[string]int // the framework's transaction id -> index in Parts
	next     int
	refused  bool // a part was not accepted
	found    map[string]id.EventID
}

type sendingKey struct{}

// WithSending returns a context under which requests through Transport are what s says. The client does not repeat them by
// itself: its pauses are long, and whoever sends under a Sending tries again anyway.
func WithSending(ctx context.Context, s *Sending) context.Context {
	ctx = context.WithValue(ctx, mautrix.MaxAttemptsContextKey, 1)
	return context.WithValue(ctx, sendingKey{}, s)
}

// SendingFrom returns what WithSending has put into the context, nil if nothing.
func SendingFrom(ctx context.Context) *Sending {
	s, _ := ctx.Value(sendingKey{}).(*Sending)
	return s
}

// Identity derives the identity of something sent from what it stands for: the same
// strings give the same identity, 32 characters of A–Z and 2–7.
func Identity(of ...string) string {
	h := sha256.New()
	var n [8]byte
	for _, s := range of {
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	return base32.StdEncoding.EncodeToString(h.Sum(nil)[:20])
}

// errOutOfOrder keeps a later part from being sent when an earlier one was not accepted: the framework would
// send it, and the repetition would put the earlier one behind it.
var errOutOfOrder = errors.New("matrixdurable: send: an earlier part was not accepted")

// part returns the identity for a request with the framework's transaction id. A
// request that the client repeats keeps its own. ok is false for a request beyond the announced parts.
func (s *Sending) part(txn string) (identity string, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, known := s.assigned[txn]; known {
		s.refused = false // the client tries again by itself
		return s.Parts[i], true, nil
	}
	if s.refused {
		return "", false, errOutOfOrder
	}
	if s.next >= len(s.Parts) {
		return "", false, nil
	}
	if s.assigned == nil {
		s.assigned = map[string]int{}
	}
	s.assigned[txn] = s.next
	s.next++
	return s.Parts[s.next-1], true, nil
}

// uncertain says whether the room has to be searched first.
func (s *Sending) uncertain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Uncertain
}

// settle notes what a request has led to.
func (s *Sending) settle(accepted, certain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !accepted {
		s.refused = true
	}
	if !certain {
		s.Uncertain = true
		s.found = nil // what a search found before is out of date
	}
}

func (s *Sending) foundParts() map[string]id.EventID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.found
}

func (s *Sending) setFound(found map[string]id.EventID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = found
}
