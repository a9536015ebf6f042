package interop

import (
	"context"
	"errors"
	"sync"
	"time"

	"postern/connector/e2ee"
	"postern/connector/jid"
	"postern/connector/killpoint"
	"postern/connector/stanza"
)

// maxWaitKeys is how many messages may wait for a repetition before retry receipts
// go out without a one-time prekey, so that garbage makes no keys without end.
const maxWaitKeys = 200

// waitKeysEvery is how long each further one-time prekey waits for which one person's messages have
// us make more than maxWaitKeys: whoever repeats one message without end, which is no new one and
// is asked for each time, gets the others.
const waitKeysEvery = 3 * time.Second

// retryVersion is the v of retry (PROTOCOL.md 6.8).
const retryVersion = 1

// waits asks for messages that could not be read to be sent again, and after a
// time tells Matrix that one is missing (PROTOCOL.md 6.8).
type waits struct {
	a     *Account
	lanes lanes

	mu    sync.Mutex
	items map[waitKey]waitItem
	timer *time.Timer
	made  pace // one-time prekeys, for each chat
}

type waitKey struct{ chat, id string }

type waitItem struct {
	from jid.JID
	due  time.Time
}

func newWaits(a *Account) *waits {
	w := &waits{a: a, made: newPace(maxWaitKeys, waitKeysEvery)}
	w.lanes = lanes{a: a, kind: &waitsLanes}
	return w
}

// load takes up what an earlier run was waiting for.
func (w *waits) load(ctx context.Context) error {
	rows, err := w.a.store.WaitingInbound(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		peer, err := w.a.people.in(ctx, row.Chat)
		if err != nil {
			return err
		}
		w.expect(row, peer.JID)
	}
	return nil
}

func (w *waits) start(ctx context.Context) { w.lanes.start(ctx) }

func (w *waits) stop() {
	w.mu.Lock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.lanes.stop()
}

// live looks for what is overdue, now that all the gatekeeper had has come.
func (w *waits) live() { w.lanes.kick("") }

func (w *waits) expect(row *InRow, from jid.JID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	put(&w.items, waitKey{row.Chat, row.ID}, waitItem{from, time.UnixMilli(row.Since).Add(w.a.limits.Resend)})
	w.arm()
}

func (w *waits) forget(chat, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	drop(&w.items, waitKey{chat, id})
}

// arm sets the timer for the first that is due; w.mu is held.
func (w *waits) arm() {
	var first time.Time
	for _, it := range w.items {
		if first.IsZero() || it.due.Before(first) {
			first = it.due
		}
	}
	if w.timer != nil {
		w.timer.Stop()
	}
	if !first.IsZero() {
		w.timer = time.AfterFunc(max(time.Until(first), w.a.limits.RetryMin), func() { w.lanes.kick("") })
	}
}

