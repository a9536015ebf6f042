package interop_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"postern/connector/binxml"
	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/metrics"
	"postern/connector/stanza"
	"postern/database/databasetest"
)

var _ interop.Meter = (*metrics.Account)(nil)

// tally is a Meter that adds up what it is told, by words.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (t *tally) add(n int, words ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[string]int{}
	}
	t.n[fmt.Sprint(words...)] += n
}

func (t *tally) Connecting()                        { t.add(1, "connecting") }
func (t *tally) LoggedIn(time.Duration)             { t.add(1, "logged in") }
func (t *tally) Lost(cause string)                  { t.add(1, "lost ", cause) }
func (t *tally) Received()                          { t.add(1, "received") }
func (t *tally) Incoming(content, state string)     { t.add(1, "in ", content, " ", state) }
func (t *tally) Outgoing(content, state string)     { t.add(1, "out ", content, " ", state) }
func (t *tally) Failed(reason string)               { t.add(1, "failed ", reason) }
func (t *tally) Buried(reason string)               { t.add(1, "buried ", reason) }
func (t *tally) Leg(leg string, took time.Duration) { t.add(1, "leg ", leg, " ", took < 0) }
func (t *tally) Again(what string)                  { t.add(1, "again ", what) }
func (t *tally) AskedAgain(ours bool)               { t.add(1, "asked again ", ours) }
func (t *tally) Nack(ours bool, code int)           { t.add(1, "nack ", ours, " ", code) }
func (t *tally) PreKeys(uploaded, used, low int) {
	t.add(uploaded, "uploaded")
	t.add(used, "used")
	t.add(low, "low")
}
func (t *tally) Panic(where string) { t.add(1, "panic ", where) }

func (t *tally) want(tt *testing.T, want map[string]int) {
	tt.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(want)) {
		if t.n[what] != want[what] {
			tt.Errorf("%s: %d, want %d", what, t.n[what], want[what])
		}
	}
	if tt.Failed() {
		tt.Logf("all: %v", t.n)
	}
}

// measured has an account run with a meter.
func measured(b *bench) *tally {
	m := &tally{}
	_ = b.end() // how it ran does not matter
	b.edit = func(c *interop.Config) { c.Meter = m }
	b.run()
	settle()
	return m
}

func TestAMeterCountsEachMessageOnceInEachStateThatItComesTo(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		m := measured(b)
		p := b.g.phone("1")
		chat := b.chatWith(p)
		ids := b.send(chat, "$1", "one")
		b.send(chat, "$2", "two", "in two parts")
		for i := range 3 {
			b.g.says(p, fmt.Sprint("m", i), "hello")
		}
		settle()
		b.g.mu.Lock()
		b.g.push(&stanza.Receipt{ID: ids[0], From: p.jid, Type: "read"})
		b.g.mu.Unlock()
		settle()
		m.want(t, map[string]int{
			"connecting": 1, "logged in": 1, "received": 3, "in text delivered": 3, "out text accepted": 2, "out text sent": 2,
			"out text delivered": 2, "out text read": 1, "out text failed": 0, "leg socket_to_disk false": 3, "leg disk_to_ack false": 3,
			"leg disk_to_matrix false": 3, "leg queue_to_socket false": 3, "leg socket_to_ack false": 3, "again to_matrix": 0,
		})
	})
}

func TestAMeterCountsWhatFailsWithItsReason(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		m := measured(b)
		p := b.g.phone("1")
		chat := b.chatWith(p)
		first := interop.StanzaID([32]byte{9}, "$1", 0)
		var transient int
		b.ackWith(func(s *stanza.Message) int {
			if s.ID == first {
				return 403
			}
			if transient++; transient == 1 {
				return 503
			}
			return 0
		})
		b.send(chat, "$1", "refused")
		b.send(chat, "$2", "goes on, the second time")
		settle()
		pass(30 * time.Second)
		m.want(t, map[string]int{
			"out text accepted": 2, "out text failed": 1, "failed blocked": 1, "out text delivered": 1, "out text sent": 1, "nack false 403": 1,
			"nack false 503": 1, "again to_gatekeeper": 1,
		})
	})
}

func TestAMeterIsToldWhyAStreamIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		m := measured(b)
		for _, cause := range []error{gatekeeper.ErrUnanswered, gatekeeper.ErrClosed, errors.New("something that nobody has foreseen")} {
			b.g.breaks(cause)
			settle()
			pass(time.Minute)
		}
		m.want(t, map[string]int{"lost unanswered": 1, "lost closed": 1, "lost other": 1, "logged in": 4})
	})
}

// BenchmarkMeter is the processor time of one message each way with a meter, beside none: both accounts in one run, in turns.
func BenchmarkMeter(b *testing.B) {
	figures := metrics.New(metrics.Config{Gatekeepers: []string{"whatsapp"}})
	rig := func(meter interop.Meter, of *metrics.Database) *benchRig {
		cfg := databasetest.SQLiteConfig(b)
		if of != nil {
			cfg.Meter = of
		}
		r := &benchRig{c: &counter{}, s: &benchStream{in: make(chan stanza.Stanza)}}
		r.b = newBench(b, accountStore(b, databasetest.Open(b, cfg)))
		r.s.gate = r.b.g
		r.s.codec = binxml.Codec{Read: r.b.g.prof.WriteDialect, Write: r.b.g.prof.WriteDialect}
		r.start(b, meter)
		return r
	}
	bare, with := rig(nil, nil), rig(figures.Account("whatsapp"), figures.Database())
	var without, measured time.Duration
	n := 0
	round := func(r *benchRig, i int) time.Duration {
		list := r.sealed(fmt.Sprint("in", i), benchEach)
		start := cpu()
		r.feed(list)
		r.sendAll(b, fmt.Sprint("$out", i), benchEach)
		return cpu() - start
	}
	for i := 0; b.Loop(); i++ {
		without += round(bare, i)
		measured += round(with, i)
		n += benchEach * benchPhones
	}
	report(b, measured, without, n)
}
