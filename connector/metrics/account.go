package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Account counts what the accounts at one gatekeeper do; a nil one counts nothing.
type Account struct {
	connects, logins, received, preKeysUp, preKeysUsed, preKeysLow prometheus.Counter
	loginSeconds, pushSeconds                                      prometheus.Observer
	failures, failed, buried, panics, retries                      counters
	resendIn, resendOut                                            prometheus.Counter
	nackIn, nackOut                                                counters
	incoming, outgoing                                             map[string]counters // by content
	legs                                                           timers
}

func newAccount(f families, gatekeeper string) *Account {
	counter := func(d Family, labels ...string) prometheus.Counter {
		return f.counter(d).WithLabelValues(append([]string{gatekeeper}, labels...)...)
	}
	list := func(d Family, values []string, before ...string) counters {
		return of(values, func(v string) prometheus.Counter { return counter(d, append(before, v)...) })
	}
	a := &Account{
		connects: counter(connects), logins: counter(logins), received: counter(received),
		preKeysUp: counter(preKeysUp), preKeysUsed: counter(preKeysUsed), preKeysLow: counter(preKeysLow),
		loginSeconds: f.histogram(loginSeconds, legBuckets).WithLabelValues(gatekeeper),
		pushSeconds:  f.histogram(pushSeconds, legBuckets).WithLabelValues(gatekeeper),
		failures:     list(failures, Causes), failed: list(failed, Reasons), buried: list(buried, Reasons),
		panics: list(panics, Places), retries: list(retries, Retried),
		resendIn: counter(resends, in), resendOut: counter(resends, out),
		nackIn: list(nacks, Codes, in), nackOut: list(nacks, Codes, out),
		incoming: map[string]counters{}, outgoing: map[string]counters{}, legs: timers{},
	}
	for _, content := range append([]string{Other}, Contents...) {
		a.incoming[content], a.outgoing[content] = list(incoming, InStates, content), list(outgoing, OutStates, content)
	}
	for _, leg := range Legs {
		a.legs[leg] = f.histogram(legs, legBuckets).WithLabelValues(gatekeeper, leg)
	}
	return a
}

// Values of the label direction.
const (
	in  = "in"
	out = "out"
)

// Connecting counts an attempt to open a stream.
func (a *Account) Connecting() {
	if a != nil {
		a.connects.Inc()
	}
}

// LoggedIn counts a stream that was let in, took after the beginning of its attempt.
func (a *Account) LoggedIn(took time.Duration) {
	if a != nil {
		a.logins.Inc()
		a.loginSeconds.Observe(took.Seconds())
	}
}

// Lost counts a stream that ended, or was not had, for one of Causes.
func (a *Account) Lost(cause string) {
	if a != nil {
		a.failures.add(cause, 1)
	}
}

// Received counts a message that is on disk.
func (a *Account) Received() {
	if a != nil {
		a.received.Inc()
	}
}

// Incoming counts what became of an item for Matrix: one of Contents, one of InStates.
func (a *Account) Incoming(content, state string) {
	if a != nil {
		byContent(a.incoming, content).add(state, 1)
	}
}

// Outgoing counts an event from Matrix that has come to a state: one of Contents, one of OutStates.
func (a *Account) Outgoing(content, state string) {
	if a != nil {
		byContent(a.outgoing, content).add(state, 1)
	}
}

func byContent(list map[string]counters, content string) counters {
	c, ok := list[content]
	if !ok {
		c = list[Other]
	}
	return c
}

// Failed counts an event that failed, for one of Reasons.
func (a *Account) Failed(reason string) {
	if a != nil {
		a.failed.add(reason, 1)
	}
}

// Buried counts an item that was given up, for one of Reasons.
func (a *Account) Buried(reason string) {
	if a != nil {
		a.buried.add(reason, 1)
	}
}

// Leg times one of Legs.
func (a *Account) Leg(leg string, took time.Duration) {
	if a != nil {
		a.legs.took(leg, took)
	}
}

// Again counts something of Retried that failed and is tried again.
func (a *Account) Again(what string) {
	if a != nil {
		a.retries.add(what, 1)
	}
}

// AskedAgain counts a request to send a message again, theirs or ours.
func (a *Account) AskedAgain(ours bool) {
	switch {
	case a == nil:
	case ours:
		a.resendOut.Inc()
	default:
		a.resendIn.Inc()
	}
}

// Nack counts a refusal, theirs or ours.
func (a *Account) Nack(ours bool, code int) {
	switch text := strconv.Itoa(code); {
	case a == nil:
	case ours:
		a.nackOut.add(text, 1)
	default:
		a.nackIn.add(text, 1)
	}
}

// PreKeys counts one-time prekeys that were uploaded and used up, and low the gatekeeper's word that few are left.
func (a *Account) PreKeys(uploaded, used, low int) {
	if a != nil {
		a.preKeysUp.Add(float64(uploaded))
		a.preKeysUsed.Add(float64(used))
		a.preKeysLow.Add(float64(low))
	}
}

// Panic counts a panic that was caught in one of Places.
func (a *Account) Panic(where string) {
	if a != nil {
		a.panics.add(where, 1)
	}
}

// Pushed times a push: from its coming until the user's stream was live.
func (a *Account) Pushed(took time.Duration) {
	if a != nil {
		a.pushSeconds.Observe(took.Seconds())
	}
}
