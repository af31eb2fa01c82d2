package wit

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"unsafe"
)

// Memory of the host's arguments.
//
// The host allocates by cabi_realloc while nothing may be imported. A garbage collection asks WASI
// for the time and would trap there, so the collector never starts by itself: it runs between
// callbacks and before host calls, by Collect.

// Before the runtime is up, WASI's adapter asks for its own state, once. That comes from here.
var early [192 << 10]byte

var earlyUsed uintptr

var runtimeIsUp bool

var pinner runtime.Pinner

func init() {
	debug.SetGCPercent(-1)
	runtimeIsUp = true
}

// Allocate gives memory that stays where it is until it is unpinned.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	// Sizes of the canonical ABI are multiples of the alignment, which is 8 at most.
	words := make([]uint64, (size+7)/8)
	pointer := unsafe.Pointer(unsafe.SliceData(words))
	pinner.Pin(pointer)
	return pointer
}

// Unpin ends the life of what the host allocated, except for what Go refers to.
func Unpin() { pinner.Unpin() }

//go:wasmexport cabi_realloc
func cabiRealloc(pointer unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	if runtimeIsUp {
		grown := Allocate(&pinner, size, align)
		if oldSize > 0 {
			copy(unsafe.Slice((*byte)(grown), size), unsafe.Slice((*byte)(pointer), min(oldSize, size)))
		}
		return grown
	}
	earlyUsed = (earlyUsed + align - 1) &^ (align - 1)
	at := unsafe.Pointer(uintptr(unsafe.Pointer(&early)) + earlyUsed)
	earlyUsed += size
	if earlyUsed > uintptr(len(early)) {
		// A trap; there is no runtime yet that could panic.
		return unsafe.Pointer(^uintptr(0))
	}
	return at
}

// garbageMax is how much is allocated before the collector runs.
const garbageMax = 4 << 20

var (
	allocated = []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	collected uint64
)

// Collect runs the collector if much was allocated since it last ran.
func Collect() {
	metrics.Read(allocated)
	if allocated[0].Value.Uint64()-collected > garbageMax {
		runtime.GC()
		metrics.Read(allocated)
		collected = allocated[0].Value.Uint64()
	}
}
