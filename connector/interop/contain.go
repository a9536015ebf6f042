package interop

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"postern/connector/stanza"
)

// maxPanics is how often a stanza is taken in whose handling something panics. What is wrong with the stanza itself comes back
// whenever the gatekeeper sends it again.
const maxPanics = 3

// errPanicked: a panic has ended the handling of a stanza, which was not acked and comes again.
var errPanicked = errors.New("receive: panic")

// panicKey names a stanza from one turn to the next.
type panicKey struct{ kind, from, id string }

// contained is handle for stanzas in whose handling something may panic: they are left to the gatekeeper a few times, and given up
// then (promise 4).
func (b *inbox) contained(ctx context.Context, j job) (code int, err error) {
	key := keyOf(j.s)
	b.mu.Lock()
	before := b.panics[key]
	b.mu.Unlock()
	if before >= maxPanics {
		if b.a.guard("giving up", func() { code, err = b.giveUp(ctx, j.s) }) {
			return 0, errPanicked
		}
		return code, err
	}
	panicked := b.a.guard("stanza", func() { code, err = b.handle(ctx, j) })
	if !panicked && before == 0 {
		return code, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !panicked {
		drop(&b.panics, key)
		return code, err
	}
	if len(b.panics) > 1000 {
		clear(b.panics) // so many are no fault of a stanza's
	}
	put(&b.panics, key, b.panics[key]+1)
	return 0, errPanicked
}

func keyOf(s stanza.Stanza) panicKey {
	switch s := s.(type) {
	case *stanza.Message:
		return panicKey{"message", s.From.String(), s.ID}
	case *stanza.Receipt:
		return panicKey{"receipt " + s.Type, s.From.String(), s.ID}
	case *stanza.Notification:
		return panicKey{"notification", s.From.String(), s.ID}
	case *stanza.Ack:
		return panicKey{"ack", s.From.String(), s.ID}
	}
	return panicKey{}
}

// giveUp acks a stanza that was never handled. Where a message is lost by that, the person is told.
func (b *inbox) giveUp(ctx context.Context, s stanza.Stanza) (code int, err error) {
	a := b.a
	m, ok := s.(*stanza.Message)
	if !ok {
		a.log.Error().Msg("stanza given up: its handling panics")
		return 0, nil
	}
	if !slices.Contains(a.prof.UserServers, m.From.Server) {
		return nackUnknown, nil // as message does: nobody of ours is made of it
	}
	peer, err := a.people.at(ctx, m.From)
	if err != nil {
		return 0, err
	}
	row, err := a.store.Inbound(ctx, peer.Chat, ClassMessage, m.ID)
	if err != nil {
		return 0, err
	}
	hash := sha256.Sum256(m.Enc.Data)
	switch {
	case row == nil:
		row = &InRow{
			Chat: peer.Chat, Class: ClassMessage, ID: m.ID, Hash: hash[:], Kind: KindUndecryptable, State: InPending, Timestamp: m.T,
			Received: time.Now().UnixMilli(), STS: m.STS, Payload: []byte(ReasonFault), Nack: stanza.NackServerError,
		}
		row.Seq = a.mail.place(peer)
		if err = a.store.InsertInbound(ctx, row); err != nil {
			a.mail.drop(peer.Chat, row.Seq, true)
			return 0, err
		}
		a.mail.settle(peer.Chat, row.Seq, row)
	case row.State == InWaiting:
		row.Hash, row.Nack = hash[:], stanza.NackServerError
		if err = a.waits.notice(ctx, row, ReasonFault); err != nil {
			return 0, err
		}
		a.waits.forget(row.Chat, row.ID)
	default:
		return row.Nack, nil // it is stored, as what it is
	}
	a.log.Error().Str("chat", peer.Chat).Msg("message given up: its handling panics")
	return stanza.NackServerError, nil
}
