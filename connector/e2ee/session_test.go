package e2ee_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
)

func TestAnIdentityChangeIsReportedAndTakesEffectOnlyAfterTheMAC(t *testing.T) {
	ours, first, second := newOurs(t), newStock(t), newStock(t) // second is peer 1 after a new installation
	acquaint(t, first, ours)
	late := mustEncrypt(t, first, 2, "late")
	old, _, _ := ours.party.Signal.Identity(t.Context(), peerJID(1))

	mustStart(t, second, 2, ours.bundle(true))
	before := ours.mem.Snapshot()
	forged := second.handmade(2, func(h *handmade) { h.keys.mac = make([]byte, 32) })
	if _, err := ours.decrypt(1, forged); !errors.Is(err, e2ee.ErrBadMAC) || !unchanged(ours.mem, before) {
		t.Fatalf("a new identity without a MAC: %v", err)
	}
	_, info, err := ours.open(1, mustEncrypt(t, second, 2, "it is me"))
	if err != nil {
		t.Fatal(err)
	}
	now, _, _ := ours.party.Signal.Identity(t.Context(), peerJID(1))
	if !info.IdentityChanged || info.FirstIdentity || info.PreviousIdentity != old || info.Identity != now || now == old {
		t.Errorf("the change is not reported: %+v", info)
	}
	_, info, err = ours.open(1, mustEncrypt(t, second, 2, "and again"))
	if err != nil || info.IdentityChanged || info.NewSession {
		t.Errorf("the second message reports a change again: %+v, %v", info, err)
	}

	// What the old installation sent before is read, but changes nothing about who the peer is or where we send, though
	// it begins a ratchet step.
	text, info, err := ours.open(1, late)
	if err != nil || text != "late" || !info.Superseded || info.Identity != old || info.IdentityChanged {
		t.Errorf("the late message: %+v, %v", info, err)
	}
	mustRead(t, second, 2, mustEncrypt(t, ours, 1, "to the new one"), "to the new one")
	if stored, _, _ := ours.party.Signal.Identity(t.Context(), peerJID(1)); stored != now {
		t.Error("the late message brought the old identity back")
	}
}

func TestAnArchivedSessionIsSentInAgainOnlyAfterARatchetStepOfThePeer(t *testing.T) {
	ours, peer := newOurs(t), newStock(t)
	current := func() [32]byte {
		t.Helper()
		info, err := ours.party.Signal.Session(t.Context(), peerJID(1))
		if err != nil {
			t.Fatal(err)
		}
		return info.BaseKey
	}
	acquaint(t, peer, ours)
	mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "in a chain we know from here on"), "in a chain we know from here on")
	older := current()
	sameChain := mustEncrypt(t, peer, 2, "same chain")
	mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "ping"), "ping")
	step := mustEncrypt(t, peer, 2, "a step")
	mustStart(t, ours, 1, peer.bundle(true))
	newer := current()
	mustRead(t, ours, 1, sameChain, "same chain")
	if current() != newer {
		t.Error("a late message without a step took the newer session's place")
	}
	mustRead(t, ours, 1, step, "a step")
	if current() != older {
		t.Error("the session the peer goes on in is not the one we send in")
	}
	mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "pong"), "pong")
}

