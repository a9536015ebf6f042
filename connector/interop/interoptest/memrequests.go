package interoptest

import (
	"context"

	"postern/connector/interop"
)

// WithholdInbound implements interop.Undecided.
func (s *MemStore) WithholdInbound(ctx context.Context, row *interop.InRow) error {
	return s.changeIn(ctx, func(r *interop.InRow) bool {
		return r.Chat == row.Chat && r.Class == row.Class && r.ID == row.ID && r.Seq == row.Seq && r.State == interop.InPending
	}, func(r *interop.InRow) { r.State = interop.InWithheld })
}

// WithheldInbound implements interop.Undecided.
func (s *MemStore) WithheldInbound(ctx context.Context, chat string, limit int) ([]*interop.InRow, error) {
	return s.listIn(ctx, limit, true, func(r *interop.InRow) bool { return r.Chat == chat && r.State == interop.InWithheld })
}

// ResumeInbound implements interop.Undecided.
func (s *MemStore) ResumeInbound(ctx context.Context, row *interop.InRow, seq int64) error {
	return s.changeIn(ctx, func(r *interop.InRow) bool {
		return r.Chat == row.Chat && r.Class == row.Class && r.ID == row.ID && r.State == interop.InWithheld
	}, func(r *interop.InRow) { r.State, r.Seq = interop.InPending, seq })
}

// ReleaseReceipts implements interop.Undecided.
func (s *MemStore) ReleaseReceipts(ctx context.Context, chat string) (list []*interop.InRow, err error) {
	held := func(r *interop.InRow) bool { return r.Chat == chat && r.Receipt == interop.ReceiptHeld }
	err = s.Do(ctx, func(ctx context.Context) error {
		if list, err = s.listIn(ctx, all, false, held); err != nil {
			return err
		}
		for _, r := range list {
			r.Receipt = interop.ReceiptDue
		}
		return s.changeIn(ctx, held, func(r *interop.InRow) { r.Receipt = interop.ReceiptDue })
	})
	return list, err
}

// DiscardInbound implements interop.Undecided.
func (s *MemStore) DiscardInbound(ctx context.Context, chat string) (n int, err error) {
	err = s.Do(ctx, func(ctx context.Context) error {
		n = 0
		return s.changeIn(ctx, func(r *interop.InRow) bool {
			return r.Chat == chat && (r.State == interop.InWithheld || r.Receipt == interop.ReceiptHeld)
		}, func(r *interop.InRow) {
			if r.State == interop.InWithheld {
				n++
				r.State, r.Payload, r.Notify = interop.InDone, nil, ""
			}
			r.Receipt, r.Read = interop.ReceiptNone, interop.ReceiptUnwanted
		})
	})
	return n, err
}

// changeIn changes the rows that which says.
func (s *MemStore) changeIn(ctx context.Context, which func(r *interop.InRow) bool, change func(r *interop.InRow)) error {
	return s.write(ctx, func(d *memData) error {
		for key, r := range d.in {
			if which(&r) {
				change(&r)
				d.in[key] = r
			}
		}
		return nil
	})
}
