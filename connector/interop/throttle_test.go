package interop

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/profile"
)

// TestAThrottledHeadWaitsForItsPlacesAndDoesNotExpireForThat: it goes through each rate once, in order, and the wait is not counted against it.
func TestAThrottledHeadWaitsForItsPlacesAndDoesNotExpireForThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := []int{}
		throttle := func(n int, wait time.Duration) Throttle {
			return func() time.Duration { asked = append(asked, n); return wait }
		}
		a := &Account{cfg: settings{Throttles: []Throttle{throttle(1, 5*time.Minute), throttle(2, time.Minute)}}, prof: profile.WhatsApp(), log: new(zerolog.Nop()), limits: Limits{}.shared()}
		o := &outbox{a: a, chats: map[string]*outChat{}}
		o.lanes = lanes{}
		c := &outChat{asked: map[int64]int{}}
		began := time.Now()
		row := &OutRow{Seq: 7}
		look := func() bool {
			defer func() {
				if c.timer != nil {
					c.timer.Stop()
				}
			}()
			return o.throttled("chat", c, row, time.Since(began))
		}
		first, again := look(), look()
		if !first || !again || c.progress < 5*time.Minute {
			t.Fatalf("it does not wait: %+v", c.slot)
		}
		time.Sleep(5 * time.Minute)
		if !look() || c.progress < 6*time.Minute {
			t.Fatalf("it does not wait for the second: %+v", c.slot)
		}
		time.Sleep(time.Minute)
		if first, again = look(), look(); first || again {
			t.Fatal("it still waits")
		}
		if len(asked) != 2 || asked[0] != 1 || asked[1] != 2 {
			t.Errorf("asked %v", asked)
		}
		row = &OutRow{Seq: 8, Stanza: []byte("encrypted")}
		if look() || len(asked) != 2 {
			t.Error("what is repeated is counted again")
		}
		if row = (&OutRow{Seq: 9}); !look() || len(asked) != 3 {
			t.Error("the next is not counted")
		}
	})
}
