//go:build linux && cgo

// Package diskfault makes SQLite's disk fail when it is told to: full, unreadable, or with a sync that does not work.
//
// Layer: beside database, and not in the product. It is a layer under SQLite (a "VFS") that passes each call on to the usual one,
// or answers it with an error. Tests name it with the parameter vfs=postern_diskfault; a program that is built with the tag
// killpoints has it under every connection (Follow). It may import diskshim. It implements no section of docs/PROTOCOL.md.
package diskfault

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"postern/database/diskshim"
)

// VFS is the value of the parameter vfs that makes the faults of a connection's folder apply to it.
const VFS = "postern_diskfault"

// Op is what can fail.
type Op = diskshim.Op

// The operations.
const (
	Write = diskshim.Write
	Sync  = diskshim.Sync
	Read  = diskshim.Read
	ops   = int(Read) + 1
)

// Result codes of SQLite (https://sqlite.org/rescode.html).
const (
	Full       = 13
	IOErr      = 10
	IOErrRead  = IOErr | 1<<8
	IOErrWrite = IOErr | 3<<8
	IOErrFsync = IOErr | 4<<8
)

// Fault lets operations fail: the Nth from now on and those after it, Times of them, or all if Times is 0.
type Fault struct {
	Op         Op
	Nth, Times int
	Code       int
}

// Folder is where faults apply: to the databases in it.
type Folder struct {
	mu     sync.Mutex
	fault  *Fault
	seen   int // of the fault's operation
	failed int
	counts [ops]int
	orders string // see Follow
	last   string
}

var folders struct {
	mu     sync.Mutex
	list   []*Folder
	byPath map[string]int64
	follow string
}

var registered struct {
	mu   sync.Mutex
	done bool
}

func register(first bool) error {
	registered.mu.Lock()
	defer registered.mu.Unlock()
	if registered.done {
		return nil
	}
	if err := diskshim.Register(VFS, first, shim{}); err != nil {
		return err
	}
	registered.done = true
	return nil
}

// In is the folder with a path, for connections that name VFS.
func In(path string) (*Folder, error) {
	if err := register(false); err != nil {
		return nil, err
	}
	folders.mu.Lock()
	defer folders.mu.Unlock()
	return folders.list[number(path)-1], nil
}

// Follow puts the layer under all connections of this process, and has their faults read from a file: a line such as
// "write 3 0 13" says from which operation on (write, sync or read), counted from when the line was first seen, how many of them, or
// all (0), fail, and with which result code. The file is renamed to end in ".done" when the first one fails, and the faults of
// a line without a number end when that is removed.
func Follow(orders string) error {
	folders.mu.Lock()
	folders.follow = orders
	folders.mu.Unlock()
	return register(true)
}

// number finds a folder or makes it; folders.mu is held.
func number(path string) int64 {
	if n, ok := folders.byPath[path]; ok {
		return n
	}
	if folders.byPath == nil {
		folders.byPath = map[string]int64{}
	}
	folders.list = append(folders.list, &Folder{orders: folders.follow})
	n := int64(len(folders.list))
	folders.byPath[path] = n
	return n
}

// Set begins a fault, or ends it with nil.
func (f *Folder) Set(fault *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.seen, f.failed = fault, 0, 0
}

// Failed is how many operations have failed since Set.
func (f *Folder) Failed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Count is how many operations there were.
func (f *Folder) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[op]
}

// ask decides over one operation; 0 lets it through.
func (f *Folder) ask(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[op]++
	if f.orders != "" {
		f.read()
	}
	if f.fault == nil || f.fault.Op != op {
		return 0
	}
	f.seen++
	if f.seen < f.fault.Nth || f.fault.Times > 0 && f.seen >= f.fault.Nth+f.fault.Times {
		return 0
	}
	if f.failed++; f.failed == 1 && f.orders != "" {
		_ = os.Rename(f.orders, f.orders+".done") // whoever waits for it sees that it is not there
	}
	return f.fault.Code
}

var names = map[string]Op{"write": Write, "sync": Sync, "read": Read}

// read follows the orders.
func (f *Folder) read() {
	raw, err := os.ReadFile(f.orders)
	if err != nil {
		if raw, err = os.ReadFile(f.orders + ".done"); err != nil {
			f.fault, f.last = nil, ""
			return
		}
	}
	if string(raw) == f.last {
		return
	}
	var name string
	var fault Fault
	if _, err := fmt.Sscan(string(raw), &name, &fault.Nth, &fault.Times, &fault.Code); err != nil {
		return
	}
	op, ok := names[name]
	if !ok {
		return
	}
	fault.Op = op
	f.fault, f.seen, f.failed, f.last = &fault, 0, 0, string(raw)
}

// shim is the layer. A file has the number of its folder.
type shim struct{}

// Opened implements diskshim.Layer.
func (shim) Opened(path string) int64 {
	folders.mu.Lock()
	defer folders.mu.Unlock()
	return number(filepath.Dir(path))
}

// Ask implements diskshim.Asked.
func (shim) Ask(folder int64, op Op) int {
	folders.mu.Lock()
	f := folders.list[folder-1]
	folders.mu.Unlock()
	return f.ask(op)
}
