package interoptest_test

import (
	"testing"

	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
	"postern/connector/interop"
	"postern/connector/interop/interoptest"
)

func TestTheStoreInMemoryKeepsTheContract(t *testing.T) {
	interoptest.Conformance(t, func(*testing.T) interop.Store { return interoptest.NewMemStore() })
}

func TestTheStoreInMemoryKeepsTheContractOfSignal(t *testing.T) {
	e2eetest.Conformance(t, func() e2ee.Store { return interoptest.NewMemStore() })
}
