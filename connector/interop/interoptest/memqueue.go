package interoptest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"postern/connector/interop"
)

func cloneIn(r interop.InRow, payload bool) *interop.InRow {
	r.Hash, r.Payload = bytes.Clone(r.Hash), bytes.Clone(r.Payload)
	if !payload {
		r.Payload, r.Notify = nil, ""
	}
	return &r
}

// Inbound implements interop.InQueue.
func (s *MemStore) Inbound(ctx context.Context, chat string, class interop.Class, id string) (row *interop.InRow, err error) {
	s.read(ctx, func(d *memData) {
		if r, ok := d.in[inKey{chat, class, id}]; ok {
			row = cloneIn(r, false)
		}
	})
	return row, ctx.Err()
}

// InsertInbound implements interop.InQueue.
func (s *MemStore) InsertInbound(ctx context.Context, row *interop.InRow) error {
	return s.write(ctx, func(d *memData) error {
		key := inKey{row.Chat, row.Class, row.ID}
		if _, ok := d.in[key]; ok {
			return fmt.Errorf("insert: %w", interop.ErrExists)
		}
		d.in[key] = *cloneIn(*row, true)
		return nil
	})
}

// UpdateInbound implements interop.InQueue.
func (s *MemStore) UpdateInbound(ctx context.Context, row *interop.InRow) error {
	return s.write(ctx, func(d *memData) error {
		key := inKey{row.Chat, row.Class, row.ID}
		if _, ok := d.in[key]; !ok {
			return fmt.Errorf("update: no such row")
		}
		d.in[key] = *cloneIn(*row, true)
		delete(d.letters, key)
		return nil
	})
}

// FinishInbound implements interop.InQueue.
func (s *MemStore) FinishInbound(ctx context.Context, row *interop.InRow, state interop.InState, receipt interop.ReceiptState) error {
	return s.write(ctx, func(d *memData) error {
		key := inKey{row.Chat, row.Class, row.ID}
		if r, ok := d.in[key]; ok && r.Seq == row.Seq {
			r.State, r.Receipt, r.Payload, r.Notify = state, receipt, nil, ""
			d.in[key] = r
			delete(d.letters, key)
		}
		return nil
	})
}

// listIn returns copies of the rows that want says, in order.
func (s *MemStore) listIn(ctx context.Context, limit int, payload bool, want func(r *interop.InRow) bool) (list []*interop.InRow, err error) {
	s.read(ctx, func(d *memData) {
		for _, r := range d.in {
			if want(&r) {
				list = append(list, cloneIn(r, payload))
			}
		}
	})
	slices.SortFunc(list, func(a, b *interop.InRow) int { return cmp.Compare(a.Seq, b.Seq) })
	return list[:min(len(list), limit)], ctx.Err()
}

const all = 1 << 30

// PendingInbound implements interop.InQueue.
func (s *MemStore) PendingInbound(ctx context.Context, chat string, after int64, limit int) ([]*interop.InRow, error) {
	return s.listIn(ctx, limit, true, func(r *interop.InRow) bool {
		return r.Chat == chat && r.State == interop.InPending && r.Seq > after
	})
}

// HoldInbound implements interop.InQueue.
func (s *MemStore) HoldInbound(ctx context.Context, row *interop.InRow) error {
	return s.write(ctx, func(d *memData) error {
		key := inKey{row.Chat, row.Class, row.ID}
		if r, ok := d.in[key]; ok && r.Seq == row.Seq && r.State == interop.InPending {
			r.State = interop.InHeld
			d.in[key] = r
		}
		return nil
	})
}

// HeldInbound implements interop.InQueue.
func (s *MemStore) HeldInbound(ctx context.Context, chat string, after int64, limit int) ([]*interop.InRow, error) {
	return s.listIn(ctx, limit, true, func(r *interop.InRow) bool {
		return r.Chat == chat && r.State == interop.InHeld && r.Seq > after
	})
}

// AllHeld implements interop.InQueue.
func (s *MemStore) AllHeld(ctx context.Context) ([]*interop.InRow, error) {
	return s.listIn(ctx, all, false, func(r *interop.InRow) bool { return r.State == interop.InHeld })
}

