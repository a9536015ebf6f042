package e2ee_test

import (
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"runtime/metrics"
	"slices"
	"testing"

	"postern/connector/e2ee"
)

// allocated is how many bytes the process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// The allocations one message may cause: a multiple of its length, and what walking a chain over MaxForwardJump places
// costs in each state of the target (about 600 bytes a place), with room for the test's own.
const (
	bytesPerByte  = 16
	bytesPerState = e2ee.MaxForwardJump * 1024
	bytesFixed    = 512 << 10
)

// foresee makes all keys drawn from here on the same in every process, until the test ends; calling what it returns
// begins anew. The fuzzer's seeds come from one process and are tried in another, and a finding has to fail again in a
// third: with keys of its own each would meet nothing but wrong MACs.
func foresee(t testing.TB) (again func()) {
	before := rand.Reader
	t.Cleanup(func() { rand.Reader = before })
	again = func() { rand.Reader = mathrand.NewChaCha8([32]byte{1, 2, 3}) }
	again()
	return again
}

func TestTheStatesForFuzzingAreTheSameInEveryProcess(t *testing.T) {
	again := foresee(t)
	one := targets(t, newOurs(t))
	again()
	two := targets(t, newOurs(t))
	for i := range one {
		if !slices.EqualFunc(one[i].messages, two[i].messages, func(a, b e2ee.Sealed) bool { return a.Type == b.Type && string(a.Body) == string(b.Body) }) {
			t.Errorf("the messages for state %d differ", i)
		}
	}
}

// FuzzDecrypt gives any body to sessions in several states. A message that is refused leaves the store as it was, and what
// is allocated is bounded by 512 KiB, 16 bytes for each byte of the body, and the cost of walking a chain as far as
// allowed in each state of the session.
//
// decoder: message.go receive.go signal.go:Signal.Decrypt,Signal.open,Signal.openFirst,Signal.load,Signal.loadRow,Signal.loadIdentity
// decoder: buffer.go:bufferStore.loadKeys curve.go:usable,parseKey record.go:sessionRow.begin,sessionRow.promote,sessionRow.at,sessionRow.find,stateBaseKey,sessionRow.marshal
func FuzzDecrypt(f *testing.F) {
	again := foresee(f)
	ours := newOurs(f)
	list := targets(f, ours)
	states := make([]int, len(list)) // of each target, and one for a session that may begin
	for i, place := range list {
		for _, m := range slices.Concat(place.messages, place.spent) {
			f.Add(byte(i), m.Type == e2ee.TypePreKey, m.Body)
		}
		ours.mem.Restore(place.before)
		info, err := ours.party.Signal.Session(f.Context(), peerJID(1))
		if err != nil {
			f.Fatal(err)
		}
		states[i] = info.Archived + 2
	}
	f.Add(byte(0), true, []byte{})
	f.Add(byte(0), false, []byte{0x33})
	f.Fuzz(func(t *testing.T, at byte, preKey bool, body []byte) {
		at %= byte(len(list))
		place := list[at]
		typ := e2ee.TypeMessage
		if preKey {
			typ = e2ee.TypePreKey
		}
		again()
		ours.t = t
		ours.mem.Restore(place.before)
		start := allocated()
		_, err := ours.decrypt(1, e2ee.Sealed{Type: typ, Body: body})
		used := allocated() - start
		bound := uint64(bytesFixed + states[at]*bytesPerState + bytesPerByte*len(body))
		if used > bound {
			t.Errorf("%d bytes allocated for a message of %d; the bound is %d", used, len(body), bound)
		}
		if err != nil && !unchanged(ours.mem, place.before) {
			t.Errorf("%v: the store has changed", err)
		}
	})
}

// FuzzStored puts any bytes where a session, an identity and prekeys are stored, and works with them. Every answer is a
// result or one of this package's errors, a message that is refused leaves the store as it was, and what is allocated is
// bounded by 1 MiB, 64 bytes for each byte stored, and the cost of walking a chain as far as allowed.
//
// decoder: record.go:unmarshalRow,decodeState,stateFormat.Deserialize,wellFormed,chainIn,stateBaseKey
// decoder: device.go:UnmarshalDevice,UnmarshalPreKey,UnmarshalSignedPreKey message.go:readFields,field.bytes
func FuzzStored(f *testing.F) {
	again := foresee(f)
	ours := newOurs(f)
	list := targets(f, ours)
	var messages []e2ee.Sealed
	address := peerJID(1).SignalAddress()
	for _, place := range list {
		ours.mem.Restore(place.before)
		row, err := ours.mem.LoadSession(f.Context(), address)
		if err != nil {
			f.Fatal(err)
		}
		m := place.messages[len(place.messages)-1]
		f.Add(row, byte(len(messages)))
		messages = append(messages, m)
		for _, n := range []int{1, 2, 40, len(row) - 1} {
			if n > 0 && n < len(row) {
				f.Add(row[:n], byte(0))
			}
		}
	}
	keys, err := ours.party.Device.GeneratePreKeys(1, 1)
	if err != nil {
		f.Fatal(err)
	}
	signed, err := ours.party.Device.GenerateSignedPreKey(1)
	if err != nil {
		f.Fatal(err)
	}
	for _, row := range [][]byte{ours.party.Device.Marshal(), keys[0].Marshal(), signed.Marshal(), {1}, {1, 0}, {1, 0, 0}, {1, 0, 1, 5}, {2}, {}} {
		f.Add(row, byte(0))
	}
	before := list[0].before
	f.Fuzz(func(t *testing.T, row []byte, which byte) {
		again()
		ours.t = t
		m := messages[int(which)%len(messages)]
		fresh := func() {
			ours.mem.Restore(before)
			if err := ours.mem.Commit(t.Context(), &e2ee.Change{Addr: address, Session: row}, nil); err != nil {
				t.Fatal(err)
			}
		}
		check := func(what string, err error) {
			var known *e2ee.Error
			if err != nil && !errors.As(err, &known) {
				t.Errorf("%s: an error of another kind: %v", what, err)
			}
		}
		fresh()
		start := allocated()
		_, err := ours.party.Signal.Session(t.Context(), peerJID(1))
		check("session", err)
		as := ours.mem.Snapshot()
		_, err = ours.decrypt(1, m)
		check("decrypt", err)
		if err != nil && !unchanged(ours.mem, as) {
			t.Errorf("%v: the store has changed", err)
		}
		fresh()
		_, err = ours.encrypt(1, "x")
		check("encrypt", err)
		if d, err := e2ee.UnmarshalDevice(row); err == nil && string(d.Marshal()) != string(row) {
			t.Error("the identity is not what was stored")
		}
		if k, err := e2ee.UnmarshalPreKey(1, row); err == nil && string(k.Marshal()) != string(row) {
			t.Error("the prekey is not what was stored")
		}
		if k, err := e2ee.UnmarshalSignedPreKey(1, row); err == nil && string(k.Marshal()) != string(row) {
			t.Error("the signed prekey is not what was stored")
		}
		if used, bound := allocated()-start, uint64(1<<20+4*bytesPerState+64*len(row)); used > bound {
			t.Errorf("%d bytes allocated for a row of %d", used, len(row))
		}
	})
}
