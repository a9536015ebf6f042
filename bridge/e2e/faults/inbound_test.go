package faults_test

import (
	"testing"

	"postern/connector/killpoint"
)

// The rows F-01 to F-08: a message from the phone, and the bridge killed on its way to Matrix.

// dies lets a phone write while the bridge is to die at a point, and compares. before, if not nil, looks at the world while the
// bridge is dead.
func (r *rig) diesInbound(point string, before func(c *chat)) {
	r.t.Helper()
	c := r.newChat()
	r.arm(point, 1)
	c.fromPhone(3)
	r.dead(point)
	c.fromMatrix(1)
	c.fromPhone(1)
	if before != nil {
		before(c)
	}
	r.run()
	c.fromMatrix(1)
	c.fromPhone(1)
	c.check()
}

// held fails unless the gatekeeper still has at least that many stanzas for alice.
func held(least int) func(c *chat) {
	return func(c *chat) {
		c.r.t.Helper()
		for _, p := range must(c.r.Gatekeeper.Partners(c.r.ctx))(c.r.t) {
			if p.Identifier == c.r.identifier && p.Queued < least {
				c.r.t.Errorf("the gatekeeper keeps %d stanzas, want at least %d: something was acked too early", p.Queued, least)
			}
		}
	}
}

func TestF01KilledBeforeDecryptingNothingWasAcked(t *testing.T) {
	each(t, func(r *rig) { r.diesInbound(killpoint.InRead, held(4)) })
}

func TestF02KilledAfterDecryptingTheStoredRatchetIsTheOldOne(t *testing.T) {
	each(t, func(r *rig) { r.diesInbound(killpoint.InOpened, held(4)) })
}

func TestF03KilledWhileStoringAMessageAllOrNothing(t *testing.T) {
	each(t, func(r *rig) { r.diesInbound(killpoint.InStoring, held(4)) })
}

func TestF04KilledBetweenCommitAndAck(t *testing.T) {
	each(t, func(r *rig) { r.diesInbound(killpoint.InStored, held(4)) })
}

func TestF05KilledAfterTheAckBeforeMatrixHasIt(t *testing.T) {
	for _, point := range []string{killpoint.InAcked, killpoint.InSending} {
		t.Run(point, func(t *testing.T) { each(t, func(r *rig) { r.diesInbound(point, nil) }) })
	}
}

func TestF07KilledAfterTheHomeserversAnswer(t *testing.T) {
	for _, point := range []string{killpoint.InAnswered, killpoint.InDelivered} {
		t.Run(point, func(t *testing.T) {
			t.Run("the homeserver remembers", func(t *testing.T) { each(t, func(r *rig) { r.diesInbound(point, nil) }) })
			t.Run("the homeserver has forgotten", func(t *testing.T) { each(t, func(r *rig) { r.diesInbound(point, forgets) }) })
		})
	}
}

func forgets(c *chat) { c.r.hs.ForgetTransactions() }

func TestF08KilledAfterTheLastCommit(t *testing.T) {
	for _, point := range []string{killpoint.InFinished, killpoint.InReceipt} {
		t.Run(point, func(t *testing.T) { each(t, func(r *rig) { r.diesInbound(point, forgets) }) })
	}
}