// MarkReadInbound implements interop.InQueue.
func (s *MemStore) MarkReadInbound(ctx context.Context, chat, id string, state interop.ReceiptState, limit int) (n int, err error) {
	err = s.write(ctx, func(d *memData) error {
		target, ok := d.in[inKey{chat, interop.ClassMessage, id}]
		if !ok {
			return nil
		}
		for key, r := range d.in {
			here := r.State == interop.InDone && r.Seq <= target.Seq || r.State == interop.InPending && r.ID == id
			if here && n < limit && key.chat == chat && key.class == interop.ClassMessage && r.Kind == interop.KindMessage && r.Read == interop.ReceiptNone {
				r.Read = state
				d.in[key] = r
				n++
			}
		}
		return nil
	})
	return n, err
}

// DueReads implements interop.InQueue.
func (s *MemStore) DueReads(ctx context.Context, chat string, after int64, limit int) ([]*interop.InRow, error) {
	return s.listIn(ctx, limit, false, func(r *interop.InRow) bool {
		return dueRead(r) && r.Seq > after && (chat == "" || r.Chat == chat)
	})
}

func dueRead(r *interop.InRow) bool {
	return r.Read == interop.ReceiptDue && r.State == interop.InDone && r.Receipt != interop.ReceiptHeld
}

// SetReads implements interop.InQueue.
func (s *MemStore) SetReads(ctx context.Context, chat string, ids []string, state interop.ReceiptState) error {
	return s.write(ctx, func(d *memData) error {
		for _, id := range ids {
			key := inKey{chat, interop.ClassMessage, id}
			if r, ok := d.in[key]; ok && r.Read == interop.ReceiptDue {
				r.Read = state
				d.in[key] = r
			}
		}
		return nil
	})
}

// InboundBacklog implements interop.InQueue.
func (s *MemStore) InboundBacklog(ctx context.Context) (map[string]int, error) {
	rows, err := s.listIn(ctx, all, false, func(r *interop.InRow) bool { return r.State == interop.InPending })
	counts := make(map[string]int)
	for _, r := range rows {
		counts[r.Chat]++
	}
	return counts, err
}

// WaitingInbound implements interop.InQueue.
func (s *MemStore) WaitingInbound(ctx context.Context) ([]*interop.InRow, error) {
	return s.listIn(ctx, all, false, func(r *interop.InRow) bool { return r.State == interop.InWaiting })
}

// DueReceipts implements interop.InQueue.
func (s *MemStore) DueReceipts(ctx context.Context, after int64, limit int) ([]*interop.InRow, error) {
	return s.listIn(ctx, limit, false, func(r *interop.InRow) bool { return r.Receipt == interop.ReceiptDue && r.Seq > after })
}

// ReceiptsDone implements interop.InQueue.
func (s *MemStore) ReceiptsDone(ctx context.Context, chat string, ids []string) error {
	return s.write(ctx, func(d *memData) error {
		for _, id := range ids {
			key := inKey{chat, interop.ClassMessage, id}
			if r, ok := d.in[key]; ok && r.Receipt == interop.ReceiptDue {
				r.Receipt = interop.ReceiptDone
				d.in[key] = r
			}
		}
		return nil
	})
}

// PruneInbound implements interop.InQueue.
func (s *MemStore) PruneInbound(ctx context.Context, before int64, limit int) (n int, err error) {
	err = s.write(ctx, func(d *memData) error {
		for key, r := range d.in {
			_, letter := d.letters[key]
			finished := (r.State == interop.InDone || r.State == interop.InDead && !letter) && r.Receipt != interop.ReceiptDue && !dueRead(&r)
			if finished && r.Received < before && n < limit {
				delete(d.in, key)
				n++
			}
		}
		return nil
	})
	return n, err
}

func cloneOut(r interop.OutRow, complete bool) *interop.OutRow {
	r.Recipe, r.Plaintext, r.Fallback, r.Stanza = bytes.Clone(r.Recipe), bytes.Clone(r.Plaintext), bytes.Clone(r.Fallback), bytes.Clone(r.Stanza)
	if !complete {
		r.Recipe, r.Plaintext, r.Fallback, r.Stanza = nil, nil, nil, nil
	}
	if r.Retry != nil {
		req := *r.Retry
		r.Retry = &req
	}
	return &r
}

// InsertOutbound implements interop.OutQueue.
func (s *MemStore) InsertOutbound(ctx context.Context, rows []*interop.OutRow) error {
	return s.write(ctx, func(d *memData) error {
		for _, r := range rows {
			if _, ok := d.out[r.StanzaID]; ok {
				return fmt.Errorf("insert: %w", interop.ErrExists)
			}
			d.out[r.StanzaID] = *cloneOut(*r, true)
		}
		return nil
	})
}

