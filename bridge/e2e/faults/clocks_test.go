package faults_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"postern/bridge/parts"
)

// The row F-34: the gatekeeper's clock and the bridge's differ, or one of them is set while both run.

// ahead sets the gatekeeper's clock so far from the machine's.
func (r *rig) ahead(d time.Duration) {
	r.t.Helper()
	r.ok(r.Gatekeeper.Call(r.ctx, http.MethodPost, "/v1/clock", map[string]int64{"ahead_seconds": int64(d / time.Second)}, nil))
}

// anew cuts the stream, so that there has to be another login.
func (r *rig) anew() {
	r.t.Helper()
	must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "cut", Identifier: r.identifier}))(r.t)
}

// toldOfClocks counts what the bot has said to alice about clocks.
func (r *rig) toldOfClocks() int {
	return len(r.alice.Seen(func(e *parts.Event) bool {
		return e.RoomID == r.management && e.Sender == r.Bot && strings.Contains(e.Message().Body, "clocks of the bridge and of the service differ")
	}))
}

// TestF34ClocksThatDifferByFiveMinutesOrAreSetWhileAStreamIsUp: five minutes are within what tokens allow for, in either direction, and for a
// stream that is up no clock matters at all.
func TestF34ClocksThatDifferByFiveMinutesOrAreSetWhileAStreamIsUp(t *testing.T) {
	each(t, func(r *rig) { r.withinTheLeeway(r.ahead) })
}

func (r *rig) withinTheLeeway(set func(ahead time.Duration)) {
	r.t.Helper()
	c := r.newChat()
	defer set(0)
	told := r.toldOfClocks()
	for _, d := range []time.Duration{5 * time.Minute, -5 * time.Minute} {
		logins := r.partner().Logins
		set(d)
		r.anew()
		c.fromMatrix(1)
		c.fromPhone(1)
		c.settled()
		r.soon("another login", func() bool { p := r.partner(); return p.Connected && p.Logins > logins })
	}
	logins := r.partner().Logins
	for _, d := range []time.Duration{24 * time.Hour, -24 * time.Hour, 0} {
		set(d)
		c.fromPhone(2)
		c.fromMatrix(2)
		c.settled()
	}
	c.check()
	if p := r.partner(); p.Logins != logins {
		r.t.Errorf("a clock that is set has ended a stream: %d more logins", p.Logins-logins)
	}
	if r.toldOfClocks() != told {
		r.t.Error("somebody is told of clocks")
	}
}

// TestF34BeyondTheLeewayTheLoginIsRefusedInWordsAndComesBackByItself: person and operator learn that it is the clock. What waits on either side arrives
// when the clock is right again, and the bridge is not restarted for that.
func TestF34BeyondTheLeewayTheLoginIsRefusedInWordsAndComesBackByItself(t *testing.T) {
	apart := []time.Duration{-24 * time.Hour, 24 * time.Hour}
	if all() {
		apart = append(apart, -10*time.Minute, time.Hour, 366*24*time.Hour)
	}
	for _, d := range apart {
		t.Run(d.String(), func(t *testing.T) {
			each(t, func(r *rig) { r.beyondTheLeeway(r.ahead, d) })
		})
	}
}

func (r *rig) beyondTheLeeway(set func(ahead time.Duration), d time.Duration) {
	r.t.Helper()
	c := r.newChat()
	defer set(0)
	pid, from, told := r.Bridge.PID(), r.logSize(), r.toldOfClocks()
	set(d)
	r.anew()
	c.fromMatrix(2)
	c.fromPhone(2)
	r.soon("the person to be told", func() bool { return r.toldOfClocks() > told })
	if n := r.loggedOfHers(from, "the clock of this machine and the gatekeeper's differ"); n != 1 {
		r.t.Errorf("the operator is told %d times", n)
	}
	if r.partner().Connected {
		r.t.Error("the gatekeeper has taken the login")
	}
	set(0)
	c.check()
	if r.Bridge.PID() != pid {
		r.t.Error("the bridge was restarted")
	}
	if n := r.toldOfClocks(); n != told+1 {
		r.t.Errorf("the person is told %d times", n-told)
	}
}
