package interoptest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"postern/connector/interop"
)

// memLetter is what a row has besides if it is a dead letter, or was one and is waiting again.
type memLetter struct {
	reason string
	at     int64
	deaths int
}

func letterID(key inKey) string { return fmt.Sprintf("in/%s/%d/%s", key.chat, key.class, key.id) }

const outLetter = "out/"

// BuryInbound implements interop.Letters.
func (s *MemStore) BuryInbound(ctx context.Context, row *interop.InRow, reason string, at int64) error {
	return s.write(ctx, func(d *memData) error {
		key := inKey{row.Chat, row.Class, row.ID}
		r, ok := d.in[key]
		if !ok || r.Seq != row.Seq || r.State != interop.InPending && r.State != interop.InHeld {
			return nil
		}
		r.State, r.Receipt = interop.InDead, interop.ReceiptNone
		d.in[key] = r
		d.letters[key] = memLetter{reason, at, d.letters[key].deaths + 1}
		return nil
	})
}

func (d *memData) dead() (list []*interop.Letter) {
	for key, l := range d.letters {
		if r := d.in[key]; r.State == interop.InDead {
			list = append(list, &interop.Letter{
				ID: letterID(key), Chat: key.chat, Reason: l.reason, At: l.at, Tries: l.deaths, Size: int64(len(r.Payload) + len(r.Notify)),
			})
		}
	}
	for _, r := range d.out {
		l, ok := d.failed[r.EventID]
		same := func(m *interop.Letter) bool { return m.ID == outLetter+r.EventID }
		if ok && r.State == interop.PartFailed && !slices.ContainsFunc(list, same) {
			list = append(list, &interop.Letter{
				ID: outLetter + r.EventID, Chat: r.Chat, Outgoing: true, Reason: l.reason, At: l.at, Tries: l.deaths, Size: int64(len(r.Plaintext)),
			})
		}
	}
	slices.SortFunc(list, func(a, b *interop.Letter) int { return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID)) })
	return list
}

// DeadLetters implements interop.Letters.
func (s *MemStore) DeadLetters(ctx context.Context) (list []*interop.Letter, err error) {
	s.read(ctx, func(d *memData) {
		list = d.dead()
	})
	return list, ctx.Err()
}

func (d *memData) letter(id string) (inKey, bool) {
	for key := range d.letters {
		if letterID(key) == id {
			return key, true
		}
	}
	return inKey{}, false
}

// LetterInbound implements interop.Letters.
func (s *MemStore) LetterInbound(ctx context.Context, id string) (row *interop.InRow, err error) {
	s.read(ctx, func(d *memData) {
		if key, ok := d.letter(id); ok {
			row = cloneIn(d.in[key], true)
		}
	})
	return row, ctx.Err()
}

// ReviveInbound implements interop.Letters.
func (s *MemStore) ReviveInbound(ctx context.Context, id string, seq int64) (row *interop.InRow, err error) {
	err = s.write(ctx, func(d *memData) error {
		row = nil
		key, ok := d.letter(id)
		if r := d.in[key]; ok && r.State == interop.InDead {
			r.State, r.Seq, r.Late = interop.InPending, seq, true
			d.in[key] = r
			row = cloneIn(r, true)
		}
		return nil
	})
	return row, err
}

// DropLetter implements interop.Letters.
func (s *MemStore) DropLetter(ctx context.Context, id string) (dropped bool, err error) {
	err = s.write(ctx, func(d *memData) error {
		dropped = d.drop(id)
		return nil
	})
	return dropped, err
}

func (d *memData) drop(id string) bool {
	if event, ok := strings.CutPrefix(id, outLetter); ok {
		_, dropped := d.failed[event]
		delete(d.failed, event)
		for key, r := range d.out {
			if r.EventID == event && r.State == interop.PartFailed {
				r.Plaintext = nil
				d.out[key] = r
			}
		}
		return dropped
	}
	key, ok := d.letter(id)
	r := d.in[key]
	if !ok || r.State != interop.InDead {
		return false
	}
	r.Payload, r.Notify = nil, ""
	d.in[key] = r
	delete(d.letters, key)
	return true
}