// OutboundParts implements interop.OutQueue.
func (s *MemStore) OutboundParts(ctx context.Context, stanzaIDs []string) (list []*interop.OutRow, err error) {
	s.read(ctx, func(d *memData) {
		for _, id := range stanzaIDs {
			if r, ok := d.out[id]; ok {
				list = append(list, cloneOut(r, false))
			}
		}
	})
	return list, ctx.Err()
}

// OutboundStanza implements interop.OutQueue.
func (s *MemStore) OutboundStanza(ctx context.Context, stanzaID string) (row *interop.OutRow, err error) {
	s.read(ctx, func(d *memData) {
		if r, ok := d.out[stanzaID]; ok {
			row = cloneOut(r, true)
		}
	})
	return row, ctx.Err()
}

// change runs fn on a row and stores it if fn says so.
func (s *MemStore) change(ctx context.Context, stanzaID string, fn func(d *memData, r *interop.OutRow) bool) (changed bool, err error) {
	err = s.write(ctx, func(d *memData) error {
		r, ok := d.out[stanzaID]
		if !ok {
			return nil
		}
		if changed = fn(d, &r); changed {
			d.out[stanzaID] = r
		}
		return nil
	})
	return changed, err
}

// SetPrepared implements interop.OutQueue.
func (s *MemStore) SetPrepared(ctx context.Context, stanzaID string, p *interop.Prepared, now int64) (bool, error) {
	return s.change(ctx, stanzaID, func(_ *memData, r *interop.OutRow) bool {
		if r.State != interop.PartQueued || r.Recipe == nil {
			return false
		}
		r.Recipe, r.Plaintext, r.Fallback, r.Changed = nil, bytes.Clone(p.Plaintext), bytes.Clone(p.Fallback), now
		r.Type, r.MediaType = p.Type, p.MediaType
		return true
	})
}

// ReplaceOutbound implements interop.OutQueue.
func (s *MemStore) ReplaceOutbound(ctx context.Context, stanzaID string, now int64) (bool, error) {
	return s.change(ctx, stanzaID, func(_ *memData, r *interop.OutRow) bool {
		if r.State == interop.PartQueued || r.State >= interop.PartRead {
			return false
		}
		r.State, r.Changed = interop.PartReplaced, now
		r.Recipe, r.Plaintext, r.Fallback, r.Stanza, r.Retry = nil, nil, nil, nil, nil
		return true
	})
}

// AnyReplaced implements interop.OutQueue.
func (s *MemStore) AnyReplaced(ctx context.Context) (bool, error) {
	rows, err := s.listOut(ctx, 1, false, func(_ *memData, r *interop.OutRow) bool { return r.State == interop.PartReplaced })
	return len(rows) > 0, err
}

// SetStanza implements interop.OutQueue.
func (s *MemStore) SetStanza(ctx context.Context, stanzaID string, stanza []byte, now int64) (bool, error) {
	return s.change(ctx, stanzaID, func(_ *memData, r *interop.OutRow) bool {
		if r.State != interop.PartQueued {
			return false
		}
		r.State, r.Stanza, r.Changed = interop.PartEncrypted, bytes.Clone(stanza), now
		return true
	})
}

// AdvanceOutbound implements interop.OutQueue.
func (s *MemStore) AdvanceOutbound(ctx context.Context, stanzaID string, state interop.PartState, now int64) (forward bool, err error) {
	_, err = s.change(ctx, stanzaID, func(d *memData, r *interop.OutRow) bool {
		r.Stanza = nil
		if forward = r.State < state; forward {
			r.State, r.Changed, d.due[stanzaID] = state, now, true
		}
		return true
	})
	return forward, err
}

// FailOutbound implements interop.OutQueue.
func (s *MemStore) FailOutbound(ctx context.Context, stanzaID string, reason interop.Reason, code int, now int64) (bool, error) {
	return s.change(ctx, stanzaID, func(d *memData, r *interop.OutRow) bool {
		if r.State >= interop.PartRead {
			return false
		}
		r.State, r.Reason, r.Code, r.Changed, d.due[stanzaID] = interop.PartFailed, reason, code, now, true
		d.failed[r.EventID] = memLetter{reason: string(reason), at: now, deaths: 1}
		r.Recipe, r.Fallback, r.Stanza, r.Retry = nil, nil, nil, nil
		return true
	})
}

