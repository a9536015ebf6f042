//go:build linux && cgo

// Package diskshim puts layers under SQLite (each a "VFS") that pass every call on to the usual one, and are asked or told about those that
// matter to what is on disk.
//
// Layer: beside database, and not in the product: what diskfault and disklog have in common. It may import the standard library only. It
// implements no section of docs/PROTOCOL.md.
package diskshim

/*
#cgo LDFLAGS: -Wl,--unresolved-symbols=ignore-all
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"errors"
	"sync"
	"unsafe"
)

// Op is what a layer is asked about.
type Op int

// The operations.
const (
	Write Op = iota
	Sync
	Read
)

// Layer is what stands under SQLite. It is an Asked or a Told, or both. Its methods are called from any thread.
type Layer interface {
	// Opened gives a number to a database, a journal or a log that was opened under a path, by which the other methods know it.
	Opened(path string) (file int64)
}

// Asked is a Layer that lets operations fail.
type Asked interface {
	// Ask returns 0 to let an operation through, or the result code that it fails with. Of a write that fails half is there.
	Ask(file int64, op Op) (code int)
}

// Told is a Layer that learns what was done. The code of what has failed is not 0.
type Told interface {
	// Wrote: data at offset of a file. data is SQLite's and may not be kept.
	Wrote(file int64, data []byte, offset int64, code int)
	Truncated(file, size int64, code int)
	// SyncBegins returns what Synced is given when that sync is over.
	SyncBegins(file int64) (begun int64)
	Synced(file, begun int64, code int)
	// Removed: a file of the folder, which was synced then if synced is true.
	Removed(path string, synced bool, code int)
}

var layers struct {
	sync.RWMutex
	list []Layer
}

// Register makes a layer known to SQLite for the parameter vfs=name, and with first for all connections that name no other. There can be
// four in a process.
func Register(name string, first bool, l Layer) error {
	_, asks := l.(Asked)
	_, tells := l.(Told)
	layers.Lock()
	defer layers.Unlock()
	// The name stays for as long as the process: SQLite keeps it.
	if C.shim_register(C.int(len(layers.list)), C.CString(name), flag(first), flag(asks), flag(tells)) != 0 {
		return errors.New("diskshim: SQLite does not take the layer")
	}
	layers.list = append(layers.list, l)
	return nil
}

func flag(on bool) C.int {
	if on {
		return 1
	}
	return 0
}

func layer(n C.int) Layer {
	layers.RLock()
	defer layers.RUnlock()
	return layers.list[n]
}

//export diskshimOpened
func diskshimOpened(n C.int, name *C.char) C.longlong {
	return C.longlong(layer(n).Opened(C.GoString(name)))
}

//export diskshimAsk
func diskshimAsk(n C.int, file C.longlong, op C.int) C.int {
	return C.int(layer(n).(Asked).Ask(int64(file), Op(op)))
}

//export diskshimWrote
func diskshimWrote(n C.int, file C.longlong, from unsafe.Pointer, size C.int, at C.longlong, code C.int) {
	layer(n).(Told).Wrote(int64(file), unsafe.Slice((*byte)(from), int(size)), int64(at), int(code))
}

//export diskshimTruncated
func diskshimTruncated(n C.int, file, size C.longlong, code C.int) {
	layer(n).(Told).Truncated(int64(file), int64(size), int(code))
}

//export diskshimSyncBegins
func diskshimSyncBegins(n C.int, file C.longlong) C.longlong {
	return C.longlong(layer(n).(Told).SyncBegins(int64(file)))
}

//export diskshimSynced
func diskshimSynced(n C.int, file, begun C.longlong, code C.int) {
	layer(n).(Told).Synced(int64(file), int64(begun), int(code))
}

//export diskshimRemoved
func diskshimRemoved(n C.int, name *C.char, synced, code C.int) {
	layer(n).(Told).Removed(C.GoString(name), synced != 0, int(code))
}