func TestStartingASessionReportsTheIdentityAndVerifiesTheSignatureFirst(t *testing.T) {
	ours, peer := newOurs(t), newStock(t)
	start := func(b e2ee.Bundle) (e2ee.Started, error) {
		return ours.party.Signal.StartSession(t.Context(), peerJID(2), b, nil)
	}
	damaged := map[string]func(b *e2ee.Bundle){
		"a wrong signature":    func(b *e2ee.Bundle) { b.Signed.Signature[3] ^= 1 },
		"no signature":         func(b *e2ee.Bundle) { b.Signed.Signature = [64]byte{} },
		"another signed key":   func(b *e2ee.Bundle) { b.Signed.Key = newStock(t).bundle(false).Signed.Key },
		"another identity":     func(b *e2ee.Bundle) { b.Identity = newStock(t).bundle(false).Identity },
		"the key of another":   func(b *e2ee.Bundle) { b.Signed = newStock(t).bundle(false).Signed },
		"a high signature bit": func(b *e2ee.Bundle) { b.Signed.Signature[63] |= 0x40 },
	}
	before := ours.mem.Snapshot()
	for name, damage := range damaged {
		b := peer.bundle(true)
		damage(&b)
		if _, err := start(b); !errors.Is(err, e2ee.ErrSignature) || e2ee.RetryReason(err) != 5 {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := peer.bundle(true)
	b.Signed.ID = e2ee.MaxKeyID + 1
	if _, err := start(b); !errors.Is(err, e2ee.ErrInvalidKey) {
		t.Errorf("a key id above three bytes: %v", err)
	}
	if !unchanged(ours.mem, before) {
		t.Fatal("a refused bundle changed the store")
	}
	untouched := e2ee.New(ours.party.Device, noStore{})
	b = peer.bundle(true)
	b.Signed.Signature[0] ^= 1
	if _, err := untouched.StartSession(t.Context(), peerJID(2), b, nil); !errors.Is(err, e2ee.ErrSignature) {
		t.Errorf("the signature is not the first thing looked at: %v", err)
	}
	one := peer.bundle(true)
	if started, err := start(one); err != nil || !started.FirstIdentity || started.IdentityChanged || started.Identity != one.Identity {
		t.Errorf("the first bundle: %+v, %v", started, err)
	}
	if started, err := start(peer.bundle(false)); err != nil || started.FirstIdentity || started.IdentityChanged {
		t.Errorf("a second one of the same person: %+v, %v", started, err)
	}
	other := newStock(t).bundle(true)
	started, err := start(other)
	if err != nil || !started.IdentityChanged || started.PreviousIdentity != one.Identity || started.Identity != other.Identity {
		t.Errorf("another identity: %+v, %v", started, err)
	}
	before = ours.mem.Snapshot()
	refused := errors.New("refused")
	_, err = ours.party.Signal.StartSession(t.Context(), peerJID(2), peer.bundle(true), func(context.Context, e2ee.Started) error { return refused })
	if !errors.Is(err, refused) || !unchanged(ours.mem, before) {
		t.Errorf("the caller's error: %v", err)
	}
}

func TestEndingASessionKeepsWhatIsUnderWayReadable(t *testing.T) {
	ours, peer := newOurs(t), newStock(t)
	if err := ours.party.Signal.EndSession(t.Context(), peerJID(1), nil); err != nil || len(ours.mem.Snapshot()) != 0 {
		t.Fatalf("ending what does not exist: %v", err)
	}
	acquaint(t, peer, ours)
	late := mustEncrypt(t, peer, 2, "late")
	key, _, _ := ours.party.Signal.Identity(t.Context(), peerJID(1))
	ran := false
	if err := ours.party.Signal.EndSession(t.Context(), peerJID(1), func(context.Context) error { ran = true; return nil }); err != nil || !ran {
		t.Fatalf("end: %v, commit ran: %v", err, ran)
	}
	if has, err := ours.party.Signal.HasSession(t.Context(), peerJID(1)); has || err != nil {
		t.Errorf("there is still a session: %v", err)
	}
	if _, err := ours.encrypt(1, "text"); !errors.Is(err, e2ee.ErrNoSession) {
		t.Errorf("encrypt: %v", err)
	}
	if kept, known, _ := ours.party.Signal.Identity(t.Context(), peerJID(1)); !known || kept != key {
		t.Error("the identity is gone")
	}
	mustRead(t, ours, 1, late, "late")
	if has, _ := ours.party.Signal.HasSession(t.Context(), peerJID(1)); has {
		t.Error("a late message brought the session back")
	}
	mustStart(t, ours, 1, peer.bundle(true))
	mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "anew"), "anew")
}

