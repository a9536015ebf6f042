package interop_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/connector/interop"
)

const idle = time.Minute

// attached plays with an account whose stream is open only while it is needed, and which has rested once.
func attached(t *testing.T, fn func(t *testing.T, b *bench)) {
	t.Helper()
	inBubbleWith(t, func(b *bench) {
		b.edit = func(c *interop.Config) { c.Attendance = interop.Attendance{Idle: idle} }
	}, func(t *testing.T, b *bench) {
		b.wantLogins(1, true)
		pass(idle - 20*time.Millisecond)
		b.wantLogins(1, true)
		pass(2 * settleTime)
		b.wantLogins(1, false)
		fn(t, b)
	})
}

// settleTime is how long the last stanza keeps a stream at least.
const settleTime = 2 * time.Second

// wantLogins checks how often the account has logged in, and whether it has a stream now.
func (b *bench) wantLogins(n int, stream bool) {
	b.t.Helper()
	b.sees(func() {
		if b.g.logins != n || b.g.stream != nil != stream {
			b.t.Errorf("%d logins, a stream: %v; want %d, %v", b.g.logins, b.g.stream != nil, n, stream)
		}
		if kind := b.m.conn[len(b.m.conn)-1].Kind; stream && kind != interop.ConnLive || !stream && kind != interop.ConnIdle {
			b.t.Errorf("the state told last is %s, a stream: %v", kind, stream)
		}
	})
}

// asks asks for a number; what the gatekeeper knows of it is not what is tested.
func (b *bench) asks() {
	b.t.Helper()
	if _, err := b.a.Lookup(b.t.Context(), []string{"+491"}); errors.Is(err, interop.ErrOffline) {
		b.t.Error("the question had no stream")
	}
}

func TestAStreamThatIsAlwaysOpenStaysOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		pass(72 * time.Hour)
		b.wantLogins(1, true)
	})
}

func TestAStreamThatNobodyNeedsRestsAndIsNoFailure(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		b.sees(func() {
			for _, s := range b.m.conn {
				if s.Kind != interop.ConnConnecting && s.Kind != interop.ConnLive && s.Kind != interop.ConnIdle {
					t.Errorf("the person was told %s", s.Kind)
				}
			}
		})
		pass(23 * time.Hour)
		b.wantLogins(1, false)
	})
}

// TestAnAccountLooksInOnceADay: a push may be lost, and 30 days without a login end an enlistment.
func TestAnAccountLooksInOnceADay(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "lost", "its push was lost")
		pass(24 * time.Hour)
		b.sees(func() {
			if texts := b.m.texts(); !slices.Equal(texts, []string{"its push was lost"}) || b.g.logins != 2 {
				t.Errorf("after a day Matrix has %q with %d logins", texts, b.g.logins)
			}
		})
		for day := range 40 {
			pass(24 * time.Hour)
			b.sees(func() {
				if b.g.logins < day+2 {
					t.Errorf("%d logins after %d days", b.g.logins, day+2)
				}
			})
		}
	})
}

func TestWhatThePersonWritesGoesOutAtOnce(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.send(b.chatWith(p), "$1", "one", "two")
		settle()
		b.sees(func() {
			if !slices.Equal(p.texts, []string{"one", "two"}) || !slices.Contains(b.m.states("$1"), interop.OutDelivered) || b.g.pushed != 0 {
				t.Errorf("the phone has %q, Matrix %v, %d logins after a push", p.texts, b.m.states("$1"), b.g.pushed)
			}
		})
		b.wantLogins(2, true)
		pass(idle + settleTime)
		b.wantLogins(2, false)
	})
}

func TestAPushBringsWhatWaitsAndSaysSoAtLogin(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		for n := range 5 {
			b.g.says(p, fmt.Sprint("m", n), fmt.Sprint("text ", n))
		}
		settle()
		b.wantLogins(1, false)
		b.a.Wake()
		settle()
		b.wantLogins(2, true)
		b.sees(func() {
			if len(b.m.texts()) != 5 || b.g.pushed != 1 || len(b.g.queue) != 0 {
				t.Errorf("Matrix has %d texts, %d logins after a push, %d stanzas are left", len(b.m.texts()), b.g.pushed, len(b.g.queue))
			}
		})
		pass(idle + settleTime)
		b.wantLogins(2, false)
		b.sees(func() {
			if slices.Sort(p.read); len(slices.Compact(p.read)) != 5 {
				t.Errorf("the phone has the receipts %q", p.read)
			}
		})
	})
}

