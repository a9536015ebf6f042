package e2ee_test

import (
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

// FuzzDecrypt gives any body to sessions in several states. A message that is refused leaves the store as it was, and what
// is allocated is bounded by a multiple of the body and the cost of walking a chain in each state of the session.
//
// decoder: message.go receive.go signal.go:Signal.Decrypt,Signal.open,Signal.openFirst,Signal.load,Signal.loadRow,Signal.loadIdentity
// decoder: buffer.go:bufferStore.loadKeys curve.go:usable,parseKey record.go:sessionRow.begin,sessionRow.promote,sessionRow.at,sessionRow.find,stateBaseKey,sessionRow.marshal
func FuzzDecrypt(f *testing.F) {
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