// SetRetry implements interop.OutQueue.
func (s *MemStore) SetRetry(ctx context.Context, stanzaID string, req *interop.RetryRequest, fingerprint string) error {
	_, err := s.change(ctx, stanzaID, func(_ *memData, r *interop.OutRow) bool {
		if r.State >= interop.PartReplaced {
			return false
		}
		c := *req
		r.Retry, r.RetryLast = &c, fingerprint
		return true
	})
	return err
}

// SetAnswer implements interop.OutQueue.
func (s *MemStore) SetAnswer(ctx context.Context, stanzaID string, stanza []byte) (bool, error) {
	return s.change(ctx, stanzaID, func(_ *memData, r *interop.OutRow) bool {
		if r.State >= interop.PartReplaced {
			return false
		}
		r.Retry = nil
		if stanza != nil {
			r.Stanza = bytes.Clone(stanza)
			r.Answers++
		}
		return true
	})
}

func (s *MemStore) listOut(ctx context.Context, limit int, complete bool, want func(d *memData, r *interop.OutRow) bool) (list []*interop.OutRow, err error) {
	s.read(ctx, func(d *memData) {
		for _, r := range d.out {
			if want(d, &r) {
				list = append(list, cloneOut(r, complete))
			}
		}
	})
	slices.SortFunc(list, func(a, b *interop.OutRow) int { return cmp.Compare(a.Seq, b.Seq) })
	return list[:min(len(list), limit)], ctx.Err()
}

func pendingOut(r *interop.OutRow) bool { return r.State < interop.PartSent && r.Retry == nil }

func resendOut(r *interop.OutRow) bool {
	return r.Retry != nil || r.Stanza != nil && r.State >= interop.PartSent
}

// PendingOutbound implements interop.OutQueue.
func (s *MemStore) PendingOutbound(ctx context.Context, chat string, after int64, limit int) ([]*interop.OutRow, error) {
	return s.listOut(ctx, limit, true, func(_ *memData, r *interop.OutRow) bool {
		return r.Chat == chat && r.Seq > after && pendingOut(r)
	})
}

// ResendsOutbound implements interop.OutQueue.
func (s *MemStore) ResendsOutbound(ctx context.Context, chat string, limit int) ([]*interop.OutRow, error) {
	return s.listOut(ctx, limit, true, func(_ *memData, r *interop.OutRow) bool { return r.Chat == chat && resendOut(r) })
}

// OutboundChats implements interop.OutQueue.
func (s *MemStore) OutboundChats(ctx context.Context) (chats []string, err error) {
	rows, err := s.listOut(ctx, all, false, func(_ *memData, r *interop.OutRow) bool { return pendingOut(r) || resendOut(r) })
	for _, r := range rows {
		if !slices.Contains(chats, r.Chat) {
			chats = append(chats, r.Chat)
		}
	}
	return chats, err
}

// DueStatuses implements interop.OutQueue.
func (s *MemStore) DueStatuses(ctx context.Context, after int64, limit int) ([]*interop.OutRow, error) {
	return s.listOut(ctx, limit, false, func(d *memData, r *interop.OutRow) bool { return d.due[r.StanzaID] && r.Seq > after })
}

// SetReported implements interop.OutQueue.
func (s *MemStore) SetReported(ctx context.Context, parts []*interop.OutRow, state interop.OutState) error {
	return s.Do(ctx, func(ctx context.Context) error {
		for _, p := range parts {
			_, err := s.change(ctx, p.StanzaID, func(d *memData, r *interop.OutRow) bool {
				r.Reported = state
				if r.State == p.State {
					delete(d.due, p.StanzaID)
				}
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// PruneOutbound implements interop.OutQueue.
func (s *MemStore) PruneOutbound(ctx context.Context, window int64, keep int, cut int64, limit int) (n int, err error) {
	rows, err := s.listOut(ctx, all, true, func(_ *memData, r *interop.OutRow) bool { return r.Plaintext != nil })
	if err != nil {
		return 0, err
	}
	border := int64(0)
	if len(rows) > keep {
		border = rows[len(rows)-keep-1].Seq
	}
	err = s.write(ctx, func(d *memData) error {
		erased, deleted := 0, 0
		for id, r := range d.out {
			if pendingOut(&r) || resendOut(&r) {
				continue
			}
			if r.Plaintext != nil && (r.Created < window || r.Seq <= border) && erased < limit {
				r.Plaintext, r.Fallback = nil, nil
				d.out[id] = r
				erased++
			}
			if r.Created < cut && !d.due[id] && deleted < limit {
				delete(d.out, id)
				deleted++
			}
		}
		n = erased + deleted
		return nil
	})
	return n, err
}
