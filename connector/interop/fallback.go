package interop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/connector/profile"
)

// fallbackID is the stanza id of a part's fall-back.
func (a *Account) fallbackID(eventID string, part int) string {
	return StanzaID(a.cfg.StanzaKey, eventID, part+MaxParts)
}

// partsOf reads the rows of an event: its parts, and behind them the fall-backs that
// were sent in place of some.
func (a *Account) partsOf(ctx context.Context, eventID string, parts int) ([]*OutRow, error) {
	ids := make([]string, parts)
	for i := range ids {
		ids[i] = StanzaID(a.cfg.StanzaKey, eventID, i)
	}
	rows, err := a.store.OutboundParts(ctx, ids)
	if err != nil {
		return nil, err
	}
	ids = ids[:0]
	for _, row := range rows {
		if row.State == PartReplaced {
			ids = append(ids, a.fallbackID(eventID, row.Part))
		}
	}
	if len(ids) == 0 {
		return rows, nil
	}
	more, err := a.store.OutboundParts(ctx, ids)
	return append(rows, more...), err
}

// EventOf returns the Matrix event that a message of ours in a chat was made from; the
// id may be that of a fall-back. found is false for an id that is none of ours, or is
// forgotten (Limits.Memory). Errors are the store's.
func (a *Account) EventOf(ctx context.Context, chat, stanzaID string) (eventID string, found bool, err error) {
	rows, err := a.store.OutboundParts(ctx, []string{stanzaID})
	if err != nil {
		return "", false, fmt.Errorf("event of a message: %w", err)
	}
	if len(rows) == 0 || rows[0].Chat != chat {
		return "", false, nil
	}
	return rows[0].EventID, true, nil
}

// ReplyForm is how replies are to be written: as the profile says, until a phone could
// not read one that had a fall-back; then as quoted text (PROTOCOL.md 6.4), for as long
// as the message is remembered.
func (a *Account) ReplyForm() profile.ReplyForm {
	if a.quotes.Load() {
		return profile.ReplyQuote
	}
	return a.prof.Message.Reply
}

// loadReplyForm remembers what an earlier run has learnt of the phones.
func (a *Account) loadReplyForm(ctx context.Context) error {
	replaced, err := a.store.AnyReplaced(ctx)
	if err == nil && replaced {
		a.quotes.Store(true)
	}
	return err
}

// fallBack queues the fall-back of a part that the phone could not read, behind all
// that the chat has, and makes the part count no more. False if there is none.
func (o *outbox) fallBack(ctx context.Context, nacked *OutRow) (bool, error) {
	a := o.a
	row, err := a.store.OutboundStanza(ctx, nacked.StanzaID)
	switch {
	case err != nil:
		return false, err
	case row == nil || row.State == PartReplaced:
		return true, nil
	case row.Fallback == nil || row.State == PartQueued || row.State >= PartRead:
		return false, nil
	}
	now := time.Now().UnixMilli()
	instead := []*OutRow{{
		Chat: row.Chat, EventID: row.EventID, RoomID: row.RoomID, Part: row.Part + MaxParts, Parts: row.Parts,
		StanzaID: a.fallbackID(row.EventID, row.Part), Type: row.Type, MediaType: row.MediaType, Plaintext: row.Fallback,
		Reported: row.Reported, Created: now, Changed: now,
	}}
	o.place(instead)
	err = a.store.Do(ctx, func(ctx context.Context) error {
		parts, err := a.partsOf(ctx, row.EventID, row.Parts)
		if err != nil {
			return err
		}
		for _, p := range parts {
			if p.State == PartFailed {
				return errStale // the person was told that it failed
			}
		}
		ok, err := a.store.ReplaceOutbound(ctx, row.StanzaID, now)
		if err == nil && !ok {
			err = errStale
		}
		if err != nil {
			return err
		}
		return a.store.InsertOutbound(ctx, instead)
	})
	if errors.Is(err, errStale) {
		o.drop(instead, false)
		return false, nil
	}
	if err != nil {
		o.drop(instead, true)
		return false, err
	}
	a.quotes.Store(true)
	a.log.Info().Str("chat", row.Chat).Msg("a phone could not read a message, its fall-back follows")
	o.finish(row.StanzaID, row.Chat, row.Seq, true)
	o.fill(instead)
	return true, nil
}
