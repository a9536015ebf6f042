//go:build linux && cgo

// Package disklog writes down what SQLite does to its files, and rebuilds what a power cut at any
// moment may leave of them.
//
// It is for tests alone: a layer under SQLite (a "VFS") that the driver is told to use with the
// parameter vfs=postern_disklog, which passes each call on to the usual one and notes writes,
// truncations, syncs and removals in their order. The file of shared memory beside a log is not
// noted: it is not durable, and SQLite makes it anew. It may import the standard library. It
// implements no section of docs/PROTOCOL.md.
package disklog

/*
#cgo LDFLAGS: -Wl,--unresolved-symbols=ignore-all
#include "shim.h"
*/
import "C"

import (
	"errors"
	"path/filepath"
	"sync"
	"unsafe"
)

// VFS is the value of the parameter vfs that makes a connection be recorded.
const VFS = "postern_disklog"

// Kind says what an Op is.
type Kind int

// The kinds.
const (
	Write    Kind = iota // Data at Offset of File
	Truncate             // File to Offset bytes
	SyncEnd              // File: what was done to it before the operation numbered Begun is on disk
	Create               // Name came into the folder, as File
	Remove               // Name went; with Synced, and the folder was synced
	Mark                 // the test's own
)

// Op is something that was done, or a mark of the test. An operation stands where it ended.
type Op struct {
	Kind   Kind
	File   int64 // a number for each file, a new one when a name is used again
	Name   string
	Offset int64
	Data   []byte
	Begun  int
	Synced bool
	Mark   int
}

// Recording is what happened in one folder.
type Recording struct {
	dir string

	mu     sync.Mutex
	ops    []Op
	names  map[string]int64
	failed int
}

// recordings are found by the folders of files, and by the numbers of open ones.
var recordings struct {
	mu       sync.Mutex
	byDir    map[string]*Recording
	byFile   map[int64]*Recording
	lastFile int64
}

var register = sync.OnceValue(func() error {
	if C.disklog_register() != 0 {
		return errors.New("disklog: SQLite does not take the recording layer")
	}
	return nil
})

// Record notes from now on what is done in a folder through connections with VFS.
func Record(dir string) (*Recording, error) {
	if err := register(); err != nil {
		return nil, err
	}
	r := &Recording{dir: dir, names: map[string]int64{}}
	recordings.mu.Lock()
	defer recordings.mu.Unlock()
	if recordings.byDir == nil {
		recordings.byDir, recordings.byFile = map[string]*Recording{}, map[int64]*Recording{}
	}
	recordings.byDir[dir] = r
	return r, nil
}

// Close ends the recording and lets go of it. What was noted stays with the Recording.
func (r *Recording) Close() {
	recordings.mu.Lock()
	defer recordings.mu.Unlock()
	delete(recordings.byDir, r.dir)
	for file, of := range recordings.byFile {
		if of == r {
			delete(recordings.byFile, file)
		}
	}
}

// Mark notes a number of the test's own.
func (r *Recording) Mark(n int) { r.add(Op{Kind: Mark, Mark: n}) }

// Ops is what was noted, and how many calls failed.
func (r *Recording) Ops() (ops []Op, failed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ops, r.failed
}

func (r *Recording) add(op Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
}

// done notes a call unless it failed.
func (r *Recording) done(op Op, rc C.int) {
	if r == nil {
		return
	}
	if rc == 0 {
		r.add(op)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed++
}

func of(file C.longlong) *Recording {
	recordings.mu.Lock()
	defer recordings.mu.Unlock()
	return recordings.byFile[int64(file)]
}

func in(dir string) *Recording {
	recordings.mu.Lock()
	defer recordings.mu.Unlock()
	return recordings.byDir[dir]
}

//export disklogOpen
func disklogOpen(name *C.char) C.longlong {
	path := C.GoString(name)
	r := in(filepath.Dir(path))
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	base := filepath.Base(path)
	if file, ok := r.names[base]; ok {
		return C.longlong(file)
	}
	recordings.mu.Lock()
	recordings.lastFile++
	file := recordings.lastFile
	recordings.byFile[file] = r
	recordings.mu.Unlock()
	r.names[base] = file
	// One that was there before counts as new too: who made it need not have synced the folder.
	r.ops = append(r.ops, Op{Kind: Create, File: file, Name: base})
	return C.longlong(file)
}

//export disklogWrite
func disklogWrite(file C.longlong, from unsafe.Pointer, n C.int, at C.longlong, rc C.int) {
	of(file).done(Op{Kind: Write, File: int64(file), Offset: int64(at), Data: C.GoBytes(from, n)}, rc)
}

//export disklogTruncate
func disklogTruncate(file, size C.longlong, rc C.int) {
	of(file).done(Op{Kind: Truncate, File: int64(file), Offset: int64(size)}, rc)
}

//export disklogSyncBegin
func disklogSyncBegin(file C.longlong) C.longlong {
	r := of(file)
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return C.longlong(len(r.ops))
}

//export disklogSyncEnd
func disklogSyncEnd(file, begun C.longlong, rc C.int) {
	of(file).done(Op{Kind: SyncEnd, File: int64(file), Begun: int(begun)}, rc)
}

//export disklogRemove
func disklogRemove(name *C.char, synced, rc C.int) {
	path := C.GoString(name)
	r := in(filepath.Dir(path))
	if r == nil || rc != 0 {
		return // also what is not there is removed, now and then
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	base := filepath.Base(path)
	r.ops = append(r.ops, Op{Kind: Remove, File: r.names[base], Name: base, Synced: synced != 0})
	delete(r.names, base)
}
