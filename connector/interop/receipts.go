package interop

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"postern/connector/jid"
	"postern/connector/killpoint"
	"postern/connector/stanza"
)

const (
	// receiptBatch is how many messages one receipt names at most.
	receiptBatch = 50
	// receiptPage is how many due receipts are read at once after a login.
	receiptPage = 200
	// receiptFlush is how long acked receipts wait to be noted on disk together. A
	// crash in between costs a receipt sent twice, which is harmless.
	receiptFlush = time.Second
	// receiptBurst is how often receipts go to one chat without a pause, receiptEvery the
	// pause before each further time: what is due by then goes together.
	receiptBurst = 10
	receiptEvery = 5 * time.Second
)

// receipts sends the delivery receipts of what Matrix has, and the read receipts of what
// the person has read (readreceipts.go), again after each login until the gatekeeper has
// acked them (PROTOCOL.md 6.6). Receipts of one chat and type that are due at the same
// time go out as one, delivery receipts if their messages have the same sts too. They go
// after a random delay (Limits.ReceiptDelay), and to one chat no more often than the pace
// allows: what somebody sends to see when it is received shows them neither when it was,
// nor what else we do. Until then they are due on disk, and keep a stream from resting.
type receipts struct {
	a     *Account
	lanes lanes // a chat sends what is new; "" sends what is on disk

	mu    sync.Mutex
	sweep bool // what is on disk is to be sent
	fresh map[string][]*InRow
	// reads are chats with read receipts to look for on disk, early those in which a
	// message was read before it was settled.
	reads, early map[string]bool
	// wire are those that wait for their ack.
	wire window
	// onWire are all their ids, so that none goes out twice on one stream.
	onWire map[wireKey]bool
	acks   []sentReceipt
	flush  *time.Timer
	// behind says that due receipts were left on disk, since as many are on the wire as may be.
	behind bool
	// waiting are the chats whose receipts wait for their moment, "" for what is on disk.
	waiting map[string]*time.Timer
	pace    pace
}

type sentReceipt struct {
	chat, typ string
	ids       []string
	// at is when it went out, late says that it counts no longer.
	at   time.Time
	late bool
}

// wireKey names the receipt of one type for one message.
type wireKey struct{ chat, typ, id string }

func newReceipts(a *Account) *receipts {
	r := &receipts{
		a: a, pace: newPace(receiptBurst, receiptEvery),
	}
	r.lanes = lanes{a: a, kind: &receiptsLanes}
	return r
}

func (r *receipts) start(ctx context.Context) { r.lanes.start(ctx) }

func (r *receipts) stop() {
	r.mu.Lock()
	if r.flush != nil {
		r.flush.Stop()
	}
	for _, timer := range r.waiting {
		timer.Stop()
	}
	r.wire.stop()
	r.waiting = nil
	r.fresh = nil // on disk
	r.reads = nil
	r.mu.Unlock()
	r.lanes.stop()
}

// live sends on a new stream what earlier ones have left over.
func (r *receipts) live() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wire.clear(time.Now())
	r.onWire = nil
	r.behind = false
	r.soon("")
}

// soon sends what is due in a chat at some moment from now. r.mu is held.
func (r *receipts) soon(chat string) {
	delay := r.a.limits.ReceiptDelay
	if delay < 0 {
		r.kick(chat)
		return
	}
	if r.waiting[chat] == nil {
		put(&r.waiting, chat, time.AfterFunc(rand.N(delay), func() { r.come(chat) }))
	}
}

// come sends it, if the pace allows it now.
func (r *receipts) come(chat string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[chat] == nil {
		return // stopped
	}
	if chat != "" {
		if wait := r.pace.take(chat, time.Now()); wait > 0 {
			r.waiting[chat] = time.AfterFunc(wait+rand.N(r.a.limits.ReceiptDelay), func() { r.come(chat) })
			return
		}
	}
	drop(&r.waiting, chat)
	r.kick(chat)
}

// kick sends what is due in a chat now. r.mu is held.
func (r *receipts) kick(chat string) {
	r.sweep = r.sweep || chat == ""
	r.lanes.kick(chat)
}

// due takes a row whose delivery receipt became due. Without a stream it is left on disk.
func (r *receipts) due(row *InRow) {
	_, _, ok := r.a.link.current()
	small := *row
	small.Payload = nil
	r.mu.Lock()
	if r.early[row.Chat] {
		drop(&r.early, row.Chat)
		if ok {
			put(&r.reads, row.Chat, true)
		}
	}
	if !ok {
		r.mu.Unlock()
		r.a.attend.want()
		return
	}
	if !r.behind {
		put(&r.fresh, row.Chat, append(r.fresh[row.Chat], &small))
	}
	r.soon(row.Chat)
	r.mu.Unlock()
}

func (r *receipts) work(ctx context.Context, chat string) {
	if chat == "" {
		r.note(ctx)
		r.mu.Lock()
		sweep := r.sweep
		r.sweep = false
		r.mu.Unlock()
		if r.catchUp() || sweep {
			r.backlog(ctx)
		}
		return
	}
	for {
		r.mu.Lock()
		rows, reads := r.fresh[chat], r.reads[chat]
		drop(&r.fresh, chat)
		drop(&r.reads, chat)
		r.mu.Unlock()
		if len(rows) == 0 && !reads {
			return
		}
		if !r.sendAll(ctx, stanza.ReceiptDelivered, rows) {
			return
		}
		if !reads {
			continue
		}
		if ok, err := r.sendReads(ctx, chat); err != nil {
			r.later(ctx, err)
			return
		} else if !ok {
			return
		}
	}
}

