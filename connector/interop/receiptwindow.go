package interop

import "time"

// A gatekeeper that has a long queue for us answers receipts behind it, and a receipt that waits for its ack is held in memory, here and in
// the stream. So only so many are on the wire at once (Limits.Receipts). What is due beyond that stays on disk, and is sent when half of
// those are acked.
//
// Receipts to one contact may never be acked, and must keep back neither those to others nor a stream that nobody needs: one that has waited
// receiptPatience counts no longer, and its chat is slow. A slow chat has a share of what may be on the wire, with what counts no longer, until
// something of it is acked; the rest of it stays on disk.

const (
	// receiptPatience is how long a receipt without an ack takes the place of another.
	receiptPatience = 5 * time.Minute
	// receiptLong is how long one has been without an ack when its stream ends for its chat to be slow on the next: a login has what is due sent
	// oldest first, and many logins must not have the same receipts take all the places each time.
	receiptLong = time.Minute
	// receiptShare is which part of Limits.Receipts a slow chat has.
	receiptShare = 16
)

// window says which receipts are on the wire. receipts.mu guards it.
type window struct {
	// sent are those, by the id that the ack will have.
	sent map[string]sentReceipt
	// counted is how many of them count, of each are how many there are of a chat.
	counted int
	of      map[string]int
	// slow are the chats whose receipts are not acked; a new stream does not end that.
	slow  map[string]bool
	lapse *time.Timer
}

func (w *window) put(key string, s sentReceipt) {
	w.take(key)
	put(&w.sent, key, s)
	w.counted++
	put(&w.of, s.chat, w.of[s.chat]+1)
}

// take removes a receipt, and says whether it was there.
func (w *window) take(key string) (s sentReceipt, ok bool) {
	if s, ok = w.sent[key]; !ok {
		return s, false
	}
	drop(&w.sent, key)
	if !s.late {
		w.counted--
	}
	if w.of[s.chat]--; w.of[s.chat] == 0 {
		drop(&w.of, s.chat)
	}
	return s, true
}

// clear begins a new stream.
func (w *window) clear(now time.Time) {
	for _, s := range w.sent {
		if now.Sub(s.at) >= receiptLong {
			put(&w.slow, s.chat, true)
		}
	}
	w.sent, w.of = nil, nil
	w.counted = 0
	w.stop()
}

func (w *window) stop() {
	if w.lapse != nil {
		w.lapse.Stop()
		w.lapse = nil
	}
}

// overdue has what has waited for too long count no longer, and returns when to look again; zero for not.
func (w *window) overdue(now time.Time) (next time.Time) {
	for key, s := range w.sent {
		switch at := s.at.Add(receiptPatience); {
		case s.late:
		case !at.After(now):
			s.late = true
			w.sent[key] = s
			w.counted--
			put(&w.slow, s.chat, true)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return next
}

// full says whether as many receipts are on the wire as may be, and remembers that some were left on disk for that. r.mu is held.
func (r *receipts) full() bool {
	if r.wire.counted < r.a.limits.Receipts {
		return false
	}
	r.behind = true
	return true
}

// kept says whether a receipt of a chat is left on disk since the chat is slow and has its share. r.mu is held.
func (r *receipts) kept(chat string) bool {
	return r.wire.slow[chat] && r.wire.of[chat] >= max(1, r.a.limits.Receipts/receiptShare)
}

// onTheWire notes that a receipt is. r.mu is held.
func (r *receipts) onTheWire(key string, s sentReceipt) {
	s.at = time.Now()
	r.wire.put(key, s)
	if r.wire.lapse == nil {
		r.wire.lapse = time.AfterFunc(receiptPatience, r.lapsed)
	}
}

// lapsed goes on without what has waited for its ack for too long.
func (r *receipts) lapsed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wire.lapse == nil {
		return // stopped
	}
	r.wire.lapse = nil
	now := time.Now()
	if next := r.wire.overdue(now); !next.IsZero() {
		// Not for each one alone.
		r.wire.lapse = time.AfterFunc(max(next.Sub(now), time.Second), r.lapsed)
	}
	if r.behind {
		r.lanes.kick("")
	}
}

// catchUp says whether what was left on disk is to be sent now.
func (r *receipts) catchUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.behind || r.wire.counted > r.a.limits.Receipts/2 {
		return false
	}
	r.behind = false
	return true
}
