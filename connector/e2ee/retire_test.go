package e2ee_test

import (
	"errors"
	"testing"

	"postern/connector/e2ee"
)

// retire makes the stored row of a peer one of an old copy.
func (p *ourUser) retire(peer int) {
	p.t.Helper()
	rows := p.mem.Snapshot()
	key := "session/" + peerJID(peer).SignalAddress()
	if rows[key] == nil {
		p.t.Fatal("there is no row to retire")
	}
	rows[key] = e2ee.RetireSession(rows[key])
	p.mem.Restore(rows)
}

func TestARetiredSessionIsReadInAndNeverSentInAgain(t *testing.T) {
	ours, peer := newOurs(t), newStock(t)
	silent := func(when string) {
		t.Helper()
		if _, err := ours.encrypt(1, "text"); !errors.Is(err, e2ee.ErrNoSession) {
			t.Errorf("%s: %v, want no session", when, err)
		}
	}
	acquaint(t, peer, ours)
	mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "in a chain we know"), "in a chain we know")
	sameChain := mustEncrypt(t, peer, 2, "same chain")
	mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "ping"), "ping")
	ours.retire(1)
	silent("at once")
	mustRead(t, ours, 1, sameChain, "same chain")
	silent("after a message")
	step := mustEncrypt(t, peer, 2, "a step")
	mustRead(t, ours, 1, step, "a step")
	silent("after a step of the peer")
	late := mustEncrypt(t, peer, 2, "late")

	mustStart(t, ours, 1, peer.bundle(true))
	newer, err := ours.party.Signal.Session(t.Context(), peerJID(1))
	if err != nil || !newer.Exists {
		t.Fatal(newer, err)
	}
	mustRead(t, ours, 1, late, "late")
	// The peer goes on in the old session, with a step: it is read, and what we send goes in the new one all the same.
	if now, err := ours.party.Signal.Session(t.Context(), peerJID(1)); err != nil || now.BaseKey != newer.BaseKey {
		t.Errorf("the retired session is back: %+v, %v", now, err)
	}
	mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "anew"), "anew")
	mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "and back"), "and back")
}

func TestASessionThatThePeerBeginsAfterwardsIsSentIn(t *testing.T) {
	ours, peer := newOurs(t), newStock(t)
	acquaint(t, peer, ours)
	mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "before"), "before")
	ours.retire(1)
	mustStart(t, peer, 2, ours.bundle(true))
	mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "in a new session"), "in a new session")
	mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "answer"), "answer")
}

func TestRetiringWhatIsNoRowLeavesItAsItIs(t *testing.T) {
	if e2ee.RetireSession(nil) != nil {
		t.Error("a row was made of nothing")
	}
	for _, row := range []string{"", "\x09", "\x01\xff\xff", "\x02\x00", "\x02\x01\x00"} {
		if got := e2ee.RetireSession([]byte(row)); string(got) != row {
			t.Errorf("%x became %x", row, got)
		}
	}
}
