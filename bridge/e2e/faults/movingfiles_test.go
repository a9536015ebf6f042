package faults_test

import (
	"slices"
	"testing"

	"postern/connector/killpoint"
)

// The row F-16: an attachment on its way, and the bridge killed at each step of it. Words go before and behind it.

// TestF16KilledWhileAnAttachmentGoesOut: it is fetched, looked at, encrypted into the store, named, noted, and referred to.
func TestF16KilledWhileAnAttachmentGoesOut(t *testing.T) {
	steps := []struct {
		point   string
		orphans int // files that nothing refers to, when the bridge is dead there
	}{
		{killpoint.OutQueued, 0}, {killpoint.OutFileOpened, 0}, {killpoint.OutFileSpooled, 0}, {killpoint.OutFileConverted, 0},
		{killpoint.OutFileWritten, 0}, {killpoint.OutFileSynced, 0}, {killpoint.OutFileNamed, 1}, {killpoint.OutFileStored, 1},
		{killpoint.OutPreparing, 1}, {killpoint.OutPrepared, 0}, {killpoint.OutSealing, 0}, {killpoint.OutSealed, 0}, {killpoint.OutWritten, 0},
	}
	for _, step := range steps {
		t.Run(step.point, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				r.ok(r.hs.Pushed(r.ctx))
				c.fromMatrix(1)
				c.settled()
				earlier := c.soundStore() // the campaign's, say: kept for a day
				r.arm(step.point, 1)
				c.fileFromMatrix(true)
				c.fromMatrix(1)
				r.dead(step.point)
				c.fromPhone(1)
				c.fileFromMatrix(false)
				orphans := without(c.soundStore(), earlier)
				if len(orphans) != step.orphans {
					r.t.Errorf("%d files have nothing that refers to them, want %d", len(orphans), step.orphans)
				}
				r.age(orphans)
				r.run()
				c.fromMatrix(1)
				c.check()
				// What was left behind is collected, and what is referred to is not.
				r.until("the store to be swept", func() bool {
					blobs := r.blobs()
					for _, name := range orphans {
						if _, there := blobs[name]; there {
							return false
						}
					}
					return true
				})
				if left := without(c.soundStore(), earlier); len(left) != 0 {
					r.t.Errorf("%d files are left that nothing refers to", len(left))
				}
				r.tidy()
			})
		})
	}
}

// without is all but some.
func without(all, some []string) []string {
	return slices.DeleteFunc(all, func(name string) bool { return slices.Contains(some, name) })
}

// TestF16KilledWhileAnAttachmentComesIn: it is fetched, checked, brought into the homeserver, noted and shown.
func TestF16KilledWhileAnAttachmentComesIn(t *testing.T) {
	for _, point := range []string{
		killpoint.InStored, killpoint.InFileWanted, killpoint.InFileFetched, killpoint.InFileOpened, killpoint.InFileUploaded, killpoint.InFileNoted,
		killpoint.InSending, killpoint.InAnswered, killpoint.InDelivered,
	} {
		t.Run(point, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				r.arm(point, 1)
				if point == killpoint.InSending || point == killpoint.InAnswered || point == killpoint.InDelivered || point == killpoint.InStored {
					c.fileFromPhone(true)
				} else {
					c.fromPhone(1)
					c.fileFromPhone(true)
				}
				c.fromPhone(1)
				r.dead(point)
				c.fileFromPhone(false)
				c.fromMatrix(1)
				c.r.hs.ForgetTransactions()
				r.run()
				c.fromPhone(1)
				c.check()
				r.tidy()
			})
		})
	}
}
