//go:build killpoints && ownclock && linux && cgo

package main

/*
#include <stdint.h>
#include <time.h>

typedef int (*gettime)(clockid_t, struct timespec *);

static gettime kernels;
static long long ahead;

// What the runtime calls for each look at a clock: the wall clock is another, the one that measures durations is not.
static int shifted(clockid_t id, struct timespec *at) {
	int rc = kernels(id, at);
	if (rc == 0 && id == CLOCK_REALTIME)
		at->tv_sec += __atomic_load_n(&ahead, __ATOMIC_RELAXED);
	return rc;
}

static uintptr_t shift(uintptr_t kernel) {
	kernels = (gettime)kernel;
	return (uintptr_t)shifted;
}

static void set_ahead(long long seconds) { __atomic_store_n(&ahead, seconds, __ATOMIC_RELAXED); }
*/
import "C"

import (
	"fmt"
	"os"
	"time"
	_ "unsafe" // for the name below
)

// runtimeClock is where the runtime finds the kernel's clock. To link this needs -checklinkname=0.
//
//go:linkname runtimeClock runtime.vdsoClockgettimeSym
var runtimeClock uintptr

// A program that is built with the tag ownclock too can be told that its clock was set: the file that POSTERN_CLOCK names says how many
// seconds ahead of the machine's it is.
func init() {
	orders := os.Getenv("POSTERN_CLOCK")
	if orders == "" {
		return
	}
	if runtimeClock == 0 {
		fmt.Fprintln(os.Stderr, "postern: this machine's clock cannot be set for one process")
		os.Exit(exitOther)
	}
	follow := func() {
		var seconds int64
		if raw, err := os.ReadFile(orders); err == nil {
			if _, err = fmt.Sscan(string(raw), &seconds); err != nil {
				return
			}
		}
		C.set_ahead(C.longlong(seconds))
	}
	follow()
	runtimeClock = uintptr(C.shift(C.uintptr_t(runtimeClock)))
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			follow()
		}
	}()
}
