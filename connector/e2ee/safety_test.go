package e2ee_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"postern/connector/e2ee"
)

// people are two parties with fixed keys.
func people() (us, them e2ee.SafetyParty) {
	us = e2ee.SafetyParty{Identifier: []byte("1-4711@interop"), Identity: [32]byte(bytes.Repeat([]byte{7}, 32))}
	them = e2ee.SafetyParty{Identifier: []byte("100@lid"), Identity: [32]byte(bytes.Repeat([]byte{9}, 32))}
	return us, them
}

func TestBothSidesSeeTheSameSafetyNumberAndEachTakesTheOthersCode(t *testing.T) {
	us, them := people()
	ours, theirs := e2ee.NewSafetyNumber(1, 5200, us, them), e2ee.NewSafetyNumber(1, 5200, them, us)
	if ours.Digits() != theirs.Digits() || len(ours.Digits()) != e2ee.SafetyDigits {
		t.Errorf("we see %s, they %s", ours.Digits(), theirs.Digits())
	}
	for _, pair := range [][2]e2ee.SafetyNumber{{ours, theirs}, {theirs, ours}} {
		if equal, err := pair[0].Compare(pair[1].Scannable()); err != nil || !equal {
			t.Errorf("comparing the other side's: %t, %v", equal, err)
		}
	}
	// One's own code, held before one's own camera, is not the other side's.
	if equal, err := ours.Compare(ours.Scannable()); err != nil || equal {
		t.Errorf("comparing one's own: %t, %v", equal, err)
	}
}

func TestAnyOtherKeyIdentifierOrIterationMakesAnotherSafetyNumber(t *testing.T) {
	us, them := people()
	ours := e2ee.NewSafetyNumber(1, 100, us, them)
	key, name := them, them
	key.Identity[31] ^= 1
	name.Identifier = []byte("101@lid")
	for what, other := range map[string]e2ee.SafetyNumber{
		"key": e2ee.NewSafetyNumber(1, 100, key, us), "identifier": e2ee.NewSafetyNumber(1, 100, name, us), "iterations": e2ee.NewSafetyNumber(1, 101, them, us),
	} {
		if equal, err := ours.Compare(other.Scannable()); ours.Digits() == other.Digits() || equal || err != nil {
			t.Errorf("another %s: the digits are the same, or the code is taken (%t, %v)", what, equal, err)
		}
	}
}

func TestWhatIsNoCodeOfASafetyNumberIsRefused(t *testing.T) {
	us, them := people()
	ours, code := e2ee.NewSafetyNumber(1, 10, us, them), e2ee.NewSafetyNumber(1, 10, them, us).Scannable()
	short := protowire.AppendBytes(protowire.AppendTag(bytes.Clone(code[:2]), 2, protowire.BytesType), []byte("short"))
	for what, scanned := range map[string][]byte{
		"nothing": nil, "a text": []byte("https://example.com"), "half of it": code[:len(code)/2], "only a version": code[:2],
		"fingerprints of another length": short, "too much": append(bytes.Clone(code), make([]byte, e2ee.MaxScanned)...),
	} {
		if equal, err := ours.Compare(scanned); !errors.Is(err, e2ee.ErrNotScanned) || equal {
			t.Errorf("%s: %t, %v", what, equal, err)
		}
	}
	if _, err := ours.Compare(e2ee.NewSafetyNumber(2, 10, them, us).Scannable()); !errors.Is(err, e2ee.ErrScannedVersion) {
		t.Errorf("another version: %v", err)
	}
	// A later version of the form may have more in it.
	more := protowire.AppendVarint(protowire.AppendTag(bytes.Clone(code), 9, protowire.VarintType), 5)
	more = protowire.AppendFixed32(protowire.AppendTag(more, 10, protowire.Fixed32Type), 5)
	if equal, err := ours.Compare(more); err != nil || !equal {
		t.Errorf("with unknown fields: %t, %v", equal, err)
	}
}

// FuzzScannedSafetyNumber: whatever is scanned, comparing it says equal, different, or that it is none, and
// no more than 64 KiB are allocated.
//
// decoder: safety.go:SafetyNumber.Compare,parseScanned,parseFingerprint,eachField
func FuzzScannedSafetyNumber(f *testing.F) {
	us, them := people()
	ours, code := e2ee.NewSafetyNumber(1, 10, us, them), e2ee.NewSafetyNumber(1, 10, them, us).Scannable()
	f.Add(code)
	f.Add(e2ee.NewSafetyNumber(2, 10, them, us).Scannable())
	f.Add(code[:40])
	f.Add([]byte("https://example.com"))
	f.Fuzz(func(t *testing.T, scanned []byte) {
		start := allocated()
		equal, err := ours.Compare(scanned)
		if used := allocated() - start; used > 64<<10 {
			t.Errorf("%d bytes allocated", used)
		}
		switch {
		case err != nil && equal:
			t.Error("equal, and an error")
		case err != nil && !errors.Is(err, e2ee.ErrNotScanned) && !errors.Is(err, e2ee.ErrScannedVersion):
			t.Errorf("an error of another kind: %v", err)
		case equal && (!bytes.Contains(scanned, code[6:38]) || !bytes.Contains(scanned, code[42:])):
			t.Error("equal without the fingerprints")
		}
	})
}