func TestAThousandPushesAreOneLogin(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		for range 1000 {
			b.a.Wake()
		}
		settle()
		for range 1000 {
			b.a.Wake()
		}
		settle()
		b.wantLogins(2, true)
		pass(idle + settleTime)
		b.wantLogins(2, false)
	})
}

func TestEverySignOfLifeKeepsAStreamOpen(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		chat := b.chatWith(p)
		for n, sign := range []func(){
			b.a.Attend, func() { b.a.Typing(chat, true, false) }, func() { b.send(chat, "$1", "a text") }, b.a.Wake,
			func() { b.asks() }, b.a.Attend,
		} {
			sign()
			settle()
			b.wantLogins(2, true)
			pass(idle - time.Duration(n+1)*time.Second)
			b.wantLogins(2, true)
		}
		pass(idle + settleTime)
		b.wantLogins(2, false)
	})
}

// TestAStreamDoesNotRestWhileSomethingIsUnderWay: the gatekeeper's ack is outstanding.
func TestAStreamDoesNotRestWhileSomethingIsUnderWay(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		b.g.quiet["read"] = true
		p := b.g.phone("1")
		b.g.says(p, "m", "a text")
		b.a.Wake()
		settle()
		if err := b.a.MarkRead(t.Context(), b.chatWith(p), "m"); err != nil {
			t.Fatal(err)
		}
		pass(4 * idle)
		b.wantLogins(2, true)
		pass(6 * idle) // for the ack of a receipt it waits so long and no longer; it goes again with the next stream
		b.wantLogins(2, false)
	})
}

func TestWhatComesWhileAStreamEndsIsFetchedAtOnce(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.a.Wake()
		settle()
		b.g.mu.Lock()
		p.sent["late"] = "too late"
		b.g.parting = b.g.seal(p, "late", "too late", 0)
		b.g.mu.Unlock()
		pass(idle + settleTime)
		b.wantLogins(3, true)
		b.sees(func() {
			if texts := b.m.texts(); !slices.Equal(texts, []string{"too late"}) {
				t.Errorf("Matrix has %q", texts)
			}
		})
	})
}

// TestAReceiptThatBecomesDueWithoutAStreamGoesOut: the homeserver was away while the stream was open.
func TestAReceiptThatBecomesDueWithoutAStreamGoesOut(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.m.mu.Lock()
		b.m.deliver = func(*interop.Inbound) error { return errors.New("the homeserver is away") }
		b.m.mu.Unlock()
		b.g.says(p, "m", "a text")
		b.a.Wake()
		pass(3 * idle)
		b.wantLogins(2, false)
		b.m.mu.Lock()
		b.m.deliver = nil
		b.m.mu.Unlock()
		b.a.Nudge()
		pass(5 * time.Second)
		b.sees(func() {
			if len(p.read) != 1 || b.g.logins != 3 {
				t.Errorf("the phone has receipts %q after %d logins", p.read, b.g.logins)
			}
		})
	})
}

func TestAQuestionOfThePersonsWaitsForItsStream(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		b.g.mu.Lock()
		b.g.slow = 5 * time.Second
		b.g.mu.Unlock()
		begun := time.Now()
		b.asks()
		if took := time.Since(begun); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
		settle()
		b.wantLogins(2, true)
	})
}

func TestWithoutAGatekeeperAQuestionIsAnsweredInTheEnd(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		b.g.mu.Lock()
		b.g.slow = time.Hour
		b.g.mu.Unlock()
		if _, err := b.a.Lookup(t.Context(), []string{"+491"}); !errors.Is(err, interop.ErrOffline) {
			t.Errorf("got %v", err)
		}
	})
}

// TestANeedIsNotForgottenUntilAStreamWasLive: the connection breaks before it is.
func TestANeedIsNotForgottenUntilAStreamWasLive(t *testing.T) {
	attached(t, func(t *testing.T, b *bench) {
		p := b.g.phone("1")
		b.g.says(p, "m", "a text")
		b.g.mu.Lock()
		b.g.slow = 3 * idle
		b.g.mu.Unlock()
		b.a.Wake()
		pass(2 * idle)
		b.sees(func() {
			if kind := b.m.conn[len(b.m.conn)-1].Kind; kind == interop.ConnIdle {
				t.Error("the account rests before its stream was live")
			}
		})
		pass(idle + time.Second)
		b.sees(func() {
			if len(b.m.texts()) != 1 {
				t.Errorf("Matrix has %q", b.m.texts())
			}
		})
	})
}
