package mediastore

import (
	"fmt"
	"testing"
	"time"
)

func TestWhatIsRememberedOfVerifyingIsBounded(t *testing.T) {
	var m verified
	reading := NameOf("being read")
	if _, mine := m.find(reading, time.Now()); !mine {
		t.Fatal("the first who asks does not have to read")
	}
	for i := range 3 * maxVerified {
		name := NameOf(fmt.Sprint(i))
		v, mine := m.find(name, time.Now())
		if !mine {
			t.Fatal("what was never read is known")
		}
		m.settle(name, v, nil, time.Now())
		if n := len(m.known); n > maxVerified {
			t.Fatalf("%d blobs are remembered, want %d at most", n, maxVerified)
		}
	}
	if _, mine := m.find(reading, time.Now()); mine {
		t.Error("what is being read was forgotten")
	}
}
