package interop

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// What Upcalls.Deliver returns for items of a chat that the person has not accepted. The
// gatekeeper's ack is out long before; the sender learns nothing more (PROTOCOL.md 6.6).
var (
	// ErrWithheld: the item is not for Matrix now. It is kept until Release or Discard.
	ErrWithheld = errors.New("deliver: the person has not been asked yet")
	// ErrQuiet: Matrix has the item, and its receipts wait for Release.
	ErrQuiet = errors.New("deliver: the person has not accepted yet")
	// ErrDropped: the item is not for Matrix, and there will be no receipt.
	ErrDropped = errors.New("deliver: not wanted")
)

// undecided says whether an error of Deliver is one of these.
func undecided(err error) bool {
	return errors.Is(err, ErrWithheld) || errors.Is(err, ErrQuiet) || errors.Is(err, ErrDropped)
}

// MaxWithheld is how many items of a chat Release takes up at once, so no more than this
// many should be withheld in one.
const MaxWithheld = 200

// Undecided is what the in-queue keeps of chats that the person has not accepted.
type Undecided interface {
	// WithholdInbound makes a row InWithheld, which keeps its payload, if it is InPending
	// and still has the sequence number of the one given; else it does nothing.
	WithholdInbound(ctx context.Context, row *InRow) error
	// WithheldInbound returns up to limit rows of a chat in state InWithheld in order,
	// with their payload, or Damaged.
	WithheldInbound(ctx context.Context, chat string, limit int) ([]*InRow, error)
	// ResumeInbound makes a row InPending under a sequence number, if it is InWithheld.
	ResumeInbound(ctx context.Context, row *InRow, seq int64) error
	// ReleaseReceipts makes each ReceiptHeld of a chat ReceiptDue, and returns the rows in
	// order, without payload.
	ReleaseReceipts(ctx context.Context, chat string) ([]*InRow, error)
	// DiscardInbound makes the InWithheld rows of a chat InDone without payload, and every
	// ReceiptHeld of it ReceiptNone, with Read ReceiptUnwanted. It says how many rows were
	// InWithheld.
	DiscardInbound(ctx context.Context, chat string) (int, error)
}

// decisions are those of the person that were made while an item may have been on its way
// to Matrix: what its handing over has found out is of no account then.
type decisions struct {
	a *Account

	mu   sync.Mutex // held while a decision, or what follows from none, is stored
	last map[string]decision
}

// decision is the last one on a chat.
type decision struct {
	n        int
	accepted bool
}

// of returns the last decision on a chat.
func (d *decisions) of(chat string) decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last[chat]
}

// errDecided: the person has decided while an item was handed over.
var errDecided = errors.New("deliver: decided meanwhile")

// settle stores what became of an item for which Deliver has returned one of the errors
// above, when the given decision was the last one.
func (d *decisions) settle(ctx context.Context, row *InRow, why error, before decision) (outcome, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, now := d.a, d.last[row.Chat]
	switch {
	case errors.Is(why, ErrQuiet):
		atDelivered()
		receipt := ReceiptNone
		if row.Kind == KindMessage {
			if receipt = ReceiptHeld; now != before && now.accepted {
				receipt = ReceiptDue
			} else if now != before {
				receipt = ReceiptNone
			}
		}
		if err := a.store.FinishInbound(ctx, row, InDone, receipt); err != nil {
			return settled, err
		}
		a.came(row, rowContent(row))
		atFinished()
		if receipt == ReceiptDue {
			a.receipts.due(row)
		}
		return delivered, nil
	case now != before:
		return settled, errDecided // to be handed over again
	case errors.Is(why, ErrWithheld):
		return settled, a.store.WithholdInbound(ctx, row)
	}
	a.meter.Incoming(rowContent(row), stateDropped)
	return settled, a.store.FinishInbound(ctx, row, InDone, ReceiptNone)
}

// Release is for a chat that the person has accepted: receipts that were held back are due,
// and what was withheld is handed over, in order. also joins the transaction. When it
// returns nil all of that is on disk. It may be called whether Run runs or not. Errors:
// ErrNoChat, also's, or the store's.
func (a *Account) Release(ctx context.Context, chat string, also func(ctx context.Context) error) error {
	a.letters.Lock()
	defer a.letters.Unlock()
	d := a.decisions
	d.mu.Lock()
	defer d.mu.Unlock()
	peer, err := a.people.in(ctx, chat)
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	if err = a.seq.load(ctx, a.store); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	rows, err := a.store.WithheldInbound(ctx, chat, MaxWithheld)
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	seqs := make([]int64, len(rows))
	for i := range rows {
		if a.loaded {
			seqs[i] = a.mail.place(peer)
		} else {
			seqs[i] = a.seq.next(1) // the queue is read by the first Run
		}
	}
	var due []*InRow
	err = a.store.Do(ctx, func(ctx context.Context) error {
		if err := also(ctx); err != nil {
			return err
		}
		for i, row := range rows {
			if err := a.store.ResumeInbound(ctx, row, seqs[i]); err != nil {
				return err
			}
		}
		due, err = a.store.ReleaseReceipts(ctx, chat)
		return err
	})
	if err != nil {
		for i := len(seqs) - 1; a.loaded && i >= 0; i-- {
			a.mail.drop(chat, seqs[i], true)
		}
		return fmt.Errorf("release: %w", err)
	}
	put(&d.last, chat, decision{d.last[chat].n + 1, true})
	for i, row := range rows {
		if row.Seq, row.State = seqs[i], InPending; a.loaded {
			a.mail.settle(chat, seqs[i], row)
		}
	}
	for _, row := range due {
		a.receipts.due(row)
	}
	a.receipts.read(chat)
	return nil
}

// Discard is for a chat that the person has declined: what was withheld is forgotten, and
// receipts that were held back will not be sent. also joins the transaction. It says how
// many items were withheld. Errors: also's, or the store's.
func (a *Account) Discard(ctx context.Context, chat string, also func(ctx context.Context) error) (n int, err error) {
	d := a.decisions
	d.mu.Lock()
	defer d.mu.Unlock()
	err = a.store.Do(ctx, func(ctx context.Context) (err error) {
		if err = also(ctx); err == nil {
			n, err = a.store.DiscardInbound(ctx, chat)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("discard: %w", err)
	}
	put(&d.last, chat, decision{d.last[chat].n + 1, false})
	return n, nil
}
