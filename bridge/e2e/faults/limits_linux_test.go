package faults_test

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"postern/bridge/parts"
)

// The row F-45: few descriptors, little memory, and nothing that leaks.

// limitDescriptors lets the bridge open no file or socket with a higher number than that, and returns how to take that back.
func (r *rig) limitDescriptors(n int) (restore func()) {
	r.t.Helper()
	set := func(n int) {
		limit := syscall.Rlimit{Cur: uint64(n), Max: 1 << 12}
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(r.Bridge.PID()), syscall.RLIMIT_NOFILE,
			uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
		if errno != 0 {
			r.t.Fatalf("limiting descriptors: %v", errno)
		}
	}
	set(n)
	return func() { set(1 << 12) }
}

// TestF45WithoutADescriptorLeftNothingIsLostAndWorkGoesOn: the homeserver's connections end while no socket can be made. The bridge
// lives, what comes is left to those who sent it, and when there are descriptors again everything arrives.
func TestF45WithoutADescriptorLeftNothingIsLostAndWorkGoesOn(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		pid := r.Bridge.PID()
		from := r.logSize()
		restore := r.limitDescriptors(3) // those that are open stay open
		defer restore()
		r.hs.Down() // with all its connections
		c.fromPhone(3)
		r.ok(r.hs.Up())
		c.fromMatrix(3)
		r.soon("a socket that cannot be made", func() bool { return r.logged(from, "too many open files") > 0 })
		restore()
		c.fromPhone(1)
		c.fromMatrix(1)
		c.check()
		r.readyAgain()
		if r.Bridge.PID() != pid {
			r.t.Error("the bridge was restarted")
		}
	})
}

// footprint is what a process has of what may leak.
type footprint struct {
	goroutines, descriptors int
	memory                  int64  // resident
	managed                 int64  // what GOMEMLIMIT is about
	stacks                  string // where the goroutines stand, and how many
}

// footprint asks the bridge, which is built to tell.
func (r *rig) footprint() (f footprint) {
	r.t.Helper()
	name := r.orders + ".goroutines"
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	r.ok(syscall.Kill(r.Bridge.PID(), syscall.SIGUSR2))
	r.soon("the bridge to count its goroutines", func() bool {
		raw, err := os.ReadFile(name)
		f.stacks = string(raw)
		return err == nil
	})
	_, err := fmt.Sscanf(f.stacks, "memory %d\ngoroutine profile: total %d", &f.managed, &f.goroutines)
	r.ok(err)
	f.descriptors = len(must(os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.Bridge.PID())))(r.t))
	f.memory = r.memory()
	return f
}

// TestF45NothingGrowsWithConnectionsAndMessages: the stream is cut again and again, and each time both sides write. In the end the bridge has
// as many goroutines and descriptors as after the first few times.
func TestF45NothingGrowsWithConnectionsAndMessages(t *testing.T) {
	each(t, func(r *rig) {
		const slack = 4 // connections to the homeserver and the database come and go
		rounds, memory := 6, int64(16<<20)
		patience := 3 * time.Minute // the bridge pauses for seconds, also where other tests have less time
		if all() {
			rounds, memory, patience = 60, 16<<20, time.Hour
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), patience)
		defer cancel()
		r.ctx = ctx
		c := r.newChat()
		play := func(n int) {
			for range n {
				logins, from := r.partner().Logins, r.logSize()
				must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "cut", Identifier: r.identifier}))(r.t)
				c.fromMatrix(1)
				if !all() { // a push ends the bridge's pause
					r.soon("both to notice", func() bool { return !r.partner().Connected && r.logged(from, `"state":"waiting"`) > 0 })
				}
				c.fromPhone(1)
				c.settled()
				r.soon("another login", func() bool { p := r.partner(); return p.Connected && p.Logins > logins })
			}
		}
		play(2)
		before := r.footprint()
		begun := time.Now()
		play(rounds)
		var now footprint
		grown := func() bool {
			now = r.footprint()
			return now.goroutines > before.goroutines+slack || now.descriptors > before.descriptors+slack
		}
		for patience := time.Now().Add(30 * time.Second); grown() && time.Now().Before(patience); { // what has just been used is closed by and by
			select {
			case <-time.After(100 * time.Millisecond):
			case <-r.ctx.Done():
				r.t.Fatal(r.ctx.Err())
			}
		}
		r.t.Logf("%d streams in %s: goroutines %d to %d, descriptors %d to %d, memory %d to %d KiB", rounds, time.Since(begun).Round(time.Millisecond),
			before.goroutines, now.goroutines, before.descriptors, now.descriptors, before.memory>>10, now.memory>>10)
		if grown() {
			r.t.Errorf("they have grown; goroutines before:\n%s\nand now:\n%s", before.stacks, now.stacks)
		}
		if now.memory > before.memory+memory {
			r.t.Errorf("its memory has grown by %d KiB", (now.memory-before.memory)>>10)
		}
		c.check()
	})
}

// TestF45WithAFifthMoreMemoryThanItNeedsAnywayItKeepsToThat: what it has after some messages, and a fifth more, is its limit from then on (GOMEMLIMIT,
// which is about all but SQLite). Everything arrives, and it takes no more.
func TestF45WithAFifthMoreMemoryThanItNeedsAnywayItKeepsToThat(t *testing.T) {
	each(t, func(r *rig) {
		ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Minute)
		defer cancel()
		r.ctx = ctx
		count := 60
		if all() {
			count = 1000
		}
		c := r.newChat()
		load := func(n int) {
			for range n / 20 {
				c.fromPhone(20)
				c.fromMatrix(20)
				c.settled()
			}
		}
		r.again() // what earlier tests have left is no measure
		load(40)
		steady := r.footprint()
		limit := steady.managed + steady.managed/5
		r.t.Setenv("GOMEMLIMIT", fmt.Sprintf("%dB", limit))
		r.again()
		r.t.Cleanup(func() { // the next test's bridge has no limit
			if err := r.Bridge.Stop(); err != nil {
				t.Logf("stopping the bridge: %v", err)
			}
		})
		pid := r.Bridge.PID()
		watch, begun := r.watchMemory(), time.Now()
		load(count)
		peak, now := watch.peak(), r.footprint()
		r.t.Logf("%d messages each way in %s: resident %d KiB at first, %d at most; of its own %d at first, limit %d, %d now", count,
			time.Since(begun).Round(time.Millisecond), steady.memory>>10, peak>>10, steady.managed>>10, limit>>10, now.managed>>10)
		if now.managed > limit {
			r.t.Errorf("it has %d KiB, and may have %d", now.managed>>10, limit>>10)
		}
		if most := steady.memory + steady.memory/5; peak > most {
			r.t.Errorf("it took %d KiB, want %d at most", peak>>10, most>>10)
		}
		if r.Bridge.PID() != pid {
			r.t.Error("the bridge was restarted")
		}
		c.check()
	})
}
