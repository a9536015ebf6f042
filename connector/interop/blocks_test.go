package interop_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/connector/interop"
	"postern/connector/interop/interoptest"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// block blocks a phone, or ends that, and fails unless that changes something.
func (b *bench) block(p *fakePhone, blocked bool) {
	b.t.Helper()
	if changed, err := b.a.SetBlocked(context.Background(), b.chatWith(p), blocked, nil); err != nil || !changed {
		b.t.Fatalf("SetBlocked(%t) = %t, %v", blocked, changed, err)
	}
}

// wantBlocks fails unless, when everything is quiet, the gatekeeper's list and ours are these phones.
func (b *bench) wantBlocks(phones ...*fakePhone) {
	b.t.Helper()
	time.Sleep(time.Minute)
	synctest.Wait()
	var want, ours []jid.JID
	for _, p := range phones {
		want = append(want, p.jid)
	}
	for _, one := range must(b.a.BlockList(context.Background())) {
		ours = append(ours, must(b.store.PeerByChat(context.Background(), one.Chat)).JID)
		if one.Pending {
			b.t.Error("the gatekeeper was not told of a block")
		}
	}
	b.sees(func() {
		if !slices.Equal(b.g.blocked, want) || !slices.Equal(ours, want) {
			b.t.Errorf("blocked are %v, and at the gatekeeper %v, want %v", ours, b.g.blocked, want)
		}
	})
}

func TestWhatABlockedPersonWritesIsAckedAndNeitherShownNorReceiptedAlsoNotLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, interoptest.NewMemStore())
		defer b.end()
		p := b.g.phone("100")
		b.run()
		b.g.says(p, "A1", "before")
		b.wantBlocks()
		b.wantTexts("before")
		b.block(p, true)
		b.wantBlocks(p)
		b.g.says(p, "A2", "unseen")
		b.g.says(p, "A3", "unseen too")
		b.wantBlocks(p)
		b.wantQueue(0)
		if len(p.retry) > 0 {
			t.Error("a blocked person was asked to send again")
		}
		b.block(p, false)
		b.wantBlocks()
		b.g.says(p, "A4", "after")
		b.wantBlocks()
		b.wantTexts("before", "after")
		b.markRead(p, "A4")
		b.wantBlocks()
		b.sees(func() {
			for _, receipt := range p.read {
				if strings.Contains(receipt, "A2") || strings.Contains(receipt, "A3") {
					t.Errorf("receipt %q for what nobody has seen", receipt)
				}
			}
		})
		b.wantReads(p, "A1 A4")
		b.blameless()
	})
}

func TestAWishIsToldToTheGatekeeperAfterARestartAndAfterRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, interoptest.NewMemStore())
		defer b.end()
		p, other := b.g.phone("100"), b.g.phone("101")
		b.a = interop.New(b.config())
		b.block(p, true) // nothing runs
		b.block(other, true)
		failed := 0
		b.g.iqCode = func(r stanza.Request) int {
			if _, is := r.(stanza.BlockRequest); is && failed < 3 {
				failed++
				return 503
			}
			return 0
		}
		b.run()
		if blocked, err := b.a.Blocked(context.Background(), b.chatWith(p)); err != nil || !blocked {
			t.Fatalf("blocked after a restart: %t, %v", blocked, err)
		}
		b.wantBlocks(p, other)
		b.block(p, false)
		b.wantBlocks(other)
	})
}

func TestTheGatekeepersListIsTakenOverAtLoginAndByNotificationWithOneNoticeEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, interoptest.NewMemStore())
		defer b.end()
		p, other := b.g.phone("100"), b.g.phone("101")
		b.g.blocked = []jid.JID{p.jid}
		b.run()
		b.wantBlocks(p)
		b.wantTexts("block:blocked")
		b.sees(func() { b.g.blocked = append(b.g.blocked, other.jid) })
		told := stanza.NewBlockChanges(stanza.BlockChange{JID: other.jid, Block: true})
		told.ID = "N1"
		b.push(told)
		b.wantBlocks(p, other)
		b.wantTexts("block:blocked", "block:blocked")
		b.end()
		b.sees(func() { b.g.blocked = []jid.JID{other.jid} }) // it was taken off the list while we were away
		b.run()
		b.wantBlocks(other)
		b.wantTexts("block:blocked", "block:blocked", "block:unblocked")
	})
}

func TestWhatThePersonWishesStandsAgainstTheListUntilItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, interoptest.NewMemStore())
		defer b.end()
		p := b.g.phone("100")
		b.g.iqCode = func(r stanza.Request) int {
			if _, is := r.(stanza.BlockRequest); is {
				return 400
			}
			return 0
		}
		b.run()
		b.block(p, true)
		time.Sleep(time.Minute)
		other := stanza.NewBlockChanges(stanza.BlockChange{JID: p.jid, Block: false})
		other.ID = "N1"
		b.push(other)
		b.g.says(p, "A1", "unseen")
		time.Sleep(time.Minute)
		b.wantQueue(0)
		b.wantTexts()
		b.sees(func() { b.g.iqCode = nil })
		b.end()
		b.run()
		b.wantBlocks(p)
	})
}

func TestABlockThatCannotBeStoredDoesNotHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, interoptest.NewMemStore())
		p := b.g.phone("100")
		b.a = interop.New(b.config())
		broken := errors.New("broken")
		chat := b.chatWith(p)
		if _, err := b.a.SetBlocked(context.Background(), chat, true, func(context.Context) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		if blocked, err := b.a.Blocked(context.Background(), chat); blocked || err != nil {
			t.Errorf("blocked %t, %v", blocked, err)
		}
		if _, err := b.a.SetBlocked(context.Background(), "nobody", true, nil); !errors.Is(err, interop.ErrNoChat) {
			t.Errorf("unknown chat: %v", err)
		}
	})
}
