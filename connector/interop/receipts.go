package interop

import (
	"context"
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
)

// receipts sends the delivery receipts of what Matrix has, and the read receipts of what
// the person has read (readreceipts.go), again after each login until the gatekeeper has
// acked them (PROTOCOL.md 6.6). Receipts of one chat and type that are due at the same
// time go out as one, delivery receipts if their messages have the same sts too.
type receipts struct {
	a     *Account
	lanes lanes // a chat sends what is new; "" sends what is on disk

	mu    sync.Mutex
	turn  int
	fresh map[string][]*InRow
	// reads are chats with read receipts to look for on disk, early those in which a
	// message was read before it was settled.
	reads, early map[string]bool
	// sent are those on the wire, by the id that the ack will have.
	sent map[string]sentReceipt
	// onWire are all ids of sent, so that none goes out twice in a turn.
	onWire map[wireKey]bool
	acks   []sentReceipt
	flush  *time.Timer
	// behind says that due receipts were left on disk, since as many are on the wire as may be.
	behind bool
}

type sentReceipt struct {
	chat, typ string
	ids       []string
}

// wireKey names the receipt of one type for one message.
type wireKey struct{ chat, typ, id string }

func newReceipts(a *Account) *receipts {
	r := &receipts{
		a: a, fresh: make(map[string][]*InRow), reads: make(map[string]bool), early: make(map[string]bool),
		sent: make(map[string]sentReceipt), onWire: make(map[wireKey]bool),
	}
	r.lanes = a.lanes("receipts", r.work)
	return r
}

func (r *receipts) start(ctx context.Context) { r.lanes.start(ctx) }

func (r *receipts) stop() {
	r.mu.Lock()
	if r.flush != nil {
		r.flush.Stop()
	}
	r.mu.Unlock()
	r.lanes.stop()
}

// live sends what earlier turns have left over.
func (r *receipts) live() { r.lanes.kick("") }

// due takes a row whose delivery receipt became due. Without a stream it is left on disk.
func (r *receipts) due(row *InRow) {
	_, _, ok := r.a.link.current()
	small := *row
	small.Payload = nil
	r.mu.Lock()
	if r.early[row.Chat] {
		delete(r.early, row.Chat)
		if ok {
			r.reads[row.Chat] = true
		}
	}
	if !ok {
		r.mu.Unlock()
		r.a.attend.want()
		return
	}
	if !r.behind {
		r.fresh[row.Chat] = append(r.fresh[row.Chat], &small)
	}
	r.mu.Unlock()
	r.lanes.kick(row.Chat)
}

func (r *receipts) work(ctx context.Context, chat string) {
	if chat == "" {
		r.backlog(ctx)
		r.note(ctx)
		if r.catchUp() {
			r.rest(ctx)
		}
		return
	}
	for {
		r.mu.Lock()
		rows, reads := r.fresh[chat], r.reads[chat]
		delete(r.fresh, chat)
		delete(r.reads, chat)
		r.mu.Unlock()
		if len(rows) == 0 && !reads || !r.sendAll(ctx, stanza.ReceiptDelivered, rows) {
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

// backlog sends the due receipts that are on disk, once a turn.
func (r *receipts) backlog(ctx context.Context) {
	_, turn, ok := r.a.link.current()
	r.mu.Lock()
	old := !ok || turn == r.turn
	if !old {
		r.turn = turn
		clear(r.sent)
		clear(r.onWire)
		r.behind = false
	}
	r.mu.Unlock()
	if old {
		return
	}
	r.rest(ctx)
}

// rest sends the due receipts that are on disk and not on the wire, as many as may be.
func (r *receipts) rest(ctx context.Context) {
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
	r.mu.Lock()
	r.turn = 0
	r.mu.Unlock()
	time.AfterFunc(r.a.limits.RetryMax, func() { r.lanes.kick("") })
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
	for _, row := range rows {
		if key := (wireKey{chat, typ, row.ID}); !r.onWire[key] {
			r.onWire[key] = true
			if len(ids) == 0 {
				sts = row.STS
			}
			ids = append(ids, row.ID)
		}
	}
	if len(ids) > 0 {
		r.sent[sentKey(ids[0], typ, peer.JID)] = sentReceipt{chat, typ, ids}
	}
	r.mu.Unlock()
	if len(ids) == 0 {
		return true
	}
	err = r.a.link.send(ctx, 0, &stanza.Receipt{ID: ids[0], IDs: ids, To: peer.JID, Type: typ, STS: sts})
	if err == nil {
		killpoint.Hit(killpoint.InReceipt)
	}
	return err == nil
}

// sentKey is what the ack of a receipt repeats.
func sentKey(id, typ string, to jid.JID) string { return typ + " " + id + " " + to.Bare().String() }

// acked is called by the reader with the ack of a receipt.
func (r *receipts) acked(ack *stanza.Ack) {
	key := sentKey(ack.ID, ack.Type, ack.From)
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sent[key]
	if !ok {
		return
	}
	delete(r.sent, key)
	r.acks = append(r.acks, s)
	if r.behind && len(r.sent) == r.a.limits.Receipts/2 {
		r.lanes.kick("")
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
			delete(r.onWire, wireKey{s.chat, s.typ, id})
		}
	}
}