// backlog sends the due receipts that are on disk and not on the wire, as many as may be.
func (r *receipts) backlog(ctx context.Context) {
	for after := int64(0); ; {
		rows, err := r.a.store.DueReceipts(ctx, after, receiptPage)
		if err != nil {
			r.later(ctx, err)
			return
		}
		if !r.sendAll(ctx, stanza.ReceiptDelivered, rows) {
			return
		}
		if len(rows) == 0 {
			break
		}
		after = rows[len(rows)-1].Seq
	}
	if _, err := r.sendReads(ctx, ""); err != nil {
		r.later(ctx, err)
	}
}

// later begins anew with what is on disk after a while, because it could not be read.
func (r *receipts) later(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	r.a.log.Warn().Err(err).Msg("reading due receipts failed")
	time.AfterFunc(r.a.limits.RetryMax, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.kick("")
	})
}

// sendAll sends receipts of a type for rows; false if there is no stream to send on, or
// as many are on the wire as may be.
// A receipt repeats the sts of its message. A delivery receipt, by which the gatekeeper
// may keep its books, is for messages of one sts only; a read receipt is for what was
// read at once and has the sts of the first.
func (r *receipts) sendAll(ctx context.Context, typ string, rows []*InRow) bool {
	for len(rows) > 0 {
		first, n := rows[0], 1
		for n < len(rows) && n < receiptBatch && rows[n].Chat == first.Chat &&
			(typ == stanza.ReceiptRead || rows[n].STS == first.STS) {
			n++
		}
		if !r.send(ctx, typ, rows[:n]) {
			return false
		}
		rows = rows[n:]
	}
	return true
}

// send sends one receipt for rows of one chat, without those that are on the wire.
func (r *receipts) send(ctx context.Context, typ string, rows []*InRow) bool {
	chat := rows[0].Chat
	peer, err := r.a.people.in(ctx, chat)
	if err != nil {
		r.a.log.Warn().Err(err).Msg("receipt left for later")
		return true
	}
	var ids []string
	var sts string
	r.mu.Lock()
	if r.full() {
		r.mu.Unlock()
		return false
	}
	if r.kept(chat) {
		r.mu.Unlock()
		return true
	}
	for _, row := range rows {
		if key := (wireKey{chat, typ, row.ID}); !r.onWire[key] {
			put(&r.onWire, key, true)
			if len(ids) == 0 {
				sts = row.STS
			}
			ids = append(ids, row.ID)
		}
	}
	if len(ids) > 0 {
		r.onTheWire(sentKey(ids[0], typ, peer.JID), sentReceipt{chat: chat, typ: typ, ids: ids})
	}
	r.mu.Unlock()
	if len(ids) == 0 {
		return true
	}
	err = r.a.link.send(ctx, 0, &stanza.Receipt{ID: ids[0], IDs: ids, To: peer.JID, Type: typ, STS: sts})
	if err != nil {
		// A stream that was ended for lack of need, in this very moment, is needed.
		r.a.attend.want()
		return false
	}
	killpoint.Hit(killpoint.InReceipt)
	return true
}

// sentKey is what the ack of a receipt repeats.
func sentKey(id, typ string, to jid.JID) string { return typ + " " + id + " " + to.Bare().String() }

// acked is called by the reader with the ack of a receipt.
func (r *receipts) acked(ack *stanza.Ack) {
	key := sentKey(ack.ID, ack.Type, ack.From)
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.wire.take(key)
	if !ok {
		return
	}
	r.acks = append(r.acks, s)
	if r.behind && !s.late && r.wire.counted == r.a.limits.Receipts/2 {
		r.lanes.kick("")
	}
	if r.wire.slow[s.chat] {
		drop(&r.wire.slow, s.chat)
		r.kick("") // what its share has left on disk
	}
	if len(r.acks) == 1 {
		r.flush = time.AfterFunc(receiptFlush, func() { r.lanes.kick("") })
	}
}

// note stores which receipts were acked.
func (r *receipts) note(ctx context.Context) {
	r.mu.Lock()
	acks := r.acks
	r.acks = nil
	r.mu.Unlock()
	if len(acks) == 0 {
		return
	}
	err := r.a.store.Do(ctx, func(ctx context.Context) error {
		for _, s := range acks {
			var err error
			if s.typ == stanza.ReceiptRead {
				err = r.a.store.SetReads(ctx, s.chat, s.ids, ReceiptDone)
			} else {
				err = r.a.store.ReceiptsDone(ctx, s.chat, s.ids)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		if ctx.Err() == nil {
			r.a.log.Warn().Err(err).Msg("noting acked receipts failed, they will be sent again")
		}
		return // after the next login, which clears onWire
	}
	// Only now, since what is due is looked up on disk.
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range acks {
		for _, id := range s.ids {
			drop(&r.onWire, wireKey{s.chat, s.typ, id})
		}
		if s.typ == stanza.ReceiptRead {
			continue
		}
		// What was on disk after a login may wait here too.
		rest := slices.DeleteFunc(r.fresh[s.chat], func(row *InRow) bool { return slices.Contains(s.ids, row.ID) })
		if len(rest) == 0 {
			drop(&r.fresh, s.chat)
		} else {
			put(&r.fresh, s.chat, rest)
		}
	}
}