func TestASessionDescribesItself(t *testing.T) {
	ours, peer := newOurs(t), newStock(t)
	describe := func() e2ee.SessionInfo {
		t.Helper()
		info, err := ours.party.Signal.Session(t.Context(), peerJID(2))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if info := describe(); info != (e2ee.SessionInfo{}) {
		t.Errorf("without a session: %+v", info)
	}
	mustStart(t, ours, 2, peer.bundle(true))
	one := describe()
	if !one.Exists || !one.Unacknowledged || one.RegistrationID != 77 || one.Archived != 0 ||
		one.Identity != peer.own.PublicKey().PublicKey().PublicKey() || one.BaseKey == ([32]byte{}) {
		t.Errorf("a session just begun: %+v", one)
	}
	m := mustEncrypt(t, ours, 2, "hello")
	if m.Type != e2ee.TypePreKey {
		t.Errorf("the first message is a %s", m.Type)
	}
	mustRead(t, peer, 1, m, "hello")
	mustRead(t, ours, 2, mustEncrypt(t, peer, 1, "hello"), "hello")
	two := describe()
	if two.Unacknowledged || two.BaseKey != one.BaseKey {
		t.Errorf("after an answer: %+v", two)
	}
	if m = mustEncrypt(t, ours, 2, "more"); m.Type != e2ee.TypeMessage {
		t.Errorf("after an answer we send a %s", m.Type)
	}
	mustStart(t, ours, 2, peer.bundle(true))
	if three := describe(); three.BaseKey == one.BaseKey || three.Archived != 1 || !three.Unacknowledged {
		t.Errorf("after another start: %+v", three)
	}
	if id, has, err := ours.party.Signal.SessionRegistrationID(t.Context(), peerJID(2)); id != 77 || !has || err != nil {
		t.Errorf("registration id %d, %v, %v", id, has, err)
	}
}

func TestEveryRefusalNamesItsReasonAndLeavesTheStoreAlone(t *testing.T) {
	ours, peer := newOurs(t), newStock(t)
	acquaint(t, peer, ours)
	read := mustEncrypt(t, peer, 2, "read")
	mustRead(t, ours, 1, read, "read")
	good := mustEncrypt(t, peer, 2, "good")
	flipped := e2ee.Sealed{Type: good.Type, Body: append([]byte(nil), good.Body...)}
	flipped.Body[len(flipped.Body)-1] ^= 0x80
	version := e2ee.Sealed{Type: good.Type, Body: append([]byte(nil), good.Body...)}
	version.Body[0] = 0x44
	far := peer.handmade(2, func(h *handmade) { h.counter += e2ee.MaxForwardJump + 1 })
	stranger, consumed := newStock(t), newStock(t)
	mustStart(t, consumed, 2, ours.bundle(true))
	mustRead(t, ours, 3, mustEncrypt(t, consumed, 2, "hello"), "hello")
	spent := mustEncrypt(t, consumed, 2, "hello again")
	mustStart(t, stranger, 2, newStock(t).bundle(true))
	unknownSigned := mustEncrypt(t, stranger, 2, "for another")

	cases := []struct {
		name   string
		peer   int
		m      e2ee.Sealed
		want   error
		reason int
	}{
		{"a duplicate", 1, read, e2ee.ErrDuplicate, 9},
		{"a flipped bit in the MAC", 1, flipped, e2ee.ErrBadMAC, 7},
		{"version 4", 1, version, e2ee.ErrMalformed, 4},
		{"an unknown type", 1, e2ee.Sealed{Type: "skmsg", Body: good.Body}, e2ee.ErrMalformed, 4},
		{"nothing at all", 1, e2ee.Sealed{Type: e2ee.TypeMessage}, e2ee.ErrMalformed, 4},
		{"nothing in a prekey message", 1, e2ee.Sealed{Type: e2ee.TypePreKey, Body: []byte{0x33}}, e2ee.ErrInvalidKey, 2},
		{"too far ahead", 1, far, e2ee.ErrTooFarAhead, 6},
		{"no session", 9, good, e2ee.ErrNoSession, 1},
		{"a one-time prekey used before, by another address", 4, spent, e2ee.ErrNoPreKey, 3},
		{"a signed prekey we never had", 5, unknownSigned, e2ee.ErrNoPreKey, 3},
		{"too large", 1, e2ee.Sealed{Type: e2ee.TypeMessage, Body: make([]byte, e2ee.MaxMessageBytes+1)}, e2ee.ErrTooLarge, 4},
	}
	before := ours.mem.Snapshot()
	for _, c := range cases {
		err := ours.party.Signal.Decrypt(t.Context(), peerJID(c.peer), c.m.Type, c.m.Body,
			func(context.Context, []byte, e2ee.Opened) error { t.Errorf("%s: commit ran", c.name); return nil })
		if !errors.Is(err, c.want) || e2ee.RetryReason(err) != c.reason {
			t.Errorf("%s: %v (reason %d), want %v", c.name, err, e2ee.RetryReason(err), c.want)
		}
		if !unchanged(ours.mem, before) {
			t.Fatalf("%s: the store has changed", c.name)
		}
	}
	mustRead(t, ours, 1, good, "good")
	if _, err := ours.party.Signal.Encrypt(t.Context(), peerJID(1), make([]byte, e2ee.MaxPlaintextBytes+1), nil); !errors.Is(err, e2ee.ErrTooLarge) {
		t.Errorf("too large a plaintext: %v", err)
	}
	if e2ee.RetryReason(errors.New("other")) != 0 {
		t.Error("an error that is not ours has a reason")
	}
}

func TestTheLargestPlaintextFitsIntoAMessage(t *testing.T) {
	ours, other := newOurs(t), newOurs(t)
	mustStart(t, ours, 2, other.bundle(true))
	text := make([]byte, e2ee.MaxPlaintextBytes)
	sealed, err := ours.party.Signal.Encrypt(t.Context(), peerJID(2), text, nil)
	if err != nil || len(sealed.Body) > e2ee.MaxMessageBytes {
		t.Fatalf("%d bytes, %v", len(sealed.Body), err)
	}
	mustRead(t, other, 1, sealed, string(text))
}

func TestEncryptingWritesNothingIntoTheCallersMemory(t *testing.T) {
	ours, other := newOurs(t), newOurs(t)
	mustStart(t, ours, 2, other.bundle(true))
	memory := []byte("text and what stands behind it in the same array")
	want := string(memory)
	if _, err := ours.party.Signal.Encrypt(t.Context(), peerJID(2), memory[:4], nil); err != nil {
		t.Fatal(err)
	}
	if string(memory) != want {
		t.Error("the bytes behind the plaintext were overwritten")
	}
}

func TestAFailedEncryptUsesNoCounterThatIsSentLater(t *testing.T) {
	ours, other := newOurs(t), newOurs(t)
	acquaint(t, ours, other)
	before, refused := ours.mem.Snapshot(), errors.New("refused")
	var offered e2ee.Sealed
	sealed, err := ours.party.Signal.Encrypt(t.Context(), peerJID(2), []byte("text"), func(_ context.Context, s e2ee.Sealed) error {
		offered = s
		return refused
	})
	if !errors.Is(err, refused) || sealed.Body != nil || offered.Body == nil || !unchanged(ours.mem, before) {
		t.Fatalf("error %v", err)
	}
	mustRead(t, other, 1, mustEncrypt(t, ours, 2, "next"), "next")
}

func TestASessionWhoseIdentityIsNotTheStoredOneIsNotUsedToSend(t *testing.T) {
	ours, other := newOurs(t), newOurs(t)
	acquaint(t, ours, other)
	addr := peerJID(2).SignalAddress()
	rows := ours.mem.Snapshot()
	rows["identity/"+addr] = make([]byte, 32)
	ours.mem.Restore(rows)
	if _, err := ours.encrypt(2, "text"); !errors.Is(err, e2ee.ErrUntrusted) {
		t.Errorf("another identity: %v", err)
	}
	delete(rows, "identity/"+addr)
	ours.mem.Restore(rows)
	if _, err := ours.encrypt(2, "text"); !errors.Is(err, e2ee.ErrUntrusted) {
		t.Errorf("no identity: %v", err)
	}
	rows["identity/"+addr] = []byte("short")
	ours.mem.Restore(rows)
	if _, err := ours.encrypt(2, "text"); !errors.Is(err, e2ee.ErrUntrusted) {
		t.Errorf("no key at all: %v", err)
	}
}

func TestWhoseStoredIdentityIsDamagedIsReadAndTheirNextKeyCountsAsChanged(t *testing.T) {
	ours, other := newOurs(t), newOurs(t)
	acquaint(t, ours, other)
	addr := peerJID(2).SignalAddress()
	rows := ours.mem.Snapshot()
	rows["identity/"+addr] = []byte("short")
	ours.mem.Restore(rows)
	mustRead(t, ours, 2, mustEncrypt(t, other, 1, "in the old session"), "in the old session")
	started, err := ours.party.Signal.StartSession(t.Context(), peerJID(2), other.bundle(true), nil)
	if err != nil || !started.IdentityChanged || started.FirstIdentity {
		t.Errorf("a new session: %+v, %v", started, err)
	}
	mustRead(t, other, 1, mustEncrypt(t, ours, 2, "anew"), "anew")
	ours.mem.Restore(rows)
	mustStart(t, other, 1, ours.bundle(true))
	if _, info, err := ours.open(2, mustEncrypt(t, other, 1, "theirs")); err != nil || !info.IdentityChanged {
		t.Errorf("their new session: %+v, %v", info, err)
	}
}

func TestAMessageWaitingForItsAddressGivesUpWithItsContext(t *testing.T) {
	ours, other := newOurs(t), newOurs(t)
	acquaint(t, ours, other)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := ours.party.Signal.Encrypt(t.Context(), peerJID(2), []byte("holds the lock"), func(context.Context, e2ee.Sealed) error {
		cancel()
		_, err := ours.party.Signal.Encrypt(ctx, peerJID(2), []byte("waits"), nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the one that waits: %v", err)
		}
		// Other addresses do not wait.
		if _, err = ours.party.Signal.Session(t.Context(), peerJID(3)); err != nil {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("the one that holds the lock: %v", err)
	}
	mustRead(t, other, 1, mustEncrypt(t, ours, 2, "free again"), "free again")
}

func TestAnUnreadableSessionRowIsAnErrorAndAPreKeyMessageHealsIt(t *testing.T) {
	for _, row := range [][]byte{{}, {0}, {9, 9, 9}, {1}, {1, 3, 1, 2}, {1, 2, 0xff, 0xff}, {1, 1, 0, 0}, make([]byte, e2ee.MaxSessionBytes+1)} {
		t.Run(fmt.Sprintf("%d bytes", len(row)), func(t *testing.T) {
			ours, peer := newOurs(t), newStock(t)
			acquaint(t, peer, ours)
			rows := ours.mem.Snapshot()
			rows["session/"+peerJID(1).SignalAddress()] = row
			ours.mem.Restore(rows)
			if _, err := ours.decrypt(1, mustEncrypt(t, peer, 2, "lost")); !errors.Is(err, e2ee.ErrCorruptSession) || e2ee.RetryReason(err) != 8 {
				t.Errorf("decrypt: %v", err)
			}
			if _, err := ours.encrypt(1, "text"); !errors.Is(err, e2ee.ErrCorruptSession) {
				t.Errorf("encrypt: %v", err)
			}
			if _, err := ours.party.Signal.Session(t.Context(), peerJID(1)); !errors.Is(err, e2ee.ErrCorruptSession) {
				t.Errorf("describe: %v", err)
			}
			broken := ours.mem.Snapshot()
			mustStart(t, peer, 2, ours.bundle(true))
			mustRead(t, ours, 1, mustEncrypt(t, peer, 2, "healed"), "healed")
			mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "healed"), "healed")

			ours.mem.Restore(broken)
			mustStart(t, ours, 1, peer.bundle(true))
			mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "healed"), "healed")

			ours.mem.Restore(broken)
			if err := ours.party.Signal.EndSession(t.Context(), peerJID(1), nil); err != nil {
				t.Errorf("end: %v", err)
			}
			if has, err := ours.party.Signal.HasSession(t.Context(), peerJID(1)); has || err != nil {
				t.Errorf("after the end: %v, %v", has, err)
			}
		})
	}
}

