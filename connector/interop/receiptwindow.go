package interop

// A gatekeeper that has a long queue for us answers receipts behind it, and a receipt that waits for its ack is held in memory, here and in
// the stream. So only so many are on the wire at once (Limits.Receipts). What is due beyond that stays on disk, and is sent when half of
// those are acked.

// full says whether as many receipts are on the wire as may be, and remembers that some were left on disk for that. r.mu is held.
func (r *receipts) full() bool {
	if len(r.sent) < r.a.limits.Receipts {
		return false
	}
	r.behind = true
	return true
}

// catchUp says whether what was left on disk is to be sent now.
func (r *receipts) catchUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.behind || len(r.sent) > r.a.limits.Receipts/2 {
		return false
	}
	r.behind = false
	return true
}
