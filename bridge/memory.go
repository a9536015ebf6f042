package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go keeps as much again as is in use for what comes next, which is right for a bridge that works. One whose users are idle gives it back: a start
// takes twice as much as the day after it, and thousands of users who do nothing should not cost what they cost while they wrote.
const (
	// memoryLooks is how often it is looked whether the bridge is idle: it takes longer than that for what is in use to be allocated once more.
	memoryLooks = time.Minute
	// memoryWorth is how many bytes there have to be to give back, and the memoryShare-th part of what is in use.
	memoryWorth = 4 << 20
	memoryShare = 8
)

// memoryUse is what one look finds, in bytes.
type memoryUse struct {
	allocated uint64 // since the start of the process
	live      uint64 // was in use at the last collection
	objects   uint64 // takes the heap now, garbage included
	free      uint64 // is free, and not given back
}

// readMemory looks.
func readMemory() memoryUse {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	var read [4]uint64
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			read[i] = s.Value.Uint64()
		}
	}
	return memoryUse{read[0], read[1], read[2], read[3]}
}

// idleSince says whether the bridge did so little since an earlier look that it is worth while to give back what is not in use.
func (m memoryUse) idleSince(last memoryUse) bool {
	spare := m.free
	if m.objects > m.live {
		spare += m.objects - m.live
	}
	return m.allocated-last.allocated < max(m.live, memoryWorth) && spare >= max(memoryWorth, m.live/memoryShare)
}

// giveMemoryBack does so whenever the bridge is idle, until ctx ends.
func giveMemoryBack(ctx context.Context) {
	tick := time.NewTicker(memoryLooks)
	defer tick.Stop()
	for last := readMemory(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := readMemory()
		if now.idleSince(last) {
			debug.FreeOSMemory()
		}
		last = now
	}
}
