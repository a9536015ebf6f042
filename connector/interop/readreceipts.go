package interop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"postern/connector/stanza"
)

// MarkRead says that the person has read a chat up to a message of the other side. Each
// message up to there that Matrix has gets a read receipt, once (PROTOCOL.md 6.6): when
// MarkRead returns nil they are due on disk, and are sent until the gatekeeper has acked
// them. Of a person who wants no read receipts they are noted as read and nothing is
// sent, also not later. An id that is no message of the chat marks nothing. Errors:
// ErrNoChat, ErrStopped, the store's, or the context's.
func (a *Account) MarkRead(ctx context.Context, chat, messageID string) error {
	if a.deleted.Load() {
		return ErrStopped
	}
	if _, err := a.people.in(ctx, chat); err != nil {
		return fmt.Errorf("mark read: %w", err)
	}
	row, err := a.store.Inbound(ctx, chat, ClassMessage, messageID)
	if err != nil {
		return fmt.Errorf("mark read: %w", err)
	}
	if row == nil {
		return nil
	}
	if row.State == InPending {
		// It is in the room already, and its row just about to say so.
		a.receipts.expect(chat)
	}
	state := ReceiptDue
	if err = a.blocks.load(ctx); err != nil {
		return fmt.Errorf("mark read: %w", err)
	}
	if !a.sendsReads() || a.blocks.has(chat) {
		state = ReceiptUnwanted
	}
	for marked := false; ; {
		n, err := a.store.MarkReadInbound(ctx, chat, messageID, state, receiptPage)
		if err != nil {
			return fmt.Errorf("mark read: %w", err)
		}
		marked = marked || n > 0
		if n < receiptPage {
			if marked && state == ReceiptDue {
				a.attend.signed(false)
				a.receipts.read(chat)
			}
			return nil
		}
	}
}

// SetReadReceipts says whether the person wants read receipts from now on, in both
// directions. The gatekeeper learns it at a login, so a stream that is up is made anew.
func (a *Account) SetReadReceipts(on bool) {
	if a.reads.Swap(on) != on {
		a.link.anew()
	}
}

// sendsReads says whether read receipts are sent.
func (a *Account) sendsReads() bool { return a.reads.Load() && a.prof.Features.ReadReceipts }

// read sends the read receipts that are due in a chat. Without a stream they are left on
// disk.
func (r *receipts) read(chat string) {
	if _, _, ok := r.a.link.current(); !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	put(&r.reads, chat, true)
	r.soon(chat)
}

// expect has the read receipts of a chat looked for when its next message is settled.
func (r *receipts) expect(chat string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	put(&r.early, chat, true)
}

// sendReads sends the read receipts that are due in a chat, or in all ("") after a
// login, behind the delivery receipts of the same messages. ok is false if there is no
// stream to send on.
func (r *receipts) sendReads(ctx context.Context, chat string) (ok bool, err error) {
	for after := int64(0); ; {
		rows, err := r.a.store.DueReads(ctx, chat, after, receiptPage)
		if err != nil || len(rows) == 0 {
			return true, err
		}
		after = rows[len(rows)-1].Seq
		slices.SortStableFunc(rows, func(a, b *InRow) int { return cmp.Compare(a.Chat, b.Chat) })
		if !r.a.sendsReads() {
			if err = r.drop(ctx, rows); err != nil {
				return true, err
			}
			continue
		}
		undelivered := slices.DeleteFunc(slices.Clone(rows), func(row *InRow) bool { return row.Receipt != ReceiptDue })
		if !r.sendAll(ctx, stanza.ReceiptDelivered, undelivered) || !r.sendAll(ctx, stanza.ReceiptRead, rows) {
			return false, nil
		}
	}
}

// drop notes that read receipts which were due are not wanted any more.
func (r *receipts) drop(ctx context.Context, rows []*InRow) error {
	return r.a.store.Do(ctx, func(ctx context.Context) error {
		for _, row := range rows {
			if err := r.a.store.SetReads(ctx, row.Chat, []string{row.ID}, ReceiptUnwanted); err != nil {
				return err
			}
		}
		return nil
	})
}

// ErrUnseen is what Upcalls.Deliver returns for a message that is dealt with and shows the
// person nothing. Its sender gets no receipt of any kind: silent messages would tell them
// when we are there (PROTOCOL.md 6.6).
var ErrUnseen = errors.New("deliver: nothing to be seen")

// unseen stores that.
func (a *Account) unseen(ctx context.Context, row *InRow) error {
	return a.store.Do(ctx, func(ctx context.Context) error {
		now, err := a.store.Inbound(ctx, row.Chat, row.Class, row.ID)
		if err != nil || now == nil || now.Seq != row.Seq {
			return err
		}
		a.silence(now)
		return a.store.UpdateInbound(ctx, now)
	})
}
