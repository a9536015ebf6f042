package faults_test

import (
	"testing"
)

// TestF12WhatWasWrittenWhileTheBridgeWasAwayAndNeverPushedArrives: more in a room than one answer of the homeserver holds and one commit
// takes. Heavy, each room has a thousand texts.
func TestF12WhatWasWrittenWhileTheBridgeWasAwayAndNeverPushedArrives(t *testing.T) {
	texts := 200
	if all() {
		texts = 1000
	}
	each(t, func(r *rig) {
		var chats []*chat
		for range 3 {
			chats = append(chats, r.newChat())
		}
		r.ok(r.hs.Pushed(r.ctx))
		r.Bridge.Kill()
		<-r.Bridge.Done()
		release := r.hs.HoldPushes()
		for range texts / 10 {
			for _, c := range chats {
				c.fromMatrix(10)
			}
		}
		if n := r.hs.LosePushes(); n < 3*texts {
			r.t.Fatalf("%d events were to be pushed, want %d", n, 3*texts)
		}
		release()
		r.run()
		for _, c := range chats {
			c.fromMatrix(1) // pushed, and behind everything
		}
		for _, c := range chats {
			c.check()
		}
	})
}
