package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestMemoryIsGivenBackByABridgeThatIsIdleAndHasSomeToGive(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		last, now memoryUse
		want      bool
	}{
		"after a start, with thousands of users": {memoryUse{allocated: 900 * mib}, memoryUse{1000 * mib, 140 * mib, 200 * mib, 120 * mib}, true},
		"in the next minute":                     {memoryUse{allocated: 1000 * mib}, memoryUse{1010 * mib, 140 * mib, 150 * mib, 2 * mib}, false},
		"much of what is not free is garbage":    {memoryUse{allocated: 1000 * mib}, memoryUse{1060 * mib, 140 * mib, 200 * mib, 0}, true},
		"while it works":                         {memoryUse{allocated: 1000 * mib}, memoryUse{1500 * mib, 140 * mib, 200 * mib, 120 * mib}, false},
		"few users, who do nothing":              {memoryUse{allocated: 100 * mib}, memoryUse{101 * mib, 9 * mib, 11 * mib, mib}, false},
		"few users, after much was done":         {memoryUse{allocated: 900 * mib}, memoryUse{901 * mib, 9 * mib, 10 * mib, 60 * mib}, true},
	} {
		if got := c.now.idleSince(c.last); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestTheRuntimeSaysWhatThereIsToGiveBack(t *testing.T) {
	debug.FreeOSMemory()
	before := readMemory()
	ballast := make([][]byte, 64)
	for i := range ballast {
		ballast[i] = make([]byte, 1<<20)
	}
	with := readMemory()
	if with.allocated-before.allocated < 64<<20 || with.objects < before.objects+60<<20 || before.live == 0 {
		t.Errorf("64 MiB more make %+v of %+v", with, before)
	}
	runtime.KeepAlive(ballast)
	clear(ballast)
	runtime.GC()
	if after := readMemory(); !after.idleSince(after) {
		t.Errorf("without them there is nothing to give back of %+v", after)
	}
	debug.FreeOSMemory()
	if after := readMemory(); after.idleSince(after) {
		t.Errorf("there is something to give back again, of %+v", after)
	}
}