func TestTwoMessagesThatUseOnePreKeyDoNotBothBeginASession(t *testing.T) {
	ours, one, two := newOurs(t), newStock(t), newStock(t)
	b := ours.bundle(true)
	mustStart(t, one, 2, b)
	mustStart(t, two, 2, b)
	first, second := mustEncrypt(t, one, 2, "first"), mustEncrypt(t, two, 2, "second")
	// The other message is read while this one is between its load and its commit.
	err := ours.party.Signal.Decrypt(t.Context(), peerJID(1), first.Type, first.Body, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = ours.decrypt(3, second); !errors.Is(err, e2ee.ErrNoPreKey) {
		t.Errorf("the second: %v", err)
	}
	late := newOurs(t)
	late.party.Signal = e2ee.New(late.party.Device, staleStore{late.mem})
	mustStart(t, one, 5, late.bundle(true))
	m := mustEncrypt(t, one, 5, "first")
	before := late.mem.Snapshot()
	if _, err = late.decrypt(1, m); !errors.Is(err, e2ee.ErrPreKeyGone) || e2ee.RetryReason(err) != 3 {
		t.Errorf("a prekey gone at the commit: %v", err)
	}
	if len(late.mem.Snapshot()) != len(before)-1 {
		t.Error("rows were left behind")
	}
}

// noStore has nothing and fails whatever is asked of it.
type noStore struct{ e2ee.Store }

func (noStore) LoadSession(context.Context, string) ([]byte, error)  { return nil, errNotUsed }
func (noStore) LoadIdentity(context.Context, string) ([]byte, error) { return nil, errNotUsed }

// staleStore loses each prekey between its load and the commit, as a message of another address can.
type staleStore struct{ *e2eetest.MemStore }

func (s staleStore) LoadPreKey(ctx context.Context, id uint32) ([]byte, error) {
	key, err := s.MemStore.LoadPreKey(ctx, id)
	if err == nil && key != nil {
		err = s.Commit(ctx, &e2ee.Change{UsedPreKey: &id}, nil)
	}
	return key, err
}

// TestAFirstMessageIsNotReadTwiceUnderAnotherSpellingOfItsBaseKey: a key agreement does not look at the top bit of a public key, nor at whether it
// is above the prime, and no MAC covers the base key. Another spelling of it would look like another session.
func TestAFirstMessageIsNotReadTwiceUnderAnotherSpellingOfItsBaseKey(t *testing.T) {
	for _, oneTime := range []bool{false, true} {
		ours, other := newOurs(t), newOurs(t)
		mustStart(t, other, 1, ours.bundle(oneTime))
		m := mustEncrypt(t, other, 1, "once")
		mustRead(t, ours, 2, m, "once")
		before := ours.mem.Snapshot()
		at := bytes.Index(m.Body, []byte{0x12, 33, 0x05})
		if at < 0 {
			t.Fatal("there is no base key")
		}
		again := e2ee.Sealed{Type: m.Type, Body: bytes.Clone(m.Body)}
		again.Body[at+2+32] ^= 0x80
		if _, err := ours.decrypt(2, again); !errors.Is(err, e2ee.ErrInvalidKey) || !unchanged(ours.mem, before) {
			t.Errorf("with a one-time prekey: %v: the same message again: %v", oneTime, err)
		}
		// Of a number and the same above the prime only those below 19 have both; the base point is one.
		for low := range byte(19) {
			copy(again.Body[at+3:], bytes.Repeat([]byte{0xff}, 31))
			again.Body[at+3], again.Body[at+2+32] = 0xed+low, 0x7f
			if _, err := ours.decrypt(2, again); !errors.Is(err, e2ee.ErrInvalidKey) {
				t.Errorf("the prime and %d: %v", low, err)
			}
		}
	}
}
