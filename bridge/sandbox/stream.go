package sandbox

import (
	"slices"
	"time"

	"postern/connector/binxml"
	"postern/connector/noise"
)

// maxOut bounds what waits for a partner that does not read; beyond it the stream is cut. Queued stanzas come
// again.
const maxOut = 1 << 16

// outgoing is one stanza on its way to a partner. It leaves when change ticket is on disk.
type outgoing struct {
	ticket uint64
	node   *binxml.Node
	item   *queued // nil if the stanza is not kept for the partner
	last   bool    // the stream ends after it
	raw    action  // what a fault does in its place
	sane   bool    // has been through the faults
}

// action is what a fault makes of the connection.
type action uint8

const (
	actNone action = iota
	actCut
	actCutMidFrame
	actClose
)

// answerKey is what an answer is matched by (PROTOCOL.md 4.11). typ is empty for messages.
type answerKey struct{ class, id, typ string }

// stream is one partner's live link. Everything below mu's line is guarded by state.mu.
type stream struct {
	s       *Server
	carrier *carrier
	conn    *noise.Conn
	account *account
	wake    chan struct{} // capacity 1
	done    chan struct{}

	readReceipts bool

	// guarded by state.mu
	out       []outgoing
	later     []outgoing // kept stanzas that came while the queue was drained
	drain     []*queued  // what of the queue has not gone out
	draining  bool
	drained   int // stanzas of the drain that were written
	ended     bool
	waiting   map[answerKey][]*queued // written on this stream, not answered
	swapped   *outgoing               // held back by reorder
	swapMatch string
	delayed   map[*delayedStanza]bool
	nacks     []*queued // passed-on nacks written and not yet confirmed
	pings     map[string]int
	pingID    uint64
}

func newStream(s *Server, c *carrier, conn *noise.Conn, a *account) *stream {
	return &stream{
		s: s, carrier: c, conn: conn, account: a,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		waiting: map[answerKey][]*queued{}, delayed: map[*delayedStanza]bool{}, pings: map[string]int{},
	}
}

// send queues a stanza for the stream of a, if it has one. It is not kept.
func (c change) send(a *account, n *binxml.Node) {
	if a.stream != nil {
		a.stream.push(outgoing{ticket: c.seq, node: n})
	}
}

// push appends to the stream's list; the caller holds the state.
func (st *stream) push(o outgoing) {
	if st.ended {
		return
	}
	if len(st.out)+len(st.later) >= maxOut {
		st.ended = true
		st.s.log.Warn().Msg("a partner does not read its stream")
		go st.carrier.cut()
		return
	}
	if st.draining && o.item != nil && !o.sane {
		st.later = append(st.later, o)
		return
	}
	st.out = append(st.out, o)
	st.signal()
}

func (st *stream) signal() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// endStream ends the live stream of a, if there is one: last goes out, then the connection is closed.
func (c change) endStream(a *account, last *binxml.Node) {
	st := a.stream
	if st == nil {
		return
	}
	a.stream = nil
	a.LastSeen = unix(st.s.now())
	c.put(a)
	st.push(outgoing{ticket: c.seq, node: last, last: true, sane: true})
	st.ended = true
	st.signal()
}

// begin attaches the stream to its account and lays out what goes over it first: success, the offline preview
// and the queue (PROTOCOL.md 4.10).
func (c change) begin(st *stream, success *binxml.Node) {
	a := st.account
	c.endStream(a, replacedError())
	a.stream = st
	a.logins++
	a.ReadReceipts = st.readReceipts
	a.LastSeen = unix(st.s.now())
	c.put(a)
	st.draining = true
	st.drain = append([]*queued(nil), a.queue...)
	counts := map[string]int{}
	for _, q := range st.drain {
		counts[q.Tag]++
	}
	st.push(outgoing{ticket: c.seq, node: success, sane: true})
	st.push(outgoing{ticket: c.seq, sane: true, node: node("ib", nil, node("offline_preview", attrs{
		binxml.I("count", len(st.drain)),
		binxml.I("message", counts["message"]),
		binxml.I("receipt", counts["receipt"]),
		binxml.I("notification", counts["notification"]),
	}))})
}

