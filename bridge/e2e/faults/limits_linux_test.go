package faults_test

import (
	"syscall"
	"testing"
	"unsafe"
)

// The row F-45: few descriptors.

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
