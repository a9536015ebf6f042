package interop

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestAStreamIsEndedForWhatWasLeftOnItAlsoIfAnEarlierOneWasToBe: the first stream went by itself before its time, and what was left to the
// gatekeeper on the second one has to be asked for too.
func TestAStreamIsEndedForWhatWasLeftOnItAlsoIfAnEarlierOneWasToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &link{end: cancel, a: &Account{}}
		l.a.attend = newAttendance(l.a, Attendance{})
		l.loggedIn()
		l.recycle(2 * time.Second)
		time.Sleep(time.Second)
		l.loggedIn()
		l.recycle(2 * time.Second)
		time.Sleep(1500 * time.Millisecond)
		if ctx.Err() != nil {
			t.Error("the second stream was ended for the first one's sake")
		}
		time.Sleep(time.Second)
		if ctx.Err() == nil {
			t.Error("the second stream goes on")
		}
	})
}