// next gives the writer what goes out next. While the queue is drained, answers go ahead and new kept stanzas
// wait (PROTOCOL.md 4.10).
func (st *stream) next(c change) (outgoing, bool) {
	for len(st.out) > 0 {
		o := st.out[0]
		st.out = st.out[1:]
		if o.item == nil || !o.item.gone || o.sane {
			return o, true
		}
	}
	if st.ended || !st.draining {
		return outgoing{}, false
	}
	for len(st.drain) > 0 {
		q := st.drain[0]
		st.drain = st.drain[1:]
		if q.gone {
			continue
		}
		n := q.node()
		if n == nil {
			continue
		}
		n.Attrs = append(n.Attrs, binxml.I("offline", st.drained))
		st.drained++
		return outgoing{ticket: c.seq, node: n, item: q}, true
	}
	st.drain, st.draining = nil, false
	st.out, st.later = st.later, nil
	return outgoing{ticket: c.seq, sane: true, node: node("ib", nil, node("offline", attrs{binxml.I("count", st.drained)}))}, true
}

// writeLoop is the stream's writer. It ends the connection when it is done.
func (st *stream) writeLoop() {
	defer st.carrier.Close()
	for {
		var now []outgoing
		var idle bool
		st.s.state.update(func(c change) {
			o, ok := st.next(c)
			if !ok {
				idle = true
				return
			}
			now = c.faulty(st, o)
			for _, o := range now {
				st.written(c, o)
			}
		})
		if idle {
			if st.over() {
				return
			}
			select {
			case <-st.wake:
			case <-st.done:
				return
			}
			continue
		}
		for _, o := range now {
			if !st.write(o) || o.last {
				return
			}
		}
	}
}

func (st *stream) over() (over bool) {
	st.s.state.view(func() { over = st.ended && len(st.out) == 0 })
	return over
}

// written notes what will be answered. A passed-on nack is answered by nobody (PROTOCOL.md 6.1): it leaves the
// queue when a ping that follows it is answered, which proves that it was read.
func (st *stream) written(c change, o outgoing) {
	if o.item == nil || o.raw != actNone || o.item.gone {
		return
	}
	if o.item.Tag == "ack" {
		st.nacks = append(st.nacks, o.item)
		st.pingID++
		id := "sandbox-ping-" + itoa(st.pingID)
		st.pings[id] = len(st.nacks)
		st.push(outgoing{ticket: c.seq, sane: true, node: node("iq", attrs{
			binxml.S("type", "get"), binxml.S("id", id), binxml.S("xmlns", "urn:xmpp:ping"), binxml.J("from", st.s.prof.ServerJID),
		})})
		return
	}
	o.item.sent = true
	key := o.item.key()
	st.waiting[key] = append(st.waiting[key], o.item)
}

// write puts one stanza on the wire once it may leave, or does what a fault says.
func (st *stream) write(o outgoing) bool {
	if st.s.settled(o.ticket) != nil {
		return false
	}
	switch o.raw {
	case actCut:
		st.carrier.cut()
		return false
	case actClose:
		return false
	}
	frame, err := st.s.codec.Append(nil, o.node)
	if err != nil {
		st.s.log.Error().Str("tag", o.node.Tag).Msg("a stanza could not be encoded")
		return true
	}
	if st.carrier.conn.SetWriteDeadline(time.Now().Add(writeTime)) != nil {
		return false
	}
	if o.raw == actCutMidFrame {
		st.cutMidFrame(frame)
		return false
	}
	return st.conn.WriteFrame(frame) == nil
}

// cutMidFrame announces a frame, writes half of one and cuts the connection. What is written could not be
// decrypted in any case, so it is not encrypted.
func (st *stream) cutMidFrame(frame []byte) {
	n := len(frame) + noise.TagSize
	part := append([]byte{byte(n >> 16), byte(n >> 8), byte(n)}, frame[:len(frame)/2]...)
	clear(part[3:])
	if _, err := st.carrier.Write(part); err == nil {
		// An orderly close, so that the half frame arrives instead of being thrown away with a reset.
		st.carrier.Close()
	}
	st.carrier.cut()
}

// finish detaches the stream when its reader has ended, for whatever reason. The partner is woken for what was
// queued while there was a stream and has not gone out on it: nothing else would tell of that (PROTOCOL.md 8.2).
func (st *stream) finish() {
	close(st.done)
	_ = st.s.settled(st.s.state.update(func(c change) {
		st.ended = true
		missed := slices.ContainsFunc(slices.Concat(st.out, st.later), func(o outgoing) bool { return o.item != nil && !o.item.gone && !o.item.sent })
		st.out, st.later, st.drain, st.swapped = nil, nil, nil, nil
		for d := range st.delayed {
			d.timer.Stop()
		}
		clear(st.delayed)
		if a := st.account; a.stream == st {
			a.stream = nil
			a.LastSeen = unix(st.s.now())
			c.put(a)
			if missed {
				c.wake(st.s, a)
			}
		}
	}))
}
