package sandbox

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"postern/connector/binxml"
)

// fault is a misbehaviour that was asked for. It acts Count times, or until it is deleted if Count is negative.
type fault struct {
	ID         string `json:"id"`
	Kind       string `json:"kind"`
	Identifier string `json:"identifier,omitempty"`
	Integrator uint16 `json:"integrator,omitempty"`
	Match      string `json:"match,omitempty"`
	Count      int    `json:"count"`
	Code       int    `json:"code,omitempty"`
	DelayMS    int64  `json:"delay_ms,omitempty"`
	Expire     int64  `json:"expire,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

func (f *fault) storeKey() string { return "fault/" + f.ID }

// faultKind describes what a kind of fault needs.
type faultKind struct {
	wire     bool // acts on stanzas towards the partner
	instant  bool // without match it acts at once on the stream
	code     bool // needs code
	delay    bool // needs delay_ms
	reason   bool // needs reason
	fromWire bool // acts on stanzas from the partner
}

var faultKinds = map[string]faultKind{
	"cut":           {wire: true, instant: true},
	"close":         {wire: true, instant: true},
	"stream_error":  {wire: true, instant: true, code: true},
	"cut_mid_frame": {wire: true},
	"drop":          {wire: true},
	"duplicate":     {wire: true},
	"reorder":       {wire: true},
	"delay":         {wire: true, delay: true},
	"corrupt_enc":   {wire: true},
	"no_ack":        {fromWire: true},
	"ack_error":     {fromWire: true, code: true},
	"nack":          {fromWire: true, code: true},
	"failure":       {code: true},
	"enlist_fail":   {reason: true},
	"prekeys_gone":  {},
	"push_off":      {},
	"media_404":     {},
	"media_slow":    {delay: true},
	"media_cut":     {},
	"media_corrupt": {},
}

// replaced is the reason of a stream_error that says that another connection has taken over.
const replaced = "replaced"

// streamError is what the stream ends with.
func (f *fault) streamError() *binxml.Node {
	if f.Reason == replaced {
		return replacedError()
	}
	return streamError(f.Code)
}

const (
	maxFaults = 1000
	maxDelay  = 24 * time.Hour
)

// addFault makes a fault, or carries it out if it acts at once. The error is for whoever asked.
func (c change) addFault(s *Server, f *fault) error {
	kind := faultKinds[f.Kind]
	if err := c.checkFault(f); err != nil {
		return err
	}
	if len(c.faults) >= maxFaults {
		return refusal(429, "there are %d faults already", maxFaults)
	}
	if f.Count == 0 {
		f.Count = 1
	}
	c.counters.Fault++
	c.put(c.counters)
	f.ID = itoa(c.counters.Fault)
	if kind.instant && f.Match == "" {
		return c.actNow(s, f)
	}
	if f.Match == "" && (kind.wire || kind.fromWire) {
		f.Match = "message"
	}
	c.state.faults = append(c.faults, f)
	c.put(f)
	return nil
}

// checkFault says what is wrong with a fault that is asked for.
//
//nolint:gocyclo // one case for each rule
func (c change) checkFault(f *fault) error {
	kind, ok := faultKinds[f.Kind]
	switch {
	case !ok:
		return refusal(400, "there is no fault of kind %q", f.Kind)
	case f.Kind == "stream_error" && f.Reason != "" && (f.Reason != replaced || f.Code != 0):
		return refusal(400, "a fault of kind stream_error has a code, or the reason replaced")
	case kind.code && f.Code == 0 && f.Reason != replaced:
		return refusal(400, "a fault of kind %s needs a code", f.Kind)
	case kind.reason && f.Reason == "":
		return refusal(400, "a fault of kind %s needs a reason", f.Kind)
	case kind.delay && (f.DelayMS <= 0 || time.Duration(f.DelayMS)*time.Millisecond > maxDelay):
		return refusal(400, "a fault of kind %s needs delay_ms, at most a day", f.Kind)
	case f.Code < 0 || f.Code > 999 || f.Expire < 0:
		return refusal(400, "code is at most 999, and neither code nor expire is negative")
	case f.Kind == "nack" && !slices.Contains([]string{"", "message", "reply", "media", "reaction"}, f.Match):
		return refusal(400, "only messages are nacked: match is message, reply, media or reaction")
	}
	return nil
}

// concerns says whether f is about this partner user.
func (c change) concerns(f *fault, in uint16, identifier string) bool {
	if f.Integrator != 0 && f.Integrator != in {
		return false
	}
	if f.Identifier == "" {
		return true
	}
	i := c.integrators[in]
	return i != nil && normalise(i.IdentifierType, f.Identifier) == identifier
}

// takeFault finds a fault of a kind for a partner user and counts it as having acted. tag is the stanza's, or
// empty where there is none.
func (c change) takeFault(kind string, in uint16, identifier, tag string) *fault {
	for _, f := range c.faults {
		if f.Kind != kind || !c.concerns(f, in, identifier) {
			continue
		}
		if tag != "" && f.Match != "*" && f.Match != tag {
			continue
		}
		c.spend(f)
		return f
	}
	return nil
}

// contentFault finds a nack that is only for messages with such content.
func (c change) contentFault(a *account, l *looked) *fault {
	for _, of := range []struct {
		is  bool
		tag string
	}{{l.event.ReplyTo != "", "reply"}, {l.attached, "media"}, {l.event.Reaction != nil, "reaction"}} {
		if !of.is {
			continue
		}
		if f := c.takeFault("nack", a.Integrator, a.Identifier, of.tag); f != nil {
			return f
		}
	}
	return nil
}

func (c change) spend(f *fault) {
	if f.Count < 0 {
		return
	}
	f.Count--
	if f.Count > 0 {
		c.put(f)
		return
	}
	c.drop(f)
	c.state.faults = slices.DeleteFunc(slices.Clone(c.faults), func(x *fault) bool { return x == f })
}

// actNow carries out cut, close or stream_error on the live streams it concerns.
func (c change) actNow(s *Server, f *fault) error {
	acted := false
	for _, a := range c.accountsInOrder() {
		if a.stream == nil || !c.concerns(f, a.Integrator, a.Identifier) {
			continue
		}
		acted = true
		if f.Kind == "stream_error" {
			c.endStream(a, f.streamError())
			continue
		}
		st := a.stream
		a.stream = nil
		a.LastSeen = unix(s.now())
		c.put(a)
		st.out, st.later, st.drain = nil, nil, nil
		act := actCut
		if f.Kind == "close" {
			act = actClose
		}
		st.push(outgoing{ticket: c.seq, raw: act, sane: true, last: true})
		st.ended = true
	}
	if !acted {
		return refusal(409, "no such partner has a stream now")
	}
	return nil
}

// delayedStanza is a stanza that a delay fault holds.
type delayedStanza struct {
	fault string
	o     outgoing
	timer *time.Timer
}

// faulty puts a stanza through the faults on its way to the partner and returns what is written now.
func (c change) faulty(st *stream, o outgoing) []outgoing {
	if o.sane || o.node == nil {
		return []outgoing{o}
	}
	if held := st.swapped; held != nil && (st.swapMatch == "*" || st.swapMatch == o.node.Tag) {
		st.swapped = nil
		return []outgoing{o, *held}
	}
	for _, f := range c.faults {
		if faultKinds[f.Kind].wire && c.concerns(f, st.account.Integrator, st.account.Identifier) && (f.Match == "*" || f.Match == o.node.Tag) {
			c.spend(f)
			return c.apply(st, o, f)
		}
	}
	return []outgoing{o}
}

// apply does what f says in place of writing o.
func (c change) apply(st *stream, o outgoing, f *fault) []outgoing {
	switch f.Kind {
	case "drop":
		return nil
	case "duplicate":
		return []outgoing{o, o}
	case "reorder":
		st.swapped, st.swapMatch = &o, f.Match
		return nil
	case "delay":
		c.delay(st, o, f)
		return nil
	case "corrupt_enc":
		o.node = corrupted(o.node)
		return []outgoing{o}
	case "cut":
		o.raw, o.last = actCut, true
	case "cut_mid_frame":
		o.raw, o.last = actCutMidFrame, true
	case "close":
		o.raw, o.last = actClose, true
	case "stream_error":
		o = outgoing{ticket: o.ticket, node: f.streamError(), last: true}
	}
	st.ended = true
	if st.account.stream == st {
		st.account.stream = nil
		st.account.LastSeen = unix(st.s.now())
		c.put(st.account)
	}
	return []outgoing{o}
}

func (c change) delay(st *stream, o outgoing, f *fault) {
	o.sane = true
	d := &delayedStanza{fault: f.ID, o: o}
	st.delayed[d] = true
	d.timer = time.AfterFunc(time.Duration(f.DelayMS)*time.Millisecond, func() {
		st.s.state.update(func(c change) { st.release(c, d) })
	})
}

// release lets go of a stanza that was held.
func (st *stream) release(c change, d *delayedStanza) {
	if !st.delayed[d] {
		return
	}
	delete(st.delayed, d)
	d.timer.Stop()
	st.push(d.o)
}

// corrupted is n with one bit of its ciphertext turned: one that the MAC covers or that is the MAC's, in both
// kinds of ciphertext, since behind the MAC a pkmsg has two numbers of at most eight bytes together.
func corrupted(n *binxml.Node) *binxml.Node {
	out := *n
	out.Children = slices.Clone(n.Children)
	for i := range out.Children {
		if enc := &out.Children[i]; enc.Tag == "enc" && len(enc.Data) > 12 {
			enc.Data = bytes.Clone(enc.Data)
			enc.Data[len(enc.Data)-12] ^= 1
		}
	}
	return &out
}

// deleteFaults takes back the fault with that id, all if id is empty, and lets go of what they hold.
func (c change) deleteFaults(id string) error {
	found := false
	for _, f := range slices.Clone(c.faults) {
		if id == "" || f.ID == id {
			found = true
			c.drop(f)
			c.state.faults = slices.DeleteFunc(slices.Clone(c.faults), func(x *fault) bool { return x == f })
		}
	}
	for _, a := range c.accountsInOrder() {
		if a.stream == nil {
			continue
		}
		for d := range a.stream.delayed {
			if id == "" || d.fault == id {
				found = true
				a.stream.release(c, d)
			}
		}
	}
	if !found && id != "" {
		return refusal(404, "there is no fault %s any more", id)
	}
	return nil
}

// refused is an error of the control API: a status and a sentence.
type refused struct {
	status   int
	sentence string
}

func (r *refused) Error() string { return r.sentence }

func refusal(status int, format string, args ...any) error {
	return &refused{status, fmt.Sprintf(format, args...)}
}
