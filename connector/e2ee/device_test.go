package e2ee_test

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"testing"

	"postern/connector/e2ee"

	"go.mau.fi/libsignal/ecc"
)

func publicOf(t *testing.T, private [32]byte) [32]byte {
	t.Helper()
	key, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(key.PublicKey().Bytes())
}

func TestADeviceComesBackFromItsStoredForm(t *testing.T) {
	device, err := e2ee.NewDevice(nil)
	if err != nil {
		t.Fatal(err)
	}
	if device.RegistrationID < 1 || device.RegistrationID > 16380 || device.IdentityPublic != publicOf(t, device.IdentityPrivate) {
		t.Errorf("registration id %d, or the public key is not that of the private one", device.RegistrationID)
	}
	stored := device.Marshal()
	back, err := e2ee.UnmarshalDevice(stored)
	if err != nil || *back != *device {
		t.Errorf("it came back changed: %v", err)
	}
	for _, wrong := range [][]byte{nil, stored[:36], append(bytes.Clone(stored), 0), append([]byte{2}, stored[1:]...)} {
		if _, err = e2ee.UnmarshalDevice(wrong); !errors.Is(err, e2ee.ErrKeyStored) {
			t.Errorf("%d bytes: %v", len(wrong), err)
		}
	}
	if _, err = e2ee.NewDevice(bytes.NewReader(make([]byte, 39))); err == nil {
		t.Error("a device was made although the random source ran dry")
	}
	one, errOne := e2ee.NewDevice(bytes.NewReader(bytes.Repeat([]byte{5}, 40)))
	two, errTwo := e2ee.NewDevice(bytes.NewReader(bytes.Repeat([]byte{5}, 40)))
	if errOne != nil || errTwo != nil || *one != *two {
		t.Error("the given random source is not the only one used")
	}
}

func TestPreKeysAreNumberedInACircleAndComeBackFromTheirStoredForm(t *testing.T) {
	device, err := e2ee.NewDevice(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := device.GeneratePreKeys(e2ee.MaxKeyID-1, 4)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]bool{}
	for i, want := range []uint32{e2ee.MaxKeyID - 1, e2ee.MaxKeyID, 1, 2} {
		k := keys[i]
		if k.ID != want || k.Public != publicOf(t, k.Private) || seen[k.Public] {
			t.Errorf("key %d has id %d, want %d", i, k.ID, want)
		}
		seen[k.Public] = true
		back, err := e2ee.UnmarshalPreKey(k.ID, k.Marshal())
		if err != nil || back != k {
			t.Errorf("it came back changed: %v", err)
		}
	}
	for _, wrong := range []struct {
		start uint32
		n     int
	}{{0, 1}, {e2ee.MaxKeyID + 1, 1}, {1, -1}, {1, e2ee.MaxPreKeys + 1}} {
		if _, err = device.GeneratePreKeys(wrong.start, wrong.n); err == nil {
			t.Errorf("%d keys from %d on were made", wrong.n, wrong.start)
		}
	}
	signed, err := device.GenerateSignedPreKey(9)
	if err != nil {
		t.Fatal(err)
	}
	typed := append([]byte{5}, signed.Public[:]...)
	if !ecc.VerifySignature(ecc.NewDjbECPublicKey(device.IdentityPublic), typed, signed.Signature) || signed.Public != publicOf(t, signed.Private) {
		t.Error("the signature is not over the key with its type byte")
	}
	back, err := e2ee.UnmarshalSignedPreKey(9, signed.Marshal())
	if err != nil || back != signed {
		t.Errorf("it came back changed: %v", err)
	}
	for _, id := range []uint32{0, e2ee.MaxKeyID + 1} {
		if _, err = device.GenerateSignedPreKey(id); err == nil {
			t.Errorf("a signed prekey with id %d was made", id)
		}
	}
	if _, err = e2ee.UnmarshalPreKey(1, signed.Marshal()); !errors.Is(err, e2ee.ErrKeyStored) {
		t.Errorf("a signed prekey was read as a one-time one: %v", err)
	}
	if _, err = e2ee.UnmarshalSignedPreKey(1, keys[0].Marshal()); !errors.Is(err, e2ee.ErrKeyStored) {
		t.Errorf("a one-time prekey was read as a signed one: %v", err)
	}
}
