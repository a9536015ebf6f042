package e2ee_test

import (
	"errors"
	"testing"

	"postern/connector/e2ee"
)

func TestAMessageMayBeUpToTheForwardJumpAheadAndAllBeforeItCanStillBeRead(t *testing.T) {
	ours, peer := newOurs(t), newOurs(t)
	acquaint(t, peer, ours)
	skipped := make([]e2ee.Sealed, e2ee.MaxForwardJump)
	for i := range skipped {
		skipped[i] = mustEncrypt(t, peer, 2, "skipped")
	}
	mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "the farthest"), "the farthest")
	for _, i := range []int{len(skipped) - 1, 0, 1000} {
		mustRead(t, ours, 1, skipped[i], "skipped")
	}
	// The next step is more than the jump allows, and nothing is lost by the refusal.
	var far e2ee.Sealed
	for range e2ee.MaxForwardJump + 2 {
		far = mustEncrypt(t, peer, 2, "too far")
	}
	before := ours.mem.Snapshot()
	if _, err := ours.decrypt(1, far); !errors.Is(err, e2ee.ErrTooFarAhead) || !unchanged(ours.mem, before) {
		t.Errorf("beyond the jump: %v", err)
	}
	mustRead(t, ours, 1, skipped[500], "skipped")
}

func TestAStateKeepsTheLastFiveChains(t *testing.T) {
	ours, peer := newOurs(t), newOurs(t)
	acquaint(t, peer, ours)
	var late []e2ee.Sealed
	for range 6 {
		late = append(late, mustEncrypt(t, peer, 2, "late"))
		mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "ping"), "ping")
		mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "pong"), "pong")
	}
	if _, err := ours.decrypt(1, late[0]); !errors.Is(err, e2ee.ErrBadMAC) {
		t.Errorf("six chains late: %v", err)
	}
	for _, m := range late[1:] {
		mustRead(t, ours, 1, m, "late")
	}
}

func TestFortyOlderSessionsStayReadable(t *testing.T) {
	ours, peer := newOurs(t), newStock(t)
	var waiting []e2ee.Sealed
	for range e2ee.MaxArchivedStates + 2 {
		mustStart(t, peer, 2, ours.bundle(true))
		waiting = append(waiting, mustEncrypt(t, peer, 2, "late"))
		mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "now"), "now")
	}
	info, err := ours.party.Signal.Session(t.Context(), peerJID(1))
	if err != nil || info.Archived != e2ee.MaxArchivedStates {
		t.Fatalf("%d archived states, %v", info.Archived, err)
	}
	// The prekey that began the oldest is used up, so its messages are lost for good, and are known to be.
	if _, err := ours.decrypt(1, waiting[0]); !errors.Is(err, e2ee.ErrNoPreKey) {
		t.Errorf("the one too many: %v", err)
	}
	for _, m := range waiting[1:] {
		mustRead(t, ours, 1, m, "late")
	}
	if now, err := ours.party.Signal.Session(t.Context(), peerJID(1)); err != nil || now.BaseKey != info.BaseKey {
		t.Errorf("the newest session is no longer the current one: %v", err)
	}
}

func TestASessionRowStaysBelowItsBoundWhateverThePeerDoes(t *testing.T) {
	ours, peer := newOurs(t), newStock(t)
	largest := 0
	// Each first message leaves as many kept keys as a chain may have.
	for range 14 {
		mustStart(t, peer, 2, ours.bundle(true))
		far := peer.jump(2, e2ee.MaxForwardJump)
		mustRead(t, ours, 1, far, "far")
		largest = max(largest, len(ours.mem.Snapshot()["session/"+peerJID(1).SignalAddress()]))
	}
	if largest > e2ee.MaxSessionBytes || largest < e2ee.MaxSessionBytes/2 {
		t.Errorf("the row grew to %d bytes; the bound is %d", largest, e2ee.MaxSessionBytes)
	}
	info, err := ours.party.Signal.Session(t.Context(), peerJID(1))
	if err != nil || info.Archived < 5 || info.Archived > 12 {
		t.Errorf("%d states kept, %v", info.Archived, err)
	}
	mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "as usual"), "as usual")
	mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "as usual"), "as usual")
}

// jump skips n counters of the session with peer and sends.
func (u *stockUser) jump(peer int, n int) e2ee.Sealed {
	u.t.Helper()
	row, err := u.LoadSession(u.t.Context(), stockAddress(peer))
	if err != nil {
		u.t.Fatal(err)
	}
	key := row.SessionState().SenderChainKey().Current()
	for range n {
		key = key.NextKey()
	}
	row.SessionState().SetSenderChainKey(key)
	if err = u.StoreSession(u.t.Context(), stockAddress(peer), row); err != nil {
		u.t.Fatal(err)
	}
	return mustEncrypt(u.t, u, peer, "far")
}