// work gives up what is overdue. While the stream is not live nothing is: what is
// missing may be in the gatekeeper's queue.
func (w *waits) work(context.Context, string) {
	if !w.a.link.isLive() {
		w.a.attend.want()
		return
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, it := range w.items {
		if !it.due.After(now) {
			w.a.inbox.later(it.from, func(ctx context.Context) { w.giveUp(ctx, key) })
			it.due = now.Add(w.a.limits.RetryMax) // should that fail
			w.items[key] = it
		}
	}
	w.arm()
}

// giveUp turns a row that waited too long into a notice. It runs beside no other
// handling of the same sender.
func (w *waits) giveUp(ctx context.Context, key waitKey) {
	a := w.a
	row, err := a.store.Inbound(ctx, key.chat, ClassMessage, key.id)
	if err == nil && (row == nil || row.State != InWaiting) {
		w.forget(key.chat, key.id)
		return
	}
	if err == nil {
		err = w.notice(ctx, row, ReasonNotResent)
	}
	if err != nil {
		if ctx.Err() == nil {
			a.log.Error().Err(err).Msg("storing a notice failed")
		}
		return
	}
	w.forget(key.chat, key.id)
}

// notice makes a waiting row the notice of a missing message.
func (w *waits) notice(ctx context.Context, row *InRow, reason string) error {
	a := w.a
	peer, err := a.people.in(ctx, row.Chat)
	if err != nil {
		return err
	}
	row.Seq, row.State, row.Kind, row.Payload = a.mail.place(peer), InPending, KindUndecryptable, []byte(reason)
	if err = a.store.UpdateInbound(ctx, row); err != nil {
		a.mail.drop(row.Chat, row.Seq, true)
		return err
	}
	a.mail.settle(row.Chat, row.Seq, row)
	return nil
}

// unreadable stores that a message could not be read and asks for it again, or
// gives up after Message.MaxRetries (PROTOCOL.md 6.8). code is the error of the ack.
func (w *waits) unreadable(ctx context.Context, turn int, in *incoming, reason int) (code int, err error) {
	a, m := w.a, in.m
	now := time.Now().UnixMilli()
	row := in.row
	if row == nil {
		row = &InRow{
			Seq: a.seq.next(1), Chat: in.peer.Chat, Class: ClassMessage, ID: m.ID, Kind: KindUndecryptable, State: InWaiting,
			Timestamp: m.T, Received: now, STS: m.STS, Since: now,
		}
	}
	noticed := row.State != InWaiting // a notice is there, or on its way, and stays
	if row.State == InPending {
		row.Payload = []byte(ReasonNotResent)
	}
	row.Hash = in.hash
	a.log.Info().Int("reason", reason).Int("retries", row.Retries).Msg("message not readable")
	if row.Retries >= a.prof.Message.MaxRetries {
		row.Nack = stanza.NackServerError
		if in.row == nil {
			return row.Nack, errors.New("receive: no retries are allowed")
		}
		if noticed {
			return row.Nack, a.store.UpdateInbound(ctx, row)
		}
		if err = w.notice(ctx, row, ReasonNotResent); err == nil {
			w.forget(row.Chat, row.ID)
		}
		return row.Nack, err
	}
	row.Retries++
	put := a.store.UpdateInbound
	if in.row == nil {
		put = a.store.InsertInbound
	}
	keys, err := w.freshKeys(ctx, row.Chat, func(ctx context.Context) error { return put(ctx, row) })
	if err != nil {
		return 0, err
	}
	if !noticed {
		w.expect(row, m.From)
	}
	killpoint.Hit(killpoint.InWaiting)
	w.send(ctx, turn, m, row, reason, keys)
	return 0, nil
}

// again repeats the retry receipt for a message that came again as it was: the
// receipt, or the ack behind it, was lost.
func (w *waits) again(ctx context.Context, turn int, m *stanza.Message, row *InRow) error {
	keys, err := w.freshKeys(ctx, row.Chat, nil)
	if err != nil {
		return err
	}
	w.expect(row, m.From)
	w.send(ctx, turn, m, row, 0, keys)
	return nil
}

// freshKeys makes a bundle for a chat with a one-time prekey of its own, which is on disk, as
// is what also writes, when it returns.
func (w *waits) freshKeys(ctx context.Context, chat string, also func(ctx context.Context) error) (*stanza.Bundle, error) {
	a := w.a
	w.mu.Lock()
	many := len(w.items) >= maxWaitKeys || w.made.take(chat, time.Now()) > 0
	w.mu.Unlock()
	var keys []e2ee.PreKey
	if !many {
		id, err := a.store.ReservePreKeyIDs(ctx, 1)
		if err != nil {
			return nil, err
		}
		if keys, err = a.cfg.Device.GeneratePreKeys(id, 1); err != nil {
			return nil, err
		}
	}
	signed, err := a.keys.signed(ctx)
	if err != nil {
		return nil, err
	}
	bundle := &stanza.Bundle{
		RegistrationID: a.cfg.Device.RegistrationID, Type: stanza.KeyType, Identity: a.cfg.Device.IdentityPublic,
		Signed: stanza.SignedPreKey{ID: signed.ID, Key: signed.Public, Signature: signed.Signature},
	}
	err = a.store.Do(ctx, func(ctx context.Context) error {
		for i := range keys {
			record := KeyRecord{ID: keys[i].ID, Record: keys[i].Marshal()}
			if err := a.store.PutPreKeys(ctx, []KeyRecord{record}); err != nil {
				return err
			}
			// The gatekeeper never gets it: the receipt hands it to one person.
			if err := a.store.MarkPreKeysUploaded(ctx, []uint32{keys[i].ID}); err != nil {
				return err
			}
		}
		if also == nil {
			return nil
		}
		return also(ctx)
	})
	if err != nil {
		return nil, err
	}
	if len(keys) > 0 {
		bundle.PreKey = &stanza.PreKey{ID: keys[0].ID, Key: keys[0].Public}
	}
	return bundle, nil
}

// send writes the retry receipt. If it cannot be written, neither can the ack after
// it, and the message comes again.
func (w *waits) send(ctx context.Context, turn int, m *stanza.Message, row *InRow, reason int, keys *stanza.Bundle) {
	err := w.a.link.send(ctx, turn, &stanza.Receipt{
		ID: m.ID, To: m.From, Type: stanza.ReceiptRetry, STS: m.STS,
		Retry: &stanza.Retry{
			Count: row.Retries, ID: m.ID, T: m.T, Version: retryVersion, Error: reason,
			RegistrationID: keys.RegistrationID, Keys: keys,
		},
	})
	if err != nil {
		w.a.log.Debug().Err(err).Msg("retry receipt not sent")
		return
	}
	w.a.meter.AskedAgain(true)
}
