package interop

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Reasons of dead letters that are this package's own; the others are Rejected.Reason, and
// of outgoing ones a Reason.
const (
	// LetterDamaged: what was stored cannot be read from disk.
	LetterDamaged = "damaged"
	// LetterNoTarget: the message that it is about has not come.
	LetterNoTarget = "no_target"
)

// Letter is a dead letter: an item that Matrix refuses for good or that cannot be read from
// disk, or an outgoing event that failed. It is kept for a while, for the operator.
type Letter struct {
	// ID is an opaque local id. An item that dies again has the same one.
	ID, Chat string
	// Outgoing: a Matrix event with failed parts.
	Outgoing bool
	// Reason says why it is dead; it holds no user data.
	Reason string
	// At is when it died last, in Unix milliseconds.
	At int64
	// Tries is how often it died.
	Tries int
	// Size is how many bytes are kept of it.
	Size int64
}

// Letters are the dead letters of one account.
type Letters interface {
	// BuryInbound makes a row that is InPending or InHeld InDead and a dead letter, without
	// receipt, if it still has the sequence number of the one given; else it does nothing.
	// Payload and notify are kept. at is in Unix milliseconds.
	BuryInbound(ctx context.Context, row *InRow, reason string, at int64) error
	// DeadLetters returns all dead letters, the oldest first.
	DeadLetters(ctx context.Context) ([]*Letter, error)
	// LetterInbound returns the row of an incoming dead letter, or of one that is waiting
	// again, with its payload, or Damaged; nil, nil if there is none of this id.
	LetterInbound(ctx context.Context, id string) (*InRow, error)
	// ReviveInbound makes an incoming dead letter InPending and Late, with the sequence
	// number, and returns its row; nil, nil, if there is none of this id.
	ReviveInbound(ctx context.Context, id string, seq int64) (*InRow, error)
	// DropLetter erases the payload of a dead letter, which is none any more. The row stays
	// for dedupe. False if there is none of this id.
	DropLetter(ctx context.Context, id string) (bool, error)
}

// Errors of RetryLetter.
var (
	// ErrNoLetter: the account has no incoming dead letter of this id.
	ErrNoLetter = errors.New("dead letter: unknown")
	// ErrLetterWaiting: it is waiting for its next try already.
	ErrLetterWaiting = errors.New("dead letter: waiting already")
	// ErrLetterDamaged: it cannot be read from disk, so trying again is useless.
	ErrLetterDamaged = errors.New("dead letter: damaged")
)

// bury makes a row a dead letter, within the bounds.
func (a *Account) bury(ctx context.Context, row *InRow, reason string) error {
	now := time.Now()
	pruned := 0
	err := a.store.Do(ctx, func(ctx context.Context) (err error) {
		if err = a.store.BuryInbound(ctx, row, reason, now.UnixMilli()); err != nil {
			return err
		}
		pruned, err = pruneLetters(ctx, a.store, a.limits, a.age())
		return err
	})
	if err == nil {
		a.meter.Incoming(rowContent(row), stateBuried)
		a.meter.Buried(reason)
	}
	if err == nil && pruned > 0 {
		a.log.Warn().Int("count", pruned).Msg("old dead letters were dropped")
	}
	return err
}

// unstored is what Matrix is told of a row that cannot be read from disk.
func (a *Account) unstored(ctx context.Context, row *InRow) (*Inbound, error) {
	lost := *row
	lost.Damaged, lost.Payload, lost.Notify = true, []byte(ReasonUnstored), ""
	if lost.Kind == KindMessage {
		lost.Kind = KindUndecryptable
	}
	return a.inbound(ctx, &lost)
}

// RetryLetter has an incoming dead letter handed to Matrix again: behind all that its chat
// has, and as Late. It is on disk that it is to be tried when this returns nil. It may be
// called whether Run runs or not.
//
// Errors: ErrNoLetter, ErrLetterWaiting, ErrLetterDamaged, or the store's.
func (a *Account) RetryLetter(ctx context.Context, id string) error {
	a.letters.Lock()
	defer a.letters.Unlock()
	row, err := readLetter(ctx, a.store, id)
	if err != nil {
		return err
	}
	if err = a.seq.load(ctx, a.store); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	if !a.loaded {
		return revive(ctx, a.store, id, a.seq.next(1)) // the queue is read by the first Run
	}
	peer, err := a.people.in(ctx, row.Chat)
	if err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	seq := a.mail.place(peer)
	if row, err = a.store.ReviveInbound(ctx, id, seq); err != nil {
		a.mail.drop(peer.Chat, seq, true)
		return fmt.Errorf("retry: %w", err)
	}
	a.mail.settle(peer.Chat, seq, row)
	if row == nil {
		return ErrNoLetter
	}
	return nil
}

// RetryStoredLetter is Account.RetryLetter for a store on which no Account works: the
// letter is handed over when one does.
func RetryStoredLetter(ctx context.Context, store Store, id string) error {
	if _, err := readLetter(ctx, store, id); err != nil {
		return err
	}
	var seq sequence
	if err := seq.load(ctx, store); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	return revive(ctx, store, id, seq.next(1))
}

// readLetter finds a dead letter that can be tried again.
func readLetter(ctx context.Context, store Store, id string) (*InRow, error) {
	row, err := store.LetterInbound(ctx, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("retry: %w", err)
	case row == nil:
		return nil, ErrNoLetter
	case row.State != InDead:
		return nil, ErrLetterWaiting
	case row.Damaged:
		return nil, ErrLetterDamaged
	}
	return row, nil
}

func revive(ctx context.Context, store Store, id string, seq int64) error {
	row, err := store.ReviveInbound(ctx, id, seq)
	if err != nil {
		return fmt.Errorf("retry: %w", err)
	} else if row == nil {
		return ErrNoLetter
	}
	return nil
}
