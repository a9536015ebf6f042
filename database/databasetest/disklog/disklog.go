//go:build linux && cgo

// Package disklog writes down what SQLite does to its files, and rebuilds what a power cut at any
// moment may leave of them.
//
// It is for tests alone: a layer under SQLite (a "VFS") that the driver is told to use with the
// parameter vfs=postern_disklog, which passes each call on to the usual one and notes writes,
// truncations, syncs and removals in their order. The file of shared memory beside a log is not
// noted: it is not durable, and SQLite makes it anew. It may import diskshim. It
// implements no section of docs/PROTOCOL.md.
package disklog

import (
	"bytes"
	"path/filepath"
	"sync"

	"postern/database/diskshim"
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

var register = sync.OnceValue(func() error { return diskshim.Register(VFS, false, shim{}) })

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
func (r *Recording) done(op Op, rc int) {
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

func of(file int64) *Recording {
	recordings.mu.Lock()
	defer recordings.mu.Unlock()
	return recordings.byFile[file]
}

func in(dir string) *Recording {
	recordings.mu.Lock()
	defer recordings.mu.Unlock()
	return recordings.byDir[dir]
}

// shim is the layer.
type shim struct{}

// Opened implements diskshim.Layer.
func (shim) Opened(path string) int64 {
	r := in(filepath.Dir(path))
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	base := filepath.Base(path)
	if file, ok := r.names[base]; ok {
		return file
	}
	recordings.mu.Lock()
	recordings.lastFile++
	file := recordings.lastFile
	recordings.byFile[file] = r
	recordings.mu.Unlock()
	r.names[base] = file
	// One that was there before counts as new too: who made it need not have synced the folder.
	r.ops = append(r.ops, Op{Kind: Create, File: file, Name: base})
	return file
}

// Wrote implements diskshim.Told.
func (shim) Wrote(file int64, data []byte, offset int64, code int) {
	of(file).done(Op{Kind: Write, File: file, Offset: offset, Data: bytes.Clone(data)}, code)
}

// Truncated implements diskshim.Told.
func (shim) Truncated(file, size int64, code int) {
	of(file).done(Op{Kind: Truncate, File: file, Offset: size}, code)
}

// SyncBegins implements diskshim.Told.
func (shim) SyncBegins(file int64) int64 {
	r := of(file)
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.ops))
}

// Synced implements diskshim.Told.
func (shim) Synced(file, begun int64, code int) {
	of(file).done(Op{Kind: SyncEnd, File: file, Begun: int(begun)}, code)
}

// Removed implements diskshim.Told.
func (shim) Removed(path string, synced bool, code int) {
	r := in(filepath.Dir(path))
	if r == nil || code != 0 {
		return // also what is not there is removed, now and then
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	base := filepath.Base(path)
	r.ops = append(r.ops, Op{Kind: Remove, File: r.names[base], Name: base, Synced: synced})
	delete(r.names, base)
}
