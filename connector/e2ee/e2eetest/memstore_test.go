package e2eetest_test

import (
	"testing"

	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
)

func TestTheMemoryStoreConforms(t *testing.T) {
	e2eetest.Conformance(t, func() e2ee.Store { return e2eetest.NewMemStore() })
}

func TestASnapshotBringsTheStoreBack(t *testing.T) {
	store := e2eetest.NewMemStore()
	alice, bob := e2eetest.NewParty(t, store, 1), e2eetest.NewParty(t, e2eetest.NewMemStore(), 2)
	before := store.Snapshot()
	if _, err := alice.Signal.StartSession(t.Context(), bob.Address, bob.Bundle(t, true), nil); err != nil {
		t.Fatal(err)
	}
	if len(store.Snapshot()) != len(before)+2 {
		t.Fatal("a session leaves two rows")
	}
	store.Restore(before)
	if has, err := alice.Signal.HasSession(t.Context(), bob.Address); has || err != nil {
		t.Errorf("the session is still there: %v, %v", has, err)
	}
}
